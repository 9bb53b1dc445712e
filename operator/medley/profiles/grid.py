"""A grid of highest rates per size, and interpolation inside it."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass

from medley.model.workload import Size
from medley.profiles.latency import LatencyTarget, Throughput, Unservable


@dataclass(frozen=True, slots=True)
class Grid:
    """Highest rates at grid points, for the SLO it was made for.

    Attributes:
        tpot_ms: TPOT objective that the grid holds for; None: the grid does not state one.
        ttft_ms: TTFT objective that the grid holds for; None: the grid does not state one.
        input_tokens: grid points, ascending.
        output_tokens: grid points, ascending.
        requests_per_second: shape [input][output]; 0 means that the size cannot be served.
    """

    tpot_ms: float | None
    ttft_ms: float | None
    input_tokens: tuple[float, ...]
    output_tokens: tuple[float, ...]
    requests_per_second: tuple[tuple[float, ...], ...]

    def states(self, target: LatencyTarget) -> str | None:
        """None if the grid may be used for the target, else why not. Objectives it does not state are unverified."""
        for name, made_for, wanted in (
            ("timePerOutputTokenMs", self.tpot_ms, target.tpot_ms),
            ("timeToFirstTokenMs", self.ttft_ms, target.ttft_ms),
        ):
            # A grid made for a tighter objective is a safe, if pessimistic, answer for a looser one.
            if made_for is not None and wanted is not None and made_for > wanted:
                return f"the grid was made for {name} {made_for:g}, looser than the service's {wanted:g}"
        return None

    def max_throughput(self, size: Size, target: LatencyTarget | None = None) -> Throughput:
        """Rate at a size, whatever the target (`states` says whether it may be used).

        Log-log bilinear between points, nothing beyond the largest point.
        Below the smallest point the rate of the smallest point is used (never more than was seen). A cell with a
        zero corner is zero: between "can" and "cannot" nobody has looked.
        """
        if size.input_tokens > self.input_tokens[-1] or size.output_tokens > self.output_tokens[-1]:
            return Throughput(0.0, Unservable.OUTSIDE_GRID)
        i0, i1, u = _locate(self.input_tokens, size.input_tokens)
        o0, o1, v = _locate(self.output_tokens, size.output_tokens)
        log_rate = 0.0
        for i, weight_i in ((i0, 1 - u), (i1, u)):
            for o, weight_o in ((o0, 1 - v), (o1, v)):
                weight = weight_i * weight_o
                if weight == 0.0:
                    continue
                rate = self.requests_per_second[i][o]
                if rate <= 0.0:
                    return Throughput(0.0, Unservable.GRID_ZERO)
                log_rate += weight * math.log(rate)
        return Throughput(math.exp(log_rate))

    def rising(self) -> tuple[str, ...]:
        """Where the rate rises with size, which measurements should not show: for a person to look at."""
        found = []
        rates = self.requests_per_second
        for i, input_tokens in enumerate(self.input_tokens):
            for o, output_tokens in enumerate(self.output_tokens):
                here = f"{input_tokens:g}/{output_tokens:g}"
                if i and rates[i][o] > rates[i - 1][o]:
                    found.append(f"{here}: {rates[i][o]:g} req/s, above {rates[i - 1][o]:g} for shorter prompts")
                if o and rates[i][o] > rates[i][o - 1]:
                    found.append(f"{here}: {rates[i][o]:g} req/s, above {rates[i][o - 1]:g} for shorter outputs")
        return tuple(found)


def _locate(points: tuple[float, ...], value: float) -> tuple[int, int, float]:
    """Neighbours of a value among ascending points, and its place between them on a log scale (0..1)."""
    if value <= points[0]:
        return 0, 0, 0.0
    high = bisect.bisect_left(points, value)
    low = high - 1
    if points[high] == value:
        return high, high, 0.0
    return low, high, math.log(value / points[low]) / math.log(points[high] / points[low])
