"""Several services: solved one after another by name, each against what the pools have left.

Services that must not change are set aside first, with what they use. (Coordination by prices, so that the order of
names does not matter when a limit binds, is the deepening of this module.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from medley.allocation.backends.answer import Options
from medley.allocation.bill import PoolCapacity
from medley.allocation.problem import Allocation, Outcome, Problem, Supply
from medley.allocation.solve import allocate
from medley.model.objects import CapacityType, Pool


@dataclass(frozen=True, slots=True)
class Usage:
    """GPUs that one service uses, per pool and capacity type."""

    service: str
    gpus: tuple[tuple[str, CapacityType, int], ...]


@dataclass(frozen=True, slots=True)
class JointAllocation:
    """The answer for all services.

    Attributes:
        allocations: by service, as solved (marginal cost against what was left).
        nodes: nodes in use per pool and capacity type, all services together.
        cost_shares: $ per hour by service: its share, by GPUs used, of the nodes bought beyond the committed ones.
        idle_gpus: GPUs on nodes in use that no replica uses, per pool.
    """

    allocations: tuple[tuple[str, Allocation], ...]
    nodes: tuple[tuple[str, CapacityType, int], ...]
    cost_shares: tuple[tuple[str, float], ...]
    idle_gpus: tuple[tuple[str, int], ...]

    @property
    def total_cost_per_hour(self) -> float:
        """$ per hour of all nodes bought beyond the committed ones."""
        return sum(cost for _, cost in self.cost_shares)


class Ledger:
    """GPUs in use per pool and capacity type while services are solved in turn."""

    def __init__(self, pools: Iterable[Pool]) -> None:
        self._pools = {pool.name: pool for pool in pools}
        self._gpus: dict[PoolCapacity, dict[str, int]] = {}

    def take(self, usage: Usage) -> None:
        """Record what a service uses."""
        for pool, capacity_type, gpus in usage.gpus:
            if gpus:
                self._gpus.setdefault((pool, capacity_type), {})[usage.service] = gpus

    def release(self, service: str) -> None:
        """Forget what a service uses, before it is solved."""
        for by_service in self._gpus.values():
            by_service.pop(service, None)

    def nodes(self, pool: str, capacity_type: CapacityType) -> int:
        """Nodes in use."""
        used = sum(self._gpus.get((pool, capacity_type), {}).values())
        return math.ceil(used / self._pools[pool].gpus_per_node)

    def supply(self, supply: Supply) -> Supply:
        """A pool's supply less what is in use."""
        pool = self._pools[supply.pool]
        taken = {capacity_type: self.nodes(pool.name, capacity_type) for capacity_type, _ in supply.prices}
        spare = tuple(
            (
                capacity_type,
                count * pool.gpus_per_node - sum(self._gpus.get((pool.name, capacity_type), {}).values()),
            )
            for capacity_type, count in taken.items()
        )
        on_demand = taken.get(CapacityType.ON_DEMAND, 0)
        return replace(
            supply,
            nodes_left=None if pool.max_nodes is None else max(0, pool.max_nodes - sum(taken.values())),
            committed_left=max(0, pool.committed_nodes - on_demand),
            spare_gpus=spare,
        )

    def settle(self) -> tuple[dict[str, float], list[tuple[str, CapacityType, int]], dict[str, int]]:
        """Cost share by service, nodes in use, idle GPUs by pool."""
        costs: dict[str, float] = {}
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
        return costs, nodes, idle


def usage_of(problem: Problem, replicas: Mapping[str, int]) -> Usage:
    """GPUs that a count of replicas uses."""
    gpus: dict[PoolCapacity, int] = {}
    for variant in problem.variants:
        key = (variant.pool, variant.capacity_type)
        gpus[key] = gpus.get(key, 0) + variant.gpus * replicas.get(variant.name, 0)
    return Usage(problem.service, tuple((pool, kind, count) for (pool, kind), count in sorted(gpus.items())))


def allocate_all(
    problems: Iterable[Problem], pools: Iterable[Pool], fixed: Iterable[Usage] = (), options: Options | None = None
) -> JointAllocation:
    """Solve each problem in order of its service's name against what is left.

    Args:
        problems: their supplies are replaced by what the pools have left.
        pools: every pool that a problem names.
        fixed: what services use that are not to change; set aside first.
        options: of the solver.
    """
    ledger = Ledger(pools)
    for usage in fixed:
        ledger.take(usage)
    allocations: list[tuple[str, Allocation]] = []
    ordered = sorted(problems, key=lambda problem: problem.service)
    for problem in ordered:
        # What must not be taken away is no capacity for others, whoever is solved first.
        ledger.take(usage_of(problem, {variant.name: variant.at_least for variant in problem.variants}))
    for problem in ordered:
        ledger.release(problem.service)
        current = replace(problem, supplies=tuple(ledger.supply(supply) for supply in problem.supplies))
        allocation = allocate(current, options)
        if allocation.outcome is Outcome.IMPOSSIBLE:
            stays = {variant.name: max(variant.running, variant.at_least) for variant in problem.variants}
        else:
            stays = dict(allocation.replicas)
        ledger.take(usage_of(problem, stays))
        allocations.append((problem.service, allocation))
    costs, nodes, idle = ledger.settle()
    for service, _ in allocations:
        costs.setdefault(service, 0.0)
    return JointAllocation(tuple(allocations), tuple(nodes), tuple(sorted(costs.items())), tuple(sorted(idle.items())))
