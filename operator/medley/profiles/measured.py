"""Measured load points: what latency a replica had at which rate, per size; rates for an SLO are read from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from medley.model.workload import Size
from medley.profiles.grid import Grid
from medley.profiles.latency import LatencyTarget, Throughput, Unservable


@dataclass(frozen=True, slots=True)
class Latency:
    """A latency's mean and percentiles in ms; None: not measured."""

    mean_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None

    def at(self, percentile: float) -> float | None:
        """The lowest measured percentile that is at least this one: never less than what was asked for.

        At 50, which stands for the mean, the mean is preferred.
        """
        if percentile <= 50.0 and self.mean_ms is not None:
            return self.mean_ms
        stated = ((50.0, self.p50_ms), (90.0, self.p90_ms), (95.0, self.p95_ms), (99.0, self.p99_ms))
        return next((value for at, value in stated if at >= percentile and value is not None), None)


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """One replica under steady load of one size.

    Attributes:
        size: tokens of every request.
        rate_rps: requests per second that were completed.
        tpot: time per output token after the first (decode only).
        ttft: time to first token.
        concurrency: mean number of requests in flight; None: not measured.
        requests: how many requests the point rests on; 0: unknown.
    """

    size: Size
    rate_rps: float
    tpot: Latency
    ttft: Latency
    concurrency: float | None = None
    requests: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """Load points of several sizes, several rates each."""

    points: tuple[LoadPoint, ...]

    def __hash__(self) -> int:
        """Of a few points: it is looked up for each size of each plan, and thousands of points take a millisecond."""
        return hash((len(self.points), self.points[:1], self.points[-1:]))

    def max_throughput(self, size: Size, target: LatencyTarget) -> Throughput:
        """Highest rate of a size on one replica under a target, interpolated between measured sizes."""
        found = _grid(self, target)
        if isinstance(found, Unservable):
            return Throughput(0.0, found)
        rate = found.max_throughput(size)
        # A grid made from points says 0 only where the lowest measured rate was too slow, or where nobody measured.
        if rate.reason is Unservable.GRID_ZERO:
            return Throughput(0.0, Unservable.LATENCY_AT_LOWEST_RATE)
        return rate

    def refusal(self, target: LatencyTarget) -> str | None:
        """Why these points cannot answer the target at all; None if they can."""
        found = _grid(self, target)
        if found is Unservable.PERCENTILE_NOT_MEASURED:
            return f"no point states a percentile of {target.percentile:g} or above"
        return None

    def for_target(self, target: LatencyTarget) -> Grid | None:
        """The grid of highest rates under a target; None if the percentile was not measured."""
        found = _grid(self, target)
        return None if isinstance(found, Unservable) else found


def highest_rate(points: Sequence[LoadPoint], target: LatencyTarget) -> Throughput:
    """Highest rate among the points of one size that keeps the target.

    Between the last rate that keeps it and the first that does not, the rate is where the straight line between their
    latencies crosses the objective: latency bends upward with load, so the true crossing is not below that. Rates above
    the first failure do not count: a lucky point is no capacity.
    """
    best, kept, unknown = 0.0, None, True
    for point in sorted(points, key=lambda point: point.rate_rps):
        values = _against(point, target)
        if any(value is None for value, _ in values):
            continue
        unknown = False
        over = [number for number, (value, objective) in enumerate(values) if value is not None and value > objective]
        if over:
            if kept is not None:
                best = min(_crossing(kept, point, target, number) for number in over)
            break
        best, kept = point.rate_rps, point
    if best > 0.0:
        return Throughput(best)
    return Throughput(0.0, Unservable.PERCENTILE_NOT_MEASURED if unknown else Unservable.LATENCY_AT_LOWEST_RATE)


def _against(point: LoadPoint, target: LatencyTarget) -> list[tuple[float | None, float]]:
    """Measured value and objective, for each objective that the target states."""
    stated = ((point.tpot, target.tpot_ms), (point.ttft, target.ttft_ms))
    return [(latency.at(target.percentile), objective) for latency, objective in stated if objective is not None]


def _crossing(kept: LoadPoint, broken: LoadPoint, target: LatencyTarget, number: int) -> float:
    (low, objective), (high, _) = _against(kept, target)[number], _against(broken, target)[number]
    assert low is not None
    assert high is not None
    return kept.rate_rps + (broken.rate_rps - kept.rate_rps) * (objective - low) / (high - low)


@lru_cache(maxsize=256)
def _grid(measured: Measured, target: LatencyTarget) -> Grid | Unservable:
    by_size: dict[Size, list[LoadPoint]] = {}
    for point in measured.points:
        by_size.setdefault(point.size, []).append(point)
    found = {size: highest_rate(points, target) for size, points in by_size.items()}
    known = {s: item.rate_rps for s, item in found.items() if item.reason is not Unservable.PERCENTILE_NOT_MEASURED}
    if not known:
        return Unservable.PERCENTILE_NOT_MEASURED
    inputs = tuple(sorted({size.input_tokens for size in known}))
    outputs = tuple(sorted({size.output_tokens for size in known}))
    rates = {(inputs.index(size.input_tokens), outputs.index(size.output_tokens)): r for size, r in known.items()}
    # Twice: a cell between two that were themselves filled. What nothing brackets stays out: nobody has looked there.
    for _ in range(2):
        rates = _filled(rates, inputs, outputs)
    rows = tuple(tuple(rates.get((i, o), 0.0) for o in range(len(outputs))) for i in range(len(inputs)))
    return Grid(target.tpot_ms, target.ttft_ms, inputs, outputs, rows)


def _filled(
    rates: dict[tuple[int, int], float], inputs: tuple[float, ...], outputs: tuple[float, ...]
) -> dict[tuple[int, int], float]:
    """The cells, and those between two of a row or of a column: log-log interpolated, the mean of both if both do."""
    out = dict(rates)
    for i in range(len(inputs)):
        for o in range(len(outputs)):
            if (i, o) in rates:
                continue
            row = {other: rates[i, other] for other in range(len(outputs)) if (i, other) in rates}
            column = {other: rates[other, o] for other in range(len(inputs)) if (other, o) in rates}
            between = [value for value in (_between(row, o, outputs), _between(column, i, inputs)) if value is not None]
            if between:
                out[i, o] = 0.0 if min(between) <= 0.0 else math.exp(sum(map(math.log, between)) / len(between))
    return out


def _between(known: dict[int, float], at: int, axis: tuple[float, ...]) -> float | None:
    below, above = [n for n in known if n < at], [n for n in known if n > at]
    if not below or not above:
        return None
    low, high = max(below), min(above)
    if known[low] <= 0.0 or known[high] <= 0.0:
        return 0.0
    share = math.log(axis[at] / axis[low]) / math.log(axis[high] / axis[low])
    return math.exp((1 - share) * math.log(known[low]) + share * math.log(known[high]))
