"""One service within a program in the counts: its traffic, the rows found for it, and whether counts carry it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medley.allocation.backends.counts import Counts
from medley.allocation.backends.highs import Master
from medley.allocation.backends.split import Balance, Shortfall, Split, Traffic, balance
from medley.allocation.bill import replica_price
from medley.allocation.check import equal_shares, losses_not_survived, overloaded
from medley.allocation.problem import Problem
from medley.allocation.routing import Steering
from medley.allocation.stages import Stage
from medley.model.objects import RoutingMode

FITS = 1e-6
"""Replicas, relative and absolute, by which a proposal may fall short and still carries the traffic."""


class Block:
    """A service's part of a program; `master` takes the rows that are found."""

    def __init__(self, problem: Problem, steering: Steering, built: Counts, master: Master, fraction: float) -> None:
        self.problem = problem
        self.built = built
        self.prices = np.array([replica_price(problem, variant) for variant in problem.variants])
        self.prices = np.maximum(self.prices, 1e-3 * self.prices.max(initial=1.0))
        self.traffic = traffic_of(problem, steering)
        self._steering = steering
        self._master = master
        self._fraction = fraction
        # Nobody splits in mode Service, and there is nothing to split without traffic.
        steered = problem.routing is not RoutingMode.SERVICE and bool(steering.lines)
        self._split = Split(self.traffic, self.prices) if steered else None
        self._able = np.zeros((len(built.able), len(self.prices)), dtype=bool)
        for row, able in zip(self._able, built.able, strict=True):
            row[list(able)] = True
        # Rows found so far in each stage: weights of the variants, and the least capacity so weighed.
        self._rows = [(np.empty((0, len(self.prices))), np.empty(0)) for _ in built.stages]
        if self.steered:
            self._first_cuts()

    @property
    def steered(self) -> bool:
        """Whether there is traffic to split; else the program says by itself whether counts carry it."""
        return self._split is not None

    def cut(self, stage: int, weights: np.ndarray, spot_weight: float) -> None:
        """Add Σ weights · capacity ≥ need · share · served to the program."""
        spot_weight = 0.0 if self.built.stages[stage].name else spot_weight
        largest = float(weights.max(initial=0.0))
        if largest <= 0.0:
            largest = 1.0
        need = self.traffic.need(weights, spot_weight) / largest
        if need <= 0.0:
            return
        weights = np.where(weights > 1e-9 * largest, weights / largest, 0.0)
        terms: dict[int, float] = {self.built.served: -need * self.built.stages[stage].share}
        for weight, capacity in zip(weights, self.built.capacity[stage], strict=True):
            for column, value in capacity if weight > 0.0 else ():
                terms[column] = terms.get(column, 0.0) + weight * value
        columns = np.fromiter(terms.keys(), dtype=np.int32, count=len(terms))
        self._master.cut(0.0, columns, np.fromiter(terms.values(), dtype=float, count=len(terms)))
        known, needs = self._rows[stage]
        least = need * self.built.stages[stage].share * self._fraction * (1 - FITS) - FITS
        self._rows[stage] = np.vstack([known, weights]), np.append(needs, least)

    def separate(self, values: Sequence[float]) -> tuple[np.ndarray, float]:
        """What a point of the program lacks, per variant and in $ per hour; the rows that say so are added."""
        lacking, worst = np.zeros(len(self.prices)), 0.0
        for number, stage in enumerate(self.built.stages if self.steered else ()):
            capacity = [max(0.0, sum(values[c] * v for c, v in terms)) for terms in self.built.capacity[number]]
            shortfall = self._shortfall(stage, np.array(capacity))
            if shortfall is None or shortfall.cost <= FITS * float(self.prices.max()):
                continue
            lacking = np.maximum(lacking, shortfall.lacking)
            worst = max(worst, shortfall.cost)
            self.cut(number, shortfall.weights, shortfall.spot_weight)
        return lacking, worst

    def passes(self, counts: Sequence[int]) -> bool:
        """A quick no for most counts that lack something, and the only one for what a rare line lacks."""
        if not self.steered:
            return self._carried_evenly(counts)
        for stage, (weights, needs) in zip(self.built.stages, self._rows, strict=True):
            capacity = np.array(stage.capacity(counts))
            # `able` of at least one variant each, then the rows.
            if not bool(((self._able @ (capacity > 0.0)) & (weights @ capacity >= needs).all()).all()):
                return False
        return True

    def lacking(self, counts: Sequence[int]) -> np.ndarray | None:
        """Replicas that are lacking per variant, over all stages; None if nothing is. Adds the rows that say so."""
        worst: np.ndarray | None = None
        for number, stage in enumerate(self.built.stages if self.steered else ()):
            capacity = np.array(stage.capacity(counts))
            shortfall = self._shortfall(stage, capacity)
            if shortfall is None or shortfall.cost <= FITS * float(self.prices.max()) * max(1.0, float(capacity.max())):
                continue
            self.cut(number, shortfall.weights, shortfall.spot_weight)
            worst = shortfall.lacking if worst is None else np.maximum(worst, shortfall.lacking)
        return worst

    def _shortfall(self, stage: Stage, capacity: np.ndarray) -> Shortfall | None:
        assert self._split is not None
        return self._split.shortfall(capacity, stage.share * self._fraction, spot_limited=not stage.name)

    def _carried_evenly(self, counts: Sequence[int]) -> bool:
        """Whether what runs carries its equal shares, also after each loss."""
        names = [variant.name for variant in self.problem.variants]
        replicas = dict(zip(names, counts, strict=True))
        if self._steering.lines and not any(counts):
            return False
        shares = equal_shares(self.problem, self._steering, replicas)
        after = {
            stage.name: equal_shares(self.problem, self._steering, dict(zip(names, stage.left(counts), strict=True)))
            for stage in self.built.stages[1:]
        }
        return not (
            overloaded(self.problem, self._steering, replicas, shares)
            or losses_not_survived(self.problem, self._steering, replicas, after)
        )

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


def traffic_of(problem: Problem, steering: Steering) -> Traffic:
    """The traffic of a problem as arrays."""
    types = [variant.capacity_type for variant in problem.variants]
    return Traffic.of(steering, types, problem.max_spot_fraction)


def splits(traffic: Traffic, stages: Sequence[Stage], counts: Sequence[int]) -> list[Balance | None]:
    """The most even split of each stage."""
    return [balance(traffic, np.array(stage.capacity(counts)), spot_limited=not stage.name) for stage in stages]
