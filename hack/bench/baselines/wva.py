"""(c) llm-d's workload-variant autoscaler: one accelerator type per service, chosen greedily.

Unlimited: the type of least value for each service. Limited: services in the order of their regret (what the
second-best type would cost more), each on its best type that still fits. A change of type is charged 10 % of the old
and the new cost together. Speeds are the same MaxTput as everywhere here, not its own queue model.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..table import Plan, Table
from .single import of_one_type, replicas_alone

CHANGE_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Running:
    """What a service runs on now."""

    gpu_type: int
    cost: float


@dataclass(frozen=True, slots=True)
class Choice:
    """One service on one type."""

    value: float
    cost: float
    gpu_type: int
    count: int


def choices(table: Table, running: Running | None = None) -> list[Choice]:
    """Types that could carry the service, best first; `value` counts the transition."""
    made = []
    for j in range(table.types):
        count = replicas_alone(table, j)
        if count is None:
            continue
        cost = float(table.prices[j]) * count
        change = CHANGE_SHARE * (running.cost + cost) if running is not None and running.gpu_type != j else 0.0
        made.append(Choice(cost + change, cost, j, count))
    return sorted(made, key=lambda choice: (choice.value, choice.gpu_type))


def wva(table: Table, running: Running | None = None) -> Plan:
    """One service without shared limits."""
    made = choices(table, running)
    if not made:
        return Plan("wva", "infeasible")
    return of_one_type(table, made[0].gpu_type, made[0].count, "wva")


def wva_shared(tables: Sequence[Table], left: Sequence[float]) -> list[tuple[int, ...] | None]:
    """Replicas of each service on shared pools, one-GPU nodes; None where no type is left for it."""
    remaining = list(left)
    options = [choices(table) for table in tables]
    heap = [(-_regret(options[s], 0), s, 0) for s in range(len(tables))]
    heapq.heapify(heap)
    out: list[tuple[int, ...] | None] = [None] * len(tables)
    while heap:
        _, s, position = heapq.heappop(heap)
        if position >= len(options[s]):
            continue
        choice = options[s][position]
        if choice.count <= remaining[choice.gpu_type]:
            remaining[choice.gpu_type] -= choice.count
            out[s] = tuple(choice.count if j == choice.gpu_type else 0 for j in range(tables[s].types))
        else:
            heapq.heappush(heap, (-_regret(options[s], position + 1), s, position + 1))
    return out


def _regret(options: Sequence[Choice], position: int) -> float:
    """What it would cost more to take the next one; the last one comes first."""
    return options[position + 1].value - options[position].value if position + 1 < len(options) else math.inf
