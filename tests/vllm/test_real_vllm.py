# ruff: noqa: T201 - its log is what it is run for
"""Opt-in (`make test-vllm`): `medley profile run` against a real vLLM, compared with a plain measurement of every size.

The comparison shares no code with what it checks: its own client and its own arrivals. It brackets each size by
doublings and halvings of short probes, then sends a ladder of long ones around the crossing and reads the rate off the
line through log(TPOT) over log(rate): one probe of a few hundred Poisson arrivals is uncertain by 6 to 13 % in its p90,
the line through a ladder by much less. How far it is from itself is measured too: each half of the rungs gives a rate.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

URL = os.environ.get("MEDLEY_VLLM_URL", "")
VOCABULARY = int(os.environ.get("MEDLEY_VLLM_VOCABULARY", "32000"))
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(not URL, reason="needs a real vLLM: run make test-vllm, or set MEDLEY_VLLM_URL"),
]
INPUTS, OUTPUTS = (32, 128), (16, 48)
PERCENTILE = 90.0
REQUESTS = 200
PLAIN_REQUESTS = 120
PLAIN_WITHIN = 0.25
LADDER = (0.84, 0.9, 0.96, 1.02, 1.08, 1.14)
LADDER_REQUESTS = 240
MAX_CONCURRENCY = 60
TOLERANCE = 0.05
SLOWDOWN = 3.0  # the TPOT objective over the unloaded latency


async def ask(session: aiohttp.ClientSession, model: str, inputs: int, outputs: int) -> tuple[float, float]:
    """TTFT and TPOT in ms of one request."""
    body: dict[str, Any] = {
        "model": model,
        "prompt": [random.randrange(10, VOCABULARY - 10) for _ in range(inputs)],
        "max_tokens": outputs,
        "ignore_eos": True,
        "stream": True,
    }
    times = []
    sent_s = time.monotonic()
    async with session.post(f"{URL}/v1/completions", json=body) as response:
        assert response.status == 200, await response.text()
        async for line in response.content:
            if line.startswith(b"data: {"):
                times.append(time.monotonic())
    return 1000.0 * (times[0] - sent_s), 1000.0 * (times[-1] - times[0]) / (outputs - 1)


async def plain_probe(model: str, size: tuple[int, int], rate_rps: float, requests: int) -> tuple[float, int]:
    """TPOT in ms at the percentile under Poisson arrivals, the first fifth not counted; and how many were sent."""
    found: list[tuple[int, float]] = []
    in_flight = sent = 0
    overloaded = False
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(number: int) -> None:
            nonlocal in_flight
            in_flight += 1
            found.append((number, (await ask(session, model, *size))[1]))
            in_flight -= 1

        tasks = []
        at_s = time.monotonic()
        for number in range(requests):
            at_s += random.expovariate(rate_rps)
            await asyncio.sleep(max(0.0, at_s - time.monotonic()))
            tasks.append(asyncio.create_task(one(number)))
            sent += 1
            if in_flight > MAX_CONCURRENCY:
                overloaded = True
                break
        await asyncio.gather(*tasks)
    if overloaded:
        return math.inf, sent
    values = sorted(tpot for number, tpot in found if number >= requests // 5)
    return values[math.ceil(PERCENTILE / 100.0 * len(values)) - 1], sent


async def plain_highest_rate(model: str, size: tuple[int, int], tpot_ms: float) -> tuple[float, float, int, int]:
    """Highest rate, how far it is from itself (relative), requests and probes: a bracket, then the ladder."""
    rate, requests, probes = 2.0, 0, 0
    low, high = 0.0, math.inf
    while high > low * (1.0 + PLAIN_WITHIN):
        rate = rate * 2.0 if math.isinf(high) else math.sqrt(max(low, 0.5) * high)
        value, sent = await plain_probe(model, size, rate, PLAIN_REQUESTS)
        requests, probes = requests + sent, probes + 1
        if value <= tpot_ms:
            low = rate
        else:
            high = rate
    middle = math.sqrt(low * high)
    rungs: list[tuple[float, float]] = []
    # Up and down, so that a machine that grows slower with time tilts the line as little as can be.
    for factor in (*LADDER[::2], *LADDER[::-2]):
        value, sent = await plain_probe(model, size, middle * factor, LADDER_REQUESTS)
        requests, probes = requests + sent, probes + 1
        if math.isfinite(value):
            rungs.append((middle * factor, value))
        print(f"    {size[0]}/{size[1]} at {middle * factor:.2f} req/s: TPOT p90 {value:.2f} ms")
    halves = [crossing(rungs[start::2], tpot_ms) for start in (0, 1) if len(rungs[start::2]) >= 2]
    print(f"    crossing by halves of the ladder: {', '.join(f'{half:.2f}' for half in halves)} req/s")
    spread = math.log(max(halves) / min(halves)) / 2.0 if len(halves) == 2 else math.inf
    return crossing(rungs, tpot_ms), spread, requests, probes


def crossing(rungs: list[tuple[float, float]], tpot_ms: float) -> float:
    """The rate at which the least-squares line of log(TPOT) over log(rate) meets the objective."""
    xs = [math.log(rate) for rate, _ in rungs]
    ys = [math.log(value) for _, value in rungs]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / sum((x - mean_x) ** 2 for x in xs)
    return math.exp(mean_x + (math.log(tpot_ms) - mean_y) / slope)


async def unloaded_tpot_ms(model: str) -> float:
    async with aiohttp.ClientSession() as session:
        values = [(await ask(session, model, INPUTS[-1], OUTPUTS[-1]))[1] for _ in range(30)]
    return sorted(values)[15]


async def model_name() -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{URL}/v1/models") as response:
        return str((await response.json())["data"][0]["id"])


def test_profile_run_agrees_with_a_plain_measurement_of_every_size(tmp_path: Path) -> None:
    from medley.model.workload import Size
    from medley.profiles.latency import LatencyTarget
    from medley.profiles.measured import Latency, LoadPoint, Measured

    model = asyncio.run(model_name())
    tpot_ms = round(SLOWDOWN * asyncio.run(unloaded_tpot_ms(model)), 1)
    print(f"\nobjective: TPOT {tpot_ms} ms at p{PERCENTILE:.0f}")
    output, journal = tmp_path / "profile.yaml", tmp_path / "journal"
    command = [
        *(sys.executable, "-c", STARTER, "run", "--url", URL, "--gpu", "cpu", "--yes", "--all-sizes"),
        *("--inputs", ",".join(map(str, INPUTS)), "--outputs", ",".join(map(str, OUTPUTS))),
        *("--slo", f"tpot={tpot_ms}ms", "--percentile", f"{PERCENTILE:g}", "--vocab-size", str(VOCABULARY)),
        *(
            "--requests",
            str(REQUESTS),
            "--max-concurrency",
            str(MAX_CONCURRENCY),
            "--output",
            str(output),
            "--journal",
            str(journal),
        ),
    ]
    begun_s = time.monotonic()
    subprocess.run(command, check=True)
    took_s = time.monotonic() - begun_s
    sent = 0
    for line in journal.read_text().splitlines()[1:]:
        result = json.loads(line)
        sent += result["sent"]
        point = result["point"]
        tpot = "no point" if point is None else f"TPOT p90 {point['tpot']['p90_ms']:.1f} ms"
        size = result["probe"]["size"]
        print(
            f"  {size['input_tokens']:.0f}/{size['output_tokens']:.0f} {result['probe']['loop']} "
            f"{result['probe']['level']:.4g}: {tpot}, {result['ending']}, {result['sent']} sent, "
            f"{result['seconds']:.0f} s, client late {result['late_ms']:.0f} ms"
        )
    print(f"profile run: {sent} requests in {took_s:.0f} s")
    points = yaml.safe_load(output.read_text())["spec"]["measured"]["points"]
    measured = Measured(
        tuple(
            LoadPoint(
                Size(point["inputTokens"], point["outputTokens"]),
                point["requestsPerSecond"],
                Latency(p90_ms=point["tpotMs"]["p90"]),
                Latency(p90_ms=point["ttftMs"]["p90"]),
            )
            for point in points
        )
    )
    target = LatencyTarget(tpot_ms=tpot_ms, percentile=PERCENTILE)
    begun_s = time.monotonic()
    errors, beyond, plain_requests = [], [], 0
    for inputs in INPUTS:
        for outputs in OUTPUTS:
            plain_rps, spread, requests, probes = asyncio.run(plain_highest_rate(model, (inputs, outputs), tpot_ms))
            plain_requests += requests
            rate = measured.max_throughput(Size(inputs, outputs), target).rate_rps
            errors.append(rate / plain_rps - 1.0)
            beyond.append(abs(errors[-1]) - spread)
            print(
                f"  {inputs}/{outputs}: profile run {rate:.2f} req/s, plain {plain_rps:.2f} req/s "
                f"({errors[-1]:+.1%}, plain from itself ±{spread:.1%}; {probes} probes, {requests} requests)"
            )
    full = plain_full_grid(measured, target)
    print(f"a plain full grid to 4 % would send {full} requests; profile run sent {sent / full:.1%} of them")
    print(f"plain: {plain_requests} requests in {time.monotonic() - begun_s:.0f} s")
    # More than the reference itself is uncertain by.
    assert max(beyond) <= TOLERANCE


def plain_full_grid(measured: Any, target: Any) -> int:
    """Requests of a search without a model: doublings from 1 req/s, halvings to 4 %, as many requests a probe."""
    from medley.model.workload import Size

    halvings = math.ceil(math.log2(math.log(2.0) / math.log(1.04)))
    sizes = [Size(inputs, outputs) for inputs in INPUTS for outputs in OUTPUTS]
    rates = [measured.max_throughput(size, target).rate_rps for size in sizes]
    return sum((math.ceil(math.log2(rate)) + 1 + halvings) * REQUESTS for rate in rates)


# The command alone, whatever `medley profile` also has.
STARTER = """
import argparse, sys
from medley.cli.profile_run import register
parser = argparse.ArgumentParser()
register(parser.add_subparsers())
args = parser.parse_args()
sys.exit(args.run(args))
"""
