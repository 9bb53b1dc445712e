"""Continuous batching as vLLM does it, with the step model in the place of a GPU.

An engine repeats steps. In each step every decoding sequence gets one token and newly admitted prompts are prefilled,
in chunks if they exceed the token budget of a step. How long the step takes comes from `StepModel.step_ms`, the same
formula that Medley plans with; a simulated GPU's constants may differ from the profile's (`perturbed`) and every step
varies a little (`noise`), so that a planner that trusts its profile blindly is found out.

`Engine` is pure: it has no clock and is told the time, so `replay` runs hours in seconds. `EngineDriver` runs the same
engine in real time on an injected clock and sleep.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from medley.profiles.step import StepModel

DEFAULT_MAX_NUM_BATCHED_TOKENS = 8192
_NEVER = math.nan


class FinishReason(StrEnum):
    """Why a generation ended, in the words of vLLM's `finished_reason` label."""

    LENGTH = "length"
    STOP = "stop"
    ABORT = "abort"


@dataclass(slots=True, eq=False)
class Generation:
    """One request inside the engine: what was asked for, and how far it is.

    Attributes:
        prompt_tokens: length of the prompt.
        output_tokens: tokens after which it ends.
        max_tokens: the limit that the client set; only reported in metrics.
        ends_with: the reason it ends with once `output_tokens` are there.
        arrived_s: when it entered the queue, on the engine's clock like every other time here.
        wake: called by the driver when there is something new to send; None: nobody listens.
        wake_at_tokens: number of tokens from which on `wake` is called. The listener moves it on.
        generated: tokens generated so far; kept across preemptions.
        prefill_left: tokens still to be prefilled before the next token; 0: it decodes.
        scheduled_s: first admission to the batch; NaN before.
        first_token_s: end of the step that finished its prefill; NaN before.
        last_token_s: end of the step that gave the newest token; NaN before.
        is_running: it is in the batch and holds KV cache.
        preemptions: how often it lost its KV cache to others.
        finished: None while it goes on.
    """

    prompt_tokens: int
    output_tokens: int
    max_tokens: int
    ends_with: FinishReason
    arrived_s: float
    prefill_left: int
    wake: Callable[[], None] | None = None
    wake_at_tokens: int = 1
    generated: int = 0
    scheduled_s: float = _NEVER
    first_token_s: float = _NEVER
    last_token_s: float = _NEVER
    is_running: bool = False
    preemptions: int = 0
    finished: FinishReason | None = None

    @property
    def ttft_s(self) -> float:
        """Time to the first token, seconds; NaN while there is none."""
        return self.first_token_s - self.arrived_s

    @property
    def tpot_s(self) -> float:
        """Mean time per output token after the first, seconds; 0 with a single token, as vLLM reports it."""
        if self.generated < 2:
            return 0.0
        return (self.last_token_s - self.first_token_s) / (self.generated - 1)


@dataclass(slots=True)
class Step:
    """A step that was begun: who decodes, who prefills how many tokens, and when it will be over."""

    started_s: float
    end_s: float
    decoding: list[Generation]
    prefills: list[tuple[Generation, int]]
    preempted: int


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a completed step brought.

    Attributes:
        started_s: begin of the step.
        end_s: end of the step; every token of the step carries this time.
        prefill_tokens: prompt tokens computed in the step.
        generated_tokens: tokens generated in the step.
        first_tokens: generations that got their very first token.
        token_gaps: (seconds since the sequence's previous token, number of sequences).
        finished: generations that ended.
        to_wake: generations whose listener has something to send, the finished ones included.
        preempted: sequences that lost their KV cache when the step began.
    """

    started_s: float
    end_s: float
    prefill_tokens: int
    generated_tokens: int
    first_tokens: tuple[Generation, ...]
    token_gaps: tuple[tuple[float, int], ...]
    finished: tuple[Generation, ...]
    to_wake: tuple[Generation, ...]
    preempted: int


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """How full the engine is now."""

    running: int
    waiting: int
    kv_used_tokens: int


def perturbed(model: StepModel, *, seed: int, spread: float = 0.10) -> StepModel:
    """The constants of one simulated GPU: each time constant off the profile by a seeded factor in 1 ± spread.

    The KV capacity and the batch limit are configuration, not measurements, and stay.
    """
    rng = random.Random(seed)

    def off(value: float) -> float:
        return value * rng.uniform(1.0 - spread, 1.0 + spread)

    return replace(
        model,
        base_ms=off(model.base_ms),
        per_sequence_ms=off(model.per_sequence_ms),
        per_context_token_ms=off(model.per_context_token_ms),
        prefill_ms_per_token=off(model.prefill_ms_per_token),
    )


class Engine:
    """The scheduler of one replica: a waiting queue, a batch, and KV cache counted in tokens.

    Args:
        model: the true constants of this GPU.
        rng: source of the noise.
        noise: relative standard deviation of a step's duration (log-normal, mean 1).
        max_num_batched_tokens: most tokens computed in one step; longer prompts are prefilled in chunks.
    """

    def __init__(
        self,
        model: StepModel,
        *,
        rng: random.Random,
        noise: float = 0.03,
        max_num_batched_tokens: int = DEFAULT_MAX_NUM_BATCHED_TOKENS,
    ) -> None:
        if max_num_batched_tokens < 1:
            raise ValueError(f"max_num_batched_tokens must be at least 1, not {max_num_batched_tokens}")
        self.model = model
        self._rng = rng
        self._noise = noise
        self._max_num_batched_tokens = max_num_batched_tokens
        self._waiting: deque[Generation] = deque()
        self._running: list[Generation] = []
        # Σ (prompt + generated) over the batch. A new token takes its place when it is generated, so the sum may
        # exceed the capacity between two steps; the next step begins by preempting until it fits.
        self._kv_used_tokens = 0
        self._previous_end_s = _NEVER

    @property
    def load(self) -> EngineLoad:
        """How full the engine is now."""
        return EngineLoad(len(self._running), len(self._waiting), self._kv_used_tokens)

    @property
    def is_idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not self._running and not self._waiting

    def fits(self, prompt_tokens: int, output_tokens: int) -> bool:
        """Whether such a request could ever finish: alone in the batch, its KV cache must fit."""
        return prompt_tokens + output_tokens <= self.model.kv_capacity_tokens

    def submit(
        self,
        *,
        prompt_tokens: int,
        output_tokens: int,
        now_s: float,
        max_tokens: int | None = None,
        ends_with: FinishReason = FinishReason.LENGTH,
    ) -> Generation:
        """Puts a request at the end of the waiting queue.

        Raises:
            ValueError: a length below 1, or a request that `fits` refuses.
        """
        if prompt_tokens < 1 or output_tokens < 1:
            raise ValueError(f"a request has at least 1 token each way, not {prompt_tokens}/{output_tokens}")
        if not self.fits(prompt_tokens, output_tokens):
            raise ValueError(
                f"{prompt_tokens}+{output_tokens} tokens exceed the KV cache of {self.model.kv_capacity_tokens} tokens"
            )
        generation = Generation(
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            max_tokens=output_tokens if max_tokens is None else max_tokens,
            ends_with=ends_with,
            arrived_s=now_s,
            prefill_left=prompt_tokens,
        )
        self._waiting.append(generation)
        return generation

    def abort(self, generation: Generation) -> None:
        """Takes a request out at once, wherever it is; nothing happens if it has ended already."""
        if generation.finished is not None:
            return
        generation.finished = FinishReason.ABORT
        if generation.is_running:
            self._running.remove(generation)
            self._release(generation)
        else:
            self._waiting.remove(generation)

    def schedule(self, now_s: float) -> Step | None:
        """Begins a step: preempts what does not fit, admits what does, and says how long the step takes.

        Returns:
            The step, to be handed to `complete` when its time has come, or None if there is nothing to do.
        """
        preempted = 0
        while self._kv_used_tokens > self.model.kv_capacity_tokens:
            self._preempt_newest()
            preempted += 1
        running = self._running
        decoding = [generation for generation in running if not generation.prefill_left]
        budget = self._max_num_batched_tokens - len(decoding)
        prefilling = (
            [generation for generation in running if generation.prefill_left] if len(decoding) < len(running) else []
        )
        if not preempted:  # what was just preempted must not come straight back
            budget_left = budget - sum(generation.prefill_left for generation in prefilling)
            self._admit(prefilling, budget_left, now_s)
        if not decoding and not prefilling:
            return None
        prefills: list[tuple[Generation, int]] = []
        prefill_tokens = prefilling_kv_tokens = 0
        for generation in prefilling:
            prefilling_kv_tokens += generation.prompt_tokens + generation.generated
            chunk = min(generation.prefill_left, budget)
            if chunk > 0:
                budget -= chunk
                prefill_tokens += chunk
                prefills.append((generation, chunk))
        step_ms = self.model.step_ms(
            sequences=len(decoding),
            context_tokens=self._kv_used_tokens - prefilling_kv_tokens,
            prefill_tokens=prefill_tokens,
        )
        return Step(now_s, now_s + step_ms * self._noise_factor() / 1000.0, decoding, prefills, preempted)

    def complete(self, step: Step) -> StepResult:
        """Ends a step: hands out its tokens and takes the finished requests out of the batch."""
        end_s = step.end_s
        previous_end_s = self._previous_end_s
        self._previous_end_s = end_s
        steady = generated = prefill_tokens = 0
        gaps: list[tuple[float, int]] = []
        first: list[Generation] = []
        finished: list[Generation] = []
        to_wake: list[Generation] = []
        for generation in step.decoding:
            if generation.finished is not None:  # aborted during the step
                continue
            generated += 1
            count = generation.generated = generation.generated + 1
            if generation.last_token_s == previous_end_s:
                steady += 1
            else:
                gaps.append((end_s - generation.last_token_s, 1))
            generation.last_token_s = end_s
            if count >= generation.output_tokens:
                finished.append(generation)
            elif count >= generation.wake_at_tokens:
                to_wake.append(generation)
        for generation, chunk in step.prefills:
            if generation.finished is not None:
                continue
            prefill_tokens += chunk
            generation.prefill_left -= chunk
            if generation.prefill_left:
                continue
            generated += 1
            generation.generated += 1
            if generation.generated == 1:
                generation.first_token_s = end_s
                first.append(generation)
            else:  # prefilled again after a preemption
                gaps.append((end_s - generation.last_token_s, 1))
            generation.last_token_s = end_s
            if generation.generated >= generation.output_tokens:
                finished.append(generation)
            elif generation.generated >= generation.wake_at_tokens:
                to_wake.append(generation)
        self._kv_used_tokens += generated
        if steady:
            gaps.append((end_s - previous_end_s, steady))
        if finished:
            for generation in finished:
                generation.finished = generation.ends_with
                self._release(generation)
            self._running = [generation for generation in self._running if generation.finished is None]
            to_wake += finished
        return StepResult(
            started_s=step.started_s,
            end_s=end_s,
            prefill_tokens=prefill_tokens,
            generated_tokens=generated,
            first_tokens=tuple(first),
            token_gaps=tuple(gaps),
            finished=tuple(finished),
            to_wake=tuple(to_wake),
            preempted=step.preempted,
        )

    def advance(self, now_s: float) -> StepResult | None:
        """One whole step begun at `now_s`, on a virtual clock; None if there is nothing to do."""
        step = self.schedule(now_s)
        return None if step is None else self.complete(step)

    def _admit(self, prefilling: list[Generation], budget: int, now_s: float) -> None:
        while self._waiting and budget > 0 and len(self._running) < self.model.max_batch:
            candidate = self._waiting[0]
            needed = candidate.prompt_tokens + candidate.generated
            if self._kv_used_tokens + needed > self.model.kv_capacity_tokens:
                return  # first come, first served: nobody overtakes the one that does not fit
            self._waiting.popleft()
            self._kv_used_tokens += needed
            candidate.is_running = True
            if math.isnan(candidate.scheduled_s):
                candidate.scheduled_s = max(now_s, candidate.arrived_s)
            self._running.append(candidate)
            prefilling.append(candidate)
            budget -= candidate.prefill_left

    def _preempt_newest(self) -> None:
        victim = self._running.pop()
        self._release(victim)
        victim.prefill_left = victim.prompt_tokens + victim.generated  # vLLM recomputes, it does not swap
        victim.preemptions += 1
        self._waiting.appendleft(victim)

    def _release(self, generation: Generation) -> None:
        generation.is_running = False
        self._kv_used_tokens -= generation.prompt_tokens + generation.generated

    def _noise_factor(self) -> float:
        if not self._noise:
            return 1.0
        return math.exp(self._rng.gauss(-self._noise * self._noise / 2.0, self._noise))


def replay(engine: Engine, arrivals: Iterable[tuple[float, int, int]]) -> list[Generation]:
    """Runs an engine on a virtual clock until all arrivals are served.

    Args:
        engine: an idle engine.
        arrivals: (at_s, prompt_tokens, output_tokens), ascending in time.

    Returns:
        The generations in order of arrival, with their times filled in.
    """
    generations: list[Generation] = []
    pending = deque(arrivals)
    now_s = pending[0][0] if pending else 0.0
    while pending or not engine.is_idle:
        while pending and pending[0][0] <= now_s:
            at_s, prompt_tokens, output_tokens = pending.popleft()
            generations.append(engine.submit(prompt_tokens=prompt_tokens, output_tokens=output_tokens, now_s=at_s))
        result = engine.advance(now_s)
        now_s = pending[0][0] if result is None else result.end_s
    return generations


class EngineDriver:
    """Runs an engine in real time: begins a step, sleeps until it is over, tells observer and listeners.

    All methods belong to the event loop that runs `run`.

    Args:
        engine: the engine to run.
        observe: called with each completed step.
        clock: monotonic seconds.
        sleep: waits that many seconds.
        max_lag_s: a wake-up that comes late by less than this is made good by the next step, so that the engine keeps
            its pace; after a longer stall it goes on from the present.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        observe: Callable[[StepResult], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        max_lag_s: float = 0.25,
    ) -> None:
        self.engine = engine
        self._observe = observe
        self._clock = clock
        self._sleep = sleep
        self._max_lag_s = max_lag_s
        self._has_work = asyncio.Event()

    def submit(
        self,
        *,
        prompt_tokens: int,
        output_tokens: int,
        max_tokens: int,
        ends_with: FinishReason,
        wake: Callable[[], None],
    ) -> Generation:
        """Queues a request that arrives now; `wake` is called as tokens come, see `Generation.wake_at_tokens`."""
        generation = self.engine.submit(
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            max_tokens=max_tokens,
            ends_with=ends_with,
            now_s=self._clock(),
        )
        generation.wake = wake
        self._has_work.set()
        return generation

    def abort(self, generation: Generation) -> None:
        """The client has gone."""
        self.engine.abort(generation)

    async def run(self) -> None:
        """Steps for ever; sleeps without polling while there is nothing to do. Ends by cancellation."""
        previous_end_s = -math.inf
        while True:
            now_s = self._clock()
            on_time = now_s - previous_end_s < self._max_lag_s
            step = self.engine.schedule(previous_end_s if on_time else now_s)
            if step is None:
                self._has_work.clear()
                await self._has_work.wait()
                previous_end_s = -math.inf
                continue
            await self._sleep(max(0.0, step.end_s - self._clock()))
            result = self.engine.complete(step)
            previous_end_s = step.end_s
            self._observe(result)
            for generation in result.to_wake:
                if generation.wake is not None:
                    generation.wake()
