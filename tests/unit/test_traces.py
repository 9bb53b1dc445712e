"""Reading traces, and what the operations on them keep."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medley.lab.traces import (
    Shape,
    Trace,
    TraceRequest,
    compress,
    parse_trace,
    read_trace,
    recorded_trace,
    scaled,
    shaped,
)
from medley.model.errors import UserError

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"

times = st.floats(0, 3600, allow_nan=False)
requests = st.builds(TraceRequest, times, st.integers(1, 10_000), st.integers(1, 1000))
traces = st.lists(requests, max_size=200).map(lambda found: tuple(sorted(found, key=lambda request: request.at_s)))
shapes = st.builds(
    lambda xs, ys: Shape(tuple(zip(sorted(xs), ys, strict=False))),
    st.sets(st.floats(0, 1), min_size=1, max_size=5),
    st.lists(st.floats(0, 4), min_size=5, max_size=5),
)


def test_the_shipped_trace_is_whole() -> None:
    trace = recorded_trace()
    assert len(trace) == 19_366
    assert trace[0] == TraceRequest(0.0, 374, 44)
    assert trace[1].at_s == pytest.approx(4.314579, abs=1e-5)
    assert 57 * 60 < trace[-1].at_s < 59 * 60
    assert all(request.output_tokens >= 1 for request in trace)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2023-11-16 18:15:50,NaN,3", "ContextTokens 'NaN'"),
        ("2023-11-16 18:15:50,5,-3", "GeneratedTokens '-3'"),
        ("2023-11-16 18:15:50,5,0", "GeneratedTokens '0'"),
        ("2023-11-16 18:15:50,5.5,1", "ContextTokens '5.5'"),
        ("2023-11-16 18:15:50,inf,1", "ContextTokens 'inf'"),
        ("2023-11-16 18:15:50,,1", "ContextTokens ''"),
        ("yesterday,5,1", "TIMESTAMP 'yesterday'"),
        ("2023-11-16 18:15:50x,5,1", "TIMESTAMP"),
        ("2023-11-16 18:15:50,5", "2 columns instead of 3"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(f"{HEADER}\n2023-11-16 18:15:46.6805900,374,44\n{row}\n")
    with pytest.raises(UserError, match=message) as caught:
        read_trace(path)
    assert caught.value.field == f"{path}:3"


def test_a_wrong_header_and_an_empty_trace_are_refused() -> None:
    with pytest.raises(UserError, match="header"):
        parse_trace(["a,b,c", "1,2,3"], name="x.csv")
    with pytest.raises(UserError, match="no requests"):
        parse_trace([HEADER], name="x.csv")


def test_rows_are_put_in_order_and_times_begin_at_zero() -> None:
    rows = [HEADER, "2023-11-16 18:15:51,2,2", "2023-11-16 18:15:50.5000000,1,1", ""]
    assert parse_trace(rows, name="x.csv") == (TraceRequest(0.0, 1, 1), TraceRequest(0.5, 2, 2))


@given(traces, st.integers(1, 20), st.data())
def test_compress_keeps_the_rate(trace: Trace, factor: int, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, factor - 1))
    short = compress(trace, factor, offset=offset)
    assert abs(len(short) - len(trace) / factor) <= 1
    assert [request.at_s * factor for request in short] == pytest.approx(
        [request.at_s for request in trace[offset::factor]]
    )


def test_the_compressed_parts_make_the_whole() -> None:
    trace = recorded_trace()[:1000]
    parts = [compress(trace, 7, offset=offset) for offset in range(7)]
    assert sorted((r.input_tokens, r.output_tokens) for part in parts for r in part) == sorted(
        (r.input_tokens, r.output_tokens) for r in trace
    )


def expected_within(trace: Trace, result: Trace, multipliers: list[float]) -> None:
    """Sizes come from the trace, times stay inside it, and the count is what the multipliers promise."""
    floors = sum(int(multiplier) for multiplier in multipliers)
    ceilings = sum(int(multiplier) + (multiplier % 1 > 0) for multiplier in multipliers)
    assert floors <= len(result) <= ceilings
    # A sum of independent Bernoulli draws: 7 standard deviations are never left.
    spread = sum((multiplier % 1) * (1 - multiplier % 1) for multiplier in multipliers) ** 0.5
    assert abs(len(result) - sum(multipliers)) <= 7 * spread + 1e-6
    assert {(r.input_tokens, r.output_tokens) for r in result} <= {(r.input_tokens, r.output_tokens) for r in trace}
    assert list(result) == sorted(result, key=lambda request: request.at_s)
    if result:
        assert trace[0].at_s <= result[0].at_s
        assert result[-1].at_s <= trace[-1].at_s


@given(traces, st.floats(0, 5), st.integers(0, 2**32))
def test_scaled_has_the_rate_asked_for(trace: Trace, factor: float, seed: int) -> None:
    result = scaled(trace, factor, random.Random(seed))
    assert result == scaled(trace, factor, random.Random(seed))
    expected_within(trace, result, [factor] * len(trace))


@given(traces, shapes, st.integers(0, 2**32))
def test_shaped_has_the_rates_of_the_shape(trace: Trace, shape: Shape, seed: int) -> None:
    span_s = trace[-1].at_s - trace[0].at_s if trace else 0.0
    multipliers = [shape.multiplier((r.at_s - trace[0].at_s) / span_s if span_s else 0.0) for r in trace]
    expected_within(trace, shaped(trace, shape, random.Random(seed)), multipliers)


def test_a_shape_is_a_polyline() -> None:
    shape = Shape(((0, 1), (0.35, 3), (0.65, 3), (1, 1)))
    assert [shape.multiplier(time) for time in (0, 0.175, 0.35, 0.5, 0.65, 0.825, 1)] == pytest.approx(
        [1, 2, 3, 3, 3, 2, 1]
    )
    late = Shape(((0.4, 2), (0.6, 4)))
    assert [late.multiplier(time) for time in (0, 0.4, 0.5, 0.6, 1)] == pytest.approx([2, 2, 3, 4, 4])


def test_a_shaped_trace_follows_the_shape_over_time() -> None:
    trace = tuple(TraceRequest(second / 10, 10, 10) for second in range(30_000))
    peak = shaped(trace, Shape(((0, 1), (0.35, 3), (0.65, 3), (1, 1))), random.Random(1))
    middle = sum(1200 <= request.at_s < 1800 for request in peak)
    begin = sum(request.at_s < 100 for request in peak)
    assert middle == pytest.approx(3 * 6000, rel=0.02)
    assert begin == pytest.approx(1000 * (1 + 2 * (100 / 3000 / 0.35) / 2), rel=0.05)


@pytest.mark.parametrize("points", [(), ((0, 1), (0, 2)), ((-0.1, 1),), ((0, float("nan")),), ((0, -1),)])
def test_bad_shapes_are_refused(points: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(UserError, match="points"):
        Shape(points)


@pytest.mark.parametrize("factor", [-1.0, float("nan"), float("inf")])
def test_bad_factors_are_refused(factor: float) -> None:
    with pytest.raises(UserError, match="factor"):
        scaled((), factor, random.Random(1))
