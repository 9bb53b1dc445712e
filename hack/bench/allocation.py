"""Compares Medley's allocation engine with the published allocators, on the same instances in one run.

    python -m bench.allocation [--quick] [--seed N] [--out DIR] [--minutes M]     (with hack/ on PYTHONPATH)

Writes allocation.csv and allocation.png and ends with one line of JSON. A full run can be stopped and started again:
what is in the CSV is not run again, except Medley's own rows when its code has changed. Ratios are of CPU time, model
building included. `--quick` takes a sample, drawn by the seed, that fits a minute.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import medley.allocation

from .baselines.aibrix import aibrix
from .baselines.melange import melange
from .baselines.single import best_single
from .baselines.wva import Running, wva
from .engine import REPEATS, run_engine
from .figures import baseline_lines, figures, goal_lines, time_lines
from .instances import (
    GRID,
    GRIDS,
    RATES_RPS,
    GridPoint,
    Instance,
    grid_instance,
    grid_instances,
    limited_instance,
    random_instance,
)
from .joint import joint_figures
from .optimum import optimum
from .plot import draw
from .process import fingerprint, process_age_s
from .recheck import faults
from .results import ENGINE, Results, Row
from .table import Plan, Table, cpu_s, table_of

LIMIT_S = 20.0
OPTIMUM_LIMIT_S = 10.0
QUICK_LIMIT_S = 6.0
QUICK_OPTIMUM_LIMIT_S = 2.0
QUICK_WALL_S = 43.0
QUICK_PLOT_S = 48.0
"""When a quick run stops taking on work; what is under way, the plot and the process around it fit the rest of 60 s."""

OUR_SOLVERS = (ENGINE, "optimum", "single", "wva")
SLOW_SOLVERS = ("melange-8", "melange-4", "melange-1", "aibrix")


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds for Mélange and AIBrix, and for the reference optimum; CPU seconds for CBC unless `wall`."""

    published_s: float
    optimum_s: float
    wall: bool = False
    repeats: int = REPEATS

    def of(self, solver: str) -> float:
        """The limit of one solver; 0: it has none of ours."""
        if solver.startswith(("melange", "aibrix")):
            return self.published_s
        return self.optimum_s if solver == "optimum" else 0.0


Task = tuple[Instance, str]


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for."""
    began = time.monotonic() - process_age_s()
    parser = argparse.ArgumentParser(prog="bench.allocation", description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="a sample that ends within 60 s")
    parser.add_argument("--seed", type=int, default=0, help="of random instances and of the samples")
    parser.add_argument(
        "--out", type=Path, help="where CSV and plot go (a new folder for --quick, else docs/benchmarks)"
    )
    parser.add_argument("--minutes", type=float, help="stop a full run after this; the next goes on where it stopped")
    parser.add_argument("--no-joint", action="store_true", help="leave out the sets of services that share pools")
    chosen = parser.parse_args(arguments)
    out = chosen.out or (
        Path(tempfile.mkdtemp(prefix="medley-bench-"))
        if chosen.quick
        else Path(__file__).resolve().parents[2] / "docs" / "benchmarks"
    )
    engine = fingerprint(medley.allocation)
    results = Results(out / "allocation.csv", engine)
    print(f"engine {engine}, seed {chosen.seed}, results in {out}, {results.reused} rows taken over", flush=True)
    warm_up()
    limits = Limits(LIMIT_S, OPTIMUM_LIMIT_S)
    if chosen.quick:
        limits = Limits(QUICK_LIMIT_S, QUICK_OPTIMUM_LIMIT_S, wall=True, repeats=1)
    if chosen.quick:
        for tasks, until_s in quick_stages(chosen.seed):
            work(tasks, results, engine, limits, began + until_s)
    else:
        deadline = began + 60 * chosen.minutes if chosen.minutes else None
        work(full_tasks(chosen.seed), results, engine, limits, deadline)
    made = figures(results.by_instance())
    if not chosen.no_joint:
        left_s = began + QUICK_WALL_S - time.monotonic() if chosen.quick else None
        made["joint"] = joint_figures(chosen.seed, out / "joint.csv", engine, left_s)
    made |= {"seed": chosen.seed, "quick": chosen.quick, "limit_s": limits.published_s, "engine": engine,
             "rows_reused": results.reused}  # fmt: skip
    by_instance = results.by_instance()
    if chosen.quick and time.monotonic() - began > QUICK_PLOT_S:
        print("no time left for the plot")
    else:
        draw(by_instance, out / "allocation.png")
    print("\n".join(["", *baseline_lines(by_instance), "", *time_lines(by_instance), "", *goal_lines(made)]))
    made["wall_s"] = round(time.monotonic() - began, 1)
    print(json.dumps(made), flush=True)
    return 0


def quick_stages(seed: int) -> Iterator[tuple[Iterable[Task], float]]:
    """Tasks of each stage in random order, and the second at which the stage ends; what does not fit is left out.

    Instances are made only when their turn comes.
    """
    rng = np.random.default_rng([seed, 9])
    small = (limited_instance(seed, number) for number in range(60))
    yield _tasks(small, (ENGINE, "optimum")), 8.0
    yield _tasks(_quick_rounds(seed, rng), OUR_SOLVERS), 23.0
    # Sizes in turn, so that what fits is a fair sample of the 24.
    by_size = [_shuffled(rng, [p for p in GRID if p.types == 4 and p.ranges == ranges]) for ranges in GRIDS]
    rounds = [_shuffled(rng, list(members)) for members in zip(*by_size, strict=True)]
    yield _tasks(_quick_pairs(seed, rounds), (ENGINE, "melange-8", *OUR_SOLVERS[1:])), 36.0
    yield _tasks(map(grid_instance, rounds[0]), ("aibrix",)), 37.0


def _quick_pairs(seed: int, rounds: list[list[GridPoint]]) -> Iterator[Instance]:
    """Two random instances after every four of the grid: the full run's proportion."""
    for number, points in enumerate(rounds):
        yield from map(grid_instance, points)
        yield random_instance(seed, 2 * number, 4)
        yield random_instance(seed, 2 * number + 1, 4)


def _quick_rounds(seed: int, rng: np.random.Generator) -> Iterator[Instance]:
    """By rounds, so that every number of variants has its turn before the time is up."""
    timed = {v: _shuffled(rng, [p for p in GRID if p.types == v and p.ranges == (10, 10)]) for v in (4, 8, 16)}
    others = _shuffled(rng, [p for p in GRID if p.ranges != (10, 10)])
    for number in range(20):
        for v, members in timed.items():
            yield random_instance(seed, number, v)
            yield from map(grid_instance, members[number : number + 1])
        yield grid_instance(others[number])


def full_tasks(seed: int) -> list[Task]:
    """The whole grid for what is fast; for the published allocators 4 types whole and 2, 8 and 16 sampled."""
    rng = np.random.default_rng([seed, 8])
    grid = list(grid_instances())
    random = [random_instance(seed, number, v) for number in range(12) for v in (4, 8, 16)]
    limited = [limited_instance(seed, number) for number in range(300)]
    four = [instance for instance in grid if instance.variants == 4]
    sampled = []
    for v in (8, 16, 2):
        for name in ("2x2", "6x6", "10x10", "20x20"):
            members = [i for i in grid if i.variants == v and i.grid == name]
            sampled += _shuffled(rng, members)[: 1 if name == "2x2" else 2]
    return [
        *_tasks(four, (*OUR_SOLVERS, "melange-8")),
        *_tasks(random + grid, OUR_SOLVERS),
        *_tasks(limited, (ENGINE, "optimum")),
        *_tasks([instance for instance in random if instance.variants == 4], ("melange-8",)),
        *_tasks(sampled, ("melange-8",)),
        *_tasks(four, ("melange-4", "melange-1", "aibrix")),
        *_tasks(sampled, SLOW_SOLVERS),
    ]


def work(tasks: Iterable[Task], results: Results, engine: str, limits: Limits, deadline: float | None) -> None:
    """Run what is not finished yet, and say how far it is."""
    digests: dict[str, str] = {}

    def finished(instance: Instance, solver: str) -> bool:
        if instance.name not in digests:
            digests[instance.name] = table_of(instance.problem).digest
        return results.finished(instance.name, solver, limits.of(solver), digests[instance.name])

    if isinstance(tasks, list):
        tasks = [(instance, solver) for instance, solver in tasks if not finished(instance, solver)]
    total = len(tasks) if isinstance(tasks, list) else None
    began = said = time.monotonic()
    for number, (instance, solver) in enumerate(tasks):
        now = time.monotonic()
        if deadline is not None and now >= deadline:
            print(f"time is up after {number} solves{f' of {total}' if total else ''}", flush=True)
            return
        if now - said > 5:
            said = now
            rest = (now - began) / number * (total - number) if total and number else (deadline or now) - now
            done = f"{number}/{total}" if total else f"{number}"
            print(f"{done} solves, about {rest:.0f} s left, at {instance.name} {solver}", flush=True)
        if finished(instance, solver):
            continue
        current = limits
        if deadline is not None and limits.wall:
            left_s = max(0.2, deadline - now)
            current = replace(
                limits,
                optimum_s=min(limits.optimum_s, left_s),
                published_s=min(limits.published_s, left_s + 2.0),
            )
        row = measure(instance, solver, current, engine)
        results.add(replace(row, limit_s=limits.of(solver)))


def measure(instance: Instance, solver: str, limits: Limits, engine: str) -> Row:
    """One solve as a row."""
    table = table_of(instance.problem)

    def row(
        status: str, cost: float, bound: float, cpu_ms: float, wall_ms: float, wrong: Iterable[str], note: str
    ) -> Row:
        wrong = list(wrong)
        return Row(
            instance.name,
            table.digest,
            instance.kind,
            instance.grid,
            instance.buckets,
            instance.variants,
            instance.rate_rps,
            solver,
            engine if solver == ENGINE else "",
            limits.of(solver),
            status,
            cost,
            bound,
            cpu_ms,
            wall_ms,
            not wrong,
            "; ".join([*wrong[:2], *([note] if note else [])]),
        )

    if solver == ENGINE:
        answer = run_engine(instance.problem, table, limits.repeats)
        made = answer.allocation
        finished = made.outcome.value in ("Optimal", "Fallback")
        status = ("optimal" if finished else "limit") if answer.claims_full else "infeasible"
        note = f"{answer.starved} starved solves repeated" if answer.starved else ""
        if made.outcome.value not in ("Optimal", "BestEffort"):
            note = "; ".join(filter(None, (note, made.outcome.value)))
        cost, bound = made.cost_per_hour, made.lower_bound_per_hour
        return row(status, cost, bound, answer.cpu_ms, answer.wall_ms, answer.wrong, note)
    cpu_before, wall_before = cpu_s(), time.perf_counter()
    plan = _solve(instance, table, solver, limits)
    cpu_ms, wall_ms = 1e3 * (cpu_s() - cpu_before), 1e3 * (time.perf_counter() - wall_before)
    wrong = faults(table, plan.counts, plan.shares) if plan.counts else []
    return row(plan.status, plan.cost, plan.bound, cpu_ms, wall_ms, wrong, plan.note)


def _solve(instance: Instance, table: Table, solver: str, limits: Limits) -> Plan:
    limit_is_cpu = not limits.wall
    solvers: dict[str, Callable[[], Plan]] = {
        "optimum": lambda: optimum(table, limits.optimum_s),
        "aibrix": lambda: aibrix(table, limits.published_s, limit_is_cpu=limit_is_cpu),
        "single": lambda: best_single(table),
        "wva": lambda: wva(table, _running_before(instance, table)),
    }
    if solver in solvers:
        return solvers[solver]()
    return melange(table, int(solver.removeprefix("melange-")), limits.published_s, limit_is_cpu=limit_is_cpu)


def _running_before(instance: Instance, table: Table) -> Running | None:
    """What the service ran on at the grid's lower rates, from the lowest up; None elsewhere."""
    running: Running | None = None
    if instance.kind == "grid":
        for rate in RATES_RPS:
            if rate >= instance.rate_rps:
                break
            plan = wva(replace(table, loads=table.loads * (rate / instance.rate_rps)), running)
            if plan.counts:
                running = Running(plan.counts.index(max(plan.counts)), plan.cost)
    return running


def warm_up() -> None:
    """First calls load libraries; that is no part of a solve."""
    instance = limited_instance(0, 0)
    table = table_of(instance.problem)
    run_engine(instance.problem, table)
    optimum(table, 1.0)
    melange(table, 1, 1.0)


def _tasks(instances: Iterable[Instance], solvers: Iterable[str]) -> Iterator[Task]:
    names = tuple(solvers)
    return ((instance, solver) for instance in instances for solver in names)


def _shuffled(rng: np.random.Generator, items: list[Any]) -> list[Any]:
    return [items[number] for number in rng.permutation(len(items))]


if __name__ == "__main__":
    sys.exit(main())
