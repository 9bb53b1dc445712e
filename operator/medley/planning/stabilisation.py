"""Nothing is given back before it has been of no use for a while: growth is followed at once, a fall after a window.

What is stabilised is what plans ask for, not the demand: sizes vary as much as rates do, prices and profiles change,
and two mixes may cost nearly the same. The Horizontal Pod Autoscaler's stabilization window does the same for one
number (kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PastPlan:
    """A cycle that knew the demand.

    Attributes:
        at_s: unix time.
        wanted: replicas by variant that the plan for it asked for, kept ones not counted.
        best_single_per_hour: cost of the cheapest single GPU type then, $; 0 if none could carry it.
    """

    at_s: float
    wanted: tuple[tuple[str, int], ...] = ()
    best_single_per_hour: float = 0.0


def kept(
    past: Sequence[PastPlan], running: Mapping[str, int], prices: Mapping[str, float], now_s: float, window_s: float
) -> dict[str, int]:
    """Replicas by variant that stay: as much of what runs as one plan of the last `window_s` seconds asked for.

    One plan's, not the most that any plan asked for of each variant: where mixes differ from cycle to cycle, all of
    them together would be far more than any cycle needed.

    Args:
        past: cycles, in any order.
        running: replicas asked for now; of variants without a price none are kept.
        prices: of one replica by variant, $ per hour; the plan that keeps most is chosen by them, the latest of equals.
        now_s: unix time.
        window_s: of the past that counts.
    """
    most, dearest = dict.fromkeys(running, 0), 0.0
    for plan in sorted(past, key=lambda plan: plan.at_s):
        if now_s - plan.at_s <= window_s:
            wanted = dict(plan.wanted)
            stay = {name: min(count, wanted.get(name, 0)) if name in prices else 0 for name, count in running.items()}
            worth = sum(prices[name] * count for name, count in stay.items() if count)
            if worth >= dearest:
                most, dearest = stay, worth
    return most


def larger(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """The larger count of each name."""
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in {*one, *other}}


def best_single_lately(past: Sequence[PastPlan], now_s: float, window_s: float) -> float:
    """The most that the cheapest single GPU type cost in the window, $ per hour; 0 without any.

    To compare with: who scales one type with the same calm keeps what it needed in the window too.
    """
    return max((plan.best_single_per_hour for plan in past if now_s - plan.at_s <= window_s), default=0.0)


def seen_long_enough(past: Sequence[PastPlan], now_s: float, window_s: float) -> bool:
    """Whether known demand reaches back over the whole window, without a hole of more than half of it.

    An operator that has just started has seen too little to take anything away. Cycles that take long are no hole:
    where all periods are alike, they may be longer.
    """
    times = sorted(item.at_s for item in past if now_s - item.at_s <= window_s * 1.5)
    if not times or now_s - times[0] < window_s:
        return False
    gaps = [later - earlier for earlier, later in zip(times, [*times[1:], now_s], strict=True)]
    regular_s = 1.5 * min(gaps[:-1]) if len(gaps) > 1 else 0.0  # the last one has only begun
    return max(gaps) <= max(window_s / 2, 1.0, regular_s)
