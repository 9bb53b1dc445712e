"""The MILP of DESIGN §5 as rows and columns, for whichever solver: continuous shares, integer replicas and nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from medley.allocation.check import TINY_LOAD, start_cost
from medley.allocation.problem import Problem
from medley.allocation.routing import Steering
from medley.model.objects import RoutingMode

INFINITY = math.inf

Terms = list[tuple[int, float]]
"""(column, coefficient) of one row."""


class Demand(StrEnum):
    """Whether all of the demand must be carried, or as much as limits allow."""

    FULL = "Full"
    ELASTIC = "Elastic"


@dataclass(slots=True)
class Program:
    """A mixed-integer linear program to be minimised; rows in compressed form.

    Column j costs `cost[j]`, lies in `lower[j]`..`upper[j]` and is whole if `whole[j]`. Row r has the columns
    `columns[starts[r]:starts[r + 1]]` with `values` there, and lies in `row_lower[r]`..`row_upper[r]`.
    """

    cost: list[float] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    row_lower: list[float] = field(default_factory=list)
    row_upper: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    columns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def column(self, lower: float, upper: float, *, cost: float = 0.0, whole: bool = False) -> int:
        """Add a variable; returns its number."""
        self.cost.append(cost)
        self.lower.append(lower)
        self.upper.append(upper)
        self.whole.append(whole)
        return len(self.cost) - 1

    def row(self, lower: float, terms: Terms, upper: float) -> None:
        """Add lower ≤ Σ terms ≤ upper."""
        for column, value in terms:
            self.columns.append(column)
            self.values.append(value)
        self.starts.append(len(self.columns))
        self.row_lower.append(lower)
        self.row_upper.append(upper)


@dataclass(slots=True)
class Built:
    """A program with what its columns mean.

    Attributes:
        count: column of the replicas of each variant.
        share: column of the share of a line (position) that a variant gets, where it may get any.
        served: column of the served fraction.
        penalty: $ per hour that serving nothing costs; 0 if everything must be served.
    """

    program: Program
    count: list[int]
    share: dict[tuple[int, int], int]
    served: int
    penalty: float


def build(problem: Problem, steering: Steering, demand: Demand) -> Built:
    """The program of a problem."""
    program = Program()
    most = _most_replicas(problem, steering)
    count = []
    for variant in problem.variants:
        limit = most if variant.max_replicas is None else variant.max_replicas
        upper = variant.floor if not variant.usable else max(limit, variant.floor)
        count.append(program.column(variant.floor, upper, whole=True))
    # Serving more is worth more than any cost; scaled to the problem, as a huge constant would drown the prices.
    ceiling = sum(
        problem.supply(variant.pool).price(variant.capacity_type) * max(most, variant.floor)
        for variant in problem.variants
    )
    elastic = demand is Demand.ELASTIC
    penalty = 10.0 * max(ceiling, 1.0) if elastic else 0.0
    served = program.column(0.0 if elastic else 1.0, 1.0, cost=-penalty)
    built = Built(program, count, {}, served, penalty)
    if problem.routing is RoutingMode.SERVICE:
        _add_even_traffic(built, problem, steering, demand)
    else:
        _add_steered_traffic(built, problem, steering, demand)
    _add_nodes(built, problem)
    _add_starts(built, problem)
    program.row(problem.min_replicas, [(column, 1.0) for column in count], INFINITY)
    return built


def _most_replicas(problem: Problem, steering: Steering) -> int:
    """An upper bound on replicas of any variant in some optimum: what the slowest able variant needs for everything."""
    needs = [sum(line.loads[j] or 0.0 for line in steering.lines) for j in range(len(problem.variants))]
    floors = sum(variant.floor for variant in problem.variants)
    return math.ceil(max(needs, default=0.0)) + len(steering.lines) + max(problem.min_replicas, 1) + floors


def _add_capability(built: Built, steering: Steering) -> None:
    """Of each set of variants that some line needs, at least one replica: the relaxation alone would take a fraction.

    Most lines share their set, and one row is enough for each.
    """
    for able in dict.fromkeys(
        tuple(j for j, load in enumerate(line.loads) if load is not None) for line in steering.lines
    ):
        built.program.row(1.0, [(built.count[j], 1.0) for j in able], INFINITY)


def _add_steered_traffic(built: Built, problem: Problem, steering: Steering, demand: Demand) -> None:
    program, count, share = built.program, built.count, built.share
    if demand is Demand.FULL:
        _add_capability(built, steering)
    loads: list[Terms] = [[] for _ in problem.variants]
    for position, line in enumerate(steering.lines):
        given: Terms = []
        for j, load in enumerate(line.loads):
            if load is None:
                continue
            column = share[position, j] = program.column(0.0, 1.0)
            given.append((column, 1.0))
            if load >= TINY_LOAD:
                loads[j].append((column, load))
            else:
                # However little it is, it needs a replica to go to.
                program.row(-INFINITY, [(column, 1.0), (count[j], -1.0)], 0.0)
        program.row(0.0, [*given, (built.served, -1.0)], 0.0)
    for j, terms in enumerate(loads):
        if terms:
            program.row(-INFINITY, [*terms, (count[j], -1.0)], 0.0)


def _add_even_traffic(built: Built, problem: Problem, steering: Steering, demand: Demand) -> None:
    """Service: every used variant gets the same share per replica, so Σn must cover the need of each used one."""
    program, count = built.program, built.count
    if demand is Demand.FULL:
        _add_capability(built, steering)
    for line in steering.lines:
        able = [j for j, load in enumerate(line.loads) if load is not None]
        total: Terms = [(count[j], 1.0) for j in able]
        for j in range(len(problem.variants)):
            if j not in able and not problem.variants[j].floor:
                program.upper[count[j]] = 0.0
        for j in able:
            need = line.loads[j] or 0.0
            used = program.column(1.0 if problem.variants[j].floor else 0.0, 1.0, whole=True)
            program.row(-INFINITY, [(count[j], 1.0), (used, -program.upper[count[j]])], 0.0)
            # Σn ≥ need·served, unless it is not used.
            program.row(-need, [*total, (built.served, -need), (used, -need)], INFINITY)
        if demand is Demand.ELASTIC:
            # Without this, serving a share with nothing used would count as served.
            least = min(line.loads[j] or 0.0 for j in able)
            program.row(0.0, [*total, (built.served, -least)], INFINITY)


def _add_nodes(built: Built, problem: Problem) -> None:
    """Node rows with their cost, pool limits and the budget row."""
    program = built.program
    charge: Terms = []
    for supply in problem.supplies:
        nodes: Terms = []
        for capacity_type, price in supply.prices:
            gpus: Terms = [
                (built.count[j], float(variant.gpus))
                for j, variant in enumerate(problem.variants)
                if variant.pool == supply.pool and variant.capacity_type is capacity_type
            ]
            if not gpus:
                continue
            node = program.column(0.0, INFINITY, whole=True)
            bought = program.column(0.0, INFINITY, cost=price)
            spare = supply.spare(capacity_type)
            program.row(-INFINITY, [*gpus, (node, -float(supply.gpus_per_node))], float(spare))
            program.row(-supply.committed(capacity_type), [(bought, 1.0), (node, -1.0)], INFINITY)
            nodes.append((node, 1.0))
            if supply.exclusive:
                charge.append((bought, price))
            else:
                charge += [(column, price / supply.gpus_per_node * number) for column, number in gpus]
        if supply.nodes_left is not None and nodes:
            program.row(-INFINITY, nodes, float(supply.nodes_left))
    if problem.max_hourly_cost is not None and charge:
        program.row(-INFINITY, charge, problem.max_hourly_cost)


def _add_starts(built: Built, problem: Problem) -> None:
    """What starting replicas costs; nothing where change costs nothing."""
    if problem.change_cost <= 0:
        return
    for j, variant in enumerate(problem.variants):
        started = built.program.column(0.0, INFINITY, cost=start_cost(problem, variant))
        built.program.row(-variant.running, [(started, 1.0), (built.count[j], -1.0)], INFINITY)
