"""Benchmark runs, one rate and one size each: checked one by one, then brought together as load points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medley.model.errors import UserError
from medley.model.workload import Size
from medley.profiles.measured import Latency, LoadPoint, Measured

MOST_FAILED = 0.01
"""Share of failed requests above which a run says nothing: what failed was cheap for the engine."""

MOST_SPREAD = 0.1
"""Standard deviation over mean of the lengths in a run above which it is not a run of one size."""

SAME_SIZE = 1.03
"""Mean lengths that differ by less are the same size: tokenizers and early ends scatter them."""

LISTED = 3
"""Places that a note names before it only counts."""

KEPT_UP = 0.9
"""Share of the offered rate below which a run did not keep up."""


CLOSED_LOOP = (
    "closed loop: arrivals wait for answers, so tails are shorter than under independent arrivals at the same rate."
)

REGULAR = "arrivals are more regular than Poisson, so tails are shorter."


@dataclass(frozen=True, slots=True)
class Run:
    """One run as its file states it.

    Attributes:
        where: file and place, for messages.
        input_tokens: mean of the completed requests.
        output_tokens: mean of the completed requests.
        rate_rps: completed per second.
        offered_rps: sent per second; None: as fast as answers came.
        tpot: decode only.
        ttft: time to first token.
        concurrency: mean number in flight; None: unknown.
        requests: completed.
    """

    where: str
    input_tokens: float
    output_tokens: float
    rate_rps: float
    offered_rps: float | None
    tpot: Latency
    ttft: Latency
    concurrency: float | None
    requests: int


class Remarks:
    """Notes on runs: what is said of several is said once, with the places."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = {}

    def add(self, where: str, text: str) -> None:
        """Say something of a run."""
        self._places.setdefault(text, []).append(where)

    def notes(self) -> list[str]:
        """All that was said."""
        out = []
        for text, places in self._places.items():
            more = f" and {len(places) - LISTED} more" if len(places) > LISTED else ""
            out.append(f"{', '.join(places[:LISTED])}{more}: {text}")
        return out


def check_failures(where: str, completed: int, failed: int, remarks: Remarks) -> None:
    """Remark on a few failed requests.

    Raises:
        UserError: none completed, or too many failed.
    """
    if completed <= 0:
        raise UserError("no request completed", field=where, fix="Check the server and run the benchmark again")
    share = failed / (completed + failed)
    if share > MOST_FAILED:
        raise UserError(
            f"{failed} of {completed + failed} requests failed ({share:.1%}, at most {MOST_FAILED:.0%} may)",
            field=where,
            fix="Find out why (the server's log, timeouts, --max-model-len) and run it again, or leave the run out",
        )
    if failed > 0:
        remarks.add(where, f"{failed} of {completed + failed} requests failed.")


def check_spread(where: str, name: str, mean_tokens: float, deviation_tokens: float, fix: str) -> None:
    """Refuse a run whose lengths spread too widely to be one size."""
    if deviation_tokens > MOST_SPREAD * mean_tokens:
        raise UserError(
            f"{name} lengths spread too widely for one size: mean {mean_tokens:.0f} tokens, standard deviation "
            f"{deviation_tokens:.0f} (at most {MOST_SPREAD:.0%})",
            field=where,
            fix=fix,
        )


def measured(runs: Sequence[Run]) -> tuple[Measured, list[str]]:
    """Load points of all runs, on common sizes, and notes on what they can answer."""
    notes = []
    inputs = _common([run.input_tokens for run in runs])
    outputs = _common([run.output_tokens for run in runs])
    points = [
        LoadPoint(
            Size(inputs[run.input_tokens], outputs[run.output_tokens]),
            run.rate_rps,
            run.tpot,
            run.ttft,
            run.concurrency,
            run.requests,
        )
        for run in runs
    ]
    points.sort(key=lambda point: (point.size.input_tokens, point.size.output_tokens, point.rate_rps))
    moved = max(
        max(abs(run.input_tokens - inputs[run.input_tokens]), abs(run.output_tokens - outputs[run.output_tokens]))
        for run in runs
    )
    if moved > 0.5:
        notes.append(
            f"Mean lengths within {SAME_SIZE - 1:.0%} of each other are taken as one size (moved ≤ {moved:.1f})."
        )
    for run in runs:
        if run.offered_rps is not None and run.rate_rps < KEPT_UP * run.offered_rps:
            notes.append(
                f"{run.where}: offered {run.offered_rps:g} req/s, completed {run.rate_rps:.4g}: it did not keep up "
                "(its latencies depend on how long it ran), or was too short."
            )
    counts: dict[str, int] = {}
    for point in points:
        size = f"{point.size.input_tokens:g}/{point.size.output_tokens:g}"
        counts[size] = counts.get(size, 0) + 1
    single = [size for size, count in counts.items() if count == 1]
    if single:
        notes.append(
            f"One rate only of {', '.join(single)} (input/output tokens): nothing is known between it and the SLO. "
            "Measure some rates up to saturation."
        )
    notes.extend(_percentiles(points))
    return Measured(tuple(points)), notes


def _percentiles(points: Sequence[LoadPoint]) -> list[str]:
    notes = []
    for name, latencies in (("TPOT", [point.tpot for point in points]), ("TTFT", [point.ttft for point in points])):
        without = sum(latency == Latency() for latency in latencies)
        if without == len(latencies):
            notes.append(f"No run states {name}: a service with an objective on it cannot use this profile.")
            continue
        if without:
            notes.append(f"{without} of {len(latencies)} runs do not state {name}.")
        if all(latency.at(95.0) is None for latency in latencies):
            notes.append(
                f"No run states p95 or p99 of {name}: a service with the default percentile of 95 cannot use it."
            )
        elif all(latency.p95_ms is None for latency in latencies):
            notes.append(f"No run states p95 of {name}: objectives at p95 are held to p99, which is safe.")
    return notes


def _common(values: Sequence[float]) -> dict[float, float]:
    """Each mean length, and the whole number of tokens that stands for it and its near neighbours."""
    out: dict[float, float] = {}
    group: list[float] = []
    for value in [*sorted(set(values)), None]:
        if group and (value is None or value > SAME_SIZE * group[0]):
            size = float(max(1, round(sum(group) / len(group))))
            out.update(dict.fromkeys(group, size))
            group = []
        if value is not None:
            group.append(value)
    return out
