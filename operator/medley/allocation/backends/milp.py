"""Solves the MILP of a problem with the solver that is asked for."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from medley.allocation.backends import highs
from medley.allocation.backends.answer import Answer, Backend, Options, SolveStatus
from medley.allocation.backends.program import Demand, Program, build
from medley.allocation.problem import Problem
from medley.allocation.routing import Steering


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


def solve(problem: Problem, steering: Steering, options: Options, demand: Demand = Demand.FULL) -> RawSolution:
    """Build and solve; never raises for a solver's failure, which is a status."""
    started = time.perf_counter()
    built = build(problem, steering, demand)
    answer = _minimise(built.program, options)
    elapsed_ms = (time.perf_counter() - started) * 1000.0
    if not answer.values:
        return RawSolution(answer.status, solve_ms=elapsed_ms)
    values, lines = answer.values, range(len(steering.lines))
    return RawSolution(
        answer.status,
        tuple((variant.name, round(values[built.count[j]])) for j, variant in enumerate(problem.variants)),
        tuple(
            (
                variant.name,
                tuple(max(0.0, values[built.share[line, j]]) if (line, j) in built.share else 0.0 for line in lines),
            )
            for j, variant in enumerate(problem.variants)
        ),
        min(1.0, max(0.0, values[built.served])),
        answer.bound + built.penalty,
        elapsed_ms,
    )


def _minimise(program: Program, options: Options) -> Answer:
    if options.backend is Backend.HIGHS:
        return highs.minimise(program, options)
    # PuLP is slow to import and only tests compare.
    from medley.allocation.backends import cbc

    return cbc.minimise(program, options)
