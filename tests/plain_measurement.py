"""A plain measurement of the highest rate that keeps a TPOT objective, to hold `medley profile run` against.

It shares no code with what it checks. Short Poisson probes double the rate; long ones go around the crossing as it is
known so far. The rate is read off the line through log(TPOT) over log(rate) of the long ones, by the rate at which
arrivals came: 1,570 of them come by 2.5 % faster or slower than they should, which moves p90 by more.
How uncertain the line is is worked out from how the probes scatter.

Run as a program, it prints how far the method is off against the lab's engine, for docs/explanation.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from medley.lab.vllm_engine import Engine, replay
from medley.model.workload import Size
from medley.profiles.latency import LatencyTarget
from medley.profiles.step import StepModel
from simulated_endpoint import true_highest_rate

PERCENTILE = 90.0
SHORT_REQUESTS = 450  # fewer come at a replica that is not yet as full as it will be
LONG_REQUESTS = 1800  # with 900, chance decides so much that six probes may give any slope, and a rate off by half
LONG_PROBES = 3  # of one call of `measure`
FILLING, EMPTYING = 150, 80  # requests at the beginning and the end of a probe that are not counted
ABOUT_SLOPE = 2.0  # of log(TPOT) over log(rate); only places the probes, and is not in the result
APART = 0.08  # how far probes keep from the crossing as it is known, by turns below and above
FAR = 1.3  # a long probe with TPOT further off than this factor only says where to look: no line is straight so far
MAX_IN_FLIGHT = 240


@dataclass(frozen=True)
class Probed:
    """What one probe found: the rate at which requests came (req/s), TPOT at the percentile, how many were sent.

    Attributes:
        tpot_ms: infinite if more than `MAX_IN_FLIGHT` were in flight.
    """

    rate_rps: float
    tpot_ms: float
    requests: int


# Sends so many requests of a size (input tokens, output tokens) at a rate in req/s, under Poisson arrivals.
Probe = Callable[[tuple[int, int], float, int], Awaitable[Probed]]


@dataclass
class Plain:
    """The plain measurement of one size: its long probes, and all requests sent.

    Attributes:
        about_rps: where the crossing is by the short probes.
    """

    size: tuple[int, int]
    about_rps: float = math.nan
    probes: list[Probed] = field(default_factory=list)
    requests: int = 0


def probed(sent_s: Sequence[float], tpot_ms: Sequence[float]) -> Probed:
    """A probe's result from when its requests were sent and what each one's TPOT was, in that order.

    Not counted are the first ones, which found a replica that was filling up, and the last (an emptying one).
    """
    counted_s = sent_s[FILLING : len(sent_s) - EMPTYING]
    values = sorted(tpot_ms[FILLING : len(tpot_ms) - EMPTYING])
    came_rps = (len(counted_s) - 1) / (counted_s[-1] - counted_s[0])
    return Probed(came_rps, values[math.ceil(PERCENTILE / 100.0 * len(values)) - 1], len(sent_s))


async def look(probe: Probe, plain: Plain, tpot_ms: float) -> None:
    """Doublings of short probes: says about where the crossing is."""
    rate, last = 16.0, (0.0, 0.0)
    while True:
        found = await probe(plain.size, rate, SHORT_REQUESTS)
        plain.requests += found.requests
        if found.tpot_ms > tpot_ms:
            break
        rate, last = 2.0 * rate, (rate, found.tpot_ms)
    if last[0] and math.isfinite(found.tpot_ms):  # in between on a log scale
        share = math.log(tpot_ms / last[1]) / math.log(found.tpot_ms / last[1])
        plain.about_rps = last[0] * 2.0**share
    else:
        plain.about_rps = rate / math.sqrt(2.0)


async def measure(probe: Probe, plain: Plain, tpot_ms: float) -> None:
    """Long probes, by turns a little below and above the crossing as it is known by then; far ones are made again."""
    wanted, shift = len(plain.probes) + LONG_PROBES, 1.0
    while len(plain.probes) < wanted:
        near = [known.rate_rps * (tpot_ms / known.tpot_ms) ** (1.0 / ABOUT_SLOPE) for known in plain.probes]
        about = statistics.geometric_mean(near) if near else plain.about_rps
        rate = about * shift * math.exp(APART if len(plain.probes) % 2 else -APART)
        found = await probe(plain.size, rate, LONG_REQUESTS)
        plain.requests += found.requests
        if tpot_ms / FAR < found.tpot_ms < tpot_ms * FAR:
            plain.probes.append(found)
            shift = 1.0
        else:
            shift *= max(0.85, (tpot_ms / found.tpot_ms) ** (1.0 / ABOUT_SLOPE))


def crossing(probes: Sequence[Probed], tpot_ms: float) -> tuple[float, float]:
    """Where the least-squares line of log(TPOT) over log(rate) meets the objective, and its relative standard error."""
    xs = [math.log(found.rate_rps) for found in probes]
    ys = [math.log(found.tpot_ms / tpot_ms) for found in probes]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    found = mean_x - mean_y / slope
    left = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in zip(xs, ys, strict=True)) / (len(xs) - 2)
    return math.exp(found), math.sqrt(left * (1.0 / len(xs) + (found - mean_x) ** 2 / spread)) / abs(slope)


# Objective, in ms, and sizes of `make test-vllm`.
TPOT_MS = 61.8
SIZES = [(inputs, outputs) for inputs in (16, 32, 64) for outputs in (16, 32)]


def paced(size: tuple[int, int]) -> StepModel:
    """The steps that hack/vllm_pace/paced_worker.py holds vLLM to.

    There a prompt counts as a sequence and one token less; in a step model a sequence counts from its second token.
    """
    base_ms, sequence_ms, prompt_token_ms = 20.0, 0.6, 0.1
    prefill_ms = (sequence_ms + prompt_token_ms * (size[0] - 1)) / size[0]
    return StepModel(base_ms, sequence_ms, 0.0, prefill_ms, kv_capacity_tokens=10**9, max_batch=256)


def engine_probe(model: StepModel, rng: random.Random) -> Probe:
    """Probes of the lab's engine on virtual time."""

    async def probe(size: tuple[int, int], rate_rps: float, requests: int) -> Probed:
        at_s = 0.0
        sent_s = [at_s := at_s + rng.expovariate(rate_rps) for _ in range(requests)]
        served = replay(Engine(model, rng=rng), [(at, *size) for at in sent_s])
        ends_s = sorted(generation.last_token_s for generation in served)
        for number in range(MAX_IN_FLIGHT, requests):
            if sent_s[number] < ends_s[number - MAX_IN_FLIGHT]:
                return Probed(rate_rps, math.inf, number + 1)
        return probed(sent_s, [1000.0 * generation.tpot_s for generation in served])

    return probe


def on_engine(model: StepModel, size: tuple[int, int], tpot_ms: float, *, seed: int) -> tuple[float, float]:
    """The whole method against the lab's engine: the rate in req/s and its relative standard error."""
    probe, plain = engine_probe(model, random.Random(seed)), Plain(size)

    async def both_halves() -> None:
        await look(probe, plain, tpot_ms)
        await measure(probe, plain, tpot_ms)
        await measure(probe, plain, tpot_ms)

    asyncio.run(both_halves())
    return crossing(plain.probes, tpot_ms)


def main() -> None:
    """Prints the true rate of each size, and how far the method is from it over 40 seeds."""
    print("| size | true rate, req/s | mean error | standard deviation | standard error it claims | worst |")
    for size in SIZES:
        truth = true_highest_rate(
            paced(size), Size(*size), LatencyTarget(tpot_ms=TPOT_MS, percentile=PERCENTILE), requests=100_000
        )
        found = [on_engine(paced(size), size, TPOT_MS, seed=seed) for seed in range(40)]
        errors = [rate / truth - 1.0 for rate, _ in found]
        print(
            f"| {size[0]}/{size[1]} | {truth:.2f} | {statistics.mean(errors):+.1%} | {statistics.stdev(errors):.1%} | "
            f"{statistics.mean(uncertain for _, uncertain in found):.1%} | {max(map(abs, errors)):.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
