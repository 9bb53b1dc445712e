"""Services that share pools, coordinated by prices (column generation; Dantzig and Wolfe 1960).

Each service says what it would use at given prices of the shared GPUs. A master program picks one answer of each, buys
whole nodes for them and stays within the pools' limits; the duals of its relaxation are the next prices. At any prices,
what the services would pay at least, less what the pools would earn at most, is a bound of the whole (Lagrange), so the
gap is a real one. A price above the list price is what one more GPU-hour is worth: the shadow price.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from medley.allocation.backends.answer import Options
from medley.allocation.backends.crew import crew_for
from medley.allocation.backends.highs import minimise
from medley.allocation.backends.pricing import Column, Priced
from medley.allocation.backends.program import Program, Terms
from medley.allocation.backends.together import add_lots
from medley.allocation.problem import Problem
from medley.allocation.shared import Shared

ROUNDS = 40
"""Rounds of prices at most; five to fifteen are needed."""

SAMPLE = 60
"""Services that agree on first prices where there are many more: those prices are close, and a question costs 5 ms."""

COARSE, FINE = 0.004, 0.002
"""Gaps of the answers while prices move, and at the end."""

UNPLACED = 20.0
"""Leaving a service out is charged this many times what it costs alone: scaled to the service, a flat charge would drop
a large one before a small one (reference: solver.md §4)."""


@dataclass(frozen=True, slots=True)
class Coordinated:
    """What was agreed on.

    Attributes:
        columns: per service; None where it was left out for want of capacity.
        prices: $ per GPU-hour of each lot.
        bound: no plan for all services costs less, in $ per hour, the cost of change included.
        rounds: of prices.
    """

    columns: tuple[Column | None, ...]
    prices: tuple[float, ...]
    bound: float
    rounds: int


@dataclass(slots=True)
class _Pool:
    """Answers so far of each service."""

    columns: list[list[Column]]
    alone: list[float]
    seen: set[tuple[int, tuple[int, ...]]] = field(default_factory=set)

    def listen(self, answers: Sequence[Priced], shared: Shared) -> tuple[float, bool]:
        """Keep the answers; what the services pay at least, and whether any answer is new."""
        pay, fresh = 0.0, False
        for number, priced in enumerate(answers):
            if not priced.columns:
                continue
            pay += max(0.0, priced.bound)
            if not self.columns[number]:
                self.alone[number] = max(priced.columns[0].cost_at(shared.list_prices), 1e-3)
            for column in priced.columns:
                if (number, column.counts) not in self.seen:
                    self.seen.add((number, column.counts))
                    self.columns[number].append(column)
                    fresh = True
        return pay, fresh


def coordinate(
    problems: Sequence[Problem], shared: Shared, options: Options, start: Sequence[float] | None = None
) -> Coordinated:
    """Agree on prices and pick one answer of each service.

    Args:
        problems: of the services; their shared supplies hold what each may use alone.
        shared: what they share.
        options: gap of the whole; the time limit is for each service's question, and for the last program.
        start: prices to begin with, say those of the last cycle; list prices if None.
    """
    near_start = start is not None or len(problems) >= 2 * SAMPLE
    if start is None:
        start = _sampled(problems, shared, options) if len(problems) >= 2 * SAMPLE else shared.list_prices
    made = _Pool([[] for _ in problems], [0.0] * len(problems))
    prices = best_prices = shared.capped(start)
    best_bound, gap, rounds = -math.inf, COARSE, 0
    deadline = time.perf_counter() + options.time_limit_s * (10 + len(problems))
    with crew_for(problems, shared) as crew:
        while rounds < ROUNDS:
            rounds += 1
            bound, fresh = made.listen(crew.ask(prices, Options(gap, options.time_limit_s)), shared)
            bound -= shared.earned(prices)
            if bound > best_bound:
                best_bound, best_prices = bound, prices
            relaxed, prices = _relaxation(made, shared)
            prices = shared.capped(prices)
            if near_start and rounds == 1:
                # One answer each gives wild duals where the first prices were good ones: stay near (Wentges 1997).
                prices = [0.7 * best + 0.3 * dual for best, dual in zip(best_prices, prices, strict=True)]
            left = relaxed / best_bound - 1.0 if best_bound > 0.0 else math.inf
            at_rest = gap <= FINE and not fresh
            if at_rest or left <= 0.9 * options.relative_gap or time.perf_counter() > deadline:
                break
            # While prices still move, coarse answers do; a bound needs fine ones.
            gap = min(COARSE, max(FINE, left / 8))
    return Coordinated(tuple(_picked(made, shared, options)), tuple(best_prices), best_bound, rounds)


def _sampled(problems: Sequence[Problem], shared: Shared, options: Options) -> Sequence[float]:
    """Prices that a sample of the services agrees on, with its part of what there is."""
    step = len(problems) // SAMPLE
    part = replace(
        shared,
        lots=tuple(
            replace(
                lot,
                spare=lot.spare // step,
                committed=lot.committed // step,
                available=None if lot.available is None else lot.available // step,
            )
            for lot in shared.lots
        ),
        nodes_left={pool: None if left is None else left // step for pool, left in shared.nodes_left.items()},
    )
    fine = replace(options, relative_gap=options.relative_gap / 8)
    return coordinate(problems[::step], part, fine, shared.list_prices).prices


def _relaxation(made: _Pool, shared: Shared) -> tuple[float, list[float]]:
    """The relaxed master: its cost and the prices that it gives."""
    program, _, rows = _master(made, shared, whole=False)
    answer = minimise(program, Options(0.0, 60.0))
    if not answer.duals:
        return math.inf, shared.list_prices
    return answer.bound, [max(0.0, -answer.duals[row]) for row in rows]


def _picked(made: _Pool, shared: Shared, options: Options) -> list[Column | None]:
    """One answer of each service, in whole nodes."""
    program, chosen, _ = _master(made, shared, whole=True)
    answer = minimise(program, Options(options.relative_gap / 4, max(1.0, 5 * options.time_limit_s)))
    if not answer.values:
        return [None] * len(made.columns)
    return [
        next((column for column, number in zip(columns, numbers, strict=True) if answer.values[number] > 0.5), None)
        for columns, numbers in zip(made.columns, chosen, strict=True)
    ]


def _master(made: _Pool, shared: Shared, *, whole: bool) -> tuple[Program, list[list[int]], list[int]]:
    """The program that picks; columns of the answers, and the row of each lot's GPUs."""
    program = Program()
    used: list[Terms] = [[] for _ in shared.lots]
    chosen: list[list[int]] = []
    for columns, alone in zip(made.columns, made.alone, strict=True):
        numbers = [program.column(0.0, 1.0, cost=column.own_cost, whole=whole) for column in columns]
        chosen.append(numbers)
        for column, number in zip(columns, numbers, strict=True):
            for terms, gpus in zip(used, column.gpus, strict=True):
                if gpus:
                    terms.append((number, float(gpus)))
        out = program.column(0.0, 1.0, cost=UNPLACED * alone)
        program.row(1.0, [*((number, 1.0) for number in numbers), (out, 1.0)], 1.0)
    return program, chosen, add_lots(program, shared, used, whole=whole)
