"""One GPU type instead of a mix: by arithmetic where the type has one variant, and the rule when it is preferred."""

from __future__ import annotations

import math
from collections.abc import Callable

from medley.allocation.problem import Problem, Variant
from medley.allocation.routing import Steering
from medley.model.objects import CapacityType

Judge = Callable[[tuple[int, ...]], float | None]
"""$ per hour of counts; None if they break a limit."""


class Singles:
    """The counts that would serve everything with one variant alone, beside every other variant's floor."""

    def __init__(self, problem: Problem, steering: Steering) -> None:
        self._problem = problem
        self._counts: list[tuple[int, ...]] = []
        floors = [variant.floor for variant in problem.variants]
        if problem.survive_loss_of is not None or any(floors):
            return
        for j, variant in enumerate(problem.variants):
            count = count_alone(problem, variant, steering.need(j), served=bool(steering.lines))
            if count is not None and sum(other.gpu == variant.gpu for other in problem.variants) == 1:
                self._counts.append(tuple(count if k == j else 0 for k in range(len(floors))))

    def preferred(self, mixed: tuple[int, ...], judge: Judge) -> tuple[int, ...]:
        """One GPU type, if the mix saves no more than `min_mix_saving` over it."""
        problem = self._problem
        types = {variant.gpu for variant, count in zip(problem.variants, mixed, strict=True) if count}
        cost = judge(mixed)
        if len(types) < 2 or problem.min_mix_saving <= 0.0 or cost is None:
            return mixed
        costs = [(alone, counts) for counts in self._counts if (alone := judge(counts)) is not None]
        alone, counts = min(costs, default=(math.inf, mixed))
        return counts if saves_too_little(problem, cost, alone) else mixed


def count_alone(problem: Problem, variant: Variant, need: float | None, *, served: bool) -> int | None:
    """Replicas with which one variant serves everything alone; None if it cannot.

    `need`: replicas that carry all traffic, `served`: whether there is any.
    """
    part = problem.max_spot_fraction
    if need is None or (variant.capacity_type is CapacityType.SPOT and served and part is not None and part < 1.0):
        return None
    return max(math.ceil(need - 1e-9), variant.floor, problem.min_replicas, int(served))


def saves_too_little(problem: Problem, mixed: float, alone: float) -> bool:
    """Whether a mix is not worth its moving parts."""
    return 0.0 < alone < math.inf and (alone - mixed) / alone <= problem.min_mix_saving
