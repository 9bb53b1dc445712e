"""The lab's engine as an endpoint on virtual time: hours of load in seconds, and the truth to compare with."""

from __future__ import annotations

import asyncio
import math
import random
import selectors
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from medley.lab.vllm_engine import Engine, EngineDriver, FinishReason, replay
from medley.measurement.client import Served
from medley.model.workload import Size
from medley.profiles.latency import LatencyTarget
from medley.profiles.step import StepModel

_Result = TypeVar("_Result")
NOISE = 0.03


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        self._now_s = 0.0
        loop = self

        class Selector(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
                if timeout is None:
                    raise RuntimeError("nothing will ever happen")
                loop._now_s += max(timeout, 0.0)
                return super().select(0)

        super().__init__(Selector())

    def time(self) -> float:
        return self._now_s

    def jump(self, seconds: float) -> None:
        """Time passes in which nothing ran."""
        self._now_s += seconds


def on_virtual_time(work: Coroutine[Any, Any, _Result]) -> _Result:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def now_s() -> float:
    return asyncio.get_running_loop().time()


class SimulatedEndpoint:
    """An `Endpoint` over one simulated engine; use as an async context manager on a `VirtualLoop`."""

    def __init__(self, model: StepModel, *, seed: int = 1) -> None:
        engine = Engine(model, rng=random.Random(seed), noise=NOISE)
        self._driver = EngineDriver(engine, observe=lambda _: None, clock=now_s)
        self.requests: list[Size] = []
        self.open_now = 0

    async def __aenter__(self) -> SimulatedEndpoint:
        self._driving = asyncio.create_task(self._driver.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._driving.cancel()
        with suppress(asyncio.CancelledError):
            await self._driving

    async def complete(self, size: Size) -> Served:
        inputs, outputs = int(size.input_tokens), int(size.output_tokens)
        self.requests.append(size)
        self.open_now += 1
        sent_s = now_s()
        done = asyncio.Event()
        generation = self._driver.submit(
            prompt_tokens=inputs,
            output_tokens=outputs,
            max_tokens=outputs,
            ends_with=FinishReason.LENGTH,
            wake=done.set,
        )
        generation.wake_at_tokens = outputs
        try:
            await done.wait()
        finally:
            self.open_now -= 1
            self._driver.abort(generation)
        return Served(sent_s, generation.first_token_s, generation.last_token_s, inputs, outputs)


def ratio_at(
    model: StepModel, size: Size, rate_rps: float, target: LatencyTarget, *, requests: int, seed: int
) -> float:
    """The worst latency percentile over its objective at a Poisson rate, from the engine without measurement code."""
    rng, at_s, arrivals = random.Random(seed), 0.0, []
    gaps = [rng.expovariate(1.0) for _ in range(requests)]
    scale = requests / sum(gaps) / rate_rps
    for gap in gaps:
        at_s += gap * scale
        arrivals.append((at_s, int(size.input_tokens), int(size.output_tokens)))
    served = replay(Engine(model, rng=random.Random(seed + 1), noise=NOISE), arrivals)[requests // 20 :]
    place = math.ceil(target.percentile / 100.0 * len(served)) - 1
    tpot_ms = 1000.0 * sorted(generation.tpot_s for generation in served)[place]
    ttft_ms = 1000.0 * sorted(generation.ttft_s for generation in served)[place]
    return max(tpot_ms / (target.tpot_ms or math.inf), ttft_ms / (target.ttft_ms or math.inf))


def true_highest_rate(
    model: StepModel, size: Size, target: LatencyTarget, *, requests: int = 20_000, within: float = 0.01
) -> float:
    """The highest rate that keeps the target: a dense bisection of the engine itself."""
    low, high = 1e-3, 1000.0 * model.max_batch / (size.output_tokens * model.mean_step_ms(size, model.max_batch))
    middle = model.max_throughput(size, target).rate_rps or math.sqrt(low * high)
    for factor in (0.9, 1.15):  # the formula is a good guess of where to look, no more: both ends are checked
        at = middle * factor
        if ratio_at(model, size, at, target, requests=requests // 4, seed=3) <= 1.0:
            low = max(low, at * 0.95)
        else:
            high = min(high, at * 1.05)
    while high / low > 1.0 + within:
        middle = math.sqrt(low * high)
        if ratio_at(model, size, middle, target, requests=requests, seed=11) <= 1.0:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def unloaded_rps(model: StepModel, size: Size) -> float:
    """The rate of one request at a time."""
    return 1000.0 / (size.output_tokens * model.mean_step_ms(size, 1.0) + model.prefill_ms(size.input_tokens))


def plain_bisection_probes(unloaded_rps: float, truth_rps: float, within: float) -> int:
    """Probes that a bisection needs that knows nothing: doublings from one request at a time, then halvings."""
    rate, probes = unloaded_rps, 1
    while rate <= truth_rps:
        rate *= 2.0
        probes += 1
    low, high = rate / 2.0, rate
    while high / low > 1.0 + within:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if middle <= truth_rps else (low, middle)
        probes += 1
    return probes
