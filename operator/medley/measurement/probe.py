"""One probe, what it found, and which one comes next for a size.

The SLO is about requests that come when they like, so the rate is bracketed in an open loop: Poisson arrivals that do
not wait for answers. Closed loops (a fixed number in flight) only calibrate: their mean latency settles after a few
requests a slot, and by Little's law it gives the rate that an open loop begins with.

The bracket of a size is done when one probe lies so near the rate it implies that nothing is left to gain, and another
one shows the other side of the objective, as `medley.profiles.measured.highest_rate` needs a point that keeps it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from medley.measurement.stand_in import worst_ratio
from medley.model.workload import Size
from medley.profiles.latency import LatencyTarget
from medley.profiles.measured import Latency, LoadPoint

CLEARLY_MISSED = 1.5
"""A percentile this many times its objective needs no more requests to be called missed."""
_BEYOND = 30  # measured requests beyond the percentile, so that their number is known to a fifth (1/√30)
_LEAST_MEASURED = 600
_PER_RUNNING = 10  # measured requests for each that runs at a time, so that many independent moments are seen
_CLOSED_LEAST = 8
MOST_OPEN_PROBES = 8
"""Open-loop probes of one size at most; a bracket that is still open then is taken as it is."""


class Loop(StrEnum):
    """How load is kept: at a rate, or at a number in flight."""

    OPEN = "Open"
    CLOSED = "Closed"


class Ending(StrEnum):
    """Why a probe ended."""

    COMPLETE = "Complete"
    CLEARLY_MISSED = "ClearlyMissed"
    OVERLOADED = "Overloaded"  # more in flight than allowed, or ever longer to answer
    TIME_LIMIT = "TimeLimit"
    CLIENT_LATE = "ClientLate"  # the client could not send on time: says nothing of the replica


@dataclass(frozen=True, slots=True)
class Probe:
    """A load to put on the endpoint.

    Attributes:
        size: tokens of every request.
        loop: open or closed.
        level: req/s of an open loop, requests in flight of a closed one.
        requests: how many are measured; more are sent before and after.
    """

    size: Size
    loop: Loop
    level: float
    requests: int

    def __str__(self) -> str:
        load = f"{self.level:.4g} req/s" if self.loop is Loop.OPEN else f"{self.level:.0f} in flight"
        return f"{self.size} at {load}"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe found.

    Attributes:
        probe: the load.
        ending: why it ended.
        point: the latencies; None if too few requests were answered.
        sent: requests sent, warm-up and tail included.
        failed: requests that were not answered in full; they count as having taken the time-out.
        seconds: how long it took.
        late_ms: how much later than planned the 95th of 100 requests went out: the client's own slowness.
        cached_tokens: prompt tokens that the server says came from its prefix cache.
    """

    probe: Probe
    ending: Ending
    point: LoadPoint | None
    sent: int
    failed: int
    seconds: float
    late_ms: float = 0.0
    cached_tokens: int = 0

    def ratio(self, target: LatencyTarget) -> float:
        """The worst latency over its objective; infinite when it was overloaded or nothing was measured."""
        if self.point is None or self.ending is Ending.OVERLOADED:
            return math.inf
        tpot, ttft = self.at(target.percentile)
        return worst_ratio(tpot, ttft, target)

    def at(self, percentile: float) -> tuple[float, float]:
        """TPOT and TTFT in ms; a percentile that is not kept reads as the next one above it."""
        assert self.point is not None
        return (_or_inf(self.point.tpot.at(percentile)), _or_inf(self.point.ttft.at(percentile)))


def _or_inf(value: float | None) -> float:
    return math.inf if value is None else value


def latency_of(values_ms: Sequence[float]) -> Latency:
    """Mean and percentiles."""
    if not values_ms:
        return Latency()
    ordered = sorted(values_ms)

    def at(percentile: float) -> float:
        return ordered[max(0, math.ceil(percentile / 100.0 * len(ordered)) - 1)]

    return Latency(sum(ordered) / len(ordered), at(50.0), at(90.0), at(95.0), at(99.0))


def open_requests(percentile: float, running: float) -> int:
    """Requests that an open-loop probe measures.

    Enough that 30 lie beyond the percentile, that every request in flight is replaced ten times, and never fewer than
    600. What matters more than the number is that the schedule is representative: see `arrivals`.
    """
    return max(_LEAST_MEASURED, math.ceil(_BEYOND / (1.0 - percentile / 100.0)), math.ceil(_PER_RUNNING * running))


def closed_probe(size: Size, in_flight: int) -> Probe:
    """A closed-loop probe: one request a slot is measured, one before it is warm-up."""
    return Probe(size, Loop.CLOSED, float(in_flight), max(_CLOSED_LEAST, in_flight))


def is_missed_on_average(result: ProbeResult, target: LatencyTarget) -> bool:
    """Whether the means of a closed-loop probe are above the objectives."""
    if result.point is None:
        return True
    return worst_ratio(result.point.tpot.mean_ms or 0.0, result.point.ttft.mean_ms or 0.0, target) > 1.0


def next_rate(
    results: Sequence[ProbeResult],
    target: LatencyTarget,
    expected_rps: float,
    tolerance: float,
    implied_rps: Callable[[ProbeResult], float | None],
) -> float | None:
    """The rate to try next for a size in an open loop; None: its bracket is done.

    Args:
        results: of this size, open loop, in the order they were made.
        target: the objectives.
        expected_rps: where the highest rate is expected before anything was measured.
        tolerance: relative width that the bracket may keep.
        implied_rps: the highest rate that one result implies, None if it implies none (see `adaptive`).
    """
    half, near = tolerance / 2.0, 0.75 * tolerance
    if not results:
        return expected_rps * (1.0 - near / 2.0)
    if len(results) >= MOST_OPEN_PROBES:
        return None
    missed = [result for result in results if result.ratio(target) > 1.0]
    broken_rps = min((result.probe.level for result in missed), default=math.inf)
    kept_rps = max(
        (r.probe.level for r in results if r.ratio(target) <= 1.0 and r.probe.level < broken_rps), default=0.0
    )
    nearest = min(results, key=lambda result: abs(math.log(min(max(result.ratio(target), 1e-9), 1e9))))
    implied = implied_rps(nearest)
    if kept_rps and broken_rps <= kept_rps * (1.0 + tolerance):
        return None
    if implied is not None and kept_rps:
        is_settled = abs(math.log(implied / nearest.probe.level)) <= near
        if is_settled and (nearest.ratio(target) > 1.0 or nearest.probe.level == kept_rps):
            return None
    if not kept_rps:
        # If a miss is near, a clear keep below it is all that is wanted; else what it implies.
        wanted = broken_rps / 2.0 if implied is None else implied * (1.0 - half)
        return min(wanted, broken_rps * (1.0 - tolerance))
    if math.isinf(broken_rps):
        wanted = kept_rps * 2.0 if implied is None else implied
        return min(max(wanted, kept_rps * (1.0 + half)), kept_rps * 3.0)
    if implied is None or not kept_rps < implied < broken_rps:
        return math.sqrt(kept_rps * broken_rps)
    return min(max(implied, kept_rps * (1.0 + half / 2)), broken_rps * (1.0 - half / 2))
