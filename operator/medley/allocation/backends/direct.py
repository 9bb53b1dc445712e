"""The whole problem as one program: the counts, and a column for each share. For the second solver, and for comparison.

A share is measured in replicas of the variant that carries its line with the fewest, so that every coefficient is 1 or
more. Loads of 1e-8 beside counts have led solvers to wrong optima (reference: solver.md §3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medley.allocation.backends.counts import Aim, Counts, build_counts
from medley.allocation.backends.program import INFINITY, Program
from medley.allocation.problem import Problem
from medley.allocation.routing import Steering
from medley.model.objects import CapacityType, RoutingMode


@dataclass(frozen=True, slots=True)
class Direct:
    """The program, its counts, and the column of each (line, variant) of the first stage."""

    program: Program
    counts: Counts
    share: dict[tuple[int, int], int]


def build_direct(problem: Problem, steering: Steering, aim: Aim, fraction: float = 1.0) -> Direct:
    """The program of a problem."""
    counts = build_counts(problem, steering, aim, fraction)
    share: dict[tuple[int, int], int] = {}
    if problem.routing is RoutingMode.SERVICE:
        return Direct(counts.program, counts, share)
    program = counts.program
    least = np.where(np.isfinite(steering.matrix), steering.matrix, np.inf).min(axis=1, initial=np.inf)
    for number, (stage, capacity) in enumerate(zip(counts.stages, counts.capacity, strict=True)):
        loads: list[list[tuple[int, float]]] = [[] for _ in problem.variants]
        spot: list[tuple[int, float]] = []
        for position, line in enumerate(steering.lines):
            given = []
            for j, load in enumerate(line.loads):
                if load is None:
                    continue
                column = program.column(0.0, INFINITY)
                given.append((column, 1.0))
                loads[j].append((column, load / least[position]))
                if problem.variants[j].capacity_type is CapacityType.SPOT:
                    spot.append((column, line.rate_rps / least[position]))
                if number == 0:
                    share[position, j] = column
            program.row(0.0, [*given, (counts.served, -stage.share * least[position])], INFINITY)
        for j, terms in enumerate(loads):
            if terms:
                program.row(-INFINITY, [*terms, *((column, -value) for column, value in capacity[j])], 0.0)
        if problem.max_spot_fraction is not None and number == 0:
            most = problem.max_spot_fraction * sum(line.rate_rps for line in steering.lines)
            program.row(-INFINITY, [*spot, (counts.served, -most)], 0.0)
    return Direct(program, counts, share)
