"""The reference optimum: a model of its own, written straight for HiGHS, solved to gap 0.

Shares nothing with the engine under test. The plan is re-checked like any other, and counts as proved only if the
solver finished, its bound meets its cost, and the re-check holds.
"""

from __future__ import annotations

import math

import numpy as np

from .highs import Model, minimise
from .recheck import faults
from .table import Plan, Table

TINY_LOAD = 1e-6
"""GPUs. Smaller coefficients stay out of the load rows: HiGHS 1.15.1 with presolve has called 14.45 $/h optimal where
9.78 is feasible (limited-0-210, loads of 2e-8). What is left is a relaxation, so the bound holds; capability rows keep
such buckets served, and the re-check counts them."""


def capability_sets(table: Table) -> list[tuple[int, ...]]:
    """For each bucket the types able to serve it; sets that contain another are implied and left out."""
    sets = {tuple(np.flatnonzero(row).tolist()) for row in table.able}
    return sorted(one for one in sets if not any(set(other) < set(one) for other in sets))


def model_of(table: Table) -> Model:
    """Integer replicas first, then one share for each pair of bucket and type that can be served."""
    model = Model()
    able = table.able
    for j in range(table.types):
        need = float(table.loads[able[:, j], j].sum())
        # More than everything it could ever carry is never needed, except for a floor.
        enough = math.ceil(need) + 1 + table.min_replicas + int(table.least[j])
        model.column(float(table.prices[j]), float(table.least[j]), float(min(table.most[j], enough)), integer=True)
    carried: list[list[tuple[int, float]]] = [[(j, -1.0)] for j in range(table.types)]
    for b in range(table.buckets):
        row = []
        for j in np.flatnonzero(able[b]).tolist():
            column = model.column(0.0, 0.0, 1.0)
            row.append((column, 1.0))
            if table.loads[b, j] >= TINY_LOAD:
                carried[j].append((column, float(table.loads[b, j])))
        model.row(1.0, 1.0, row)
    for terms in carried:
        model.row(-math.inf, 0.0, terms)
    for able_types in capability_sets(table):
        model.row(1.0, math.inf, [(j, 1.0) for j in able_types])
    model.row(float(table.min_replicas), math.inf, [(j, 1.0) for j in range(table.types)])
    return model


def optimum(table: Table, time_limit_s: float, *, presolve: bool = True) -> Plan:
    """The cheapest plan; status "optimal" means proved."""
    if any(table.most < table.least):
        return Plan("optimum", "infeasible", bound=math.inf)
    answer = minimise(model_of(table), time_limit_s=time_limit_s, presolve=presolve)
    if answer.point is None:
        return Plan("optimum", answer.status, bound=answer.bound)
    counts = tuple(round(value) for value in answer.point[: table.types])
    cost = table.cost(counts)
    wrong = faults(table, counts)
    proved = answer.status == "optimal" and not wrong and cost <= answer.bound * (1 + 1e-6) + 1e-6
    # No shares: the solver may leave a trace of a rare bucket on a type without replicas; the re-check finds its own.
    status = "optimal" if proved else "limit"
    return Plan("optimum", status, counts, None, cost, min(cost, answer.bound), "; ".join(wrong[:2]))
