"""GPUs in use per pool and capacity type, while several services are solved against the same pools."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from medley.allocation.bill import PoolCapacity
from medley.allocation.problem import Problem, Supply
from medley.model.objects import CapacityType, Pool


@dataclass(frozen=True, slots=True)
class Usage:
    """GPUs that one service uses, per pool and capacity type."""

    service: str
    gpus: tuple[tuple[str, CapacityType, int], ...]


def usage_of(problem: Problem, replicas: Mapping[str, int]) -> Usage:
    """GPUs that a count of replicas uses."""
    gpus: dict[PoolCapacity, int] = {}
    for variant in problem.variants:
        key = (variant.pool, variant.capacity_type)
        gpus[key] = gpus.get(key, 0) + variant.gpus * replicas.get(variant.name, 0)
    return Usage(problem.service, tuple((pool, kind, count) for (pool, kind), count in sorted(gpus.items())))


@dataclass(frozen=True, slots=True)
class Settlement:
    """Who pays what.

    Attributes:
        costs: $ per hour by service: its share, by GPUs used, of the nodes bought beyond the committed ones.
        nodes: in use, per pool and capacity type.
        idle: GPUs on nodes in use that no replica uses, by pool.
    """

    costs: dict[str, float]
    nodes: list[tuple[str, CapacityType, int]]
    idle: dict[str, int]


class Ledger:
    """What is in use of each pool."""

    def __init__(self, pools: Iterable[Pool]) -> None:
        self._pools = {pool.name: pool for pool in pools}
        self._gpus: dict[PoolCapacity, dict[str, int]] = {}

    def take(self, usage: Usage) -> None:
        """Record what a service uses, in place of what it used before."""
        self.release(usage.service)
        for pool, capacity_type, gpus in usage.gpus:
            if gpus:
                self._gpus.setdefault((pool, capacity_type), {})[usage.service] = gpus

    def release(self, service: str) -> None:
        """Forget what a service uses, before it is solved."""
        for by_service in self._gpus.values():
            by_service.pop(service, None)

    def used(self, pool: str, capacity_type: CapacityType) -> int:
        """GPUs in use."""
        return sum(self._gpus.get((pool, capacity_type), {}).values())

    def nodes(self, pool: str, capacity_type: CapacityType) -> int:
        """Nodes in use."""
        return math.ceil(self.used(pool, capacity_type) / self._pools[pool].gpus_per_node)

    def supply(self, supply: Supply) -> Supply:
        """A pool's supply less what is in use."""
        pool = self._pools[supply.pool]
        taken = {capacity_type: self.nodes(pool.name, capacity_type) for capacity_type, _ in supply.prices}
        spare = tuple(
            (capacity_type, count * pool.gpus_per_node - self.used(pool.name, capacity_type))
            for capacity_type, count in taken.items()
        )
        return replace(
            supply,
            nodes_left=None if pool.max_nodes is None else max(0, pool.max_nodes - sum(taken.values())),
            committed_left=max(0, pool.committed_nodes - taken.get(CapacityType.ON_DEMAND, 0)),
            spare_gpus=spare,
            available=tuple((kind, max(0, most - taken.get(kind, 0))) for kind, most in supply.available),
        )

    def rest(self, problem: Problem) -> Problem:
        """The problem with what the pools have left."""
        return replace(problem, supplies=tuple(self.supply(supply) for supply in problem.supplies))

    def exceeded(self) -> list[str]:
        """Limits that are not kept, in words; empty if all are."""
        broken = []
        for pool in self._pools.values():
            total = 0
            for offering in pool.offerings:
                taken = self.nodes(pool.name, offering.capacity_type)
                total += taken
                if offering.max_nodes is not None and taken > offering.max_nodes:
                    broken.append(f"pool {pool.name}: {taken} {offering.capacity_type} nodes of {offering.max_nodes}")
            if pool.max_nodes is not None and total > pool.max_nodes:
                broken.append(f"pool {pool.name}: {total} nodes of {pool.max_nodes}")
        return broken

    def settle(self, services: Sequence[str] = ()) -> Settlement:
        """Costs, nodes and idle GPUs; each of `services` has a cost, if only 0."""
        costs = dict.fromkeys(services, 0.0)
        nodes: list[tuple[str, CapacityType, int]] = []
        idle: dict[str, int] = {}
        for (name, capacity_type), by_service in sorted(self._gpus.items()):
            pool = self._pools[name]
            used = sum(by_service.values())
            if not used:
                continue
            count = self.nodes(name, capacity_type)
            nodes.append((name, capacity_type, count))
            idle[name] = idle.get(name, 0) + count * pool.gpus_per_node - used
            committed = pool.committed_nodes if capacity_type is CapacityType.ON_DEMAND else 0
            price = next(o.price_per_node_hour for o in pool.offerings if o.capacity_type is capacity_type)
            bought = price * max(0, count - committed)
            for service, gpus in by_service.items():
                costs[service] = costs.get(service, 0.0) + bought * gpus / used
        return Settlement(costs, nodes, idle)
