"""How much more than the mean is planned for, and which demand of the recent past still counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from medley.model.objects import Scaling
from medley.model.workload import Knowledge, Workload
from medley.workload.known import at_rate

MAX_DEMAND_FACTOR = 3.0


@dataclass(frozen=True, slots=True)
class PastDemand:
    """The total rate that was known at a time (unix seconds); rate 0 is a confirmed zero."""

    at_s: float
    rate_rps: float


def demand_factor(scaling: Scaling, workload: Workload) -> float:
    """max(1 + headroom, 1 + uncertainty of the histogram), capped; for a static workload 1 + headroom."""
    return max(1.0 + scaling.headroom, min(1.0 + workload.uncertainty, MAX_DEMAND_FACTOR))


def stabilised(
    workload: Workload, past: Sequence[PastDemand], now_s: float, window_s: float, last_known: Workload | None = None
) -> Workload:
    """The workload at the highest rate of the window: capacity follows a rise at once and a fall after the window."""
    if workload.knowledge is Knowledge.UNKNOWN:
        return workload
    highest = max([workload.rate_rps, *(item.rate_rps for item in past if now_s - item.at_s <= window_s)])
    if highest <= workload.rate_rps:
        return workload
    if workload.knowledge is Knowledge.VALUE:
        return at_rate(workload, highest)
    # A confirmed zero is a fall like any other: until the window has passed, the sizes last seen stand for it.
    if last_known is None or last_known.rate_rps <= 0.0:
        return workload
    return replace(at_rate(last_known, highest), coverage=workload.coverage, age_s=workload.age_s)


def seen_long_enough(past: Sequence[PastDemand], now_s: float, window_s: float) -> bool:
    """Whether known demand reaches back over the whole window, without a hole of more than half of it.

    An operator that has just started has seen too little to take anything away.
    """
    times = sorted(item.at_s for item in past if now_s - item.at_s <= window_s * 1.5)
    if not times or now_s - times[0] < window_s:
        return False
    gaps = [later - earlier for earlier, later in zip(times, [*times[1:], now_s], strict=True)]
    return max(gaps) <= max(window_s / 2, 1.0)
