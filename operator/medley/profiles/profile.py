"""A throughput profile: identity, one source of speed, provenance and derating."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from medley.model.engine import NO_FLAGS, EngineFlags
from medley.model.workload import Size
from medley.profiles.grid import Grid
from medley.profiles.latency import LatencyTarget, Throughput, Unservable
from medley.profiles.measured import Measured
from medley.profiles.roofline import Roofline
from medley.profiles.step import StepModel


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
    flags: EngineFlags = NO_FLAGS

    def __str__(self) -> str:
        """Model, GPU, size and flags, as messages name it."""
        flags = f", {self.flags}" if str(self.flags) else ""
        return f"model {self.model!r} on {self.gpu}, tensorParallelSize {self.tensor_parallel_size}{flags}"


Speed = Measured | Grid | StepModel | Roofline
"""The four ways in which a profile may say how fast a replica is."""


@dataclass(frozen=True, slots=True)
class Profile:
    """How fast one replica is."""

    name: str
    key: ProfileKey
    provenance: Provenance
    derating: float
    speed: Speed

    def max_throughput(self, size: Size, target: LatencyTarget, max_model_len: int | None) -> Throughput:
        """Highest rate of a size on one replica under a target, before derating.

        A grid that was made for a looser SLO answers NO_PROFILE: its rates would break the target.
        """
        if max_model_len is not None and size.input_tokens + size.output_tokens > max_model_len:
            return Throughput(0.0, Unservable.MODEL_LENGTH)
        if isinstance(self.speed, Grid) and self.speed.states(target) is not None:
            return Throughput(0.0, Unservable.NO_PROFILE)
        return self.speed.max_throughput(size, target)

    def refusal(self, target: LatencyTarget) -> str | None:
        """Why this profile cannot answer a target at all; None if it can."""
        match self.speed:
            case Grid():
                return self.speed.states(target)
            case Measured():
                return self.speed.refusal(target)
            case StepModel() | Roofline():
                return None

    def rising(self, target: LatencyTarget) -> tuple[str, ...]:
        """Where the rate rises with size although it should not; measurements and grids only."""
        match self.speed:
            case Grid():
                return self.speed.rising()
            case Measured():
                grid = self.speed.for_target(target)
                return grid.rising() if grid is not None else ()
            case StepModel() | Roofline():
                return ()
