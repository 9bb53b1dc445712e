"""(a) Mélange, arXiv 2404.14527 §5: every bucket is cut into equal slices, and each slice goes to one GPU type.

Binary A[slice, type] and integer B[type]; each slice on exactly one type; the loads on a type add up to at most B;
the least sum of price x B. PuLP with CBC at its defaults, as published. Pairs that cannot be served are left out.
"""

# mypy: disable-error-code="no-untyped-call, attr-defined"
# PuLP is typed in part: its solvers and LpProblem are not.

from __future__ import annotations

import math

import numpy as np
import pulp

from ..table import Plan, Table


def melange(
    table: Table, slice_factor: int, time_limit_s: float, *, limit_is_cpu: bool = True, name: str | None = None
) -> Plan:
    """The slice ILP; status "limit" marks a censored answer."""
    solver = name or f"melange-{slice_factor}"
    model = pulp.LpProblem("melange", pulp.LpMinimize)
    whole = [model.add_variable(f"B_{j}", 0, None, pulp.LpInteger) for j in range(table.types)]
    model += pulp.lpSum(float(price) * count for price, count in zip(table.prices, whole, strict=True))
    carried: list[list[pulp.LpAffineExpression]] = [[] for _ in whole]
    chosen: list[tuple[int, int, pulp.LpVariable]] = []
    for b in range(table.buckets):
        able = np.flatnonzero(table.able[b]).tolist()
        for s in range(slice_factor):
            one_of = []
            for j in able:
                pick = model.add_variable(f"A_{b}_{s}_{j}", 0, 1, pulp.LpInteger)
                one_of.append(pick)
                carried[j].append(float(table.loads[b, j]) / slice_factor * pick)
                chosen.append((b, j, pick))
            model += pulp.lpSum(one_of) == 1
    for count, terms in zip(whole, carried, strict=True):
        model += pulp.lpSum(terms) <= count
    mode = "cpu" if limit_is_cpu else "elapsed"
    try:
        model.solve(pulp.PULP_CBC_CMD(msg=False, timeLimit=time_limit_s, timeMode=mode))
    except pulp.PulpSolverError:
        return Plan(solver, "none")
    if model.status == pulp.constants.LpStatusInfeasible:
        return Plan(solver, "infeasible")
    if model.status != pulp.constants.LpStatusOptimal:
        return Plan(solver, "none")
    finished = model.sol_status == pulp.constants.LpSolutionOptimal
    counts = tuple(math.ceil((count.varValue or 0.0) - 1e-6) for count in whole)
    shares = np.zeros(table.loads.shape)
    for b, j, pick in chosen:
        shares[b, j] += round(pick.varValue or 0.0) / slice_factor
    return Plan(solver, "optimal" if finished else "limit", counts, shares, table.cost(counts))
