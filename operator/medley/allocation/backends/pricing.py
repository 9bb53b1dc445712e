"""One service among several that share pools: what it would use at given prices of shared GPUs.

Its problem stays the same from round to round; only prices change, so that the rows found so far are kept.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medley.allocation.backends.answer import Options
from medley.allocation.backends.decomposition import Decomposition
from medley.allocation.backends.search import cheapest
from medley.allocation.bill import Bill
from medley.allocation.problem import Problem
from medley.allocation.routing import Steering, steer
from medley.allocation.shared import Shared
from medley.allocation.single import Singles


@dataclass(frozen=True, slots=True)
class Column:
    """One way to serve one service.

    Attributes:
        counts: replicas per variant.
        own_cost: $ per hour but for shared GPUs; the cost of change included.
        gpus: used of each shared lot.
    """

    counts: tuple[int, ...]
    own_cost: float
    gpus: tuple[int, ...]

    def cost_at(self, prices: Sequence[float]) -> float:
        """$ per hour at prices per GPU-hour of the shared lots."""
        return self.own_cost + sum(price * gpus for price, gpus in zip(prices, self.gpus, strict=True))


@dataclass(frozen=True, slots=True)
class Priced:
    """Ways to serve a service, the best at these prices first (none: limits allow none), and a bound of the best."""

    columns: tuple[Column, ...]
    bound: float


class Pricer:
    """A service that can be asked what it would use."""

    def __init__(self, problem: Problem, shared: Shared) -> None:
        self.problem = shared.freed(problem)
        self.steering: Steering = steer(problem)
        self._program = Decomposition.of(self.problem, self.steering)
        self._bill = Bill(self.problem)
        self._singles = Singles(self.problem, self.steering)
        self._gpus = np.array(shared.gpus_of(problem), dtype=float).reshape(len(shared.lots), len(problem.variants))

    def ask(self, prices: Sequence[float], options: Options) -> Priced:
        """What it would use at these prices per GPU-hour."""
        extra = np.array(prices) @ self._gpus if len(prices) else np.zeros(len(self.problem.variants))
        self._program.price(extra)
        per_replica = extra.tolist()

        def judge(counts: tuple[int, ...]) -> float | None:
            cost = self._bill.judged(counts)
            return None if cost is None else cost + sum(map(operator.mul, per_replica, counts))

        found = cheapest(self._program, options, judge)
        if found.counts is None:
            return Priced((), found.bound)
        best = self._singles.preferred(found.counts, judge)
        others = [counts for counts in found.others if counts != best] if best == found.counts else []
        return Priced(tuple(self.column(counts) for counts in (best, *others)), found.bound)

    def column(self, counts: tuple[int, ...]) -> Column:
        """Counts as a column."""
        used = tuple(round(value) for value in (self._gpus @ np.array(counts)).tolist())
        return Column(counts, self._bill.charged_per_hour(counts), used)
