"""Request traces: when each request came, and how many tokens it had each way.

A trace is a tuple of `TraceRequest` in order of time. It is read from the CSV format of the Azure LLM inference traces
and fitted to a small lab by three operations: `compress` shortens it and leaves the request rate as it is, `scaled`
changes the rate, `shaped` gives the rate a course over time. Sizes are never changed: the mix of sizes is what real
traces are used for.
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from itertools import pairwise
from pathlib import Path

from medley.model.errors import UserError

Trace = tuple["TraceRequest", ...]

_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_RECORDED = "azure_llm_2023_conv.csv"
_WHOLE_SECONDS = len("2023-11-16 18:15:46")


@dataclass(frozen=True, slots=True, order=True)
class TraceRequest:
    """One request of a trace; `at_s` counts from the first request of the trace it was read from."""

    at_s: float
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Shape:
    """A rate multiplier over relative time: straight lines between the points, constant outside them.

    Attributes:
        points: (relative time 0..1, multiplier ≥ 0), strictly ascending in time, at least one.
    """

    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if not self.points:
            raise UserError("a shape needs at least one point", field="points")
        for index, (time, multiplier) in enumerate(self.points):
            if not 0.0 <= time <= 1.0:
                raise UserError(f"relative time {time} is outside 0..1", field=f"points[{index}]")
            if not (math.isfinite(multiplier) and multiplier >= 0.0):
                raise UserError(f"multiplier {multiplier} is not a number of at least 0", field=f"points[{index}]")
        if any(later[0] <= earlier[0] for earlier, later in pairwise(self.points)):
            raise UserError("times must ascend strictly", field="points")

    def multiplier(self, relative_time: float) -> float:
        """The multiplier at a relative time (0: begin of the trace, 1: its end)."""
        before = self.points[0]
        for point in self.points:
            if point[0] >= relative_time:
                width = point[0] - before[0]
                part = (relative_time - before[0]) / width if width > 0 else 1.0
                return before[1] + part * (point[1] - before[1]) if part > 0 else before[1]
            before = point
        return before[1]


def read_trace(path: Path) -> Trace:
    """Reads a trace file in the Azure format.

    Raises:
        UserError: a row is not a timestamp and two positive whole numbers; names the file and the line.
    """
    with path.open(encoding="utf-8", newline="") as lines:
        return parse_trace(lines, name=str(path))


def recorded_trace() -> Trace:
    """The Azure 2023 conversation trace that ships with Medley: 19,366 requests in 58 minutes."""
    source = resources.files("medley.lab").joinpath("data", _RECORDED)
    with source.open(encoding="utf-8") as lines:
        return parse_trace(lines, name=_RECORDED)


def parse_trace(lines: Iterable[str], *, name: str) -> Trace:
    """Parses CSV lines with the columns TIMESTAMP, ContextTokens, GeneratedTokens.

    Args:
        lines: the file's lines, header included.
        name: the file as errors shall call it.
    """
    reader = csv.reader(lines)
    header = next(reader, [])
    if tuple(column.strip() for column in header) != _COLUMNS:
        raise UserError(f"the header is {header}", field=f"{name}:1", fix=f"It must be {','.join(_COLUMNS)}.")
    rows: list[tuple[float, int, int]] = []
    for row in reader:
        if not row:
            continue
        field = f"{name}:{reader.line_num}"
        if len(row) != len(_COLUMNS):
            raise UserError(f"{len(row)} columns instead of {len(_COLUMNS)}", field=field)
        at_s = _seconds(row[0].strip(), field)
        rows.append((at_s, _tokens(row[1], _COLUMNS[1], field), _tokens(row[2], _COLUMNS[2], field)))
    if not rows:
        raise UserError("the trace has no requests", field=name)
    rows.sort(key=lambda row: row[0])
    start_s = rows[0][0]
    return tuple(TraceRequest(at_s - start_s, inputs, outputs) for at_s, inputs, outputs in rows)


def compress(trace: Trace, factor: int, *, offset: int = 0) -> Trace:
    """A trace of 1/factor of the duration at the same request rate.

    Keeps the requests whose index leaves the remainder `offset`, and divides their times by the factor. The course of
    the day passes `factor` times as fast; the mix of sizes stays.
    """
    if factor < 1 or not 0 <= offset < factor:
        raise UserError(f"factor {factor} and offset {offset}", fix="factor ≥ 1 and 0 ≤ offset < factor are needed.")
    return tuple(
        TraceRequest(request.at_s / factor, request.input_tokens, request.output_tokens)
        for request in trace[offset::factor]
    )


def scaled(trace: Trace, factor: float, rng: random.Random, *, jitter_s: float = 5.0) -> Trace:
    """The trace at `factor` times its rate: requests are dropped or repeated at random.

    Repetitions are moved by up to `jitter_s`, so that they do not arrive in pairs.
    """
    if not (math.isfinite(factor) and factor >= 0.0):
        raise UserError(f"rate factor {factor} is not a number of at least 0", field="factor")
    return _resampled(trace, lambda _: factor, rng, jitter_s)


def shaped(trace: Trace, shape: Shape, rng: random.Random, *, jitter_s: float = 5.0) -> Trace:
    """The trace with its rate multiplied by the shape; see `scaled` for how."""
    return _resampled(trace, shape.multiplier, rng, jitter_s)


def _resampled(trace: Trace, multiplier: Callable[[float], float], rng: random.Random, jitter_s: float) -> Trace:
    if not trace:
        return ()
    start_s, end_s = trace[0].at_s, trace[-1].at_s
    span_s = end_s - start_s
    kept: list[TraceRequest] = []
    for request in trace:
        factor = multiplier((request.at_s - start_s) / span_s if span_s > 0 else 0.0)
        whole = math.floor(factor)
        copies = whole + (rng.random() < factor - whole)
        for copy in range(copies):
            at_s = request.at_s
            if copy:
                at_s = min(max(at_s + rng.uniform(-jitter_s, jitter_s), start_s), end_s)
            kept.append(TraceRequest(at_s, request.input_tokens, request.output_tokens))
    kept.sort(key=lambda request: request.at_s)
    return tuple(kept)


def _seconds(text: str, field: str) -> float:
    # datetime keeps microseconds only; the traces have 100 ns, so the fraction is read apart.
    try:
        whole = datetime.fromisoformat(text[:_WHOLE_SECONDS]).replace(tzinfo=UTC)
        fraction = float("0" + text[_WHOLE_SECONDS:]) if len(text) > _WHOLE_SECONDS else 0.0
    except ValueError:
        raise UserError(
            f"TIMESTAMP {text!r} is not a time", field=field, fix="Write it as 2023-11-16 18:15:46.6805900."
        ) from None
    return whole.timestamp() + fraction


def _tokens(text: str, column: str, field: str) -> int:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 1 or value != math.floor(value):
        raise UserError(f"{column} {text.strip()!r} is not a whole number of at least 1", field=field)
    return int(value)
