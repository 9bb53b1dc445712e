"""The MILP of DESIGN §5 in PuLP: continuous shares, integer replicas and nodes, capability rows."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from enum import StrEnum

import pulp

from medley.allocation.check import TINY_LOAD, start_cost
from medley.allocation.problem import Problem
from medley.allocation.routing import Steering
from medley.model.objects import RoutingMode


class Backend(StrEnum):
    """Which solver runs."""

    HIGHS = "HiGHS"
    CBC = "CBC"


class SolveStatus(StrEnum):
    """What the solver says."""

    OPTIMAL = "Optimal"
    TIME_LIMIT = "TimeLimit"
    INFEASIBLE = "Infeasible"
    NO_ANSWER = "NoAnswer"


@dataclass(frozen=True, slots=True)
class Options:
    """How to solve: relative gap, seconds, solver."""

    relative_gap: float = 0.004
    time_limit_s: float = 1.0
    backend: Backend = Backend.HIGHS


@dataclass(frozen=True, slots=True)
class RawSolution:
    """A solver's answer, unchecked.

    `shares` are per variant, one number per line; `bound` is the dual bound in $ per hour.
    """

    status: SolveStatus
    replicas: tuple[tuple[str, int], ...] = ()
    shares: tuple[tuple[str, tuple[float, ...]], ...] = ()
    served_fraction: float = 1.0
    bound: float = -math.inf
    solve_ms: float = 0.0


class Demand(StrEnum):
    """Whether all of the demand must be carried, or as much as limits allow."""

    FULL = "Full"
    ELASTIC = "Elastic"


def solve(problem: Problem, steering: Steering, options: Options, demand: Demand = Demand.FULL) -> RawSolution:
    """Build and solve; never raises for a solver's failure, which is a status."""
    started = time.perf_counter()
    model = pulp.LpProblem("medley", pulp.LpMinimize)
    able_most = _most_replicas(problem, steering)
    count = [
        model.add_variable(f"n_{j}", variant.floor, max(able_most, variant.floor), pulp.LpInteger)
        if variant.max_replicas is None
        else model.add_variable(f"n_{j}", variant.floor, max(variant.max_replicas, variant.floor), pulp.LpInteger)
        for j, variant in enumerate(problem.variants)
    ]
    served = model.add_variable("served", 1.0 if demand is Demand.FULL else 0.0, 1.0)
    share = _add_traffic(model, problem, steering, count, served, demand)
    cost = _add_nodes(model, problem, count) + _add_starts(model, problem, count)
    model += pulp.lpSum(count) >= problem.min_replicas, "min_replicas"
    for j, variant in enumerate(problem.variants):
        if not variant.usable and not variant.floor:
            count[j].upBound = 0
    # Serving more is worth more than any cost; scaled to the problem, as a huge constant would drown the prices.
    ceiling = sum(
        problem.supply(variant.pool).price(variant.capacity_type) * max(able_most, variant.floor)
        for variant in problem.variants
    )
    penalty = 10.0 * max(ceiling, 1.0) if demand is Demand.ELASTIC else 0.0
    model += pulp.lpSum(cost) - penalty * served
    status = _run(model, options)
    elapsed_ms = (time.perf_counter() - started) * 1000.0
    if status in (SolveStatus.INFEASIBLE, SolveStatus.NO_ANSWER):
        return RawSolution(status, solve_ms=elapsed_ms)
    replicas = tuple((variant.name, round(count[j].varValue or 0.0)) for j, variant in enumerate(problem.variants))
    shares = tuple(
        (variant.name, tuple(max(0.0, _value(share.get((line, j)))) for line in range(len(steering.lines))))
        for j, variant in enumerate(problem.variants)
    )
    return RawSolution(
        status, replicas, shares, min(1.0, max(0.0, _value(served))), _dual_bound(model, options) + penalty, elapsed_ms
    )


def _most_replicas(problem: Problem, steering: Steering) -> int:
    """An upper bound on replicas of any variant in some optimum: what the slowest able variant needs for everything."""
    needs = [sum(line.loads[j] or 0.0 for line in steering.lines) for j in range(len(problem.variants))]
    floors = sum(variant.floor for variant in problem.variants)
    return math.ceil(max(needs, default=0.0)) + len(steering.lines) + max(problem.min_replicas, 1) + floors


def _add_traffic(
    model: pulp.LpProblem,
    problem: Problem,
    steering: Steering,
    count: list[pulp.LpVariable],
    served: pulp.LpVariable,
    demand: Demand,
) -> dict[tuple[int, int], pulp.LpVariable]:
    share: dict[tuple[int, int], pulp.LpVariable] = {}
    steered = problem.routing is not RoutingMode.SERVICE
    for position, line in enumerate(steering.lines):
        able = [j for j, load in enumerate(line.loads) if load is not None]
        if demand is Demand.FULL:
            model += pulp.lpSum(count[j] for j in able) >= 1, f"capability_{position}"
        if steered:
            for j in able:
                share[position, j] = model.add_variable(f"w_{position}_{j}", 0.0, 1.0)
            model += pulp.lpSum(share[position, j] for j in able) == served, f"cover_{position}"
    if steered:
        for j in range(len(problem.variants)):
            terms = [
                (line.loads[j] or 0.0) * share[position, j]
                for position, line in enumerate(steering.lines)
                if (position, j) in share and (line.loads[j] or 0.0) >= TINY_LOAD
            ]
            if terms:
                model += pulp.lpSum(terms) <= count[j], f"load_{j}"
            for position, line in enumerate(steering.lines):
                if (position, j) in share and (line.loads[j] or 0.0) < TINY_LOAD:
                    # However little it is, it needs a replica to go to.
                    model += share[position, j] <= count[j], f"somewhere_{position}_{j}"
        return share
    # Service: every used variant gets the same share per replica, so Σn must cover the need of each used one.
    for position, line in enumerate(steering.lines):
        able = [j for j, load in enumerate(line.loads) if load is not None]
        for j in able:
            need = line.loads[j] or 0.0
            used = model.add_variable(f"used_{position}_{j}", 1 if problem.variants[j].floor else 0, 1, pulp.LpInteger)
            model += count[j] <= (count[j].upBound or 0) * used, f"use_{position}_{j}"
            model += pulp.lpSum(count[k] for k in able) >= need * served - need * (1 - used), f"even_{position}_{j}"
        if demand is Demand.ELASTIC:
            # Without this, serving a share with nothing used would count as served.
            least = min(line.loads[j] or 0.0 for j in able)
            model += pulp.lpSum(count[k] for k in able) >= least * served, f"some_{position}"
        for j in range(len(problem.variants)):
            if j not in able and not problem.variants[j].floor:
                count[j].upBound = 0
    return share


def _add_nodes(model: pulp.LpProblem, problem: Problem, count: list[pulp.LpVariable]) -> list[pulp.LpAffineExpression]:
    """Node rows, pool limits and the budget row; returns the cost terms."""
    cost: list[pulp.LpAffineExpression] = []
    charge: list[pulp.LpAffineExpression] = []
    for p, supply in enumerate(problem.supplies):
        nodes = []
        for capacity_type, price in supply.prices:
            members = [
                (j, variant)
                for j, variant in enumerate(problem.variants)
                if variant.pool == supply.pool and variant.capacity_type is capacity_type
            ]
            if not members:
                continue
            node = model.add_variable(f"nodes_{p}_{capacity_type.value}", 0, None, pulp.LpInteger)
            bought = model.add_variable(f"bought_{p}_{capacity_type.value}", 0, None)
            used = pulp.lpSum(variant.gpus * count[j] for j, variant in members)
            model += (
                used <= supply.gpus_per_node * node + supply.spare(capacity_type),
                f"gpus_{p}_{capacity_type.value}",
            )
            model += bought >= node - supply.committed(capacity_type), f"beyond_{p}_{capacity_type.value}"
            nodes.append(node)
            cost.append(price * bought)
            charge.append(price * bought if supply.exclusive else (price / supply.gpus_per_node) * used)
        if supply.nodes_left is not None and nodes:
            model += pulp.lpSum(nodes) <= supply.nodes_left, f"limit_{p}"
    if problem.max_hourly_cost is not None and charge:
        model += pulp.lpSum(charge) <= problem.max_hourly_cost, "budget"
    return cost


def _add_starts(model: pulp.LpProblem, problem: Problem, count: list[pulp.LpVariable]) -> list[pulp.LpAffineExpression]:
    """Cost terms of starting replicas; none where change costs nothing."""
    cost: list[pulp.LpAffineExpression] = []
    if problem.change_cost > 0:
        for j, variant in enumerate(problem.variants):
            started = model.add_variable(f"started_{j}", 0, None)
            model += started >= count[j] - variant.running, f"start_{j}"
            cost.append(start_cost(problem, variant) * started)
    return cost


def _run(model: pulp.LpProblem, options: Options) -> SolveStatus:
    if options.backend is Backend.HIGHS:
        solver = pulp.HiGHS(
            msg=False,
            timeLimit=options.time_limit_s,
            gapRel=options.relative_gap,
            threads=1,
            mip_heuristic_run_feasibility_jump=False,  # 20 ms of every solve, and no gain at this size (solver.md §3)
        )
    else:
        solver = pulp.PULP_CBC_CMD(msg=False, timeLimit=options.time_limit_s, gapRel=options.relative_gap, threads=1)
    try:
        model.solve(solver)
    except pulp.PulpSolverError:
        return SolveStatus.NO_ANSWER
    if model.status == pulp.constants.LpStatusInfeasible:
        return SolveStatus.INFEASIBLE
    if model.status != pulp.constants.LpStatusOptimal:
        return SolveStatus.NO_ANSWER
    finished = model.sol_status == pulp.constants.LpSolutionOptimal
    return SolveStatus.OPTIMAL if finished else SolveStatus.TIME_LIMIT


def _dual_bound(model: pulp.LpProblem, options: Options) -> float:
    if options.backend is not Backend.HIGHS:
        return -math.inf
    return float(model.solverModel.getInfo().mip_dual_bound)


def _value(variable: pulp.LpVariable | None) -> float:
    return 0.0 if variable is None or variable.varValue is None else float(variable.varValue)
