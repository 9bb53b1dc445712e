"""The engine's scheduling, on a virtual clock; and its driver, on a fake one."""

from __future__ import annotations

import asyncio
import random
from dataclasses import astuple

import pytest

from medley.lab.vllm_engine import (
    Engine,
    EngineDriver,
    FinishReason,
    Generation,
    StepResult,
    perturbed,
    replay,
)
from medley.model.workload import Size
from medley.profiles.latency import LatencyTarget
from medley.profiles.step import StepModel

MODEL = StepModel(
    base_ms=20.0,
    per_sequence_ms=0.2,
    per_context_token_ms=0.0005,
    prefill_ms_per_token=0.08,
    kv_capacity_tokens=60_000,
    max_batch=128,
)


def new_engine(model: StepModel = MODEL, *, noise: float = 0.0, max_num_batched_tokens: int = 8192) -> Engine:
    return Engine(model, rng=random.Random(7), noise=noise, max_num_batched_tokens=max_num_batched_tokens)


def with_kv(tokens: int, *, max_batch: int = 128) -> StepModel:
    return StepModel(20.0, 0.2, 0.0005, 0.08, kv_capacity_tokens=tokens, max_batch=max_batch)


def steps_of(engine: Engine, now_s: float = 0.0) -> list[StepResult]:
    results = []
    while (result := engine.advance(now_s)) is not None:
        results.append(result)
        now_s = result.end_s
    return results


def poisson(rate_rps: float, size: Size, *, requests: int, seed: int = 1) -> list[tuple[float, int, int]]:
    rng, now_s, arrivals = random.Random(seed), 0.0, []
    for _ in range(requests):
        now_s += rng.expovariate(rate_rps)
        arrivals.append((now_s, int(size.input_tokens), int(size.output_tokens)))
    return arrivals


def percentile(values: list[float], q: float) -> float:
    return sorted(values)[int(q / 100 * (len(values) - 1))]


def test_durations_are_those_of_the_step_model() -> None:
    engine = new_engine()
    engine.submit(prompt_tokens=100, output_tokens=3, now_s=0.0)
    prefill, first, second = steps_of(engine)
    assert prefill.end_s == pytest.approx((20 + 0.08 * 100) / 1000)
    assert first.end_s - first.started_s == pytest.approx((20 + 0.2 + 0.0005 * 101) / 1000)
    assert second.end_s - second.started_s == pytest.approx((20 + 0.2 + 0.0005 * 102) / 1000)
    assert [step.generated_tokens for step in (prefill, first, second)] == [1, 1, 1]
    assert engine.is_idle
    assert engine.load.kv_used_tokens == 0


def test_an_unloaded_request_has_the_models_latencies() -> None:
    (generation,) = replay(new_engine(), [(5.0, 512, 64)])
    assert generation.ttft_s == pytest.approx(0.02 + 0.08 * 512 / 1000)
    assert generation.tpot_s == pytest.approx((20 + 0.2 + 0.0005 * (512 + 32)) / 1000, rel=1e-4)
    assert generation.finished is FinishReason.LENGTH


def test_long_prompts_are_prefilled_in_chunks_beside_decodes() -> None:
    engine = new_engine(max_num_batched_tokens=1000)
    engine.submit(prompt_tokens=10, output_tokens=100, now_s=0.0)
    engine.advance(0.0)
    long = engine.submit(prompt_tokens=2500, output_tokens=2, now_s=0.1)
    chunks = [engine.advance(0.1 + number) for number in range(3)]
    assert [step.prefill_tokens for step in chunks if step] == [999, 999, 502]
    assert [step.generated_tokens for step in chunks if step] == [1, 1, 2]
    assert [len(step.first_tokens) for step in chunks if step] == [0, 0, 1]
    assert long.first_token_s > 2.1


def test_admission_is_first_come_first_served_and_limited_by_the_batch() -> None:
    engine = new_engine(with_kv(60_000, max_batch=2))
    generations = [engine.submit(prompt_tokens=10, output_tokens=5, now_s=0.0) for _ in range(3)]
    engine.advance(0.0)
    assert [generation.is_running for generation in generations] == [True, True, False]
    assert (engine.load.running, engine.load.waiting) == (2, 1)


def test_a_prompt_that_does_not_fit_now_blocks_those_behind_it() -> None:
    engine = new_engine(with_kv(1000))
    engine.submit(prompt_tokens=600, output_tokens=5, now_s=0.0)
    big = engine.submit(prompt_tokens=600, output_tokens=5, now_s=0.0)
    small = engine.submit(prompt_tokens=10, output_tokens=5, now_s=0.0)
    engine.advance(0.0)
    assert not big.is_running
    assert not small.is_running
    steps_of(engine, 1.0)
    assert big.finished is small.finished is FinishReason.LENGTH
    assert big.preemptions == 0


def test_overflow_preempts_the_newest_and_it_still_gets_all_its_tokens() -> None:
    engine = new_engine(with_kv(1000))
    oldest = engine.submit(prompt_tokens=400, output_tokens=300, now_s=0.0)
    newest = engine.submit(prompt_tokens=400, output_tokens=300, now_s=0.0)
    results = steps_of(engine)
    assert oldest.preemptions == 0
    assert newest.preemptions >= 1
    assert sum(step.preempted for step in results) == newest.preemptions
    assert sum(step.generated_tokens for step in results) == 600
    # Every token but each sequence's first has exactly one gap before it.
    assert sum(times for step in results for _, times in step.token_gaps) == 598
    assert max(gap for step in results for gap, _ in step.token_gaps) > 1.0
    assert engine.load.kv_used_tokens == 0


def test_kv_never_stays_above_capacity_by_more_than_a_step() -> None:
    model = with_kv(3000)
    engine, rng, now_s = new_engine(model, noise=0.03), random.Random(3), 0.0
    for _ in range(60):
        engine.submit(prompt_tokens=rng.randint(1, 900), output_tokens=rng.randint(1, 300), now_s=0.0)
    while (step := engine.schedule(now_s)) is not None:
        assert engine.load.kv_used_tokens <= model.kv_capacity_tokens
        now_s = engine.complete(step).end_s
    assert engine.load.kv_used_tokens == 0


def test_what_can_never_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="exceed the KV cache"):
        new_engine(with_kv(1000)).submit(prompt_tokens=900, output_tokens=101, now_s=0.0)
    with pytest.raises(ValueError, match="at least 1 token"):
        new_engine().submit(prompt_tokens=0, output_tokens=1, now_s=0.0)


def test_abort_in_the_queue_in_the_batch_and_during_a_step() -> None:
    engine = new_engine(with_kv(60_000, max_batch=1))
    running = engine.submit(prompt_tokens=10, output_tokens=50, now_s=0.0)
    queued = engine.submit(prompt_tokens=10, output_tokens=50, now_s=0.0)
    engine.advance(0.0)
    engine.abort(queued)
    step = engine.schedule(1.0)
    assert step is not None
    engine.abort(running)
    engine.abort(running)
    result = engine.complete(step)
    assert result.generated_tokens == 0
    assert result.finished == ()
    assert running.finished is queued.finished is FinishReason.ABORT
    assert engine.is_idle
    assert engine.load.kv_used_tokens == 0


def test_noise_has_mean_one_and_the_given_spread() -> None:
    engine = new_engine(noise=0.05)
    engine.submit(prompt_tokens=1, output_tokens=3000, now_s=0.0)
    factors = [
        (result.end_s - result.started_s)
        * 1000.0
        / MODEL.step_ms(sequences=1, context_tokens=1 + number, prefill_tokens=0)
        for number, result in enumerate(steps_of(engine)[1:], start=1)
    ]
    mean = sum(factors) / len(factors)
    assert mean == pytest.approx(1.0, abs=0.005)
    assert (sum((factor - mean) ** 2 for factor in factors) / len(factors)) ** 0.5 == pytest.approx(0.05, rel=0.1)


def test_perturbed_constants_stay_within_the_spread_and_follow_the_seed() -> None:
    true = perturbed(MODEL, seed=3)
    assert true == perturbed(MODEL, seed=3)
    assert true != perturbed(MODEL, seed=4)
    ratios = [ours / profile for ours, profile in zip(astuple(true)[:4], astuple(MODEL)[:4], strict=True)]
    assert all(0.9 <= ratio <= 1.1 for ratio in ratios)
    assert len(set(ratios)) == 4
    assert (true.kv_capacity_tokens, true.max_batch) == (MODEL.kv_capacity_tokens, MODEL.max_batch)


@pytest.mark.parametrize(
    "size",
    [
        Size(256, 128),
        Size(1024, 256),
        Size(512, 512),
        Size(2048, 64),
    ],
    ids=str,
)
def test_the_target_is_met_at_four_fifths_of_the_models_max_throughput(size: Size) -> None:
    target = LatencyTarget(tpot_ms=60.0, ttft_ms=1500.0, percentile=95.0)
    most = MODEL.max_throughput(size, target)
    generations = replay(new_engine(noise=0.03), poisson(0.8 * most.rate_rps, size, requests=1500))
    served = generations[200:]
    assert percentile([generation.tpot_s for generation in served], 95) * 1000 <= 60.0
    assert percentile([generation.ttft_s for generation in served], 95) * 1000 <= 1500.0


def test_throughput_saturates_when_offered_more_than_the_batch_can_carry() -> None:
    size = Size(512, 128)
    saturated = replay(new_engine(), [(0.0, 512, 128)] * 1000)
    rate_rps = len(saturated) / max(generation.last_token_s for generation in saturated)
    most_in_kv = min(MODEL.max_batch, MODEL.kv_capacity_tokens / (512 + 64))
    assert rate_rps == pytest.approx(1000 * most_in_kv / (128 * MODEL.mean_step_ms(size, most_in_kv)), rel=0.15)


class FakeTime:
    """A clock that only sleeping moves; `late_s` is how much every sleep oversleeps."""

    def __init__(self, late_s: float = 0.0) -> None:
        self.now_s = 100.0
        self.late_s = late_s
        self.sleeps = 0

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        if seconds > 0:
            self.now_s += seconds + self.late_s
        await asyncio.sleep(0)


def drive(time: FakeTime, *, output_tokens: int) -> Generation:
    async def main() -> Generation:
        driver = EngineDriver(new_engine(), observe=lambda _: None, clock=time.clock, sleep=time.sleep)
        task = asyncio.create_task(driver.run())
        await asyncio.sleep(0.01)
        assert time.sleeps == 0  # idle: not even one poll
        done = asyncio.Event()
        generation = driver.submit(
            prompt_tokens=10,
            output_tokens=output_tokens,
            max_tokens=output_tokens,
            ends_with=FinishReason.STOP,
            wake=done.set,
        )
        generation.wake_at_tokens = output_tokens
        await asyncio.wait_for(done.wait(), 5)
        task.cancel()
        return generation

    return asyncio.run(main())


def test_the_driver_keeps_pace_although_sleeps_are_late() -> None:
    punctual, late = drive(FakeTime(), output_tokens=100), drive(FakeTime(late_s=0.002), output_tokens=100)
    assert punctual.finished is FinishReason.STOP
    assert late.last_token_s - late.arrived_s == pytest.approx(punctual.last_token_s - punctual.arrived_s)


def test_the_driver_does_not_rush_after_a_long_stall() -> None:
    stalled = drive(FakeTime(late_s=1.0), output_tokens=10)
    assert stalled.last_token_s - stalled.arrived_s > 9.0
