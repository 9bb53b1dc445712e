"""A throughput profile: identity, one source of speed, provenance and derating; and how a rate is read from it."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from enum import StrEnum

from medley.model.workload import Size
from medley.profiles.step import LatencyTarget, StepModel, Throughput, Unservable


class Provenance(StrEnum):
    """Where a profile's numbers come from; sets the default derating (DESIGN §4)."""

    MEASURED = "Measured"
    IMPORTED = "Imported"
    ESTIMATED = "Estimated"

    @property
    def default_derating(self) -> float:
        """Share of the profile's rate that is planned for."""
        return {"Measured": 0.9, "Imported": 0.85, "Estimated": 0.7}[self.value]


@dataclass(frozen=True, slots=True)
class ProfileKey:
    """What a profile is of. No price: that belongs to the pool."""

    model: str
    gpu: str
    tensor_parallel_size: int = 1
    engine: str = "vllm"


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

    def max_throughput(self, size: Size) -> Throughput:
        """Rate at a size: log-log bilinear between points, nothing beyond the largest point.

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


def _locate(points: tuple[float, ...], value: float) -> tuple[int, int, float]:
    """Neighbours of a value among ascending points, and its place between them on a log scale (0..1)."""
    if value <= points[0]:
        return 0, 0, 0.0
    high = bisect.bisect_left(points, value)
    low = high - 1
    if points[high] == value:
        return high, high, 0.0
    return low, high, math.log(value / points[low]) / math.log(points[high] / points[low])


@dataclass(frozen=True, slots=True)
class Profile:
    """How fast one replica is. Exactly one of `linear` and `grid` is set."""

    name: str
    key: ProfileKey
    provenance: Provenance
    derating: float
    linear: StepModel | None = None
    grid: Grid | None = None

    def max_throughput(self, size: Size, target: LatencyTarget, max_model_len: int | None) -> Throughput:
        """Highest rate of a size on one replica under a target, before derating.

        A grid that was made for a looser SLO answers NO_PROFILE: its rates would break the target.
        """
        if max_model_len is not None and size.input_tokens + size.output_tokens > max_model_len:
            return Throughput(0.0, Unservable.MODEL_LENGTH)
        if self.linear is not None:
            return self.linear.max_throughput(size, target)
        assert self.grid is not None
        if self.grid.states(target) is not None:
            return Throughput(0.0, Unservable.NO_PROFILE)
        return self.grid.max_throughput(size)
