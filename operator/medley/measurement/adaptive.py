"""Which probe comes next, over the whole grid of sizes; a pure function of the results so far.

1. Closed loops at the grid's corners and its centre: a step model is fitted to them (`fit`).
2. Open loops at those sizes, each beginning at the rate that the model predicts; what the model misses is carried as a
   factor from size to size (`Factors`), so that one or two probes a size are enough.
3. The other sizes are measured one by one, worst first, where the interpolation between measured sizes differs from
   the prediction by more than the tolerance, less what predictions were off lately. The rest is left to interpolation,
   which is what reads the profile later.

As nothing but the results decides, a run that was broken off goes on where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from medley.measurement.fit import fitted
from medley.measurement.probe import (
    MOST_OPEN_PROBES,
    Ending,
    Loop,
    Probe,
    ProbeResult,
    closed_probe,
    is_missed_on_average,
    next_rate,
    open_requests,
)
from medley.measurement.stand_in import Factors, curve
from medley.model.workload import Size
from medley.profiles.latency import LatencyTarget
from medley.profiles.measured import Measured
from medley.profiles.step import StepModel

_SECOND_LEVEL = 4  # in flight, at the first size
_FURTHEST = 64  # a closed loop has at most this many times those of the one before
_CALIBRATE_AT = 0.8  # of the TPOT objective
_MARGIN = 0.8  # of the tolerance: measured rates lie a little below the true ones already
_TRUSTED_PREDICTIONS = 3  # how many of the latest say how good predictions are


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be found out.

    Attributes:
        inputs: input tokens of the grid, ascending.
        outputs: output tokens of the grid, ascending.
        target: the objectives.
        max_concurrency: most requests in flight.
        tolerance: relative width of each size's bracket.
        grid_tolerance: how far interpolation may be off.
        requests: measured requests of an open-loop probe; None: by `open_requests`.
        measure_all: measure every size, interpolate none.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    target: LatencyTarget
    max_concurrency: int = 256
    tolerance: float = 0.04
    grid_tolerance: float = 0.05
    requests: int | None = None
    measure_all: bool = False

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The cells of the grid."""
        return tuple(Size(i, o) for i in self.inputs for o in self.outputs)

    @property
    def seeds(self) -> tuple[Size, ...]:
        """Corners and centre, the centre first: its neighbours profit most."""
        inputs, outputs = self.inputs, self.outputs
        chosen = [Size(inputs[len(inputs) // 2], outputs[len(outputs) // 2])]
        chosen += [Size(i, o) for i in (inputs[0], inputs[-1]) for o in (outputs[-1], outputs[0])]
        return tuple(dict.fromkeys(chosen))


@dataclass(frozen=True, slots=True)
class Cell:
    """What is known of a size: its results, and the rates that are predicted and found."""

    size: Size
    closed: tuple[ProbeResult, ...]
    open: tuple[ProbeResult, ...]

    def is_unservable(self, target: LatencyTarget) -> bool:
        """One request at a time already misses the objectives."""
        alone = [result for result in self.closed if result.probe.level == 1.0]
        return bool(alone) and is_missed_on_average(alone[0], target)


def next_probe(plan: Plan, results: Sequence[ProbeResult]) -> Probe | None:
    """The probe to make next; None: the grid is known well enough."""
    cells = cells_of(plan, results)
    for size in plan.seeds:
        probe = _next_closed(plan, cells[size], results)
        if probe is not None:
            return probe
    model = fitted(results, plan.max_concurrency)
    begun = [size for size in plan.sizes if cells[size].open or cells[size].closed]
    for size in dict.fromkeys((*plan.seeds, *begun)):
        probe = _next_open(plan, cells, cells[size], model)
        if probe is not None:
            return probe
    left = [size for size in plan.sizes if size not in begun]
    if not left:
        return None
    worst, error = _worst(plan, cells, left, results, model)
    if not plan.measure_all and error <= _MARGIN * plan.grid_tolerance - _prediction_error(plan, cells, results, model):
        return None
    return _next_open(plan, cells, cells[worst], model)


def cells_of(plan: Plan, results: Sequence[ProbeResult]) -> dict[Size, Cell]:
    """The grid with its results; a probe that the client spoiled is as if it had not been made."""
    results = [result for result in results if result.ending is not Ending.CLIENT_LATE]
    return {
        size: Cell(
            size,
            tuple(r for r in results if r.probe.size == size and r.probe.loop is Loop.CLOSED),
            tuple(r for r in results if r.probe.size == size and r.probe.loop is Loop.OPEN),
        )
        for size in plan.sizes
    }


def measured_of(plan: Plan, results: Sequence[ProbeResult]) -> Measured:
    """The load points that a profile states: open loops that were stable, and single requests that were too slow."""
    points = []
    for cell in cells_of(plan, results).values():
        if cell.is_unservable(plan.target):
            points += [result.point for result in cell.closed[:1] if result.point is not None]
            continue
        for result in cell.open:
            # An overloaded replica may still look quick to the few requests that got through.
            if result.point is not None and result.ending is not Ending.OVERLOADED:
                points.append(result.point)
    points.sort(key=lambda point: (point.size, point.rate_rps))
    return Measured(tuple(points))


def remaining(plan: Plan, results: Sequence[ProbeResult]) -> tuple[float, float]:
    """About how many open-loop requests and seconds are still to come; rough, for a progress bar."""
    cells = cells_of(plan, results)
    model = fitted(results, plan.max_concurrency)
    done = [cell for cell in cells.values() if cell.is_unservable(plan.target) or _is_settled(plan, cells, cell, model)]
    share_measured = 1.0 if plan.measure_all else 0.6
    requests = seconds = 0.0
    others = [size for size in plan.sizes if size not in plan.seeds]
    for cell in cells.values():
        if cell in done:
            continue
        weight = share_measured if cell.size in others and not cell.open else 1.0
        probes = max(1.0, 2.0 - len(cell.open)) * weight
        rate = model.max_throughput(cell.size, plan.target).rate_rps if model is not None else 1.0
        number = plan.requests or open_requests(plan.target.percentile, 0.0)
        requests += probes * number
        seconds += probes * 1.3 * number / max(rate, 1e-3)
    return requests, seconds


def predicted_rate(plan: Plan, cells: dict[Size, Cell], size: Size, model: StepModel | None) -> float:
    """The highest rate of a size by the fitted model and the factors measured at this size, or near it."""
    if model is None:
        return 0.0
    own = _own_factors(plan, cells[size], model)
    factors = own if own is not None else _factors_nearby(plan, cells, size, model)
    rate = curve(model, size, plan.target.percentile).highest_rate(plan.target, factors)
    return min(rate, _rate_at_limit(plan, size, model))


def _rate_at_limit(plan: Plan, size: Size, model: StepModel) -> float:
    """The rate at which half the allowed number is in flight on average: arrivals need room to vary."""
    batch = max(1.0, plan.max_concurrency / 2)
    return 1000.0 * batch / (size.output_tokens * model.mean_step_ms(size, batch))


def _next_closed(plan: Plan, cell: Cell, results: Sequence[ProbeResult]) -> Probe | None:
    """Calibration at a seed: alone, then near the objective; at the first seed a ladder towards it."""
    if not cell.closed:
        return closed_probe(cell.size, 1)
    if cell.is_unservable(plan.target):
        return None
    levels = [int(result.probe.level) for result in cell.closed]
    if len(levels) == 1 and all(result.probe.level == 1.0 for result in results if result.probe.loop is Loop.CLOSED):
        return closed_probe(cell.size, min(_SECOND_LEVEL, plan.max_concurrency))  # says how steps grow with the batch
    if levels[-1] not in (1, _SECOND_LEVEL):
        return None
    model = fitted(results, plan.max_concurrency)
    if model is None:
        return None
    level = min(max(2, round(_batch_at(model, cell.size, plan.target))), _FURTHEST * levels[-1], plan.max_concurrency)
    return closed_probe(cell.size, level) if level != levels[-1] else None


def _batch_at(model: StepModel, size: Size, target: LatencyTarget) -> float:
    """In flight when the mean step is a good part of the objective."""
    if target.tpot_ms is None:
        return 8.0
    slope = model.mean_step_ms(size, 1.0) - model.mean_step_ms(size, 0.0)
    return (_CALIBRATE_AT * target.tpot_ms - model.base_ms) / slope if slope > 0 else float(model.max_batch)


def _next_open(plan: Plan, cells: dict[Size, Cell], cell: Cell, model: StepModel | None) -> Probe | None:
    if cell.is_unservable(plan.target):
        return None
    expected = predicted_rate(plan, cells, cell.size, model)
    if expected <= 0.0 and not cell.open:
        if not cell.closed:
            return closed_probe(cell.size, 1)
        alone = cell.closed[0].point
        expected = 0.5 * alone.rate_rps if alone is not None else 0.1
    rate = next_rate(
        cell.open, plan.target, expected, plan.tolerance, lambda result: _implied(plan, cell.size, result, model)
    )
    if rate is None:
        return None
    running = 0.0
    if model is not None:
        tpot_ms = model.mean_step_ms(cell.size, 1.0) if plan.target.tpot_ms is None else plan.target.tpot_ms
        running = rate * cell.size.output_tokens * tpot_ms / 1000.0
    return Probe(
        cell.size, Loop.OPEN, float(f"{rate:.5g}"), plan.requests or open_requests(plan.target.percentile, running)
    )


def _is_settled(plan: Plan, cells: dict[Size, Cell], cell: Cell, model: StepModel | None) -> bool:
    return bool(cell.open) and _next_open(plan, cells, cell, model) is None


@lru_cache(maxsize=4096)
def _factors(plan: Plan, result: ProbeResult, model: StepModel) -> Factors:
    assert result.point is not None
    seen_tpot, seen_ttft = result.at(plan.target.percentile)
    tpot, ttft = curve(model, result.probe.size, plan.target.percentile).at(result.probe.level)
    return Factors(seen_tpot / tpot, seen_ttft / ttft)


def _implied(plan: Plan, size: Size, result: ProbeResult, model: StepModel | None) -> float | None:
    """The highest rate, if the stand-in is off by the same factor there as at this result."""
    if model is None or result.point is None or math.isinf(result.ratio(plan.target)):
        return None
    rate = curve(model, size, plan.target.percentile).highest_rate(plan.target, _factors(plan, result, model))
    return rate or None


def _own_factors(plan: Plan, cell: Cell, model: StepModel) -> Factors | None:
    """Of the result nearest the objective: far from it the stand-in may be off by another factor."""
    usable = [result for result in cell.open if not math.isinf(result.ratio(plan.target))]
    if not usable:
        return None
    return _factors(plan, min(usable, key=lambda r: abs(math.log(max(r.ratio(plan.target), 1e-9)))), model)


def _factors_nearby(plan: Plan, cells: dict[Size, Cell], size: Size, model: StepModel) -> Factors:
    """Geometric mean over the measured sizes, the nearer the heavier (on a log scale of sizes)."""
    weights = tpot = ttft = 0.0
    for other in cells.values():
        own = _own_factors(plan, other, model) if other.size != size else None
        if own is None:
            continue
        distance = math.log(other.size.input_tokens / size.input_tokens) ** 2
        distance += math.log(other.size.output_tokens / size.output_tokens) ** 2
        weight = 1.0 / (0.1 + distance)
        weights += weight
        tpot += weight * math.log(max(own.tpot, 1e-6))
        ttft += weight * math.log(max(own.ttft, 1e-6))
    if not weights:
        return Factors()
    return Factors(math.exp(tpot / weights), math.exp(ttft / weights))


def _worst(
    plan: Plan, cells: dict[Size, Cell], left: Sequence[Size], results: Sequence[ProbeResult], model: StepModel | None
) -> tuple[Size, float]:
    """The size whose interpolation is furthest from its prediction, and how far."""
    measured = measured_of(plan, results)
    errors = {
        size: _difference(measured.max_throughput(size, plan.target).rate_rps, predicted_rate(plan, cells, size, model))
        for size in left
    }
    worst = max(left, key=lambda size: errors[size])
    return worst, errors[worst]


def _prediction_error(
    plan: Plan, cells: dict[Size, Cell], results: Sequence[ProbeResult], model: StepModel | None
) -> float:
    """How far off the latest predictions were, of sizes measured without help from their own results."""
    if model is None:
        return math.inf
    order = list(dict.fromkeys(r.probe.size for r in results if r.probe.loop is Loop.OPEN))
    errors = []
    for size in order[-_TRUSTED_PREDICTIONS:]:
        own = _own_factors(plan, cells[size], model)
        if own is None:  # only overload was seen: the prediction was far off
            return math.inf
        found = curve(model, size, plan.target.percentile)
        nearby = _factors_nearby(plan, cells, size, model)
        errors.append(_difference(found.highest_rate(plan.target, own), found.highest_rate(plan.target, nearby)))
    return math.sqrt(sum(error * error for error in errors) / len(errors)) if errors else 0.0


def _difference(one: float, other: float) -> float:
    """Relative difference; infinite if only one is zero."""
    if one <= 0.0 or other <= 0.0:
        return 0.0 if one == other else math.inf
    return abs(math.log(one / other))


def most_requests(plan: Plan) -> int:
    """Upper bound of what a run sends, warm-up and tail included."""
    number = plan.requests or open_requests(plan.target.percentile, plan.max_concurrency)
    open_ = len(plan.sizes) * MOST_OPEN_PROBES * (number + 6 * plan.max_concurrency)
    closed = len(plan.seeds) * 3 * plan.max_concurrency + 32 * len(plan.sizes)
    return open_ + closed
