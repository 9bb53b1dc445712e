"""(e) All services on shared pools as one direct MILP, written for HiGHS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..highs import Model, minimise
from ..optimum import TINY_LOAD, capability_sets
from ..table import Table


@dataclass(frozen=True, slots=True)
class JointPlan:
    """Replicas by service and type; `bound` in $/h; `prices` of one more node by type, from the relaxation."""

    status: str
    counts: tuple[tuple[int, ...], ...]
    cost: float
    bound: float
    prices: tuple[float, ...] = ()


def direct(
    tables: Sequence[Table],
    left: Sequence[float],
    time_limit_s: float,
    relative_gap: float = 0.005,
    *,
    relax: bool = False,
) -> JointPlan:
    """Solve the joint model; `relax` gives its linear bound only."""
    model = Model()
    pools: list[list[tuple[int, float]]] = [[] for _ in left]
    firsts = []
    for table in tables:
        able = table.able
        columns = [
            model.column(
                float(table.prices[j]),
                float(table.least[j]),
                float(min(table.most[j], math.ceil(table.loads[able[:, j], j].sum()) + 1 + table.min_replicas)),
                integer=True,
            )
            for j in range(table.types)
        ]
        firsts.append(columns[0])
        carried: list[list[tuple[int, float]]] = [[(column, -1.0)] for column in columns]
        for j, column in enumerate(columns):
            pools[j].append((column, 1.0))
        for b in range(table.buckets):
            row = []
            for j in np.flatnonzero(able[b]).tolist():
                share = model.column(0.0, 0.0, 1.0)
                row.append((share, 1.0))
                if table.loads[b, j] >= TINY_LOAD:
                    carried[j].append((share, float(table.loads[b, j])))
            model.row(1.0, 1.0, row)
        for terms in carried:
            model.row(-math.inf, 0.0, terms)
        for able_types in capability_sets(table):
            model.row(1.0, math.inf, [(columns[j], 1.0) for j in able_types])
        model.row(float(table.min_replicas), math.inf, [(column, 1.0) for column in columns])
    for limit, pool in zip(left, pools, strict=True):
        if math.isfinite(limit):
            model.row(-math.inf, float(limit), pool)
    answer = minimise(model, time_limit_s=time_limit_s, relative_gap=relative_gap, relax=relax)
    if answer.row_duals is not None:
        # The limits are the last rows; a dual is what a row's bound adds to the cost, so a limit's is not above 0.
        limited = [j for j, limit in enumerate(left) if math.isfinite(limit)]
        prices = [0.0] * len(left)
        for j, dual in zip(limited, answer.row_duals[len(answer.row_duals) - len(limited) :], strict=True):
            prices[j] = max(0.0, -float(dual))
        return JointPlan(answer.status, (), math.inf, answer.bound, tuple(prices))
    if answer.point is None or relax:
        return JointPlan(answer.status, (), math.inf, answer.bound)
    counts = tuple(
        tuple(round(float(value)) for value in answer.point[first : first + table.types])
        for first, table in zip(firsts, tables, strict=True)
    )
    cost = sum(table.cost(row) for table, row in zip(tables, counts, strict=True))
    return JointPlan(answer.status, counts, cost, answer.bound)
