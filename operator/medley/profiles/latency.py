"""What latency is asked for, what rate answers it, and why none does."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Unservable(StrEnum):
    """Why a replica cannot serve a size at all under the SLO."""

    WEIGHTS_DO_NOT_FIT = "WeightsDoNotFit"
    KV_DOES_NOT_FIT = "KVDoesNotFit"
    MODEL_LENGTH = "LongerThanMaxModelLen"
    TPOT_AT_BATCH_1 = "TimePerOutputTokenAtBatch1"
    TTFT = "TimeToFirstToken"
    OUTSIDE_GRID = "OutsideProfileGrid"
    GRID_ZERO = "ProfileSaysZero"
    LATENCY_AT_LOWEST_RATE = "LatencyAtLowestMeasuredRate"
    PERCENTILE_NOT_MEASURED = "PercentileNotMeasured"
    NO_PROFILE = "NoProfile"


@dataclass(frozen=True, slots=True)
class Throughput:
    """Highest rate of one size on one replica, in req/s; 0 comes with the reason."""

    rate_rps: float
    reason: Unservable | None = None


@dataclass(frozen=True, slots=True)
class LatencyTarget:
    """What a request may take. `None` means no objective. `percentile` in (0, 100); 50 stands for the mean."""

    tpot_ms: float | None = None
    ttft_ms: float | None = None
    percentile: float = 95.0
