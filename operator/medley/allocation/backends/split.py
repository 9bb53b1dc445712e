"""Whether given replicas can carry the traffic, and how: linear programs in the shares alone.

`Split` asks how much capacity is lacking, at the price of each variant. Its dual weights w give a row that every plan
must satisfy and this one does not (a Benders cut): however the traffic is split, the weighted capacity Σ w_j n_j is at
least what each line needs where it is weighed lightest, Σ_i min_j w_j L_ij. With a limit on the share of Spot, requests
sent there are weighed with its dual μ as well.

Shares are measured in replicas of the variant that carries a line with the fewest, so that all coefficients are 1 or
more: a rare line is then lost in the solver's tolerance (1e-7 replicas), and never makes a plan look feasible that
lacks a whole one (reference: solver.md §3, "tiny coefficients").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medley.allocation.backends.highs import INFINITY, LinearProgram
from medley.allocation.routing import Steering
from medley.model.objects import CapacityType

RARE = 1e-6
"""Replicas. A line that needs less of its best variant is below what a linear program can tell from nothing."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """The lines of traffic as arrays.

    Attributes:
        loads: shape (lines, variants); 0 where there must be no traffic, see `barred`.
        barred: infinite where there must be no traffic, else 0.
        least: replicas of the best variant per line, shape (lines,).
        rates: req/s per line.
        spot: 1 for variants on Spot, else 0.
        spot_fraction: of the req/s that may go there; None: no limit.
    """

    loads: np.ndarray
    barred: np.ndarray
    least: np.ndarray
    rates: np.ndarray
    spot: np.ndarray
    spot_fraction: float | None

    @classmethod
    def of(cls, steering: Steering, types: Sequence[CapacityType], spot_fraction: float | None) -> Traffic:
        """From the lines of a problem and the capacity type of each variant."""
        able = np.isfinite(steering.matrix)
        return cls(
            loads=np.where(able, steering.matrix, 0.0),
            barred=np.where(able, 0.0, np.inf),
            least=np.where(able, steering.matrix, np.inf).min(axis=1, initial=np.inf),
            rates=np.array([line.rate_rps for line in steering.lines]),
            spot=np.array([float(kind is CapacityType.SPOT) for kind in types]),
            spot_fraction=spot_fraction,
        )

    @property
    def most_spot_rps(self) -> float:
        """What may go to Spot; infinite without a limit."""
        return INFINITY if self.spot_fraction is None else self.spot_fraction * float(self.rates.sum())

    def lightest(self, weights: np.ndarray, spot_weight: float = 0.0) -> np.ndarray:
        """Per line, what it needs where it is weighed lightest."""
        weighed = self.loads * weights + self.barred
        if spot_weight:
            weighed = weighed + spot_weight * self.rates[:, None] * self.spot
        return np.asarray(weighed.min(axis=1, initial=np.inf))

    def need(self, weights: np.ndarray, spot_weight: float = 0.0) -> float:
        """The right-hand side of the cut with these weights."""
        spot = spot_weight * self.most_spot_rps if spot_weight else 0.0
        return float(self.lightest(weights, spot_weight).sum()) - spot


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What is lacking to carry the traffic.

    Attributes:
        cost: price of the capacity that is lacking; 0 if none is.
        lacking: replicas per variant, fractional.
        weights: of the cut that this capacity violates, with `spot_weight`.
    """

    cost: float
    lacking: np.ndarray
    weights: np.ndarray
    spot_weight: float


class Split:
    """Finds the cheapest capacity that is lacking, again and again for different counts."""

    def __init__(self, traffic: Traffic, prices: np.ndarray) -> None:
        """`prices`: of one replica each, above 0."""
        self._traffic = traffic
        lines, variants = traffic.loads.shape
        at_line, at_variant = np.nonzero(traffic.barred == 0.0)
        pairs = len(at_line)
        self._lines, self._pairs, self._variants = lines, pairs, variants
        limited = traffic.spot_fraction is not None
        # One column a pair: 1 in its line's row, its load in its variant's, and its rate in the Spot row.
        entries = 2 + limited
        rows = np.empty((pairs, entries), dtype=np.int32)
        values = np.empty((pairs, entries))
        rows[:, 0], values[:, 0] = at_line, 1.0
        rows[:, 1] = lines + at_variant
        values[:, 1] = traffic.loads[at_line, at_variant] / traffic.least[at_line]
        if limited:
            rows[:, 2] = lines + variants
            values[:, 2] = traffic.rates[at_line] / traffic.least[at_line] * traffic.spot[at_variant]
        slacks = variants + limited
        starts = np.concatenate([np.arange(pairs) * entries, pairs * entries + np.arange(slacks + 1)])
        costs = np.concatenate([np.zeros(pairs), prices])
        if limited:
            # Dearer than any capacity: what a request less on Spot is worth at most.
            dearest = float((traffic.least / traffic.rates).max(initial=0.0) * prices.max())
            costs = np.append(costs, 10.0 * max(dearest, 1e-9))
        self._program = LinearProgram(
            costs,
            starts.astype(np.int32),
            np.concatenate([rows.ravel(), lines + np.arange(slacks)]).astype(np.int32),
            np.concatenate([values.ravel(), -np.ones(slacks)]),
            np.concatenate([traffic.least, np.full(slacks, -INFINITY)]),
            np.concatenate([np.full(lines, INFINITY), np.zeros(slacks)]),
        )
        self._fraction = 1.0

    def shortfall(self, capacity: np.ndarray, fraction: float, *, spot_limited: bool) -> Shortfall | None:
        """What is lacking to carry a fraction of the traffic; None if the solver failed."""
        if fraction != self._fraction:
            self._fraction = fraction
            rows = np.arange(self._lines, dtype=np.int32)
            self._program.bound(rows, self._traffic.least * fraction, np.full(self._lines, INFINITY))
        upper = capacity
        if self._traffic.spot_fraction is not None:
            most = self._traffic.most_spot_rps * fraction if spot_limited else INFINITY
            upper = np.append(capacity, most)
        rows = self._lines + np.arange(len(upper), dtype=np.int32)
        self._program.bound(rows, np.full(len(upper), -INFINITY), upper)
        answer = self._program.solve()
        if answer is None:
            return None
        cost, values, duals = answer
        weights = np.maximum(0.0, -duals[self._lines : self._lines + self._variants])
        spot_weight = max(0.0, -float(duals[-1])) if len(upper) > self._variants else 0.0
        lacking = values[self._pairs : self._pairs + self._variants]
        return Shortfall(cost, lacking, weights, spot_weight)


@dataclass(frozen=True, slots=True)
class Balance:
    """The split with the lowest peak utilisation.

    Attributes:
        peak: utilisation of the busiest variant (1: just full).
        shares: shape (lines, variants); each line adds up to 1.
        weights: of the cut that says that no split has a lower peak, with `spot_weight`.
    """

    peak: float
    shares: np.ndarray
    weights: np.ndarray
    spot_weight: float


def balance(traffic: Traffic, capacity: np.ndarray, *, spot_limited: bool) -> Balance | None:
    """The most even split over the capacity that is there; None if some line has nowhere to go."""
    running = np.flatnonzero(capacity > 0.0)
    able = traffic.barred[:, running] == 0.0
    if not bool(able.any(axis=1).all()) or not len(traffic.least):
        return None
    if len(running) == 1 and traffic.spot_fraction is None:
        return _alone(traffic, capacity, running)
    lines, variants = able.shape
    at_line, at_variant = np.nonzero(able)
    pairs = len(at_line)
    limited = spot_limited and traffic.spot_fraction is not None
    entries = 2 + limited
    rows = np.empty((pairs, entries), dtype=np.int32)
    values = np.empty((pairs, entries))
    rows[:, 0], values[:, 0] = at_line, 1.0
    rows[:, 1] = lines + at_variant
    values[:, 1] = traffic.loads[at_line, running[at_variant]] / traffic.least[at_line]
    if limited:
        rows[:, 2] = lines + variants
        values[:, 2] = traffic.rates[at_line] / traffic.least[at_line] * traffic.spot[running[at_variant]]
    program = LinearProgram(
        np.append(np.zeros(pairs), 1.0),
        np.append(np.arange(pairs + 1) * entries, pairs * entries + variants).astype(np.int32),
        np.concatenate([rows.ravel(), lines + np.arange(variants)]).astype(np.int32),
        np.concatenate([values.ravel(), -capacity[running]]),
        np.concatenate([traffic.least, np.full(variants + limited, -INFINITY)]),
        np.concatenate([np.full(lines, INFINITY), np.zeros(variants), [traffic.most_spot_rps] * limited]),
    )
    answer = program.solve()
    if answer is None:
        return None
    peak, point, duals = answer
    shares = np.zeros(traffic.loads.shape)
    # What is left over of the solver's rounding is no traffic.
    given = np.where(point[:pairs] / traffic.least[at_line] > 1e-9, point[:pairs], 0.0)
    shares[at_line, running[at_variant]] = given
    _place_rare(traffic, shares, running, capacity[running])
    shares /= shares.sum(axis=1, keepdims=True)
    weights = np.zeros(traffic.loads.shape[1])
    weights[running] = np.maximum(0.0, -duals[lines : lines + variants])
    spot_weight = max(0.0, -float(duals[-1])) if limited else 0.0
    return Balance(peak, shares, _lifted(traffic, weights, running, spot_weight), spot_weight)


def _alone(traffic: Traffic, capacity: np.ndarray, running: np.ndarray) -> Balance:
    """All that there is carries everything."""
    shares = np.zeros(traffic.loads.shape)
    shares[:, running] = 1.0
    peak = float(traffic.loads[:, running].sum() / capacity[running][0])
    weights = np.zeros(traffic.loads.shape[1])
    weights[running] = 1.0 / capacity[running]
    return Balance(peak, shares, _lifted(traffic, weights, running, 0.0), 0.0)


def _place_rare(traffic: Traffic, shares: np.ndarray, running: np.ndarray, capacity: np.ndarray) -> None:
    """Lines that are lost in the solver's tolerance go whole to where they weigh least."""
    rare = np.flatnonzero(traffic.least < RARE)
    loads = (traffic.loads[np.ix_(rare, running)] + traffic.barred[np.ix_(rare, running)]) / capacity
    if traffic.spot_fraction is not None:
        # To Spot only what nothing else serves.
        loads = loads + traffic.spot[running]
    shares[rare] = 0.0
    shares[rare, running[loads.argmin(axis=1)]] = 1.0


def _lifted(traffic: Traffic, weights: np.ndarray, running: np.ndarray, spot_weight: float) -> np.ndarray:
    """Weights for what has no capacity: the least with which no line would be weighed lighter there."""
    idle = np.ones(len(weights), dtype=bool)
    idle[running] = False
    barred = traffic.barred.copy()
    barred[:, idle] = np.inf
    weighed = traffic.loads * weights + barred + spot_weight * traffic.rates[:, None] * traffic.spot
    lightest = weighed.min(axis=1)
    for j in np.flatnonzero(idle):
        able = traffic.loads[:, j] > 0.0
        rest = lightest[able] - spot_weight * traffic.rates[able] * traffic.spot[j]
        weights[j] = max(0.0, float((rest / traffic.loads[able, j]).max(initial=0.0)))
    return weights
