"""What must be carried when: all that is planned for with everything there, and the mean demand after each loss.

A stage is one of those situations. What is left of the replicas in it is arithmetic on the counts, so that solver,
re-check and explanation agree on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from medley.allocation.problem import Problem, Variant
from medley.model.objects import LossKind, RoutingMode


class Spare(StrEnum):
    """Whether capacity for the loss of a replica is kept back: of each variant, of all together, or not at all.

    A router that steers keeps its shares when a replica is lost: the others of the same variant take over. Where nobody
    steers, all that is left takes over.
    """

    NONE = "None"
    PER_VARIANT = "PerVariant"
    TOGETHER = "Together"


@dataclass(frozen=True, slots=True)
class Stage:
    """One situation in which traffic must be carried.

    Attributes:
        name: what is lost; empty where everything is there.
        share: of the planned demand that must be carried.
        lost: per variant, which part of its replicas is lost, rounded up: 0 none, 1 all, k one in k.
        spare: how the loss of one replica is provided for.
        factor: planned over mean demand; what a variant carries with one replica fewer may be higher by this.
    """

    name: str
    share: float
    lost: tuple[int, ...]
    spare: Spare = Spare.NONE
    factor: float = 1.0

    def left(self, counts: Sequence[int]) -> list[int]:
        """Replicas that are left of each variant."""
        if not any(self.lost):
            return list(counts)
        return [
            count - math.ceil(count / part) if part else count for count, part in zip(counts, self.lost, strict=True)
        ]

    def capacity(self, counts: Sequence[int]) -> list[float]:
        """What each variant can carry, in replicas at the planned demand."""
        left = self.left(counts)
        if self.spare is not Spare.PER_VARIANT:
            return [float(count) for count in left]
        return [min(float(count), self.factor * max(0, count - 1)) for count in left]


def stages_of(problem: Problem) -> tuple[Stage, ...]:
    """Everything there, then each loss that the problem must survive."""
    nothing = (0,) * len(problem.variants)
    factor = problem.demand_factor
    match problem.survive_loss_of:
        case None:
            return (Stage("", 1.0, nothing),)
        case LossKind.REPLICA:
            together = problem.routing is RoutingMode.SERVICE
            return (Stage("", 1.0, nothing, Spare.TOGETHER if together else Spare.PER_VARIANT, factor),)
        case LossKind.POOL:
            pools = sorted({variant.pool for variant in problem.variants})
            losses = [(f"pool {pool}", tuple(int(v.pool == pool) for v in problem.variants)) for pool in pools]
        case LossKind.ZONE:
            zones = sorted({zone for variant in problem.variants for zone in _zones(problem, variant)}) or ["any"]
            losses = [(f"zone {zone}", tuple(_part(problem, v, zone) for v in problem.variants)) for zone in zones]
    return (Stage("", 1.0, nothing), *(Stage(name, 1.0 / factor, lost) for name, lost in losses))


def _zones(problem: Problem, variant: Variant) -> tuple[str, ...]:
    return dict(problem.supply(variant.pool).zones).get(variant.capacity_type, ())


def _part(problem: Problem, variant: Variant, zone: str) -> int:
    """Replicas are spread evenly over the zones of their offering; one without zones may be in any of them."""
    zones = _zones(problem, variant)
    if not zones:
        return 1
    return len(zones) if zone in zones else 0
