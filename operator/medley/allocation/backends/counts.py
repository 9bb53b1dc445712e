"""The part of the allocation problem that knows only counts: replicas, whole nodes, limits, cost (DESIGN §5).

How traffic is split over the replicas is not here: the shares are projected out (decomposition.py) or added as columns
(direct.py). In mode Service nobody splits, and this is the whole problem.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from medley.allocation.backends.program import INFINITY, Program, Terms
from medley.allocation.bill import start_cost
from medley.allocation.problem import Problem, Supply
from medley.allocation.routing import Steering
from medley.allocation.stages import Spare, Stage, stages_of
from medley.model.objects import CapacityType, RoutingMode


class Aim(StrEnum):
    """What is sought: the cheapest way to serve a fraction of the demand, or the largest fraction that limits allow."""

    CHEAPEST = "Cheapest"
    MOST = "Most"


@dataclass(slots=True)
class Counts:
    """The program with what its columns mean.

    Attributes:
        count: column of the replicas of each variant.
        served: column of the served fraction of the demand.
        stages: what must be carried when.
        capacity: per stage and variant, terms of what carries traffic.
        able: sets of variants (positions, ascending) of which each line needs one, each set once.
        used: column that is 1 where a variant has replicas, for those that need it.
    """

    program: Program
    count: list[int]
    served: int
    stages: tuple[Stage, ...]
    capacity: list[list[Terms]]
    able: list[tuple[int, ...]]
    used: dict[int, int] = field(default_factory=dict)


def build_counts(
    problem: Problem, steering: Steering, aim: Aim, fraction: float = 1.0, program: Program | None = None
) -> Counts:
    """The program in the counts, or what a service adds to one.

    `fraction` of the demand must be served where the aim is the cheapest way.
    """
    program = Program() if program is None else program
    stages = stages_of(problem)
    most = _most_replicas(problem, steering, stages)
    count = []
    for variant in problem.variants:
        limit = most if variant.max_replicas is None else variant.max_replicas
        upper = max(limit, variant.floor) if problem.may_grow(variant) else variant.floor
        count.append(program.column(variant.floor, upper, whole=True))
    seeks_most = aim is Aim.MOST
    served = program.column(0.0 if seeks_most else fraction, 1.0 if seeks_most else fraction, cost=-float(seeks_most))
    able = list(dict.fromkeys(tuple(np.flatnonzero(row).tolist()) for row in np.isfinite(steering.matrix)))
    built = Counts(program, count, served, stages, [], able)
    built.capacity = [_capacity(built, problem, stage) for stage in stages]
    for stage, capacity in zip(stages, built.capacity, strict=True):
        _add_capability(built, steering, stage, capacity, fraction, aim)
        if problem.routing is RoutingMode.SERVICE:
            _add_even_traffic(built, problem, steering, stage, capacity)
    _add_nodes(built, problem, aim)
    if aim is Aim.CHEAPEST:
        _add_starts(built, problem)
    program.row(problem.min_replicas, [(column, 1.0) for column in count], INFINITY)
    return built


def _most_replicas(problem: Problem, steering: Steering, stages: tuple[Stage, ...]) -> int:
    """An upper bound on replicas of any variant in some optimum: what the slowest able variant needs for everything."""
    loads = np.where(np.isfinite(steering.matrix), steering.matrix, 0.0)
    need = float(loads.sum(axis=0).max(initial=0.0))
    floors = sum(variant.floor for variant in problem.variants)
    # One in two is the most that a survivable loss takes; a third of that again would be for its rounding.
    spare = 1 if len(stages) == 1 and stages[0].spare is Spare.NONE else 2
    return spare * (math.ceil(need) + len(steering.lines) + 1) + max(problem.min_replicas, 1) + floors


def _used(built: Counts, problem: Problem, j: int) -> int:
    """A column that is 1 where the variant has replicas, and may be 0 only where it has none."""
    if j not in built.used:
        used = built.used[j] = built.program.column(1.0 if problem.variants[j].floor else 0.0, 1.0, whole=True)
        column = built.count[j]
        built.program.row(-INFINITY, [(column, 1.0), (used, -built.program.upper[column])], 0.0)
    return built.used[j]


def _capacity(built: Counts, problem: Problem, stage: Stage) -> list[Terms]:
    """Per variant, terms of what carries traffic in a stage; columns are added where that is not just the count."""
    program = built.program
    capacity: list[Terms] = []
    for j, (column, part) in enumerate(zip(built.count, stage.lost, strict=True)):
        if stage.spare is Spare.PER_VARIANT:
            # min(n, f·(n − 1)), and 0 where there is no replica.
            used = _used(built, problem, j)
            carried = program.column(0.0, INFINITY)
            program.row(0.0, [(column, 1.0), (used, -1.0)], INFINITY)
            program.row(-INFINITY, [(carried, 1.0), (column, -1.0)], 0.0)
            program.row(-INFINITY, [(carried, 1.0), (column, -stage.factor), (used, stage.factor)], 0.0)
            capacity.append([(carried, 1.0)])
        elif part == 0:
            capacity.append([(column, 1.0)])
        elif part == 1:
            capacity.append([])
        else:
            gone = program.column(0.0, INFINITY, whole=True)
            program.row(0.0, [(gone, float(part)), (column, -1.0)], INFINITY)
            capacity.append([(column, 1.0), (gone, -1.0)])
    return capacity


def _add_capability(
    built: Counts, steering: Steering, stage: Stage, capacity: list[Terms], fraction: float, aim: Aim
) -> None:
    """Of each set of variants that some line needs, as many replicas as its lines need of the best of them.

    The relaxation alone would take fractions, and far too few of them: with these rows its gap at low rates falls from
    several times the cost to nothing (reference: solver.md §3).
    """
    finite = np.isfinite(steering.matrix)
    least = np.where(finite, steering.matrix, np.inf).min(axis=1, initial=np.inf)
    for able in built.able:
        terms = [term for j in able for term in capacity[j]]
        if aim is Aim.MOST:
            # Whatever part is served, it needs a replica to go to.
            built.program.row(0.0, [*terms, (built.served, -1.0)], INFINITY)
            continue
        outside = np.ones(finite.shape[1], dtype=bool)
        outside[list(able)] = False
        only_here = ~(finite & outside).any(axis=1)
        need = stage.share * fraction * float(least[only_here].sum())
        if stage.spare is not Spare.PER_VARIANT:
            need = math.ceil(need - 1e-6)
        # Two replicas of a variant carry one and more where one of them may be lost; two together leave one.
        built.program.row(max(2.0 if stage.spare is Spare.TOGETHER else 1.0, need), terms, INFINITY)


def _add_even_traffic(built: Counts, problem: Problem, steering: Steering, stage: Stage, capacity: list[Terms]) -> None:
    """Service: every replica gets the same share, so all that is left must cover the need of each variant left."""
    program, count = built.program, built.count
    needs = [steering.need(j) for j in range(len(capacity))]
    for j, need in enumerate(needs):
        if need is None and not problem.variants[j].floor:
            program.upper[count[j]] = 0.0
    total = [term for terms, need in zip(capacity, needs, strict=True) if need is not None for term in terms]
    if steering.lines:
        for j, need in enumerate(needs):
            if need is None or not capacity[j]:
                continue
            used = _used(built, problem, j)
            # Σn ≥ need·served where it is used; with one replica fewer, the mean demand.
            rules = [(need * stage.share, 0.0)]
            if stage.spare is Spare.TOGETHER:
                rules.append((need / stage.factor, 1.0))
            for least, spare in rules:
                program.row(-least, [*total, (built.served, -least), (used, -least - spare)], INFINITY)
        # Without this, serving a share with nothing used would count as served.
        least = stage.share * min((need for need in needs if need is not None), default=0.0)
        program.row(0.0, [*total, (built.served, -least)], INFINITY)
    if problem.max_spot_fraction is not None and not stage.name:
        spot = [float(v.capacity_type is CapacityType.SPOT) - problem.max_spot_fraction for v in problem.variants]
        program.row(-INFINITY, list(zip(count, spot, strict=True)), 0.0)


def _add_nodes(built: Counts, problem: Problem, aim: Aim) -> None:
    """Node rows with their cost, pool limits and the budget row."""
    program = built.program
    charge: Terms = []
    for supply in problem.supplies:
        taken: Terms = []
        for capacity_type, price in supply.prices:
            gpus: Terms = [
                (built.count[j], float(variant.gpus))
                for j, variant in enumerate(problem.variants)
                if variant.pool == supply.pool and variant.capacity_type is capacity_type
            ]
            if not gpus:
                continue
            nodes = _nodes(program, supply, capacity_type, gpus)
            taken += nodes
            bought = _bought(program, supply, capacity_type, nodes)
            if aim is Aim.CHEAPEST:
                per_gpu = dict(supply.gpu_prices).get(capacity_type)
                for column, number in bought if per_gpu is None else gpus:
                    program.cost[column] += (price if per_gpu is None else per_gpu) * number
            if supply.exclusive and not supply.gpu_prices:
                charge += [(column, price * number) for column, number in bought]
            else:
                charge += [(column, price / supply.gpus_per_node * number) for column, number in gpus]
        if supply.nodes_left is not None and taken:
            program.row(-INFINITY, taken, float(supply.nodes_left))
    if problem.max_hourly_cost is not None and charge:
        program.row(-INFINITY, charge, problem.max_hourly_cost)


def _nodes(program: Program, supply: Supply, capacity_type: CapacityType, gpus: Terms) -> Terms:
    """Nodes beyond those taken already: a column of their own, or just the GPUs where each node has one."""
    most = dict(supply.available).get(capacity_type)
    spare = supply.spare(capacity_type)
    if supply.gpus_per_node == 1 and not spare:
        if most is not None:
            program.row(-INFINITY, gpus, float(most))
        return gpus
    node = program.column(0.0, INFINITY if most is None else float(most), whole=True)
    program.row(-INFINITY, [*gpus, (node, -float(supply.gpus_per_node))], float(spare))
    return [(node, 1.0)]


def _bought(program: Program, supply: Supply, capacity_type: CapacityType, nodes: Terms) -> Terms:
    """Nodes that cost something: those beyond the committed ones."""
    committed = supply.committed(capacity_type)
    if not committed or supply.gpu_prices:
        return nodes
    bought = program.column(0.0, INFINITY)
    program.row(-float(committed), [(bought, 1.0), *((column, -number) for column, number in nodes)], INFINITY)
    return [(bought, 1.0)]


def _add_starts(built: Counts, problem: Problem) -> None:
    """What starting replicas costs; nothing where change costs nothing."""
    if problem.change_cost <= 0:
        return
    for j, variant in enumerate(problem.variants):
        started = built.program.column(0.0, INFINITY, cost=start_cost(problem, variant))
        built.program.row(-variant.running, [(started, 1.0), (built.count[j], -1.0)], INFINITY)
