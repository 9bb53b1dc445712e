"""Measures the policy engine: speed of A, B and C, repairs of request lists, and how repairs decide unseen requests.

    python -m bench.policy [--quick] [--seed N] [--out DIR] [--minutes M]        (with hack/ on PYTHONPATH)

Writes policy.csv and ends with one line of JSON. A full run can be stopped and started again: what is in the CSV is
not run again unless the policy engine's code has changed. `--quick` takes what fits a minute, in the same order.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import medley.policy

from .policy_cases import Source, forum_sources, managed_sources
from .policy_figures import FAULT_SETS, figures, goal_lines, table_lines
from .policy_measure import MEASURES
from .policy_results import Results, Row
from .process import fingerprint, process_age_s

SIZES = (10, 20, 30, 50, 100)
HELD_OUT_SIZES = (10, 20, 30, 50)
FULL_LISTS = 5
"""Request lists of each forum policy and size in a full run."""
FULL_FAULTS = 12
"""Faults of each forum policy and fault set in a full run."""
QUICK_FAULTS = 3
LIMIT_MS = 5000
QUICK_LIMIT_MS = 1000
QUICK_ENDS_S = (10.0, 30.0, 52.0)
"""When the stages of a quick run (engines, complete, held-out) stop taking on work."""


@dataclass(frozen=True, slots=True)
class Task:
    """What becomes a row."""

    kind: str
    source: Source
    number: int
    requests: int = 0
    fault_set: str = ""

    def row(self, seed: int, engine: str, limit_ms: int) -> Row:
        """The row before it is measured."""
        item = f"{self.source.name}#{self.number}"
        return Row(
            self.kind, self.fault_set, self.source.origin, item, self.requests, seed, engine, limit_ms, outcome=""
        )


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for."""
    began = time.monotonic() - process_age_s()
    parser = argparse.ArgumentParser(prog="bench.policy", description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="what fits 60 s")
    parser.add_argument("--seed", type=int, default=0, help="of requests, faults and mutants")
    parser.add_argument("--out", type=Path, help="where the CSV goes (a new folder for --quick, else docs/benchmarks)")
    parser.add_argument("--minutes", type=float, help="stop a full run after this; the next goes on where it stopped")
    chosen = parser.parse_args(arguments)
    root = Path(__file__).resolve().parents[2]
    out = chosen.out or (
        Path(tempfile.mkdtemp(prefix="medley-bench-")) if chosen.quick else root / "docs" / "benchmarks"
    )
    engine = fingerprint(medley.policy)
    results = Results(out / "policy.csv", engine)
    print(f"engine {engine}, seed {chosen.seed}, results in {out}, {results.reused} rows taken over", flush=True)
    stages: list[tuple[Iterable[Task], float | None]]
    if chosen.quick:
        stages = [(tasks, began + s) for tasks, s in zip(quick_stages(), QUICK_ENDS_S, strict=True)]
    else:
        stages = [(full_tasks(), began + 60 * chosen.minutes if chosen.minutes else None)]
    limit_ms = QUICK_LIMIT_MS if chosen.quick else LIMIT_MS
    for tasks, deadline in stages:
        work(tasks, results, chosen.seed, engine, limit_ms, deadline)
    rows = [row for row in results.rows.values() if row.seed == chosen.seed and row.limit_ms == limit_ms]
    made = figures(rows)
    print("\n".join(["", *table_lines(rows), "", *goal_lines(made)]))
    made |= {
        "seed": chosen.seed, "quick": chosen.quick, "limit_ms": limit_ms, "engine": engine, "rows": len(rows),
        "rows_reused": results.reused, "wall_s": round(time.monotonic() - began, 1),
    }  # fmt: skip
    print(json.dumps(made), flush=True)
    return 0


def work(
    tasks: Iterable[Task], results: Results, seed: int, engine: str, limit_ms: int, deadline: float | None = None
) -> None:
    """Run what is not finished yet, and say how far it is."""
    found = list(tasks)
    began = said = time.monotonic()
    done = 0
    for number, task in enumerate(found):
        row = task.row(seed, engine, limit_ms)
        now = time.monotonic()
        if deadline is not None and now >= deadline:
            print(f"time is up after {number} tasks of {len(found)}", flush=True)
            return
        if now - said > 5:
            said = now
            rest_s = (now - began) / max(1, done) * (len(found) - number)
            print(
                f"{number}/{len(found)} tasks, about {rest_s:.0f} s left for all, at {row.kind} {row.item}", flush=True
            )
        if row.key in results.rows:
            continue
        done += 1
        results.add(MEASURES[task.kind](task.source, task.number, row))


def quick_stages() -> Iterator[list[Task]]:
    """The full run's tasks, first those that every figure needs."""
    forum, aws = forum_sources(), managed_sources()
    yield list(_alternating(engine_tasks(forum, 3), engine_tasks(aws, 1)))
    yield list(complete_tasks(forum, FULL_LISTS))
    # What the goals are set for first: n = 20; the other counts once.
    first = [task for task in held_out_tasks(forum, QUICK_FAULTS) if task.requests == 20]
    yield [*first, *(task for task in held_out_tasks(forum, 1) if task.requests != 20)]


def full_tasks() -> list[Task]:
    """Everything: engines on all mutants, request lists and faults on both sets of documents."""
    forum, aws = forum_sources(), managed_sources()
    return [
        *engine_tasks(forum, 8),
        *engine_tasks(aws, 1),
        *complete_tasks(forum, FULL_LISTS),
        *held_out_tasks(forum, FULL_FAULTS),
        *complete_tasks(aws[::4], 1),
        *held_out_tasks(aws[::4], 1),
    ]


def engine_tasks(sources: list[Source], mutants: int) -> Iterator[Task]:
    """A, B and C on so many mutants of each document."""
    return (Task("engines", source, number) for number in range(mutants) for source in sources)


def complete_tasks(sources: list[Source], lists: int) -> Iterator[Task]:
    """Request lists: each round has every document once, its sizes in turn, so that a stopped run has all sizes."""
    for number in range(lists * len(SIZES)):
        for place, source in enumerate(sources):
            yield Task("complete", source, number // len(SIZES), SIZES[(number + place) % len(SIZES)])


def held_out_tasks(sources: list[Source], faults: int) -> Iterator[Task]:
    """Faults: n = 20 for all sets first, then the other counts, round by round."""
    for number in range(faults):
        for requests in sorted(HELD_OUT_SIZES, key=lambda count: count != 20):
            for source in sources:
                for fault_set in FAULT_SETS:
                    yield Task("held-out", source, number, requests, fault_set)


def _alternating(first: Iterable[Task], second: Iterable[Task]) -> Iterator[Task]:
    return (task for task in chain.from_iterable(zip_longest(first, second)) if task is not None)


if __name__ == "__main__":
    sys.exit(main())
