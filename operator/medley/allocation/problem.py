"""The allocation problem of one service, and its answer, as frozen values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from medley.model.objects import CapacityType, LossKind, RoutingMode, VariantSpec
from medley.model.workload import Bucket
from medley.profiles.latency import Throughput


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run one replica.

    Attributes:
        name: the pool, with -tpN above one GPU and -spot for Spot.
        gpus: GPUs of one replica.
        derating: share of the profile's throughput that is planned for.
        throughput: highest rate per bucket, one per `Problem.buckets`, before derating.
        min_replicas: fewest replicas the user wants.
        max_replicas: most replicas the user wants; None: no limit.
        at_least: replicas that must not be taken away now (unknown demand, incomplete data).
        running: replicas asked for now; starting more costs `change_cost` of a replica's price each.
        usable: the model runs on it at all.
        spec: what the user listed; None where nobody did.
    """

    name: str
    pool: str
    gpu: str
    capacity_type: CapacityType
    tensor_parallel_size: int
    gpus: int
    derating: float
    throughput: tuple[Throughput, ...]
    min_replicas: int = 0
    max_replicas: int | None = None
    at_least: int = 0
    running: int = 0
    usable: bool = True
    spec: VariantSpec | None = None

    @property
    def floor(self) -> int:
        """Fewest replicas, for whatever reason."""
        return max(self.min_replicas, self.at_least)

    def load(self, bucket: int) -> float | None:
        """Share of one replica that 1 req/s of a bucket uses; None if it cannot be served."""
        rate = self.throughput[bucket].rate_rps * self.derating
        return 1.0 / rate if rate > 0.0 and self.usable else None


@dataclass(frozen=True, slots=True)
class Supply:
    """What one pool still has for this service.

    Attributes:
        prices: $ per node-hour by capacity type.
        nodes_left: nodes that may still be taken, over all capacity types; None: no limit.
        committed_left: OnDemand nodes that cost nothing more.
        spare_gpus: GPUs idle on nodes that are taken already, by capacity type; they cost nothing more.
        exclusive: no other service lists the pool.
        zones: where each capacity type is sold; one that is not listed may be anywhere.
        available: nodes that can be had now, by capacity type (a stockout is 0); one that is not listed has no cap.
        gpu_prices: $ per GPU-hour charged instead of whole nodes: set while services that share the pool are
            coordinated by prices (joint.py).
    """

    pool: str
    gpus_per_node: int
    prices: tuple[tuple[CapacityType, float], ...]
    nodes_left: int | None = None
    committed_left: int = 0
    spare_gpus: tuple[tuple[CapacityType, int], ...] = ()
    exclusive: bool = True
    zones: tuple[tuple[CapacityType, tuple[str, ...]], ...] = ()
    available: tuple[tuple[CapacityType, int], ...] = ()
    gpu_prices: tuple[tuple[CapacityType, float], ...] = ()

    def price(self, capacity_type: CapacityType) -> float:
        """$ per node-hour."""
        return dict(self.prices)[capacity_type]

    def spare(self, capacity_type: CapacityType) -> int:
        """Idle GPUs on nodes taken already."""
        return dict(self.spare_gpus).get(capacity_type, 0)

    def committed(self, capacity_type: CapacityType) -> int:
        """Nodes of the capacity type that cost nothing more."""
        return self.committed_left if capacity_type is CapacityType.ON_DEMAND else 0


@dataclass(frozen=True, slots=True)
class Barrier:
    """A limit that leaves no room for even one replica of a variant.

    Attributes:
        limit: as the user wrote it; `LimitValue` has the same name for it.
        lacking: how much more of it one replica needs.
        unit: of that: replica, percent or node.
    """

    limit: str
    lacking: int
    unit: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Everything the allocation of one service depends on; rates are before `demand_factor`.

    `change_cost`: what starting one replica costs, as a share of its hourly price: the time it takes to start, paid for
    and idle, over the time it is expected to stay. 0: what runs now does not matter.
    `max_spot_fraction`: share of the routed req/s that may go to Spot variants; None: no limit.
    `survive_loss_of`: after each single loss of this kind the rest must carry the demand without `demand_factor`.
    `priority`: when shared capacity is short, higher ones are served first.
    """

    service: str
    buckets: tuple[Bucket, ...]
    input_edges: tuple[float, ...]
    demand_factor: float
    variants: tuple[Variant, ...]
    supplies: tuple[Supply, ...]
    routing: RoutingMode
    min_replicas: int = 1
    max_hourly_cost: float | None = None
    min_mix_saving: float = 0.03
    change_cost: float = 0.0
    max_spot_fraction: float | None = None
    survive_loss_of: LossKind | None = None
    priority: int = 0

    def supply(self, pool: str) -> Supply:
        """The supply of one pool."""
        return next(supply for supply in self.supplies if supply.pool == pool)

    def load(self, variant: Variant, bucket: int) -> float | None:
        """Share of one replica that 1 req/s of a bucket uses; None if the variant cannot serve it, or cannot be had."""
        return variant.load(bucket) if self.can_be_had(variant) else None

    def load_matrix(self) -> np.ndarray:
        """`load` of every variant (rows) and bucket (columns), shape (V, B); infinite where there is none."""
        loads = np.full((len(self.variants), len(self.buckets)), np.inf)
        for row, variant in zip(loads, self.variants, strict=True):
            if variant.usable and self.can_be_had(variant):
                rates = np.array([item.rate_rps for item in variant.throughput]) * variant.derating
                np.divide(1.0, rates, out=row, where=rates > 0.0)
        return loads

    def can_be_had(self, variant: Variant) -> bool:
        """Whether limits leave room for even one replica."""
        return not self.barriers(variant)

    def barriers(self, variant: Variant) -> tuple[Barrier, ...]:
        """Limits that leave no room for even one replica; what must run anyway is not asked."""
        if variant.floor:
            return ()
        found = []
        if variant.max_replicas == 0:
            found.append(Barrier(f"{variant.name} maxReplicas", 1, "replica"))
        if self.rules_out(variant):
            found.append(Barrier("scaling.maxSpotPercent", 1, "percent"))
        supply, kind = self.supply(variant.pool), variant.capacity_type
        needed = math.ceil(max(0, variant.gpus - supply.spare(kind)) / supply.gpus_per_node)
        for limit, most in (
            (f"pool {supply.pool} limits.nodes", supply.nodes_left),
            (f"pool {supply.pool} offerings {kind} maxNodes", dict(supply.available).get(kind)),
        ):
            if most is not None and most < needed:
                found.append(Barrier(limit, needed - most, "node"))
        return tuple(found)

    def may_grow(self, variant: Variant) -> bool:
        """Whether there may be more replicas than the variant's floor."""
        return variant.usable and not self.rules_out(variant)

    def rules_out(self, variant: Variant) -> bool:
        """Whether the limit on Spot forbids more replicas than the variant's floor.

        Spot without traffic could still be bought to fall back on after a loss; where no share may go to it, it is not.
        """
        return variant.capacity_type is CapacityType.SPOT and self.max_spot_fraction == 0.0

    def variant(self, name: str) -> Variant:
        """The variant of that name."""
        return next(variant for variant in self.variants if variant.name == name)


@dataclass(frozen=True, slots=True)
class Unserved:
    """A bucket that no variant serves, with the reason, and what the nearest variant would need (empty: not known)."""

    bucket: Bucket
    reason: str
    remedy: str = ""

    @property
    def text(self) -> str:
        """Reason and remedy."""
        return f"{self.reason}; {self.remedy}" if self.remedy else self.reason


class Outcome(StrEnum):
    """How far an allocation can be trusted.

    OPTIMAL: within the gap. INCUMBENT: the time limit came first. FALLBACK: no solver answer passed the re-check.
    BEST_EFFORT: limits do not allow the whole demand. IMPOSSIBLE: not even the bounds can be met.
    """

    OPTIMAL = "Optimal"
    INCUMBENT = "Incumbent"
    FALLBACK = "Fallback"
    BEST_EFFORT = "BestEffort"
    IMPOSSIBLE = "Impossible"


@dataclass(frozen=True, slots=True)
class Allocation:
    """Replicas, nodes and routing shares of one service, with their certificate.

    Attributes:
        replicas: per variant, in the order of `Problem.variants`; zeros included.
        nodes: nodes beyond those already taken, per (pool, capacity type).
        shares: per variant, the share that it gets of each line of traffic.
        lines: the input range of each line; one line, 0, in mode Service.
        cost_per_hour: $ per hour of nodes bought beyond committed ones for this service alone.
        lower_bound_per_hour: proved: no allocation of this problem costs less.
        served_fraction: share of the servable demand (times the demand factor) that the replicas carry.
        contingency: shares after each loss that is survived, by the loss's name; empty where they stay as they are.
        solve_ms: wall time of the solver; not part of the decision.
    """

    outcome: Outcome
    replicas: tuple[tuple[str, int], ...]
    nodes: tuple[tuple[str, CapacityType, int], ...]
    shares: tuple[tuple[str, tuple[float, ...]], ...]
    lines: tuple[int, ...]
    cost_per_hour: float
    lower_bound_per_hour: float
    best_single_gpu: str | None
    best_single_cost_per_hour: float | None
    served_fraction: float = 1.0
    unserved: tuple[Unserved, ...] = ()
    binding: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    contingency: tuple[tuple[str, tuple[tuple[str, tuple[float, ...]], ...]], ...] = ()
    solve_ms: float = 0.0

    @property
    def gap(self) -> float:
        """(cost − bound) / bound; 0 for a plan that costs nothing."""
        if self.lower_bound_per_hour <= 0.0:
            return 0.0 if self.cost_per_hour <= 1e-9 else float("inf")
        return max(0.0, (self.cost_per_hour - self.lower_bound_per_hour) / self.lower_bound_per_hour)

    def count(self, variant: str) -> int:
        """Replicas of a variant."""
        return dict(self.replicas).get(variant, 0)
