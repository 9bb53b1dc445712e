"""What several services share: lots of nodes, and the limits of the pools they belong to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from medley.allocation.bill import PoolCapacity
from medley.allocation.problem import Problem
from medley.model.objects import CapacityType


@dataclass(frozen=True, slots=True)
class Lot:
    """Nodes of one pool and capacity type that several services may use.

    Attributes:
        spare: idle GPUs on nodes that are taken already.
        committed: nodes that cost nothing more.
        available: nodes that can be had; None: no cap of its own.
    """

    pool: str
    capacity_type: CapacityType
    gpus_per_node: int
    price: float
    spare: int = 0
    committed: int = 0
    available: int | None = None


@dataclass(frozen=True, slots=True)
class Shared:
    """What is shared: lots, and nodes left per pool (None: no limit)."""

    lots: tuple[Lot, ...]
    nodes_left: dict[str, int | None]

    @property
    def keys(self) -> list[PoolCapacity]:
        """Pool and capacity type of each lot."""
        return [(lot.pool, lot.capacity_type) for lot in self.lots]

    @property
    def list_prices(self) -> list[float]:
        """$ per GPU-hour."""
        return [lot.price / lot.gpus_per_node for lot in self.lots]

    def earned(self, prices: Sequence[float]) -> float:
        """What the pools earn at most at these prices, less what their nodes cost, in $ per hour: part of the bound."""
        total = 0.0
        for pool, left in self.nodes_left.items():
            offers: list[tuple[float, float]] = []
            for lot, price in zip(self.lots, prices, strict=True):
                if lot.pool != pool:
                    continue
                total += price * lot.spare
                most = math.inf if lot.available is None else float(lot.available)
                offers.append((price * lot.gpus_per_node, min(most, float(lot.committed))))
                offers.append((price * lot.gpus_per_node - lot.price, max(0.0, most - lot.committed)))
            room = math.inf if left is None else float(left)
            for gain, nodes in sorted(offers, reverse=True):
                if gain <= 1e-12 or room <= 0.0:
                    break
                total += gain * min(nodes, room)
                room -= min(nodes, room)
        return total

    def capped(self, prices: Sequence[float]) -> list[float]:
        """Prices no higher than what an unlimited pool sells for: above, its gain would be without end."""
        unlimited = [lot.available is None and self.nodes_left[lot.pool] is None for lot in self.lots]
        return [
            min(price, lot.price / lot.gpus_per_node) if free else price
            for price, lot, free in zip(prices, self.lots, unlimited, strict=True)
        ]

    def cost_per_hour(self, gpus: Sequence[int]) -> float | None:
        """$ of the nodes bought for GPUs used of each lot; None where a limit is broken."""
        total, taken = 0.0, dict.fromkeys(self.nodes_left, 0)
        for lot, used in zip(self.lots, gpus, strict=True):
            nodes = math.ceil(max(0, used - lot.spare) / lot.gpus_per_node)
            if lot.available is not None and nodes > lot.available:
                return None
            taken[lot.pool] += nodes
            total += lot.price * max(0, nodes - lot.committed)
        over = any(left is not None and taken[pool] > left for pool, left in self.nodes_left.items())
        return None if over else total

    def freed(self, problem: Problem) -> Problem:
        """A service's problem where what is shared costs nothing: somebody else charges for it."""
        pools = set(self.nodes_left)
        return replace(
            problem,
            supplies=tuple(
                replace(supply, gpu_prices=tuple((kind, 0.0) for kind, _ in supply.prices))
                if supply.pool in pools
                else supply
                for supply in problem.supplies
            ),
        )

    def gpus_of(self, problem: Problem) -> list[list[int]]:
        """GPUs that one replica of each variant takes of each lot."""
        return [
            [variant.gpus * ((variant.pool, variant.capacity_type) == lot) for variant in problem.variants]
            for lot in self.keys
        ]
