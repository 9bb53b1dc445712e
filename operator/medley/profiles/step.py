"""The linear step model: how long one engine step takes, and what rate a replica sustains under an SLO.

An engine with continuous batching works in steps. A step in which b sequences decode, holding C tokens of KV cache
together, while P prompt tokens are prefilled, takes

    step(b, C, P) = α + β·b + γ·C + π·P        [ms]

(the form llm-d's autoscaler and Splitwise fit to measurements: iteration = alpha + batch·(beta + gamma·context)).
In a steady state in which every request has the size (i, o), each holds i + o/2 tokens on average and one in o steps
of each slot is a new request's prefill, so the mean step with b running requests is

    s(b) = α + b·(β + γ·(i + o/2) + π·i/o)     and the rate is     r(b) = b / (o·s(b)).

Requests arrive at random, so the number running varies around its mean b, more than in an M/G/∞ queue (variance b):
a longer step keeps requests longer. The diffusion estimate is the variance b·s(b)/α. The SLO is kept at percentile q
when b_q = b + z_q·√(b·s(b)/α) running requests still keep it, while z_q·√b more prefills than the mean fall into a
request's life. TTFT is one step, the prefill itself and the wait behind other prefills (an M/M/1 tail, an upper
estimate).

Simulated engines bear this out (tests/unit/test_vllm_engine.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

from medley.model.workload import Size


class Unservable(StrEnum):
    """Why a replica cannot serve a size at all under the SLO."""

    KV_DOES_NOT_FIT = "KVDoesNotFit"
    MODEL_LENGTH = "LongerThanMaxModelLen"
    TPOT_AT_BATCH_1 = "TimePerOutputTokenAtBatch1"
    TTFT = "TimeToFirstToken"
    OUTSIDE_GRID = "OutsideProfileGrid"
    GRID_ZERO = "ProfileSaysZero"
    NO_PROFILE = "NoProfile"


@dataclass(frozen=True, slots=True)
class Throughput:
    """Highest rate of one size on one replica, in req/s; 0 comes with the reason."""

    rate_rps: float
    reason: Unservable | None = None


@dataclass(frozen=True, slots=True)
class LatencyTarget:
    """What a request may take. `None` means no objective. `percentile` in (0, 100)."""

    tpot_ms: float | None = None
    ttft_ms: float | None = None
    percentile: float = 95.0


@dataclass(frozen=True, slots=True)
class StepModel:
    """Constants of `step(b, C, P)`; see the module's text.

    Attributes:
        base_ms: α, ms of a step whatever it does.
        per_sequence_ms: β, ms per sequence that decodes in the step.
        per_context_token_ms: γ, ms per token of KV cache read in the step.
        prefill_ms_per_token: π, ms per prompt token prefilled in the step.
        kv_capacity_tokens: tokens that the KV cache holds.
        max_batch: most sequences running at once (vLLM: max_num_seqs).
    """

    base_ms: float
    per_sequence_ms: float
    per_context_token_ms: float
    prefill_ms_per_token: float
    kv_capacity_tokens: int
    max_batch: int = 256

    def step_ms(self, *, sequences: float, context_tokens: float, prefill_tokens: float = 0.0) -> float:
        """Milliseconds of one step with this load."""
        return (
            self.base_ms
            + self.per_sequence_ms * sequences
            + self.per_context_token_ms * context_tokens
            + self.prefill_ms_per_token * prefill_tokens
        )

    def mean_step_ms(self, size: Size, batch: float) -> float:
        """Mean step of a steady state with `batch` running requests of this size: s(b)."""
        i, o = size.input_tokens, max(size.output_tokens, 1.0)
        return self.step_ms(sequences=batch, context_tokens=batch * (i + o / 2), prefill_tokens=batch * i / o)

    def max_throughput(self, size: Size, target: LatencyTarget) -> Throughput:
        """Highest steady rate of requests of this size on one replica that keeps the target.

        Returns:
            The rate in req/s, or 0 with the reason that not even one request at a time is served in time.
        """
        i, o = size.input_tokens, max(size.output_tokens, 1.0)
        if i + o > self.kv_capacity_tokens:
            return Throughput(0.0, Unservable.KV_DOES_NOT_FIT)
        z = max(NormalDist().inv_cdf(target.percentile / 100.0), 0.0)
        most = min(float(self.max_batch), self.kv_capacity_tokens / (i + o / 2))

        def rate(batch: float) -> float:
            return 1000.0 * batch / (o * self.mean_step_ms(size, batch))

        def refusal(batch: float) -> Unservable | None:
            spread = math.sqrt(batch * self.mean_step_ms(size, batch) / self.base_ms)
            occupied = max(1.0, batch + z * spread)
            if occupied > max(most, 1.0):
                return Unservable.KV_DOES_NOT_FIT
            step = self.mean_step_ms(size, occupied) + z * math.sqrt(batch) * self.prefill_ms_per_token * i / o
            # A request's own prefill is one step and not part of its TPOT, which begins after the first token.
            if target.tpot_ms is not None and step > target.tpot_ms:
                return Unservable.TPOT_AT_BATCH_1
            if target.ttft_ms is not None and self._ttft_ms(i, rate(batch), step, target.percentile) > target.ttft_ms:
                return Unservable.TTFT
            return None

        low, high = 1e-6, most
        at_one = refusal(low)
        if at_one is not None:
            return Throughput(0.0, at_one)
        if refusal(high) is not None:
            for _ in range(50):
                middle = (low + high) / 2
                if refusal(middle) is None:
                    low = middle
                else:
                    high = middle
        else:
            low = high
        return Throughput(rate(low))

    def _ttft_ms(self, input_tokens: float, rate_rps: float, step_ms: float, percentile: float) -> float:
        """TTFT at the percentile: the running step, the prefill, and the wait behind other prefills."""
        prefill = self.prefill_ms_per_token * input_tokens
        busy = rate_rps * prefill / 1000.0
        if busy >= 1.0:
            return math.inf
        tail = 1.0 - percentile / 100.0
        wait = prefill / (1.0 - busy) * math.log(busy / tail) if busy > tail else 0.0
        return step_ms + prefill + wait
