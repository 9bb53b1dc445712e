"""Solves the counts and shares of a problem with the solver that is asked for."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from medley.allocation.backends.answer import Backend, Options, SolveStatus
from medley.allocation.backends.block import splits, traffic_of
from medley.allocation.backends.counts import Aim
from medley.allocation.backends.decomposition import Decomposition
from medley.allocation.backends.direct import build_direct
from medley.allocation.backends.search import cheapest
from medley.allocation.backends.split import Balance
from medley.allocation.bill import Bill
from medley.allocation.check import equal_shares
from medley.allocation.problem import Problem
from medley.allocation.routing import Steering
from medley.allocation.stages import Stage, stages_of
from medley.model.objects import RoutingMode

Shares = dict[str, tuple[float, ...]]
"""Per variant, its share of each line; a variant without traffic is left out."""


@dataclass(frozen=True, slots=True)
class RawSolution:
    """A solver's answer, unchecked.

    `contingency`: shares after each loss, by its name. `bound`: of the cost in $ per hour.
    """

    status: SolveStatus
    replicas: tuple[tuple[str, int], ...] = ()
    shares: tuple[tuple[str, tuple[float, ...]], ...] = ()
    contingency: tuple[tuple[str, tuple[tuple[str, tuple[float, ...]], ...]], ...] = ()
    served_fraction: float = 1.0
    bound: float = -math.inf
    solve_ms: float = 0.0


def solve(problem: Problem, steering: Steering, options: Options, fraction: float = 1.0) -> RawSolution:
    """The cheapest way to carry a fraction of the demand; a solver's failure is a status, never an exception."""
    started = time.perf_counter()
    if options.backend is Backend.CBC:
        return _solve_directly(problem, steering, options, fraction, started)
    search = Decomposition.of(problem, steering, Aim.CHEAPEST, fraction)
    found = cheapest(search, options, Bill(problem).judged)
    return _solution(problem, steering, found.status, found.counts, fraction, found.bound, started)


def solve_most(problem: Problem, steering: Steering, options: Options) -> RawSolution:
    """The largest fraction of the demand that limits allow, whatever it costs (`bound` says nothing)."""
    started = time.perf_counter()
    found = Decomposition.of(problem, steering, Aim.MOST).most(options)
    return _solution(problem, steering, found.status, found.counts, found.served, -math.inf, started)


def with_shares(problem: Problem, steering: Steering, counts: tuple[int, ...]) -> RawSolution:
    """The shares that go with counts which somebody else has chosen."""
    return _solution(problem, steering, SolveStatus.OPTIMAL, counts, 1.0, -math.inf, time.perf_counter())


def _solution(
    problem: Problem,
    steering: Steering,
    status: SolveStatus,
    counts: tuple[int, ...] | None,
    served: float,
    bound: float,
    started: float,
) -> RawSolution:
    if counts is None:
        return RawSolution(status, bound=bound, solve_ms=_ms(started))
    stages = stages_of(problem)
    if problem.routing is RoutingMode.SERVICE:
        shares = [_even(problem, steering, stage, counts) for stage in stages]
    else:
        shares = [_shares(problem, made) for made in splits(traffic_of(problem, steering), stages, counts)]
    return RawSolution(
        status,
        tuple((variant.name, count) for variant, count in zip(problem.variants, counts, strict=True)),
        tuple(shares[0].items()),
        tuple((stage.name, tuple(rows.items())) for stage, rows in zip(stages[1:], shares[1:], strict=True) if rows),
        served,
        bound,
        _ms(started),
    )


def _shares(problem: Problem, made: Balance | None) -> Shares:
    if made is None:
        return {}
    rows = zip(problem.variants, made.shares.T.tolist(), strict=True)
    return {variant.name: tuple(row) for variant, row in rows if any(row)}


def _even(problem: Problem, steering: Steering, stage: Stage, counts: tuple[int, ...]) -> Shares:
    left = {variant.name: count for variant, count in zip(problem.variants, stage.left(counts), strict=True)}
    return equal_shares(problem, steering, left)


def _solve_directly(
    problem: Problem, steering: Steering, options: Options, fraction: float, started: float
) -> RawSolution:
    # PuLP is slow to import and only tests compare.
    from medley.allocation.backends import cbc

    built = build_direct(problem, steering, Aim.CHEAPEST, fraction)
    answer = cbc.minimise(built.program, options)
    if not answer.values:
        return RawSolution(answer.status, solve_ms=_ms(started))
    counts = tuple(round(answer.values[column]) for column in built.counts.count)
    names = [variant.name for variant in problem.variants]
    return RawSolution(
        answer.status, tuple(zip(names, counts, strict=True)), served_fraction=fraction, solve_ms=_ms(started)
    )


def _ms(started: float) -> float:
    return (time.perf_counter() - started) * 1000.0
