"""The highest steady rate of one size that an engine with continuous batching keeps under an SLO.

In a steady state in which every request has the size (i, o), each of b running requests reads i + o/2 tokens on average
and one in o steps of each slot is a new request's prefill, so that with s(b) the mean step of b running requests the
rate is

    r(b) = b / (o·s(b)).

Requests arrive at random, so the number running varies around its mean b, more than in an M/G/∞ queue (variance b):
a longer step keeps requests longer. The diffusion estimate is the variance b·s(b)/s(0). The SLO is kept at percentile q
when b_q = b + z_q·√(b·s(b)/s(0)) running requests still keep it, while z_q·√b more prefills than the mean fall into a
request's life. TTFT is one step, the prefill itself and the wait behind other prefills (an M/M/1 tail, an upper
estimate). At q = 50, z is 0: the rate at the mean.

Simulated engines bear this out (tests/unit/test_vllm_engine.py).
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Protocol

from medley.model.workload import Size
from medley.profiles.latency import LatencyTarget, Throughput, Unservable


class Engine(Protocol):
    """How long one replica's steps take, and how much it holds."""

    @property
    def kv_capacity_tokens(self) -> int:
        """Tokens that the KV cache holds."""

    @property
    def max_batch(self) -> int:
        """Most sequences running at once (vLLM: max_num_seqs)."""

    def held_tokens(self, size: Size) -> float:
        """KV cache that a running request counts for."""

    def decode_ms(self, size: Size, batch: float) -> float:
        """A step, or where steps give several tokens its share per token, in which `batch` such requests decode."""

    def prefill_ms(self, input_tokens: float) -> float:
        """What the prefill of one prompt adds to steps."""


def mean_step_ms(engine: Engine, size: Size, batch: float) -> float:
    """Mean step of a steady state with `batch` running requests of this size: s(b)."""
    return engine.decode_ms(size, batch) + batch * engine.prefill_ms(size.input_tokens) / max(size.output_tokens, 1.0)


def highest_steady_rate(engine: Engine, size: Size, target: LatencyTarget) -> Throughput:
    """Highest steady rate of requests of this size on one replica that keeps the target.

    Returns:
        The rate in req/s, or 0 with the reason that not even one request at a time is served in time.
    """
    i, o = size.input_tokens, max(size.output_tokens, 1.0)
    if i + o > engine.kv_capacity_tokens:
        return Throughput(0.0, Unservable.KV_DOES_NOT_FIT)
    z = max(NormalDist().inv_cdf(target.percentile / 100.0), 0.0)
    most = min(float(engine.max_batch), engine.kv_capacity_tokens / engine.held_tokens(size))
    idle_ms = engine.decode_ms(size, 0.0)
    prefill_ms = engine.prefill_ms(i)

    def rate(batch: float) -> float:
        return 1000.0 * batch / (o * mean_step_ms(engine, size, batch))

    def refusal(batch: float) -> Unservable | None:
        others = batch + z * math.sqrt(batch * mean_step_ms(engine, size, batch) / idle_ms)
        occupied = max(1.0, others)
        if occupied > max(most, 1.0):
            return Unservable.KV_DOES_NOT_FIT
        # A request's own prefill is one step and not part of its TPOT, which begins after the first token: only those
        # of others count, and alone on the replica it meets none.
        step = engine.decode_ms(size, occupied) + (others + z * math.sqrt(batch)) * prefill_ms / o
        if target.tpot_ms is not None and step > target.tpot_ms:
            return Unservable.TPOT_AT_BATCH_1
        if target.ttft_ms is not None and _ttft_ms(prefill_ms, rate(batch), step, target.percentile) > target.ttft_ms:
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


def _ttft_ms(prefill_ms: float, rate_rps: float, step_ms: float, percentile: float) -> float:
    """TTFT at the percentile: the running step, the prefill, and the wait behind other prefills."""
    busy = rate_rps * prefill_ms / 1000.0
    if busy >= 1.0:
        return math.inf
    tail = 1.0 - percentile / 100.0
    wait = prefill_ms / (1.0 - busy) * math.log(busy / tail) if busy > tail else 0.0
    return step_ms + prefill_ms + wait
