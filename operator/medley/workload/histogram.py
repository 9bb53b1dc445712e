"""Marginals from Prometheus histograms, and the joint distribution made of two of them.

vLLM's 1-2-5 edges are coarse: where in a cell requests lie decides the cost (measured: midpoints err by up to 75 %).
Within a cell the density is taken as x^(t-1), one t for all cells, found so that the mean equals _sum/_count; t = 0 is
log-uniform. Each cell is then represented by its mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from medley.model.samples import HistogramRate

_TILT_LIMIT = 40.0


@dataclass(frozen=True, slots=True)
class Marginal:
    """Cells of one dimension: upper edges, mean tokens of a cell's requests, weights that add up to 1."""

    edges: tuple[float, ...]
    means: tuple[float, ...]
    weights: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean tokens of a request."""
        return sum(m * w for m, w in zip(self.means, self.weights, strict=True))


def marginal(histogram: HistogramRate | None, max_tokens: float) -> Marginal | None:
    """The marginal of a histogram; None if nothing was counted.

    Args:
        histogram: rates per cell.
        max_tokens: where an open last cell ends.
    """
    if histogram is None or histogram.total_rps <= 0:
        return None
    total = histogram.total_rps
    cells: list[tuple[float, float, float]] = []
    low = 0.5
    for edge, rate in zip(histogram.edges, histogram.rates_rps, strict=True):
        high = edge if math.isfinite(edge) else max(max_tokens, 2 * low)
        if rate > 0:
            cells.append((low, high, rate / total))
        low = high
    mean = histogram.tokens_per_s / total
    tilt = _fit_tilt(cells, mean)
    return Marginal(
        tuple(high for _, high, _ in cells),
        tuple(max(1.0, _cell_mean(low, high, tilt)) for low, high, _ in cells),
        tuple(weight for _, _, weight in cells),
    )


def _fit_tilt(cells: list[tuple[float, float, float]], mean: float) -> float:
    """The tilt by which the cells' means average to `mean`; at a limit if no tilt can."""
    low, high = -_TILT_LIMIT, _TILT_LIMIT
    for _ in range(60):
        middle = (low + high) / 2
        if sum(weight * _cell_mean(a, b, middle) for a, b, weight in cells) < mean:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _cell_mean(low: float, high: float, tilt: float) -> float:
    """Mean of the density x^(tilt-1) on (low, high): ∫x^t / ∫x^(t-1), in logarithms against overflow."""
    span = math.log(high / low)
    return low * math.exp(_log_integral(tilt + 1, span) - _log_integral(tilt, span))


def _log_integral(power: float, span: float) -> float:
    """Logarithm of ∫_0^span e^(power·u) du."""
    z = power * span
    if abs(z) < 1e-9:
        return math.log(span)
    if z > 0:
        return z + math.log(-math.expm1(-z)) - math.log(power)
    return math.log(-math.expm1(z)) - math.log(-power)


def independent(inputs: Marginal, outputs: Marginal) -> list[tuple[tuple[float, float], float, int]]:
    """The joint as a product of marginals: ((input, output), weight, input cell).

    Right when lengths do not depend on each other (Azure's traces: |r| ≤ 0.11); services of many clients are
    under-provisioned by a few per cent. A better estimator replaces this function.
    """
    return [
        ((i, o), wi * wo, index)
        for index, (i, wi) in enumerate(zip(inputs.means, inputs.weights, strict=True))
        for o, wo in zip(outputs.means, outputs.weights, strict=True)
    ]
