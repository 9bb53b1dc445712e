"""A stand-in for the replica, to choose rates and arrival schedules by: processor sharing with a fitted step model.

Requests of one size progress at the same pace, 1/s(b) tokens per ms with b running, and each arrival stalls all of
them for its prefill. Then they finish in the order they came, and a load of n requests is followed in n operations:
thousands of schedules can be tried between two probes. It is good to a few percent; what it misses is measured by the
probes and carried as a factor (`adaptive`).
"""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from medley.model.workload import Size
from medley.profiles.latency import LatencyTarget
from medley.profiles.step import StepModel

_LONG_RUN_REQUESTS = 20_000
_SETTLE_REQUESTS = 500
# Shares of the rate at which the replica would be busy without end; closer together where latency rises steeply.
_SHARES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.57, 0.64, 0.7, 0.75, 0.8, 0.84, 0.88, 0.91, 0.94, 0.96)


@dataclass(frozen=True, slots=True)
class Factors:
    """Measured latency over the stand-in's."""

    tpot: float = 1.0
    ttft: float = 1.0


@dataclass(frozen=True, slots=True)
class Curve:
    """Latency at a percentile in the long run, over the rate; each point is worked out when it is first asked for.

    Attributes:
        model: the fitted step model.
        size: tokens of every request.
        percentile: in (0, 100).
        rates_rps: rates of the points, ascending; in between latency is log-interpolated.
    """

    model: StepModel
    size: Size
    percentile: float
    rates_rps: tuple[float, ...]

    def at(self, rate_rps: float) -> tuple[float, float]:
        """TPOT and TTFT in ms at a rate; beyond the ends the end's."""
        rates = self.rates_rps
        high = bisect.bisect_left(rates, rate_rps)
        if high in (0, len(rates)):
            return self._point(min(high, len(rates) - 1))
        share = (rate_rps - rates[high - 1]) / (rates[high] - rates[high - 1])
        (tpot_low, ttft_low), (tpot_high, ttft_high) = self._point(high - 1), self._point(high)
        return tpot_low ** (1 - share) * tpot_high**share, ttft_low ** (1 - share) * ttft_high**share

    def ratio(self, rate_rps: float, target: LatencyTarget, factors: Factors) -> float:
        """The worst latency over its objective: above 1 the target is missed."""
        tpot_ms, ttft_ms = self.at(rate_rps)
        return worst_ratio(tpot_ms * factors.tpot, ttft_ms * factors.ttft, target)

    def highest_rate(self, target: LatencyTarget, factors: Factors) -> float:
        """Highest rate that keeps the target; 0 if none does."""
        rates = self.rates_rps
        if self.ratio(rates[0], target, factors) > 1.0:
            return 0.0
        # First among the points, so that few of them have to be worked out; then between two.
        kept = bisect.bisect_left(rates, 1.0, lo=1, key=lambda rate: self.ratio(rate, target, factors)) - 1
        if kept == len(rates) - 1:
            return rates[-1]
        low, high = rates[kept], rates[kept + 1]
        for _ in range(20):
            middle = math.sqrt(low * high)
            if self.ratio(middle, target, factors) <= 1.0:
                low = middle
            else:
                high = middle
        return low

    def _point(self, number: int) -> tuple[float, float]:
        return long_run(self.model, self.size, self.rates_rps[number], self.percentile)


def worst_ratio(tpot_ms: float, ttft_ms: float, target: LatencyTarget) -> float:
    """The latencies over their objectives, the greater of both; 0 without objectives."""
    tpot = tpot_ms / target.tpot_ms if target.tpot_ms is not None else 0.0
    ttft = ttft_ms / target.ttft_ms if target.ttft_ms is not None else 0.0
    return max(tpot, ttft)


def percentile_of(values: Sequence[float], percentile: float) -> float:
    """The smallest value that at least this share (0..100) of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percentile / 100.0 * len(ordered)) - 1)]


def gaps_of(seed: str, requests: int) -> list[float]:
    """Times between Poisson arrivals at rate 1."""
    rng = random.Random(seed)
    return [rng.expovariate(1.0) for _ in range(requests)]


def latencies(model: StepModel, size: Size, arrivals_s: Sequence[float]) -> tuple[list[float], list[float]]:
    """TPOT and TTFT in ms of each arrival (ascending)."""
    outputs = max(size.output_tokens - 1.0, 1.0)
    base_s = model.base_ms / 1000.0
    each_s = (model.per_sequence_ms + model.per_context_token_ms * (size.input_tokens + size.output_tokens / 2)) / 1000
    prefill_s = model.prefill_ms_per_token * size.input_tokens / 1000.0
    number = len(arrivals_s)
    tpot_ms, ttft_ms = [0.0] * number, [0.0] * number
    starts_at: list[float] = []  # progress at which each request has its first token
    firsts_s = [0.0] * number
    now_s = arrivals_s[0] if number else 0.0
    progress = 0.0  # tokens that a request running since the beginning would have
    come = begun = gone = 0  # arrived, past the first token, finished: all in the same order
    while gone < number:
        step_s = base_s + (begun - gone) * each_s
        next_s = arrivals_s[come] if come < number else math.inf
        if gone < come:
            # The next to finish is ahead of the next to begin, or the other way round.
            ends_at = starts_at[gone] + outputs if gone < begun else math.inf
            begins_at = starts_at[begun] if begun < come else math.inf
            then_s = now_s + ((ends_at if ends_at <= begins_at else begins_at) - progress) * step_s
            if then_s < next_s:
                now_s = then_s
                if begins_at < ends_at:
                    progress = begins_at
                    firsts_s[begun] = now_s
                    ttft_ms[begun] = 1000.0 * (now_s - arrivals_s[begun])
                    begun += 1
                else:
                    progress = ends_at
                    tpot_ms[gone] = 1000.0 * (now_s - firsts_s[gone]) / outputs
                    gone += 1
                continue
        rest = 0.5 if gone < come else 0.0  # of the step under way when it comes
        if next_s > now_s:
            if gone < come:
                progress += (next_s - now_s) / step_s
            now_s = next_s
        now_s += prefill_s
        start = progress + 1.0 + rest
        starts_at.append(start if not come or start > starts_at[-1] else starts_at[-1])
        come += 1
    return tpot_ms, ttft_ms


@lru_cache(maxsize=4096)
def long_run(model: StepModel, size: Size, rate_rps: float, percentile: float) -> tuple[float, float]:
    """TPOT and TTFT in ms at the percentile, at a steady Poisson rate."""
    tpot_ms, ttft_ms = _long_run(model, size, rate_rps)
    return percentile_of(tpot_ms, percentile), percentile_of(ttft_ms, percentile)


@lru_cache(maxsize=32)
def _long_run(model: StepModel, size: Size, rate_rps: float) -> tuple[list[float], list[float]]:
    at_s, arrivals_s = 0.0, []
    for gap in _long_gaps():
        at_s += gap / rate_rps
        arrivals_s.append(at_s)
    tpot_ms, ttft_ms = latencies(model, size, arrivals_s)
    return sorted(tpot_ms[_SETTLE_REQUESTS:]), sorted(ttft_ms[_SETTLE_REQUESTS:])


def curve(model: StepModel, size: Size, percentile: float) -> Curve:
    """The latencies of a size over the rates that the model can bear."""
    busiest_ms = (
        size.output_tokens
        * (model.per_sequence_ms + model.per_context_token_ms * (size.input_tokens + size.output_tokens / 2))
        + model.prefill_ms_per_token * size.input_tokens
    )
    most = 1000.0 * model.max_batch / (size.output_tokens * model.mean_step_ms(size, model.max_batch))
    limit_rps = min(1000.0 / busiest_ms, most / _SHARES[-1]) if busiest_ms > 0 else most / _SHARES[-1]
    return Curve(model, size, percentile, tuple(share * limit_rps for share in _SHARES))


@lru_cache(maxsize=1)
def _long_gaps() -> tuple[float, ...]:
    """The same draws at every rate, so that latency is smooth in the rate; scaled to a mean of exactly 1."""
    gaps = gaps_of("long run", _LONG_RUN_REQUESTS)
    mean = sum(gaps) / len(gaps)
    return tuple(gap / mean for gap in gaps)
