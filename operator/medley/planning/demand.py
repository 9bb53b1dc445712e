"""How much more than the mean is planned for, and which demand of the recent past still counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def stabilised(workload: Workload, past: Sequence[PastDemand], now_s: float, window_s: float) -> Workload:
    """The workload at the highest rate of the window: capacity follows a rise at once and a fall after the window."""
    if workload.knowledge is not Knowledge.VALUE:
        return workload
    recent = [item.rate_rps for item in past if now_s - item.at_s <= window_s]
    highest = max([workload.rate_rps, *recent])
    return at_rate(workload, highest) if highest > workload.rate_rps else workload


def seen_long_enough(past: Sequence[PastDemand], now_s: float, window_s: float) -> bool:
    """Whether known demand reaches back over the whole window, without a hole of more than half of it.

    An operator that has just started has seen too little to take anything away.
    """
    times = sorted(item.at_s for item in past if now_s - item.at_s <= window_s * 1.5)
    if not times or now_s - times[0] < window_s:
        return False
    gaps = [later - earlier for earlier, later in zip(times, [*times[1:], now_s], strict=True)]
    return max(gaps) <= max(window_s / 2, 1.0)
