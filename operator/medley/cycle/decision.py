"""What a cycle decides: per service and per pool, with the reasons inside.

Status, Events, logs and the CLI print these same objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from medley.allocation.problem import Allocation
from medley.model.objects import CapacityType, Mode, RoutingMode, ServiceKey, VariantSpec
from medley.model.workload import Workload


class Truth(StrEnum):
    """Status of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition: type, status, one CamelCase word why, and a message that names the field and the fix."""

    type: str
    status: Truth
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class VariantTarget:
    """Replicas of one variant: asked for now, and planned.

    `spec` and `capacity_type` are None for a variant that runs although it is no longer listed: its template is left
    alone.
    """

    name: str
    gpu: str
    pool: str
    gpus: int
    desired: int
    planned: int
    spec: VariantSpec | None = None
    capacity_type: CapacityType | None = None


@dataclass(frozen=True, slots=True)
class ServiceDecision:
    """What is decided for one service.

    Attributes:
        act: whether `variants[].desired` may be written; False in Observe and when the spec cannot be used.
        shares: what a router should steer by: (variant, share per input range).
        input_edges: upper edges of the input ranges that `shares` are for.
        held: nothing may shrink now, and why; empty if it may.
        wanted: replicas by variant that would be asked for if nothing had to stay.
        best_single_per_hour: cost of the cheapest single GPU type, kept as long as ours, $; None: none can do it.
    """

    key: ServiceKey
    mode: Mode
    act: bool
    workload: Workload
    demand_factor: float
    routing: RoutingMode
    variants: tuple[VariantTarget, ...]
    shares: tuple[tuple[str, tuple[float, ...]], ...]
    allocation: Allocation | None
    cost_per_hour: float | None
    findings: tuple[Finding, ...]
    input_edges: tuple[float, ...] = ()
    held: str = ""
    wanted: tuple[tuple[str, int], ...] = ()
    best_single_per_hour: float | None = None

    @property
    def complete(self) -> bool:
        """Whether the decision comes from complete data."""
        return self.allocation is not None and not self.held

    def finding(self, type_: str) -> Finding | None:
        """The condition of that type."""
        return next((finding for finding in self.findings if finding.type == type_), None)


class Claim(StrEnum):
    """By what right a pool's scale target is written.

    ACTING: a service in Auto uses the pool. IF_OURS: no service lists it any more; only nodes that Medley itself asked
    for are given back. GROWING: a service in Auto uses the pool, and somewhere are replicas of which nobody knows the
    pool: nodes may be added and none taken away. A pool that is only watched is not written at all.
    """

    ACTING = "Acting"
    IF_OURS = "IfOurs"
    GROWING = "Growing"


@dataclass(frozen=True, slots=True)
class PoolDecision:
    """Nodes that a pool's scale target should have."""

    pool: str
    nodes: int
    claim: Claim = Claim.ACTING


@dataclass(frozen=True, slots=True)
class Decision:
    """What one cycle decides.

    `pool_prices`: what one more GPU-hour of each shared pool is worth, in $; the next cycle starts there.
    """

    services: tuple[ServiceDecision, ...]
    pools: tuple[PoolDecision, ...]
    total_cost_per_hour: float
    pool_prices: tuple[tuple[str, CapacityType, float], ...] = ()
