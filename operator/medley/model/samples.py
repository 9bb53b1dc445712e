"""What was measured, as the telemetry room hands it on: rates per replica over one window, each with its age."""

from __future__ import annotations

from dataclasses import dataclass

from medley.model.objects import ServiceKey


@dataclass(frozen=True, slots=True)
class HistogramRate:
    """A histogram of tokens per request, as rates.

    Attributes:
        edges: upper edges (le) in tokens, ascending; the last may be +inf.
        rates_rps: requests per second in each cell (not cumulative), as many as edges.
        tokens_per_s: rate of the histogram's _sum.
    """

    edges: tuple[float, ...]
    rates_rps: tuple[float, ...]
    tokens_per_s: float

    @property
    def total_rps(self) -> float:
        """Requests per second in all cells."""
        return sum(self.rates_rps)


@dataclass(frozen=True, slots=True)
class ReadyReplica:
    """A replica that is Ready; `ready_for_s` is for how long, None if nobody says."""

    name: str
    variant: str = ""
    ready_for_s: float | None = None


@dataclass(frozen=True, slots=True)
class ReplicaSample:
    """One replica over the window. A missing number is None, never 0.

    Attributes:
        age_s: age of the newest sample.
        started_rps: requests whose first token came, per second; counts aborted ones too.
        waiting_growth_rps: change of the waiting queue per second.
        fault: why the sample cannot be used (NaN, negative rate, no answer); empty if it can.
    """

    replica: str
    variant: str
    age_s: float | None = None
    prompt: HistogramRate | None = None
    generation: HistogramRate | None = None
    started_rps: float | None = None
    running: float | None = None
    waiting: float | None = None
    waiting_growth_rps: float | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class LatencySample:
    """Latency at the SLO's percentile over the window, in ms; None: no request finished, or unknown."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None


@dataclass(frozen=True, slots=True)
class ServiceSamples:
    """Everything measured about one service. `fault` not empty: the source did not answer; then nothing is known."""

    service: ServiceKey
    window_s: float
    replicas: tuple[ReplicaSample, ...] = ()
    latency: LatencySample = LatencySample()
    fault: str = ""
