"""The allocation problem solved in the counts alone; the shares are projected out (Benders decomposition).

A program of a few counts proposes; a linear program in the shares (split.py) says whether the traffic fits, and if not,
why not, as a row in the counts. The relaxation is brought to rest first, which takes a few rounds of a millisecond.
Each proposal that falls short is completed by what it lacks and trimmed: so bound and best plan close in from both
sides. The rows stay valid for any prices and any limits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medley.allocation.backends.answer import Answer, Options, SolveStatus
from medley.allocation.backends.counts import Aim, Counts, build_counts
from medley.allocation.backends.highs import Master
from medley.allocation.backends.split import Balance, Shortfall, Split, Traffic, balance
from medley.allocation.check import replica_price
from medley.allocation.problem import Problem
from medley.allocation.routing import Steering
from medley.allocation.stages import Stage
from medley.model.objects import RoutingMode

ROUNDS = 60
"""Proposals at most; some ten are needed for the hardest instances of the benchmark."""

FITS = 1e-6
"""Replicas, relative and absolute, by which a proposal may fall short and still carries the traffic."""

RELAXATION_GAP = 1e-3
"""The relaxation is at rest when what it lacks costs less than this share of what it has."""

Judge = Callable[[tuple[int, ...]], float | None]
"""The objective of counts, in $ per hour; None if they break a limit."""


@dataclass(frozen=True, slots=True)
class Found:
    """The best counts found (None: none), what they serve, and the bound of the objective ($/h, or the fraction)."""

    status: SolveStatus
    counts: tuple[int, ...] | None = None
    served: float = 1.0
    bound: float = -math.inf


class Decomposition:
    """One problem; can be solved again at other prices (`price`), starting from the rows found so far."""

    def __init__(self, problem: Problem, steering: Steering, aim: Aim = Aim.CHEAPEST, fraction: float = 1.0) -> None:
        self._problem = problem
        self._built: Counts = build_counts(problem, steering, aim, fraction)
        self._master = Master(self._built.program)
        self._fraction = fraction
        self._prices = np.array([replica_price(problem, variant) for variant in problem.variants])
        self._prices = np.maximum(self._prices, 1e-3 * self._prices.max(initial=1.0))
        types = [variant.capacity_type for variant in problem.variants]
        self._traffic = Traffic.of(steering, types, problem.max_spot_fraction)
        # Nobody splits in mode Service, and there is nothing to split without traffic.
        steered = problem.routing is not RoutingMode.SERVICE and bool(steering.lines)
        self._split = Split(self._traffic, self._prices) if steered else None
        self._cuts: list[tuple[np.ndarray, float]] = []
        if self._split is not None:
            self._first_cuts()

    def price(self, costs: np.ndarray) -> None:
        """Replace the objective: $ per hour of one replica of each variant, whatever nodes cost."""
        objective = np.zeros(len(self._built.program.cost))
        objective[self._built.count] = costs
        self._master.price(objective)

    def cheapest(self, options: Options, judge: Judge) -> Found:
        """The cheapest counts that carry the traffic."""
        search = _Search(self, options, judge)
        if self._split is None:
            return search.of_counts_alone()
        return search.run()

    def most(self, options: Options) -> Found:
        """The counts that carry the largest fraction of the traffic; the aim must be `Aim.MOST`."""
        deadline = time.perf_counter() + options.time_limit_s
        best, best_served, bound = None, -1.0, 1.0
        seen: set[tuple[int, ...]] = set()
        for _ in range(ROUNDS):
            answer = self._master.solve(1e-6, max(0.01, deadline - time.perf_counter()))
            if not answer.values:
                status = answer.status if best is None else SolveStatus.TIME_LIMIT
                return Found(status, best, best_served, bound)
            bound = min(bound, -answer.bound)
            counts, proposed = self._counts(answer), answer.values[self._built.served]
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

    def shares(self, counts: tuple[int, ...]) -> list[Balance | None]:
        """The most even split of each stage."""
        return [
            balance(self._traffic, np.array(stage.capacity(counts)), spot_limited=not stage.name)
            for stage in self._built.stages
        ]

    def _carried(self, counts: tuple[int, ...], proposed: float) -> float:
        """The fraction that counts can carry; where more was proposed, the cut that says so is added."""
        served = 1.0
        for number, (stage, made) in enumerate(zip(self._built.stages, self.shares(counts), strict=True)):
            if made is None:
                return 0.0
            most = min(1.0, 1.0 / max(made.peak * stage.share, 1e-12))
            served = min(served, most)
            if proposed > most:
                self._cut(number, made.weights, made.spot_weight)
        return served

    def _counts(self, answer: Answer) -> tuple[int, ...]:
        return tuple(round(answer.values[column]) for column in self._built.count)

    def _first_cuts(self) -> None:
        """The whole demand at list prices, and what only a part of the variants can serve at theirs."""
        weights = [self._prices]
        everything = len(self._prices)
        for able in self._built.able:
            if len(able) < everything:
                partial = np.zeros(everything)
                partial[list(able)] = self._prices[list(able)]
                weights.append(partial)
        for number in range(len(self._built.stages)):
            for some in weights:
                self._cut(number, some, 0.0)

    def _cut(self, stage: int, weights: np.ndarray, spot_weight: float) -> None:
        """Add Σ weights · capacity ≥ need · share · served to the program of the counts."""
        spot_weight = 0.0 if self._built.stages[stage].name else spot_weight
        largest = float(weights.max(initial=0.0))
        if largest <= 0.0:
            largest = 1.0
        need = self._traffic.need(weights, spot_weight) / largest
        if need <= 0.0:
            return
        weights = np.where(weights > 1e-9 * largest, weights / largest, 0.0)
        terms: dict[int, float] = {self._built.served: -need * self._built.stages[stage].share}
        for weight, capacity in zip(weights, self._built.capacity[stage], strict=True):
            for column, value in capacity if weight > 0.0 else ():
                terms[column] = terms.get(column, 0.0) + weight * value
        columns = np.fromiter(terms.keys(), dtype=np.int32, count=len(terms))
        self._master.cut(0.0, columns, np.fromiter(terms.values(), dtype=float, count=len(terms)))
        if stage == 0:
            self._cuts.append((weights, need))

    def _capacity(self, stage: int, values: tuple[float, ...]) -> np.ndarray:
        """What carries traffic at a point of the program, whole or not."""
        return np.array(
            [max(0.0, sum(values[c] * value for c, value in terms)) for terms in self._built.capacity[stage]]
        )

    def _lacking(self, stage: Stage, capacity: np.ndarray) -> Shortfall | None:
        assert self._split is not None
        return self._split.shortfall(capacity, stage.share * self._fraction, spot_limited=not stage.name)


class _Search:
    """One run to the optimum."""

    def __init__(self, of: Decomposition, options: Options, judge: Judge) -> None:
        self._of = of
        self._options = options
        self._judge = judge
        self._deadline = time.perf_counter() + options.time_limit_s
        self._best: tuple[int, ...] | None = None
        self._cost = math.inf
        self._bound = -math.inf
        self._tried: dict[tuple[int, ...], bool] = {}

    @property
    def _left_s(self) -> float:
        return max(0.01, self._deadline - time.perf_counter())

    def of_counts_alone(self) -> Found:
        """Without a split, the program in the counts is all."""
        answer = self._of._master.solve(self._options.relative_gap, self._left_s)
        if not answer.values:
            return Found(answer.status)
        return Found(answer.status, self._of._counts(answer), bound=answer.bound)

    def run(self) -> Found:
        """Close in from both sides."""
        if not self._relaxation():
            return Found(SolveStatus.INFEASIBLE)
        seen: set[tuple[int, ...]] = set()
        for _ in range(ROUNDS):
            if self._close_enough():
                return Found(SolveStatus.OPTIMAL, self._best, bound=self._bound)
            if time.perf_counter() >= self._deadline:
                break
            answer = self._of._master.solve(self._options.relative_gap / 4, self._left_s)
            if not answer.values:
                # The rows added since the best plan cannot have made it infeasible but by rounding.
                status = answer.status if self._best is None else SolveStatus.TIME_LIMIT
                return Found(status, self._best, bound=self._bound)
            self._bound = max(self._bound, answer.bound)
            counts = self._of._counts(answer)
            if self._close_enough():
                continue
            lacking = self._lacking(counts)
            if lacking is None:
                self._tried[counts] = True
                self._offer(counts)
                if answer.status is SolveStatus.OPTIMAL and self._best is not None:
                    return Found(SolveStatus.OPTIMAL, self._best, bound=self._bound)
            else:
                self._tried[counts] = False
                self._complete(np.array(counts) + np.ceil(lacking - FITS))
            if counts in seen:
                break
            seen.add(counts)
        return Found(SolveStatus.TIME_LIMIT, self._best, bound=self._bound)

    def _close_enough(self) -> bool:
        if self._best is None:
            return False
        return self._cost <= self._bound + self._options.relative_gap * abs(self._bound) + 1e-9

    def _relaxation(self) -> bool:
        """Solve without whole numbers until hardly anything is lacking; False if that is infeasible already."""
        of = self._of
        of._master.relax(True)
        feasible = True
        for _ in range(ROUNDS):
            answer = of._master.solve(0.0, self._left_s)
            if not answer.values:
                feasible = answer.status is not SolveStatus.INFEASIBLE
                break
            self._bound = max(self._bound, answer.bound)
            worst, lacking = 0.0, np.zeros(len(of._prices))
            for number, stage in enumerate(of._built.stages):
                shortfall = of._lacking(stage, of._capacity(number, answer.values))
                if shortfall is None:
                    continue
                lacking = np.maximum(lacking, shortfall.lacking)
                worst = max(worst, shortfall.cost)
                if shortfall.cost > RELAXATION_GAP * max(answer.bound, 1e-9):
                    of._cut(number, shortfall.weights, shortfall.spot_weight)
            spent = float(np.dot(of._prices, [answer.values[column] for column in of._built.count]))
            if worst <= RELAXATION_GAP * max(answer.bound, spent, 1e-9):
                point = np.array([answer.values[column] for column in of._built.count])
                self._complete(np.ceil(point + lacking - 1e-6))
                break
            if time.perf_counter() >= self._deadline:
                break
        of._master.relax(False)
        return feasible

    def _complete(self, counts: np.ndarray) -> None:
        """Offer counts that should carry everything, trimmed of what nothing needs."""
        upper = np.array([self._of._built.program.upper[column] for column in self._of._built.count])
        self._offer(tuple(int(count) for count in np.minimum(counts, upper)))

    def _offer(self, counts: tuple[int, ...]) -> None:
        """Take counts that carry everything as the best plan if they are cheaper, once trimmed."""
        cost = self._judge(counts)
        if cost is None or not self._carries(counts):
            return
        floors = [variant.floor for variant in self._of._problem.variants]
        for j in np.argsort(-self._of._prices, kind="stable"):
            while counts[j] > floors[j]:
                fewer = (*counts[:j], counts[j] - 1, *counts[j + 1 :])
                less = self._judge(fewer)
                if less is None or less > cost or not self._carries(fewer):
                    break
                counts, cost = fewer, less
        if cost < self._cost - 1e-12:
            self._best, self._cost = counts, cost

    def _carries(self, counts: tuple[int, ...]) -> bool:
        """Whether counts carry the traffic in every stage; if not, the row that says why is there afterwards."""
        if counts not in self._tried:
            self._tried[counts] = self._passes_cuts(counts) and self._lacking(counts) is None
        return self._tried[counts]

    def _passes_cuts(self, counts: tuple[int, ...]) -> bool:
        """A quick no for most counts that lack something, and the only one for what a rare line lacks."""
        built, fraction = self._of._built, self._of._fraction
        for stage in built.stages:
            left = stage.capacity(counts)
            if any(not any(left[j] > 0.0 for j in able) for able in built.able):
                return False
        capacity = np.array(built.stages[0].capacity(counts))
        return all(weights @ capacity >= need * fraction * (1 - FITS) - FITS for weights, need in self._of._cuts)

    def _lacking(self, counts: tuple[int, ...]) -> np.ndarray | None:
        """Replicas that are lacking per variant, over all stages; None if nothing is. Adds the rows that say so."""
        of = self._of
        worst: np.ndarray | None = None
        for number, stage in enumerate(of._built.stages):
            capacity = np.array(stage.capacity(counts))
            shortfall = of._lacking(stage, capacity)
            if shortfall is None or shortfall.cost <= FITS * float(of._prices.max()) * max(1.0, float(capacity.max())):
                continue
            of._cut(number, shortfall.weights, shortfall.spot_weight)
            worst = shortfall.lacking if worst is None else np.maximum(worst, shortfall.lacking)
        return worst
