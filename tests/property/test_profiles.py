"""What holds for every profile: rates stay between what was measured, and follow load, SLO and hardware the right way.

Tolerances are for rounding and for the bisection of the steady rate, not for the claims.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from medley.model.engine import NO_FLAGS, EngineFlags, SpeculativeDecoding
from medley.model.workload import Size
from medley.profiles.estimate import roofline_of
from medley.profiles.gpu import gpus
from medley.profiles.grid import Grid
from medley.profiles.latency import LatencyTarget, Unservable
from medley.profiles.measured import Latency, LoadPoint, Measured, highest_rate
from medley.profiles.model_facts import Attention, known_models
from medley.profiles.roofline import GIB, Roofline
from medley.profiles.step import StepModel

ROUNDING = 1e-6
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no failure."""

Rates = tuple[tuple[float, ...], ...]


# Grid


@st.composite
def axes(draw: st.DrawFn, least: int = 2) -> tuple[float, ...]:
    points = draw(st.lists(st.integers(1, 16384), min_size=least, max_size=5, unique=True))
    return tuple(float(point) for point in sorted(points))


@st.composite
def grids(draw: st.DrawFn, least: int = 2) -> Grid:
    """Any positive rates: also such as rise with size, as noisy measurements do."""
    inputs, outputs = draw(axes(least)), draw(axes(least))
    rates = [[draw(st.floats(0.01, 100)) for _ in outputs] for _ in inputs]
    return Grid(None, None, inputs, outputs, tuple(map(tuple, rates)))


@st.composite
def falling_grids(draw: st.DrawFn) -> Grid:
    """The rate falls, or stays, with either size."""
    inputs, outputs = draw(axes()), draw(axes())
    rates: list[list[float]] = []
    for i in range(len(inputs)):
        rates.append([])
        for o in range(len(outputs)):
            bound = min(rates[i - 1][o] if i else 100.0, rates[i][o - 1] if o else 100.0)
            rates[i].append(bound * draw(st.floats(0.3, 1.0)))
    return Grid(None, None, inputs, outputs, tuple(map(tuple, rates)))


def inside(draw: st.DrawFn, points: tuple[float, ...]) -> float:
    """A value of the axis, often one of its points."""
    return draw(st.one_of(st.sampled_from(points), st.floats(points[0], points[-1])))


def size_inside(draw: st.DrawFn, grid: Grid) -> Size:
    return Size(inside(draw, grid.input_tokens), inside(draw, grid.output_tokens))


def neighbours(points: tuple[float, ...], value: float) -> tuple[int, int]:
    """The last point that is not above the value, and the first that is not below it."""
    below = max(n for n, point in enumerate(points) if point <= value)
    return below, min(n for n, point in enumerate(points) if point >= value)


def corners(grid: Grid, size: Size) -> list[float]:
    rows, columns = neighbours(grid.input_tokens, size.input_tokens), neighbours(grid.output_tokens, size.output_tokens)
    return [grid.requests_per_second[i][o] for i in rows for o in columns]


def steepest(points: tuple[float, ...], rates: Rates) -> float:
    """Largest |change of log rate| per change of log size, along an axis of which `rates` are the rows."""
    return max(
        abs(math.log(after / before)) / math.log(points[n + 1] / points[n])
        for n in range(len(points) - 1)
        for before, after in zip(rates[n], rates[n + 1], strict=True)
    )


@patient
@given(st.data(), grids())
def test_a_grid_stays_between_its_four_neighbours(data: st.DataObject, grid: Grid) -> None:
    size = size_inside(data.draw, grid)
    around = corners(grid, size)
    rate = grid.max_throughput(size).rate_rps
    assert min(around) * (1 - ROUNDING) <= rate <= max(around) * (1 + ROUNDING)


@patient
@given(st.data(), grids())
def test_a_grid_gives_its_points_exactly(data: st.DataObject, grid: Grid) -> None:
    i = data.draw(st.integers(0, len(grid.input_tokens) - 1))
    o = data.draw(st.integers(0, len(grid.output_tokens) - 1))
    answer = grid.max_throughput(Size(grid.input_tokens[i], grid.output_tokens[o]))
    assert answer.rate_rps == pytest.approx(grid.requests_per_second[i][o], rel=1e-12)


@patient
@given(st.data(), falling_grids())
def test_a_falling_grid_never_rises_with_size(data: st.DataObject, grid: Grid) -> None:
    small, other = size_inside(data.draw, grid), size_inside(data.draw, grid)
    large = Size(max(small.input_tokens, other.input_tokens), max(small.output_tokens, other.output_tokens))
    assert grid.max_throughput(large).rate_rps <= grid.max_throughput(small).rate_rps * (1 + ROUNDING)


@patient
@given(st.data(), grids(), st.floats(-0.01, 0.01), st.floats(-0.01, 0.01))
def test_a_small_step_changes_the_rate_little_also_across_the_border_of_a_cell(
    data: st.DataObject, grid: Grid, log_input: float, log_output: float
) -> None:
    size = size_inside(data.draw, grid)
    near = Size(
        min(size.input_tokens * math.exp(log_input), grid.input_tokens[-1]),
        min(size.output_tokens * math.exp(log_output), grid.output_tokens[-1]),
    )
    turned = tuple(zip(*grid.requests_per_second, strict=True))
    most = steepest(grid.input_tokens, grid.requests_per_second) * abs(log_input)
    most += steepest(grid.output_tokens, turned) * abs(log_output)
    change = math.log(grid.max_throughput(near).rate_rps / grid.max_throughput(size).rate_rps)
    assert abs(change) <= most + ROUNDING


@patient
@given(st.data(), grids(), st.floats(1.0001, 100), st.sampled_from(["input", "output", "both"]))
def test_nothing_is_served_above_the_largest_point(data: st.DataObject, grid: Grid, factor: float, larger: str) -> None:
    size = size_inside(data.draw, grid)
    i = size.input_tokens if larger == "output" else grid.input_tokens[-1] * factor
    o = size.output_tokens if larger == "input" else grid.output_tokens[-1] * factor
    answer = grid.max_throughput(Size(i, o))
    assert (answer.rate_rps, answer.reason) == (0.0, Unservable.OUTSIDE_GRID)


@patient
@given(st.data(), grids(), st.floats(0.001, 1.0), st.sampled_from(["input", "output", "both"]))
def test_below_the_smallest_point_its_rate_is_used(
    data: st.DataObject, grid: Grid, factor: float, smaller: str
) -> None:
    size = size_inside(data.draw, grid)
    low_i, low_o = grid.input_tokens[0], grid.output_tokens[0]
    asked = Size(
        size.input_tokens if smaller == "output" else low_i * factor,
        size.output_tokens if smaller == "input" else low_o * factor,
    )
    at = Size(max(asked.input_tokens, low_i), max(asked.output_tokens, low_o))
    assert grid.max_throughput(asked) == grid.max_throughput(at)
    if smaller == "both":
        assert grid.max_throughput(asked).rate_rps == pytest.approx(grid.requests_per_second[0][0])


@patient
@given(st.data(), grids())
def test_a_cell_with_a_zero_corner_is_zero_and_others_are_not(data: st.DataObject, grid: Grid) -> None:
    i = data.draw(st.integers(0, len(grid.input_tokens) - 1))
    o = data.draw(st.integers(0, len(grid.output_tokens) - 1))
    rates = [list(row) for row in grid.requests_per_second]
    rates[i][o] = 0.0
    holed = replace(grid, requests_per_second=tuple(map(tuple, rates)))
    size = size_inside(data.draw, grid)
    answer = holed.max_throughput(size)
    if 0.0 in corners(holed, size):
        assert (answer.rate_rps, answer.reason) == (0.0, Unservable.GRID_ZERO)
    else:
        assert answer == grid.max_throughput(size)
        assert answer.rate_rps > 0


def test_a_cell_by_hand() -> None:
    # The middle of a cell on a log scale is the geometric mean of its corners: (16·4·4·1)^¼ = 4.
    grid = Grid(None, None, (100, 400), (10, 40), ((16, 4), (4, 1)))
    assert grid.max_throughput(Size(200, 20)).rate_rps == pytest.approx(4)
    assert grid.max_throughput(Size(200, 10)).rate_rps == pytest.approx(8)


# Measured points


def load_point(rate: float, tpot: float, ttft: float = 100.0, size: Size | None = None) -> LoadPoint:
    """A point whose percentiles rise from half the given p95 to twice it."""
    return LoadPoint(
        size or Size(512, 128), rate, *(Latency(x * 0.6, x * 0.5, x * 0.8, x, x * 2) for x in (tpot, ttft))
    )


load_points = st.lists(
    st.builds(load_point, st.floats(0.1, 50), st.floats(1, 200), st.floats(1, 5000)),
    min_size=1,
    max_size=8,
    unique_by=lambda point: point.rate_rps,
)
objectives = st.builds(
    LatencyTarget, st.floats(1, 300), st.one_of(st.none(), st.floats(1, 6000)), st.sampled_from([50, 90, 95, 99])
)


def keeps(point: LoadPoint, target: LatencyTarget) -> bool:
    pairs = ((point.tpot.at(target.percentile), target.tpot_ms), (point.ttft.at(target.percentile), target.ttft_ms))
    return all(value is not None and value <= objective for value, objective in pairs if objective is not None)


@patient
@given(load_points, objectives)
def test_the_highest_rate_lies_between_the_last_that_keeps_and_the_first_that_fails(
    points: list[LoadPoint], target: LatencyTarget
) -> None:
    ordered = sorted(points, key=lambda point: point.rate_rps)
    kept = [keeps(point, target) for point in ordered]
    answer = highest_rate(points, target)
    if all(kept):
        assert answer.rate_rps == ordered[-1].rate_rps
    elif not kept[0]:
        assert (answer.rate_rps, answer.reason) == (0.0, Unservable.LATENCY_AT_LOWEST_RATE)
    else:
        first = kept.index(False)
        assert ordered[first - 1].rate_rps <= answer.rate_rps <= ordered[first].rate_rps
    assert (answer.rate_rps == 0) == (answer.reason is not None)


@patient
@given(st.data(), load_points, objectives)
def test_points_after_the_first_failure_do_not_count(
    data: st.DataObject, points: list[LoadPoint], target: LatencyTarget
) -> None:
    failed = [point.rate_rps for point in points if not keeps(point, target)]
    assume(failed)
    more = data.draw(st.lists(st.builds(load_point, st.floats(min(failed) * 1.01, 200), st.floats(1, 200)), max_size=4))
    assert highest_rate(data.draw(st.permutations([*points, *more])), target) == highest_rate(points, target)


@patient
@given(load_points, objectives, st.floats(1, 4), st.floats(1, 4))
def test_a_looser_objective_never_lowers_a_measured_rate(
    points: list[LoadPoint], target: LatencyTarget, tpot: float, ttft: float
) -> None:
    assert target.tpot_ms is not None
    looser = replace(
        target, tpot_ms=target.tpot_ms * tpot, ttft_ms=None if target.ttft_ms is None else target.ttft_ms * ttft
    )
    low, high = highest_rate(points, target).rate_rps, highest_rate(points, looser).rate_rps
    assert high >= low * (1 - ROUNDING)


@patient
@given(load_points, objectives, st.sampled_from([50, 90, 95, 99]))
def test_a_lower_percentile_never_lowers_a_measured_rate(
    points: list[LoadPoint], target: LatencyTarget, other: float
) -> None:
    strict = replace(target, percentile=max(target.percentile, other))
    easy = replace(target, percentile=min(target.percentile, other))
    assert highest_rate(points, easy).rate_rps >= highest_rate(points, strict).rate_rps * (1 - ROUNDING)


def test_a_crossing_by_hand() -> None:
    points = [load_point(2, 10, 100), load_point(4, 30, 500)]
    # TPOT is half way from 10 to 30, TTFT a quarter of the way from 100 to 500: the lower rate counts.
    assert highest_rate(points, LatencyTarget(20)).rate_rps == pytest.approx(3)
    assert highest_rate(points, LatencyTarget(20, 200)).rate_rps == pytest.approx(2.5)
    assert highest_rate(points, LatencyTarget(None, 400)).rate_rps == pytest.approx(3.5)


def test_without_an_objective_the_highest_measured_rate_counts() -> None:
    assert highest_rate([load_point(2, 10), load_point(4, 3000)], LatencyTarget()).rate_rps == 4


def test_a_percentile_that_was_not_measured_is_the_reason() -> None:
    points = [LoadPoint(Size(512, 128), rate, Latency(p50_ms=5, p95_ms=9), Latency(p50_ms=50)) for rate in (1, 2)]
    unknown = highest_rate(points, LatencyTarget(20, percentile=99))
    assert (unknown.rate_rps, unknown.reason) == (0.0, Unservable.PERCENTILE_NOT_MEASURED)
    # p90 is not there, but p95 bounds it; TTFT has p50 alone.
    assert highest_rate(points, LatencyTarget(20, percentile=90)).rate_rps == 2
    assert highest_rate(points, LatencyTarget(8, percentile=90)).reason is Unservable.LATENCY_AT_LOWEST_RATE
    assert highest_rate(points, LatencyTarget(20, 100, percentile=50)).rate_rps == 2
    assert highest_rate(points, LatencyTarget(20, 100, percentile=90)).reason is Unservable.PERCENTILE_NOT_MEASURED
    measured = Measured(tuple(points))
    assert measured.max_throughput(Size(512, 128), LatencyTarget(20, percentile=99)) == unknown
    assert measured.for_target(LatencyTarget(20, percentile=99)) is None
    assert "99" in (measured.refusal(LatencyTarget(20, percentile=99)) or "")
    assert measured.refusal(LatencyTarget(20, percentile=95)) is None


@st.composite
def measured_grids(draw: st.DrawFn, least: int = 2) -> tuple[Measured, tuple[float, ...], tuple[float, ...]]:
    """Two or three rates for each size of a full grid; the lowest keeps any objective of 200 ms."""
    inputs, outputs = draw(axes(least)), draw(axes(least))
    points = []
    for size in (Size(i, o) for i in inputs for o in outputs):
        rate, tpot = draw(st.floats(0.1, 20)), draw(st.floats(1, 100))
        for _ in range(draw(st.integers(1, 3))):
            points.append(load_point(rate, tpot, size=size))
            rate, tpot = rate * draw(st.floats(1.1, 3)), tpot * draw(st.floats(1.1, 3))
    return Measured(tuple(points)), inputs, outputs


@patient
@given(measured_grids(), st.floats(20, 300))
def test_the_grid_of_full_measurements_gives_the_highest_rate_at_each_size(
    made: tuple[Measured, tuple[float, ...], tuple[float, ...]], tpot: float
) -> None:
    measured, inputs, outputs = made
    target = LatencyTarget(tpot)
    grid = measured.for_target(target)
    assert grid is not None
    assert (grid.input_tokens, grid.output_tokens) == (inputs, outputs)
    assert (grid.tpot_ms, grid.ttft_ms) == (tpot, None)
    for size in {point.size for point in measured.points}:
        own = highest_rate([point for point in measured.points if point.size == size], target).rate_rps
        assert grid.max_throughput(size).rate_rps == pytest.approx(own)
        assert measured.max_throughput(size, target).rate_rps == pytest.approx(own)


@patient
@given(st.data(), measured_grids(least=3))
def test_a_missing_cell_is_filled_between_its_neighbours_and_nowhere_else(
    data: st.DataObject, made: tuple[Measured, tuple[float, ...], tuple[float, ...]]
) -> None:
    measured, inputs, outputs = made
    target = LatencyTarget(200)
    i, o = data.draw(st.integers(0, len(inputs) - 1)), data.draw(st.integers(0, len(outputs) - 1))
    gone = Size(inputs[i], outputs[o])
    full = measured.for_target(target)
    left = Measured(tuple(point for point in measured.points if point.size != gone)).for_target(target)
    assert full is not None
    assert left is not None
    rates = full.requests_per_second
    pairs = []
    if 0 < i < len(inputs) - 1:
        pairs.append((rates[i - 1][o], rates[i + 1][o]))
    if 0 < o < len(outputs) - 1:
        pairs.append((rates[i][o - 1], rates[i][o + 1]))
    answer = left.max_throughput(gone)
    if not pairs:
        assert answer.rate_rps == 0
    else:
        # The mean of what row and column say: between the lower and the higher of both.
        assert answer.rate_rps >= min(min(pair) for pair in pairs) * (1 - ROUNDING)
        assert answer.rate_rps <= max(max(pair) for pair in pairs) * (1 + ROUNDING)
    others = {size: left.max_throughput(size).rate_rps for size in {point.size for point in measured.points} - {gone}}
    assert others == {size: full.max_throughput(size).rate_rps for size in others}


@patient
@given(st.data(), measured_grids(least=3))
def test_filling_many_cells_never_gives_more_than_was_measured(
    data: st.DataObject, made: tuple[Measured, tuple[float, ...], tuple[float, ...]]
) -> None:
    measured, _, _ = made
    sizes = sorted({point.size for point in measured.points})
    kept = data.draw(st.sets(st.sampled_from(sizes), min_size=1))
    target = LatencyTarget(200)
    known = Measured(tuple(point for point in measured.points if point.size in kept))
    best = max(known.max_throughput(size, target).rate_rps for size in kept)
    for size in sizes:
        assert known.max_throughput(size, target).rate_rps <= best * (1 + ROUNDING)


def test_a_cell_next_to_one_that_serves_nothing_is_not_filled() -> None:
    # 1024/128 fails at the lowest rate: nobody knows whether 512/128 would have.
    points = (
        load_point(5, 10, size=Size(256, 128)), load_point(1, 500, size=Size(1024, 128)),
        load_point(4, 10, size=Size(256, 32)), load_point(3, 10, size=Size(512, 32)),
    )  # fmt: skip
    measured = Measured(points)
    assert measured.max_throughput(Size(512, 128), LatencyTarget(20)).rate_rps == 0
    assert measured.max_throughput(Size(512, 128), LatencyTarget(600)).rate_rps == pytest.approx(math.sqrt(5 * 1))


# Engines: the step model and the roofline


step_models = st.builds(
    StepModel,
    st.floats(1, 100),
    st.floats(0, 1),
    st.floats(0, 0.01),
    st.floats(0, 1),
    st.integers(1_000, 1_000_000),
    st.integers(1, 512),
)


@st.composite
def rooflines(draw: st.DrawFn) -> Roofline:
    """GPUs from below a T4 to above a B200, and weights that leave room for a KV cache."""
    count = draw(st.sampled_from([1, 2, 4, 8]))
    memory = draw(st.floats(16, 200))
    weights = count * (0.9 * memory - 1.5) * draw(st.floats(0.05, 0.95))
    experts = draw(st.sampled_from([0, 0, 8, 128]))
    return Roofline(
        gpus=count,
        memory_gib=memory,
        bandwidth_gb_per_s=draw(st.floats(200, 8000)),
        dense_tflops=draw(st.floats(50, 3000)),
        link_gb_per_s=draw(st.floats(16, 900)),
        weight_gb=weights,
        active_parameters=weights * 1e9 / 2 * draw(st.floats(0.05, 1.0)),
        kv_bytes_per_token=draw(st.floats(1e4, 1e6)),
        layers=draw(st.integers(8, 100)),
        hidden_size=draw(st.integers(512, 8192)),
        attention_width=draw(st.integers(512, 16384)),
        expert_weight_gb=weights * draw(st.floats(0.1, 0.95)) if experts else 0.0,
        experts=experts,
        experts_per_token=2 if experts else 0,
        kv_shards=draw(st.sampled_from([n for n in (1, 2, 4, 8) if n <= count])),
        max_batch=draw(st.integers(1, 512)),
    )


Engine = StepModel | Roofline
engines = st.one_of(step_models, rooflines())
sizes = st.builds(Size, st.floats(1, 8000), st.floats(2, 2000))
targets = st.builds(
    LatencyTarget,
    st.one_of(st.none(), st.floats(5, 500)),
    st.one_of(st.none(), st.floats(100, 20_000)),
    st.sampled_from([50, 90, 95, 99]),
)


@patient
@given(engines, sizes, targets)
def test_zero_comes_with_a_reason_and_only_zero(engine: Engine, size: Size, target: LatencyTarget) -> None:
    answer = engine.max_throughput(size, target)
    assert math.isfinite(answer.rate_rps)
    assert answer.rate_rps >= 0
    assert (answer.rate_rps == 0) == (answer.reason is not None)


@patient
@given(engines, sizes, targets, st.floats(1, 4))
def test_a_longer_prompt_never_raises_the_rate(
    engine: Engine, size: Size, target: LatencyTarget, longer: float
) -> None:
    short = engine.max_throughput(size, target).rate_rps
    long = engine.max_throughput(Size(size.input_tokens * longer, size.output_tokens), target).rate_rps
    assert long <= short * (1 + ROUNDING)


@patient
@given(engines, sizes, targets, st.floats(1, 4))
def test_a_longer_output_never_raises_the_mean_rate(
    engine: Engine, size: Size, target: LatencyTarget, longer: float
) -> None:
    # In the tail it may: one prefill in a short life weighs more on its TPOT than in a long one.
    mean = replace(target, percentile=50)
    short = engine.max_throughput(size, mean).rate_rps
    long = engine.max_throughput(Size(size.input_tokens, size.output_tokens * longer), mean).rate_rps
    assert long <= short * (1 + ROUNDING)


@patient
@given(engines, sizes, targets, st.floats(1, 4), st.floats(1, 4))
def test_looser_objectives_never_lower_the_rate(
    engine: Engine, size: Size, target: LatencyTarget, tpot: float, ttft: float
) -> None:
    looser = replace(
        target,
        tpot_ms=None if target.tpot_ms is None else target.tpot_ms * tpot,
        ttft_ms=None if target.ttft_ms is None else target.ttft_ms * ttft,
    )
    assert engine.max_throughput(size, looser).rate_rps >= engine.max_throughput(size, target).rate_rps * (1 - ROUNDING)


@patient
@given(engines, sizes, targets, st.sampled_from([50, 90, 95, 99]))
def test_a_lower_percentile_never_lowers_the_rate(
    engine: Engine, size: Size, target: LatencyTarget, other: float
) -> None:
    strict = replace(target, percentile=max(target.percentile, other))
    easy = replace(target, percentile=min(target.percentile, other))
    assert engine.max_throughput(size, easy).rate_rps >= engine.max_throughput(size, strict).rate_rps * (1 - ROUNDING)


@patient
@given(engines, sizes, targets)
def test_the_requests_running_at_the_rate_fit_the_engine(engine: Engine, size: Size, target: LatencyTarget) -> None:
    """Little's law: rate times the time that a request stays is the number that runs."""
    rate = engine.max_throughput(size, target).rate_rps
    most = min(float(engine.max_batch), engine.kv_capacity_tokens / engine.held_tokens(size))
    # A step of the fullest engine is the longest, and what fewer requests reach is less.
    step = engine.decode_ms(size, most) + most * engine.prefill_ms(size.input_tokens) / size.output_tokens
    assert rate * size.output_tokens * step / 1000 <= most * (1 + ROUNDING)


@patient
@given(engines, st.floats(1, 4000), st.floats(1.001, 10))
def test_a_request_longer_than_the_cache_is_refused(engine: Engine, output: float, factor: float) -> None:
    size = Size(engine.kv_capacity_tokens * factor, output)
    assert engine.max_throughput(size, LatencyTarget()).reason is Unservable.KV_DOES_NOT_FIT


@pytest.mark.parametrize(("output", "percentile"), [(2, 50), (4, 50), (4, 95), (16, 95)])
def test_a_lone_request_that_keeps_its_tpot_is_served(output: int, percentile: float) -> None:
    # 40 ms a step; the prompt takes 500 ms, which is TTFT and no part of the request's own TPOT. At a low enough
    # rate a request meets no other's prefill, so it is served in time, however short its output.
    model = StepModel(40, 0.0, 0.0, 0.5, 10**6)
    answer = model.max_throughput(Size(1000, output), LatencyTarget(tpot_ms=50, percentile=percentile))
    assert answer.reason is None
    assert answer.rate_rps > 0


@patient
@given(rooflines(), sizes, targets, st.floats(1, 4), st.sampled_from(["bandwidth_gb_per_s", "dense_tflops", "both"]))
@example(
    Roofline(1, 24, 300, 121, 32, 16.06, 7.5e9, 131072, 32, 4096, 4096), Size(1024, 256), LatencyTarget(80), 2.0, "both"
)
def test_faster_hardware_never_lowers_the_rate(
    slow: Roofline, size: Size, target: LatencyTarget, factor: float, what: str
) -> None:
    names = ["bandwidth_gb_per_s", "dense_tflops"] if what == "both" else [what]
    fast = replace(slow, **{name: getattr(slow, name) * factor for name in names})
    mean = replace(target, percentile=50)
    assert fast.max_throughput(size, mean).rate_rps >= slow.max_throughput(size, mean).rate_rps * (1 - ROUNDING)
    # In the tail, prefills disturb a fast engine's short steps more: a little less is possible.
    assert fast.max_throughput(size, target).rate_rps >= slow.max_throughput(size, target).rate_rps * 0.9


@patient
@given(rooflines(), sizes, targets, st.floats(1, 4))
def test_more_memory_never_lowers_the_rate(small: Roofline, size: Size, target: LatencyTarget, factor: float) -> None:
    large = replace(small, memory_gib=small.memory_gib * factor)
    assert large.kv_capacity_tokens >= small.kv_capacity_tokens
    assert large.max_throughput(size, target).rate_rps >= small.max_throughput(size, target).rate_rps * (1 - ROUNDING)


@patient
@given(rooflines(), st.floats(1.5, 4))
def test_a_full_engine_that_computes_gains_from_flops_and_a_lone_request_does_not(
    slow: Roofline, factor: float
) -> None:
    slow = replace(slow, active_parameters=slow.weight_gb * 1e9 / 2)
    fast = replace(slow, dense_tflops=slow.dense_tflops * factor)
    size = Size(1, 2)
    # At so many sequences computing takes longer than reading the weights once, on any of these GPUs.
    assert fast.decode_ms(size, 200_000) < slow.decode_ms(size, 200_000)
    if slow.experts == 0:
        assert fast.decode_ms(size, 1) == slow.decode_ms(size, 1)


@patient
@given(rooflines())
def test_weights_cache_and_reserve_fit_the_memory(roofline: Roofline) -> None:
    cache = roofline.kv_capacity_tokens * roofline.kv_bytes_per_token / roofline.kv_shards
    used = roofline.weight_gb * 1e9 / roofline.gpus + cache + roofline.reserve_gib * GIB
    taken = roofline.memory_fraction * roofline.memory_gib * GIB
    assert used <= taken * (1 + ROUNDING)
    # And nothing is left for one token more.
    assert used + 2 * roofline.kv_bytes_per_token / roofline.kv_shards > taken


@patient
@given(rooflines(), sizes, targets)
def test_weights_that_do_not_fit_are_the_reason(roofline: Roofline, size: Size, target: LatencyTarget) -> None:
    heavy = replace(roofline, weight_gb=roofline.gpus * roofline.memory_gib * 1.1)
    assert heavy.max_throughput(size, target).reason is Unservable.WEIGHTS_DO_NOT_FIT


# Speculative decoding


drafts = st.integers(1, 16)


def speculating(roofline: Roofline, tokens: int, acceptance: float) -> Roofline:
    return replace(roofline, speculative=SpeculativeDecoding(tokens, acceptance))


@patient
@given(drafts, st.floats(0, 1), st.floats(0, 1))
def test_tokens_per_step_rise_with_acceptance_from_one_to_all(tokens: int, one: float, other: float) -> None:
    low, high = (SpeculativeDecoding(tokens, a).tokens_per_step for a in sorted((one, other)))
    assert SpeculativeDecoding(tokens, 0.0).tokens_per_step == 1
    assert SpeculativeDecoding(tokens, 1.0).tokens_per_step == tokens + 1
    assert 1 - ROUNDING <= low <= high * (1 + ROUNDING)
    assert high <= (tokens + 1) * (1 + ROUNDING)


def test_tokens_per_step_by_hand() -> None:
    # The token that is always there, the first draft token at 0.5, the second at 0.25.
    assert SpeculativeDecoding(2, 0.5).tokens_per_step == pytest.approx(1.75)


@patient
@given(rooflines(), sizes, targets, drafts)
def test_drafts_that_are_never_accepted_never_raise_the_rate(
    plain: Roofline, size: Size, target: LatencyTarget, tokens: int
) -> None:
    drafting = speculating(plain, tokens, 0.0)
    assert drafting.max_throughput(size, target).rate_rps <= plain.max_throughput(size, target).rate_rps * (
        1 + ROUNDING
    )


@patient
@given(rooflines(), sizes, drafts)
def test_drafts_that_are_always_accepted_give_at_most_all_their_tokens(
    plain: Roofline, size: Size, tokens: int
) -> None:
    drafting = speculating(plain, tokens, 1.0)
    # An empty engine only reads its weights: the step gives k + 1 tokens in the time of one.
    assert drafting.decode_ms(size, 0) == pytest.approx(plain.decode_ms(size, 0) / (tokens + 1))
    free = LatencyTarget(percentile=50)
    most = (tokens + 1) * plain.max_throughput(size, free).rate_rps
    assert drafting.max_throughput(size, free).rate_rps <= most * (1 + ROUNDING)


@patient
@given(rooflines(), sizes, targets, drafts, st.floats(0, 1), st.floats(0, 1))
def test_more_acceptance_never_lowers_the_rate(
    plain: Roofline, size: Size, target: LatencyTarget, tokens: int, one: float, other: float
) -> None:
    low, high = (speculating(plain, tokens, a).max_throughput(size, target).rate_rps for a in sorted((one, other)))
    assert high >= low * (1 - ROUNDING)


# Rooflines of known models


@patient
@given(st.sampled_from(sorted(known_models())), st.sampled_from(sorted(gpus())), st.sampled_from([1, 2, 4, 8, 16]))
def test_the_cache_of_known_models_is_split_over_heads_at_most(model: str, gpu: str, count: int) -> None:
    facts = known_models()[model]
    assume(facts.attention_heads % (2 * count) == 0)
    one, two = (roofline_of(facts, gpus()[gpu], n, NO_FLAGS) for n in (count, 2 * count))
    for made in (one, two):
        most = 1 if facts.attention is Attention.MLA else facts.kv_heads
        assert 1 <= made.kv_shards <= min(most, made.gpus)
        assert 0 <= made.expert_weight_gb < made.weight_gb
        assert (made.expert_weight_gb > 0) == (facts.experts > 0)
    assert two.kv_capacity_tokens > one.kv_capacity_tokens


@patient
@given(
    st.sampled_from(sorted(known_models())),
    st.sampled_from(sorted(gpus())),
    st.sampled_from([1, 2, 4]),
    sizes,
    targets,
)
def test_a_cache_in_fp8_holds_twice_the_tokens_and_never_lowers_the_rate(
    model: str, gpu: str, count: int, size: Size, target: LatencyTarget
) -> None:
    facts = known_models()[model]
    assume(facts.attention_heads % count == 0)
    plain = roofline_of(facts, gpus()[gpu], count, NO_FLAGS)
    halved = roofline_of(facts, gpus()[gpu], count, EngineFlags(kv_cache_dtype="fp8"))
    if plain.kv_capacity_tokens >= 1:
        assert halved.kv_capacity_tokens == pytest.approx(2 * plain.kv_capacity_tokens, abs=2)
    assert halved.max_throughput(size, target).rate_rps >= plain.max_throughput(size, target).rate_rps * (1 - ROUNDING)
