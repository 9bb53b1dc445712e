# ruff: noqa: T201 - its log is what it is run for
"""Opt-in (`make test-vllm`): `medley profile run` against a real vLLM, compared with a plain measurement of every size.

The plain measurement (tests/plain_measurement.py) has its own client and its own arrivals here. Half of its long probes
are made before `profile run` and half after it, in case the machine's speed drifts.
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

from plain_measurement import MAX_IN_FLIGHT, PERCENTILE, Plain, Probe, Probed, crossing, look, measure, probed
from simulated_endpoint import plain_bisection_probes

URL = os.environ.get("MEDLEY_VLLM_URL", "")
VOCABULARY = int(os.environ.get("MEDLEY_VLLM_VOCABULARY", "32000"))
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(not URL, reason="needs a real vLLM: run make test-vllm, or set MEDLEY_VLLM_URL"),
]
INPUTS, OUTPUTS = (16, 32, 64), (16, 32)
SIZES = [(inputs, outputs) for inputs in INPUTS for outputs in OUTPUTS]
PROBE_REQUESTS = 600  # measured ones of a probe of `profile run`, its default
TOLERANCE = 0.05
MOST_REQUESTS = 0.2  # of a full grid's
SLOWDOWN = 3.0  # the TPOT objective over the unloaded latency


async def ask(session: aiohttp.ClientSession, model: str, inputs: int, outputs: int) -> float:
    """TPOT in ms of one request."""
    body: dict[str, Any] = {
        "model": model,
        "prompt": [random.randrange(10, VOCABULARY - 10) for _ in range(inputs)],
        "max_tokens": outputs,
        "ignore_eos": True,
        "stream": True,
    }
    times = []
    async with session.post(f"{URL}/v1/completions", json=body) as response:
        assert response.status == 200, await response.text()
        async for line in response.content:
            if line.startswith(b"data: {"):
                times.append(time.monotonic())
    return 1000.0 * (times[-1] - times[0]) / (outputs - 1)


def probe_of(model: str) -> Probe:
    """Probes of the real server, each told in the log."""

    async def probe(size: tuple[int, int], rate_rps: float, requests: int) -> Probed:
        found = await probe_once(model, size, rate_rps, requests)
        print(
            f"    {size[0]}/{size[1]}, {found.requests} requests at {found.rate_rps:.2f} req/s: "
            f"TPOT p{PERCENTILE:.0f} {found.tpot_ms:.2f} ms"
        )
        return found

    return probe


async def probe_once(model: str, size: tuple[int, int], rate_rps: float, requests: int) -> Probed:
    tpot_ms = [math.nan] * requests
    sent_s: list[float] = []
    in_flight = 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(number: int) -> None:
            nonlocal in_flight
            in_flight += 1
            tpot_ms[number] = await ask(session, model, *size)
            in_flight -= 1

        tasks = []
        at_s = time.monotonic()
        for number in range(requests):
            at_s += random.expovariate(rate_rps)
            await asyncio.sleep(max(0.0, at_s - time.monotonic()))
            tasks.append(asyncio.create_task(one(number)))
            sent_s.append(time.monotonic())
            if in_flight > MAX_IN_FLIGHT:
                break
        await asyncio.gather(*tasks)
    if len(sent_s) < requests:
        return Probed(rate_rps, math.inf, len(sent_s))
    return probed(sent_s, tpot_ms)


async def unloaded_tpot_ms(model: str) -> float:
    async with aiohttp.ClientSession() as session:
        values = [await ask(session, model, INPUTS[-1], OUTPUTS[-1]) for _ in range(30)]
    return sorted(values)[15]


async def model_name() -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{URL}/v1/models") as response:
        return str((await response.json())["data"][0]["id"])


def test_profile_run_agrees_with_a_plain_measurement_of_every_size(tmp_path: Path) -> None:
    from medley.model.workload import Size
    from medley.profiles.latency import LatencyTarget

    model = asyncio.run(model_name())
    tpot_ms = round(SLOWDOWN * asyncio.run(unloaded_tpot_ms(model)), 1)
    print(f"\nobjective: TPOT {tpot_ms} ms at p{PERCENTILE:.0f}")
    probe, plains = probe_of(model), [Plain(size) for size in SIZES]
    plain_s = 0.0
    for plain in plains:
        begun_s = time.monotonic()
        asyncio.run(look(probe, plain, tpot_ms))
        asyncio.run(measure(probe, plain, tpot_ms))
        plain_s += time.monotonic() - begun_s
    measured, sent = profile_run(tmp_path, tpot_ms)
    begun_s = time.monotonic()
    for plain in plains:
        asyncio.run(measure(probe, plain, tpot_ms))
    plain_s += time.monotonic() - begun_s

    target = LatencyTarget(tpot_ms=tpot_ms, percentile=PERCENTILE)
    errors, full = [], 0.0
    for plain in plains:
        inputs, outputs = plain.size
        plain_rps, uncertain = crossing(plain.probes, tpot_ms)
        half = len(plain.probes) // 2
        before_rps, after_rps = (crossing(part, tpot_ms)[0] for part in (plain.probes[:half], plain.probes[half:]))
        rate = measured.max_throughput(Size(inputs, outputs), target).rate_rps
        errors.append(rate / plain_rps - 1.0)
        full += full_grid_requests(outputs, plain_rps, tpot_ms)
        print(
            f"  {inputs}/{outputs}: profile run {rate:.2f} req/s, plain {plain_rps:.2f} req/s ({errors[-1]:+.1%})\n"
            f"    plain: standard error {uncertain:.1%}; {before_rps:.2f} before, {after_rps:.2f} after; "
            f"{plain.requests} requests"
        )
    print(f"plain: {sum(plain.requests for plain in plains)} requests in {plain_s:.0f} s")
    print(f"a full grid to 4 % would send {full:.0f} requests; profile run sent {sent / full:.1%} of them")
    assert max(map(abs, errors)) <= TOLERANCE
    assert sent / full <= MOST_REQUESTS


def profile_run(folder: Path, tpot_ms: float) -> tuple[Any, int]:
    """Runs the command as a user would; the `Measured` of its manifest, and how many requests it sent."""
    from medley.model.workload import Size
    from medley.profiles.measured import Latency, LoadPoint, Measured

    output, journal = folder / "profile.yaml", folder / "journal"
    command = [
        *(sys.executable, "-c", STARTER, "run", "--url", URL, "--gpu", "cpu", "--yes", "--all-sizes"),
        *("--inputs", ",".join(map(str, INPUTS)), "--outputs", ",".join(map(str, OUTPUTS))),
        *("--slo", f"tpot={tpot_ms}ms", "--percentile", f"{PERCENTILE:g}", "--vocab-size", str(VOCABULARY)),
        *("--max-concurrency", str(MAX_IN_FLIGHT), "--output", str(output), "--journal", str(journal)),
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
    return Measured(
        tuple(
            LoadPoint(
                Size(point["inputTokens"], point["outputTokens"]),
                point["requestsPerSecond"],
                Latency(p90_ms=point["tpotMs"]["p90"]),
                Latency(p90_ms=point["ttftMs"]["p90"]),
            )
            for point in points
        )
    ), sent


def full_grid_requests(outputs: int, rate_rps: float, tpot_ms: float) -> float:
    """Requests of a search without a model, for one size: doublings from the unloaded rate, halvings to 4 %.

    Each probe measures as many requests as one of `profile run`, and sends as many again as run at a time, twice: while
    the replica fills and while it empties.
    """
    running = rate_rps * outputs * tpot_ms / 1000.0
    unloaded_rps = 1000.0 * SLOWDOWN / (outputs * tpot_ms)
    return plain_bisection_probes(unloaded_rps, rate_rps, 0.04) * (PROBE_REQUESTS + 2.0 * running)


# The command alone, whatever `medley profile` also has.
STARTER = """
import argparse, sys
from medley.cli.profile_run import register
parser = argparse.ArgumentParser()
register(parser.add_subparsers())
args = parser.parse_args()
sys.exit(args.run(args))
"""
