"""How much more than the mean is planned for, and which demand of the recent past still counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from medley.model.objects import Scaling
from medley.model.workload import Bucket, Knowledge, Size, Workload
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


def stabilised(workload: Workload, peak: Workload | None) -> Workload:
    """Capacity follows a rise at once, and a fall (a confirmed zero too) after the window whose peak this is.

    What is there now is kept with its own sizes; what is missing to the peak has the peak's sizes and certainty. Few
    requests say little about sizes: blown up to the peak's rate, the last ones of a fall would ask for more than the
    peak itself did.
    """
    if workload.knowledge is Knowledge.UNKNOWN or peak is None or peak.rate_rps <= workload.rate_rps:
        return workload
    now = workload.rate_rps / peak.rate_rps
    if now > 0.0 and workload.input_edges != peak.input_edges:
        # Ranges that differ cannot be mixed: the metrics changed in between, and the newer ones count.
        return at_rate(workload, peak.rate_rps)
    rest = at_rate(peak, peak.rate_rps - workload.rate_rps)
    rates: dict[tuple[Size, int], float] = {}
    for bucket in (*workload.buckets, *rest.buckets):
        rates[bucket.size, bucket.input_range] = rates.get((bucket.size, bucket.input_range), 0.0) + bucket.rate_rps
    return replace(
        workload,
        knowledge=Knowledge.VALUE,
        buckets=tuple(Bucket(size, rate_rps, number) for (size, number), rate_rps in rates.items()),
        input_edges=peak.input_edges,
        uncertainty=now * workload.uncertainty + (1.0 - now) * peak.uncertainty,
        sources=workload.sources or peak.sources,
    )


def seen_long_enough(past: Sequence[PastDemand], now_s: float, window_s: float) -> bool:
    """Whether known demand reaches back over the whole window, without a hole of more than half of it.

    An operator that has just started has seen too little to take anything away.
    """
    times = sorted(item.at_s for item in past if now_s - item.at_s <= window_s * 1.5)
    if not times or now_s - times[0] < window_s:
        return False
    gaps = [later - earlier for earlier, later in zip(times, [*times[1:], now_s], strict=True)]
    return max(gaps) <= max(window_s / 2, 1.0)
