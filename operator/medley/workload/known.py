"""Workloads that need no estimate: static points, and the requests of a trace."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence

from medley.model.objects import StaticPoint
from medley.model.workload import Bucket, Knowledge, Size, Workload

INPUT_EDGES: tuple[float, ...] = (128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192, 16384)
"""Upper edges of the input ranges in tokens; the range above the last is open. At most 12 ranges keep a routing table
readable and the MILP small."""

OUTPUT_EDGES: tuple[float, ...] = (32, 64, 128, 256, 384, 512, 1024, 2048)
"""Upper edges of the output buckets in tokens; the last bucket is open."""


def from_points(points: Sequence[StaticPoint]) -> Workload:
    """Each point is its own bucket; the input ranges are the distinct input lengths."""
    inputs = sorted({point.size.input_tokens for point in points})
    buckets = tuple(
        Bucket(point.size, point.rate_rps, inputs.index(point.size.input_tokens))
        for point in points
        if point.rate_rps > 0
    )
    return Workload(Knowledge.VALUE if buckets else Knowledge.ZERO, buckets, tuple(inputs[:-1]), sources=("static",))


def from_requests(
    sizes: Iterable[tuple[float, float]],
    duration_s: float,
    input_edges: Sequence[float] = INPUT_EDGES,
    output_edges: Sequence[float] = OUTPUT_EDGES,
) -> Workload:
    """The workload of recorded requests: their true joint distribution, each bucket at the mean size of its requests.

    Args:
        sizes: (input tokens, output tokens) of each request.
        duration_s: time the requests span; must be positive.
        input_edges: ascending upper edges; the last range is open.
        output_edges: ascending upper edges; the last bucket is open.
    """
    cells: dict[tuple[int, int], list[float]] = {}
    for input_tokens, output_tokens in sizes:
        cell = (bisect.bisect_left(input_edges, input_tokens), bisect.bisect_left(output_edges, output_tokens))
        sums = cells.setdefault(cell, [0.0, 0.0, 0.0])
        sums[0] += 1
        sums[1] += input_tokens
        sums[2] += output_tokens
    buckets = tuple(
        Bucket(Size(max(1.0, i / n), max(1.0, o / n)), n / duration_s, cell[0])
        for cell, (n, i, o) in sorted(cells.items())
    )
    return Workload(Knowledge.VALUE if buckets else Knowledge.ZERO, buckets, tuple(input_edges), sources=("trace",))


def at_rate(workload: Workload, rate_rps: float) -> Workload:
    """The same mix of sizes at another total rate; a workload without buckets stays as it is."""
    total = workload.rate_rps
    if total <= 0:
        return workload
    factor = rate_rps / total
    buckets = tuple(Bucket(b.size, b.rate_rps * factor, b.input_range) for b in workload.buckets if factor > 0)
    return Workload(
        Knowledge.VALUE if buckets else Knowledge.ZERO,
        buckets,
        workload.input_edges,
        workload.coverage,
        workload.age_s,
        workload.uncertainty,
        workload.reason,
        workload.sources,
    )
