"""What counts of replicas cost, and which limits they break: plain arithmetic, prepared once per problem.

Solver, re-check and explanation all ask here, so there is one meaning of cost and of each limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from medley.allocation.problem import Problem, Variant
from medley.model.objects import CapacityType

TOLERANCE = 1e-6
"""Relative slack of the budget: above rounding, far below a cent in an hour."""

PoolCapacity = tuple[str, CapacityType]


@dataclass(frozen=True, slots=True)
class _Lot:
    """Nodes of one pool and capacity type, with the GPUs that one replica of each variant there takes."""

    pool: str
    capacity_type: CapacityType
    gpus: tuple[tuple[int, int], ...]
    gpus_per_node: int
    spare: int
    price: float
    committed: int
    exclusive: bool
    available: int | None
    gpu_price: float | None

    def used(self, counts: Sequence[int]) -> int:
        """GPUs."""
        total = 0
        for variant, gpus in self.gpus:
            total += gpus * counts[variant]
        return total

    def nodes(self, counts: Sequence[int]) -> int:
        """Nodes needed beyond those taken already."""
        return math.ceil(max(0, self.used(counts) - self.spare) / self.gpus_per_node)

    def bought(self, counts: Sequence[int]) -> float:
        """$ per hour of the nodes beyond the committed ones."""
        return self.price * max(0, self.nodes(counts) - self.committed)


def replica_price(problem: Problem, variant: Variant) -> float:
    """List price of one replica: its GPUs' share of a node, in $ per hour."""
    supply = problem.supply(variant.pool)
    return supply.price(variant.capacity_type) / supply.gpus_per_node * variant.gpus


def start_cost(problem: Problem, variant: Variant) -> float:
    """$ per hour charged for starting one replica."""
    return problem.change_cost * replica_price(problem, variant)


def _most(problem: Problem, variant: Variant) -> float:
    """Most replicas of a variant; what must stay for now may be more than the user's maximum."""
    if problem.rules_out(variant):
        return variant.floor
    return math.inf if variant.max_replicas is None else max(variant.max_replicas, variant.at_least)


class Bill:
    """Costs and limits of one problem. Counts are one per variant, in the problem's order."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._lots = tuple(_lots(problem))
        self._start_costs = [start_cost(problem, variant) for variant in problem.variants]
        self._bounds = [(variant.floor, _most(problem, variant)) for variant in problem.variants]
        self._nodes_left = {
            supply.pool: supply.nodes_left for supply in problem.supplies if supply.nodes_left is not None
        }

    def nodes(self, counts: Sequence[int]) -> dict[PoolCapacity, int]:
        """Nodes needed beyond those taken already, per pool and capacity type."""
        return {(lot.pool, lot.capacity_type): lot.nodes(counts) for lot in self._lots}

    def cost_per_hour(self, counts: Sequence[int]) -> float:
        """$ of the nodes bought beyond the committed ones; of GPUs where those are charged instead."""
        return sum(
            lot.bought(counts) if lot.gpu_price is None else lot.gpu_price * lot.used(counts) for lot in self._lots
        )

    def change_per_hour(self, counts: Sequence[int]) -> float:
        """$ charged for the replicas that would have to be started."""
        if self._problem.change_cost <= 0.0:
            return 0.0
        return sum(
            max(0, count - variant.running) * cost
            for count, variant, cost in zip(counts, self._problem.variants, self._start_costs, strict=True)
        )

    def charged_per_hour(self, counts: Sequence[int]) -> float:
        """Cost with the cost of getting there."""
        return self.cost_per_hour(counts) + self.change_per_hour(counts)

    def budget_charge(self, counts: Sequence[int]) -> float:
        """$ charged to the service's budget: whole nodes in pools of its own, GPUs by share in shared ones."""
        return sum(
            lot.bought(counts) if lot.exclusive else lot.price / lot.gpus_per_node * lot.used(counts)
            for lot in self._lots
        )

    def judged(self, counts: Sequence[int]) -> float | None:
        """Cost with the cost of getting there, or None where a limit is broken: `broken` in a hurry."""
        if any(not least <= count <= most for count, (least, most) in zip(counts, self._bounds, strict=True)):
            return None
        if sum(counts) < self._problem.min_replicas:
            return None
        total, taken = 0.0, dict.fromkeys(self._nodes_left, 0)
        for lot in self._lots:
            used = lot.used(counts)
            nodes = -(-max(0, used - lot.spare) // lot.gpus_per_node)
            if lot.available is not None and nodes > lot.available:
                return None
            if lot.pool in taken:
                taken[lot.pool] += nodes
            total += lot.price * max(0, nodes - lot.committed) if lot.gpu_price is None else lot.gpu_price * used
        if any(taken[pool] > left for pool, left in self._nodes_left.items()):
            return None
        most = self._problem.max_hourly_cost
        if most is not None and self.budget_charge(counts) > most * (1 + TOLERANCE) + TOLERANCE:
            return None
        return total + self.change_per_hour(counts)

    def broken(self, counts: Sequence[int]) -> list[str]:
        """Limits and bounds that the counts break, in words; empty if none."""
        problem = self._problem
        broken = []
        for variant, count, (least, most) in zip(problem.variants, counts, self._bounds, strict=True):
            if count < least:
                broken.append(f"{variant.name}: {count} replicas, at least {least}")
            if count > most:
                why = " (scaling.maxSpotPercent 0)" if problem.rules_out(variant) else ""
                broken.append(f"{variant.name}: {count} replicas, at most {most:.0f}{why}")
        if sum(counts) < problem.min_replicas:
            broken.append(f"scaling.minReplicas: {sum(counts)} of {problem.min_replicas}")
        nodes = self.nodes(counts)
        for lot in self._lots:
            count = nodes[lot.pool, lot.capacity_type]
            if lot.available is not None and count > lot.available:
                broken.append(f"pool {lot.pool}: {count} {lot.capacity_type} nodes, {lot.available} can be had")
        for pool, left in self._nodes_left.items():
            taken = sum(count for (name, _), count in nodes.items() if name == pool)
            if taken > left:
                broken.append(f"pool {pool}: {taken} nodes, {left} left")
        if problem.max_hourly_cost is not None:
            charge = self.budget_charge(counts)
            if charge > problem.max_hourly_cost * (1 + TOLERANCE) + TOLERANCE:
                broken.append(f"scaling.maxHourlyCost: {charge:.4f} $/h of {problem.max_hourly_cost:.4f}")
        return broken


def _lots(problem: Problem) -> list[_Lot]:
    lots = []
    for supply in problem.supplies:
        for capacity_type, price in supply.prices:
            gpus = tuple(
                (number, variant.gpus)
                for number, variant in enumerate(problem.variants)
                if variant.pool == supply.pool and variant.capacity_type is capacity_type
            )
            if gpus:
                lots.append(
                    _Lot(
                        supply.pool,
                        capacity_type,
                        gpus,
                        supply.gpus_per_node,
                        supply.spare(capacity_type),
                        price,
                        supply.committed(capacity_type),
                        supply.exclusive,
                        dict(supply.available).get(capacity_type),
                        dict(supply.gpu_prices).get(capacity_type),
                    )
                )
    return lots
