"""(d) The best single GPU type: the one that carries everything at the lowest cost."""

from __future__ import annotations

import math

import numpy as np

from ..table import Plan, Table


def replicas_alone(table: Table, gpu_type: int) -> int | None:
    """Replicas of one type for all the demand; None if it cannot carry it."""
    if not bool(table.able[:, gpu_type].all()):
        return None
    need = float(table.loads[:, gpu_type].sum())
    count = max(math.ceil(need - 1e-9), table.min_replicas, int(table.least[gpu_type]), 1)
    return count if count <= table.most[gpu_type] else None


def of_one_type(table: Table, gpu_type: int, count: int, solver: str) -> Plan:
    """A plan with one type only."""
    counts = tuple(count if j == gpu_type else 0 for j in range(table.types))
    shares = np.zeros(table.loads.shape)
    shares[:, gpu_type] = 1.0
    return Plan(solver, "optimal", counts, shares, table.cost(counts))


def best_single(table: Table) -> Plan:
    """The cheapest type alone."""
    plans = [
        of_one_type(table, j, count, "single")
        for j in range(table.types)
        if (count := replicas_alone(table, j)) is not None
    ]
    return min(plans, key=lambda plan: plan.cost, default=Plan("single", "infeasible"))
