from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medley.model.workload import Size
from medley.profiles.grid import Grid
from medley.profiles.latency import LatencyTarget, Unservable
from medley.profiles.step import StepModel

L4 = StepModel(71.6, 0.17, 0.00057, 0.166, 41_000)

models = st.builds(
    StepModel,
    st.floats(1, 100),
    st.floats(0, 1),
    st.floats(0, 0.01),
    st.floats(0, 1),
    st.integers(1_000, 1_000_000),
    st.integers(1, 512),
)
sizes = st.builds(Size, st.floats(1, 8000), st.floats(1, 2000))


def test_rate_by_hand_without_variation() -> None:
    # At p50 z = 0, so the mean step is the objective: 10 + b·(1 + 0.01·(100 + 50)) = 60 → b = 20, r = 20/(100·60 ms).
    model = StepModel(10, 1.0, 0.01, 0.0, 10**6, 1000)
    rate = model.max_throughput(Size(100, 100), LatencyTarget(tpot_ms=60, percentile=50)).rate_rps
    assert rate == pytest.approx(1000 * 20 / (100 * 60), rel=1e-6)


@given(models, sizes, st.floats(5, 500), st.floats(1.0, 3.0))
def test_a_looser_objective_never_lowers_the_rate(model: StepModel, size: Size, tpot: float, looser: float) -> None:
    tight = model.max_throughput(size, LatencyTarget(tpot_ms=tpot)).rate_rps
    loose = model.max_throughput(size, LatencyTarget(tpot_ms=tpot * looser)).rate_rps
    assert loose >= tight * (1 - 1e-6)


@given(models, sizes, st.floats(5, 500), st.floats(1.0, 3.0))
def test_a_longer_prompt_never_raises_the_rate(model: StepModel, size: Size, tpot: float, longer: float) -> None:
    target = LatencyTarget(tpot_ms=tpot, ttft_ms=5000)
    short = model.max_throughput(size, target).rate_rps
    long = model.max_throughput(Size(size.input_tokens * longer, size.output_tokens), target).rate_rps
    assert long <= short * (1 + 1e-6)


@given(models, sizes)
def test_zero_comes_with_a_reason_and_only_zero(model: StepModel, size: Size) -> None:
    answer = model.max_throughput(size, LatencyTarget(tpot_ms=50, ttft_ms=1000))
    assert (answer.rate_rps == 0) == (answer.reason is not None)


def test_reasons_are_told_apart() -> None:
    assert L4.max_throughput(Size(50_000, 10), LatencyTarget(120)).reason is Unservable.KV_DOES_NOT_FIT
    assert L4.max_throughput(Size(100, 10), LatencyTarget(40)).reason is Unservable.TPOT_AT_BATCH_1
    assert L4.max_throughput(Size(8000, 100), LatencyTarget(None, 1000)).reason is Unservable.TTFT


GRID = Grid(120, None, (128, 512, 2048), (128, 512), ((9.1, 3.0), (7.2, 2.6), (2.2, 0.0)))


def test_grid_gives_its_points_and_nothing_beyond() -> None:
    assert GRID.max_throughput(Size(512, 128)).rate_rps == pytest.approx(7.2)
    assert GRID.max_throughput(Size(10, 10)).rate_rps == pytest.approx(9.1)
    assert GRID.max_throughput(Size(4096, 128)).reason is Unservable.OUTSIDE_GRID
    assert GRID.max_throughput(Size(1024, 512)).reason is Unservable.GRID_ZERO
    assert GRID.max_throughput(Size(2048, 512)).reason is Unservable.GRID_ZERO


@given(st.floats(128, 2048), st.floats(128, 512))
def test_grid_interpolation_stays_between_its_neighbours(i: float, o: float) -> None:
    full = Grid(120, None, (128, 512, 2048), (128, 512), ((9.1, 3.0), (7.2, 2.6), (2.2, 1.1)))
    assert 1.1 - 1e-9 <= full.max_throughput(Size(i, o)).rate_rps <= 9.1 + 1e-9


def test_grid_for_a_looser_slo_is_refused_and_unstated_is_not() -> None:
    assert GRID.states(LatencyTarget(tpot_ms=40)) is not None
    assert GRID.states(LatencyTarget(tpot_ms=200)) is None
    assert GRID.states(LatencyTarget(tpot_ms=120, ttft_ms=100)) is None
