"""A stand-in for the replica, to choose rates and arrival schedules by: continuous batching with a fitted step model.

The replica works in steps. A request that comes during a step waits for its end; the next step prefills all that wait,
while the others get a token each, and first tokens are there when that step ends. So the prompts that come during a
long prefill share the step after it, instead of queueing one behind the other: the percentiles of TTFT depend on that.
In a batch of one size requests finish in the order they came, and steps between two events are alike: a load of n
requests is followed in about 3·n operations, and thousands of schedules can be tried between two probes.

KV cache and batch are taken as boundless, a request holds half of its output on average, and no step varies by itself.
What that misses is measured by the probes and carried as a factor (`adaptive`).
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

STEP_TOKENS = (8192, 2048)
"""Tokens that vLLM computes in one step at most by default: on GPUs of 70 GiB and more (no A100), and on others."""
_LONG_RUN_REQUESTS = 20_000
_SETTLE_REQUESTS = 500
# Shares of the rate at which the replica would be busy without end; closer together where latency rises steeply.
_SHARES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.57, 0.64, 0.7, 0.75, 0.8, 0.84, 0.88, 0.91, 0.94, 0.96)


@dataclass(frozen=True, slots=True)
class FittedModel(StepModel):
    """A step model of a replica that computes at most `step_tokens` tokens in one step."""

    step_tokens: int = STEP_TOKENS[0]


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
    """TPOT and TTFT in ms of each arrival (ascending), each from the end of one step to that of another."""
    inputs = max(1, round(size.input_tokens))
    decodes = max(1, round(size.output_tokens) - 1)  # the first token comes from the prefill
    base_s = model.base_ms / 1000.0
    each_s = (model.per_sequence_ms + model.per_context_token_ms * (size.input_tokens + size.output_tokens / 2)) / 1000
    prefill_s = model.prefill_ms_per_token / 1000.0
    step_tokens = model.step_tokens if isinstance(model, FittedModel) else STEP_TOKENS[0]
    number = len(arrivals_s)
    tpot_ms, ttft_ms = [0.0] * number, [0.0] * number
    firsts_s, ends_at = [0.0] * number, [0] * number  # time of the first token, number of the step with the last one
    now_s, step = 0.0, 0
    come = begun = gone = 0  # arrived, past the first token, finished: all in the same order
    prefilled = 0  # tokens of the prompt at the head of the queue that earlier steps prefilled
    while gone < number:
        while come < number and arrivals_s[come] <= now_s:
            come += 1
        if gone == come:
            now_s = arrivals_s[come]
            continue
        decoding = begun - gone
        step_s = base_s + decoding * each_s
        if begun < come:
            tokens = min((come - begun) * inputs - prefilled, max(0, step_tokens - decoding))
            now_s += step_s + tokens * prefill_s
            step += 1
            whole, prefilled = divmod(prefilled + tokens, inputs)
            for request in range(begun, begun + whole):
                firsts_s[request] = now_s
                ttft_ms[request] = 1000.0 * (now_s - arrivals_s[request])
                ends_at[request] = step + decodes
            begun += whole
        else:  # all steps are alike until a request finishes or another one comes
            steps = ends_at[gone] - step
            if come < number:
                steps = min(steps, max(1, math.ceil((arrivals_s[come] - now_s) / step_s)))
            now_s += steps * step_s
            step += steps
        while gone < begun and ends_at[gone] <= step:
            tpot_ms[gone] = 1000.0 * (now_s - firsts_s[gone]) / decodes
            gone += 1
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
