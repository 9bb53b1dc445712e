"""The allocation problem in the counts alone; the shares are projected out (Benders decomposition).

A program of a few counts proposes; a linear program in the shares (split.py) says whether the traffic fits, and if not,
why not, as a row in the counts. The rows stay valid for any prices and any limits. The cheapest counts are then found
by branching (search.py), the most that can be served by proposing again and again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medley.allocation.backends.answer import Answer, Options, SolveStatus
from medley.allocation.backends.counts import Aim, Counts, build_counts
from medley.allocation.backends.highs import Master
from medley.allocation.backends.split import Balance, Shortfall, Split, Traffic, balance
from medley.allocation.bill import replica_price
from medley.allocation.problem import Problem
from medley.allocation.routing import Steering
from medley.allocation.stages import Stage
from medley.model.objects import RoutingMode

ROUNDS = 60
"""Proposals at most where the most that can be served is sought."""

FITS = 1e-6
"""Replicas, relative and absolute, by which a proposal may fall short and still carries the traffic."""


@dataclass(frozen=True, slots=True)
class Found:
    """The best counts found, what they serve, and the bound of the objective.

    Attributes:
        counts: None if none were found.
        served: fraction of the demand.
        bound: $ per hour, or the fraction where the most is sought.
        others: counts found on the way that carry everything within limits, but cost more.
    """

    status: SolveStatus
    counts: tuple[int, ...] | None = None
    served: float = 1.0
    bound: float = -math.inf
    others: tuple[tuple[int, ...], ...] = ()


class Decomposition:
    """One problem; can be solved again at other prices (`price`), starting from the rows found so far."""

    def __init__(self, problem: Problem, steering: Steering, aim: Aim = Aim.CHEAPEST, fraction: float = 1.0) -> None:
        self.problem = problem
        self.built: Counts = build_counts(problem, steering, aim, fraction)
        self.master = Master(self.built.program)
        self.fraction = fraction
        self.prices = np.array([replica_price(problem, variant) for variant in problem.variants])
        self.prices = np.maximum(self.prices, 1e-3 * self.prices.max(initial=1.0))
        self._traffic = traffic_of(problem, steering)
        # Nobody splits in mode Service, and there is nothing to split without traffic.
        steered = problem.routing is not RoutingMode.SERVICE and bool(steering.lines)
        self._split = Split(self._traffic, self.prices) if steered else None
        self._able = np.zeros((len(self.built.able), len(self.prices)), dtype=bool)
        for row, able in zip(self._able, self.built.able, strict=True):
            row[list(able)] = True
        # Rows found so far in each stage: weights of the variants, and the least capacity so weighed.
        self._rows = [(np.empty((0, len(self.prices))), np.empty(0)) for _ in self.built.stages]
        if self._split is not None:
            self._first_cuts()

    def price(self, costs: np.ndarray) -> None:
        """Charge $ per hour of one replica of each variant, beside what the problem itself charges."""
        objective = np.array(self.built.program.cost)
        objective[self.built.count] += costs
        self.master.price(objective)

    @property
    def steered(self) -> bool:
        """Whether there is traffic to split; else the program in the counts is all."""
        return self._split is not None

    def counts_alone(self, options: Options) -> Found:
        """The cheapest counts where nobody splits."""
        answer = self.master.solve(options.relative_gap, options.time_limit_s)
        if not answer.values:
            return Found(answer.status)
        return Found(answer.status, self.counts(answer), bound=answer.bound)

    def most(self, options: Options) -> Found:
        """The counts that carry the largest fraction of the traffic; the aim must be `Aim.MOST`."""
        deadline = time.perf_counter() + options.time_limit_s
        best, best_served, bound = None, -1.0, 1.0
        seen: set[tuple[int, ...]] = set()
        for _ in range(ROUNDS):
            answer = self.master.solve(1e-6, max(0.01, deadline - time.perf_counter()))
            if not answer.values:
                status = answer.status if best is None else SolveStatus.TIME_LIMIT
                return Found(status, best, best_served, bound)
            bound = min(bound, -answer.bound)
            counts, proposed = self.counts(answer), answer.values[self.built.served]
            if self._split is None:
                return Found(answer.status, counts, min(1.0, max(0.0, proposed)), bound)
            served = self._carried(counts, proposed)
            if served > best_served:
                best, best_served = counts, served
            if bound - best_served <= max(options.relative_gap, 1e-4) * bound:
                return Found(SolveStatus.OPTIMAL, best, best_served, bound)
            if counts in seen or time.perf_counter() >= deadline:
                break
            seen.add(counts)
        return Found(SolveStatus.TIME_LIMIT, best, best_served, bound)

    def _carried(self, counts: tuple[int, ...], proposed: float) -> float:
        """The fraction that counts can carry; where more was proposed, the cut that says so is added."""
        served = 1.0
        for number, (stage, made) in enumerate(
            zip(self.built.stages, splits(self._traffic, self.built.stages, counts), strict=True)
        ):
            if made is None:
                return 0.0
            most = min(1.0, 1.0 / max(made.peak * stage.share, 1e-12))
            served = min(served, most)
            if proposed > most:
                self.cut(number, made.weights, made.spot_weight)
        return served

    def counts(self, answer: Answer) -> tuple[int, ...]:
        """Replicas at a point that is whole."""
        return tuple(round(answer.values[column]) for column in self.built.count)

    def _first_cuts(self) -> None:
        """The whole demand at list prices, with one variant at half its price, and what only some variants can serve.

        A variant weighs less than its price where whole replicas leave some of it over; half is a good guess.
        """
        everything = len(self.prices)
        weights = [
            self.prices,
            *(np.where(np.arange(everything) == j, 0.5, 1.0) * self.prices for j in range(everything)),
        ]
        for able in self.built.able:
            if len(able) < everything:
                partial = np.zeros(everything)
                partial[list(able)] = self.prices[list(able)]
                weights.append(partial)
        for number in range(len(self.built.stages)):
            for some in weights:
                self.cut(number, some, 0.0)

    def cut(self, stage: int, weights: np.ndarray, spot_weight: float) -> None:
        """Add Σ weights · capacity ≥ need · share · served to the program of the counts."""
        spot_weight = 0.0 if self.built.stages[stage].name else spot_weight
        largest = float(weights.max(initial=0.0))
        if largest <= 0.0:
            largest = 1.0
        need = self._traffic.need(weights, spot_weight) / largest
        if need <= 0.0:
            return
        weights = np.where(weights > 1e-9 * largest, weights / largest, 0.0)
        terms: dict[int, float] = {self.built.served: -need * self.built.stages[stage].share}
        for weight, capacity in zip(weights, self.built.capacity[stage], strict=True):
            for column, value in capacity if weight > 0.0 else ():
                terms[column] = terms.get(column, 0.0) + weight * value
        columns = np.fromiter(terms.keys(), dtype=np.int32, count=len(terms))
        self.master.cut(0.0, columns, np.fromiter(terms.values(), dtype=float, count=len(terms)))
        known, needs = self._rows[stage]
        least = need * self.built.stages[stage].share * self.fraction * (1 - FITS) - FITS
        self._rows[stage] = np.vstack([known, weights]), np.append(needs, least)

    def capacity(self, stage: int, values: tuple[float, ...]) -> np.ndarray:
        """What carries traffic at a point of the program, whole or not."""
        return np.array(
            [max(0.0, sum(values[c] * value for c, value in terms)) for terms in self.built.capacity[stage]]
        )

    def shortfall(self, stage: Stage, capacity: np.ndarray) -> Shortfall | None:
        """What is lacking in a stage."""
        assert self._split is not None
        return self._split.shortfall(capacity, stage.share * self.fraction, spot_limited=not stage.name)

    def passes_cuts(self, counts: tuple[int, ...]) -> bool:
        """A quick no for most counts that lack something, and the only one for what a rare line lacks."""
        for stage, (weights, needs) in zip(self.built.stages, self._rows, strict=True):
            capacity = np.array(stage.capacity(counts))
            # `able` of at least one variant each, then the rows.
            if not bool(((self._able @ (capacity > 0.0)) & (weights @ capacity >= needs).all()).all()):
                return False
        return True

    def lacking(self, counts: tuple[int, ...]) -> np.ndarray | None:
        """Replicas that are lacking per variant, over all stages; None if nothing is. Adds the rows that say so."""
        worst: np.ndarray | None = None
        for number, stage in enumerate(self.built.stages):
            capacity = np.array(stage.capacity(counts))
            shortfall = self.shortfall(stage, capacity)
            if shortfall is None or shortfall.cost <= FITS * float(self.prices.max()) * max(1.0, float(capacity.max())):
                continue
            self.cut(number, shortfall.weights, shortfall.spot_weight)
            worst = shortfall.lacking if worst is None else np.maximum(worst, shortfall.lacking)
        return worst


def traffic_of(problem: Problem, steering: Steering) -> Traffic:
    """The traffic of a problem as arrays."""
    types = [variant.capacity_type for variant in problem.variants]
    return Traffic.of(steering, types, problem.max_spot_fraction)


def splits(traffic: Traffic, stages: Sequence[Stage], counts: Sequence[int]) -> list[Balance | None]:
    """The most even split of each stage."""
    return [balance(traffic, np.array(stage.capacity(counts)), spot_limited=not stage.name) for stage in stages]
