"""Whether a queue grows without end, seen from how long requests took."""

from __future__ import annotations

from collections.abc import Sequence

from medley.measurement.stand_in import percentile_of

LOOK_EVERY = 20
"""Answers between two looks at a probe."""
GROWTH_LEAST = 200
"""Answers before the first look."""
GROWTH = 1.6
"""The last quarter of requests took this many times as long as the first: the queue finds no rest."""


def grows(lives_ms: Sequence[float], by: float = GROWTH) -> bool:
    """Whether requests take ever longer: medians, as one stall of the machine is no growing queue."""
    quarter = len(lives_ms) // 4
    medians = [percentile_of(lives_ms[at * quarter : (at + 1) * quarter], 50.0) for at in range(4)]
    return sorted(medians) == medians and medians[-1] > by * medians[0]


def ever_grows(lives_ms: Sequence[float], by: float = GROWTH) -> bool:
    """Whether it looks so at any of the looks, although it may have been a busy while only."""
    return any(grows(lives_ms[:answered], by) for answered in range(GROWTH_LEAST, len(lives_ms) + 1, LOOK_EVERY))
