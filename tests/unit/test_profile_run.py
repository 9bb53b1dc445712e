"""`medley profile run`: its accuracy against a known truth, and the command against a simulated server."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from medley.api.convert import parse
from medley.cli.profile_run import manifest, register
from medley.cli.units import parse_slo
from medley.lab.vllm_server import SimulatedPods
from medley.measurement.adaptive import Plan
from medley.measurement.journal import Journal
from medley.measurement.load import Limits
from medley.measurement.probe import open_requests
from medley.measurement.session import Session
from medley.model.engine import EngineFlags
from medley.model.errors import UserError
from medley.model.workload import Size
from medley.profiles.latency import LatencyTarget
from medley.profiles.measured import Latency, LoadPoint, Measured
from medley.profiles.step import StepModel
from simulated_endpoint import (
    SimulatedEndpoint,
    now_s,
    on_virtual_time,
    plain_bisection_probes,
    true_highest_rate,
    unloaded_rps,
)

TRUTH = StepModel(5.0, 0.08, 0.0002, 0.008, kv_capacity_tokens=10**7, max_batch=512)
MAX_CONCURRENCY = 400


def compare(plan: Plan, model: StepModel, *, seed: int, truth_requests: int) -> tuple[float, float]:
    """The worst relative error of a size, and the share of a full grid's requests that was used."""

    async def measure() -> tuple[Measured, int]:
        async with SimulatedEndpoint(model, seed=seed) as endpoint:
            session = Session(
                plan, endpoint, Journal(None, {}), Limits(plan.max_concurrency, 60.0), seed=seed, clock=now_s
            )
            found = await session.run()
            return found.measured, len(endpoint.requests)

    measured, used = on_virtual_time(measure())
    worst, full_grid = 0.0, 0.0
    for size in plan.sizes:
        truth_rps = true_highest_rate(model, size, plan.target, requests=truth_requests)
        error = measured.max_throughput(size, plan.target).rate_rps / truth_rps - 1.0
        worst = max(worst, abs(error))
        # The plain way: every size, probes of one length, each with as little warm-up and tail as it can do with.
        running = truth_rps * size.output_tokens * (plan.target.tpot_ms or math.inf) / 1000.0
        probes = plain_bisection_probes(unloaded_rps(model, size), truth_rps, plan.tolerance)
        full_grid += probes * (open_requests(plan.target.percentile, 0.7 * running) + 2.0 * running)
        print(f"{size}: true {truth_rps:.4g} req/s, error {error:+.1%}, a plain bisection takes {probes} probes")  # noqa: T201
    print(f"requests: {used}, full grid {full_grid:.0f}: {used / full_grid:.1%}")  # noqa: T201
    return worst, used / full_grid


def test_finds_the_true_rates_within_five_percent_with_a_fifth_of_the_requests() -> None:
    plan = Plan((64, 256, 1024), (32, 64), LatencyTarget(20.0, 500.0, 95.0), max_concurrency=MAX_CONCURRENCY)
    worst, share = compare(plan, TRUTH, seed=1, truth_requests=8000)
    assert worst <= 0.05
    assert share <= 0.2


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    ("model", "target"),
    [
        (TRUTH, LatencyTarget(20.0, 500.0, 95.0)),
        (TRUTH, LatencyTarget(12.0, None, 90.0)),
        (StepModel(8.0, 0.2, 0.0004, 0.03, 10**7, 256), LatencyTarget(30.0, 120.0, 95.0)),
    ],
    ids=["loose", "tight", "ttft"],
)
def test_finds_the_true_rates_of_a_larger_grid(model: StepModel, target: LatencyTarget, seed: int) -> None:
    plan = Plan((64, 256, 512, 1024), (32, 64, 128, 256), target, max_concurrency=MAX_CONCURRENCY)
    worst, share = compare(plan, model, seed=seed, truth_requests=20_000)
    assert worst <= 0.05
    assert share <= 0.2


# The command


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    pods = SimulatedPods(stream_interval=64)
    fast = StepModel(8.0, 0.3, 0.0001, 0.005, kv_capacity_tokens=100_000, max_batch=128)
    yield pods.start("a", "127.0.0.1", 0, model_name="org/Tiny", step_model=fast, max_model_len=2048, seed=1)
    pods.close(timeout_s=0.1)


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    return parser.parse_args(["run", *arguments])


def command(url: str, *more: str) -> int:
    args = parsed(
        *("--url", url, "--gpu", "L4", "--slo", "tpot=16ms,ttft=1s", "--percentile", "90", "--requests", "60"),
        *("--inputs", "64", "--outputs", "16", "--tolerance", "0.5", *more),
    )
    return int(args.run(args))


@dataclass(frozen=True)
class Made:
    """What one real run left."""

    output: Path
    journal: Path
    out: str
    err: str


@pytest.fixture(scope="module")
def made(url: str, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    output, journal = folder / "profile.yaml", folder / "journal"
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        assert command(url, "--yes", "--output", str(output), "--journal", str(journal)) == 0
    return Made(output, journal, out.getvalue(), " ".join(err.getvalue().split()))


def test_writes_a_throughput_profile(made: Made) -> None:
    document = yaml.safe_load(made.output.read_text())
    assert document["kind"] == "ThroughputProfile"
    assert document["metadata"]["name"] == "tiny-l4-tp1"
    spec = document["spec"]
    assert spec["key"] == {"model": "org/Tiny", "gpu": "L4", "tensorParallelSize": 1}
    assert spec["provenance"]["kind"] == "Measured"
    assert spec["provenance"]["tool"].startswith("medley profile run ")
    date.fromisoformat(spec["provenance"]["date"])
    for point in spec["measured"]["points"]:
        assert (point["inputTokens"], point["outputTokens"]) == (64, 16)
        assert point["tpotMs"]["p50"] <= point["tpotMs"]["p90"] <= point["tpotMs"]["p99"]
    assert made.out == ""
    for words in ("Will send about", "in flight", "highest rate per size"):
        assert words in made.err


def test_goes_on_from_a_journal_and_writes_what_is_there(
    url: str, made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    first, journal = yaml.safe_load(made.output.read_text()), made.journal.read_text()
    assert command(url, "--yes", "--journal", str(made.journal)) == 0
    said = capsys.readouterr()
    assert yaml.safe_load(said.out) == first
    assert f"has {len(journal.splitlines()) - 1} finished probes" in " ".join(said.err.split())
    assert made.journal.read_text() == journal
    assert command(url, "--partial", "--journal", str(made.journal)) == 0
    assert yaml.safe_load(capsys.readouterr().out) == first
    with pytest.raises(UserError, match="slo is 'tpot=16ms,ttft=1s' there and 'tpot=17ms' now"):
        command(url, "--yes", "--journal", str(made.journal), "--slo", "tpot=17ms")


def test_sends_nothing_when_nobody_can_agree(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
    with pytest.raises(UserError, match="--yes"):
        command(url)


def test_an_interrupt_ends_with_130_and_keeps_what_is_done(url: str, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    starter = (
        "import argparse, sys\nfrom medley.cli.profile_run import register\n"
        "parser = argparse.ArgumentParser()\nregister(parser.add_subparsers())\n"
        "args = parser.parse_args()\nsys.exit(args.run(args))"
    )
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", starter, "run", "--url", url, "--gpu", "L4", "--yes", "--journal", str(journal)),
            *("--slo", "tpot=16ms", "--inputs", "64", "--outputs", "16"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while not (journal.exists() and len(journal.read_text().splitlines()) > 1) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "finished probes are in" in said
    assert "Traceback" not in said
    assert all(json.loads(line) for line in journal.read_text().splitlines())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--slo", "tpot=40"), "--slo"),
        (("--slo", "tpot=0ms"), "--slo"),
        (("--slo", "tpot=4ms,tpot=5ms"), "--slo"),
        (("--percentile", "97"), "--percentile"),
        (("--inputs", "512,128"), "--inputs"),
        (("--inputs", "0"), "--inputs"),
        (("--outputs", "a"), "--outputs"),
        (("--outputs", "1,2"), "one token has no TPOT"),
        (("--tolerance", "0"), "--tolerance"),
        (("--max-concurrency", "1"), "--max-concurrency"),
        (("--partial",), "needs --journal"),
        (("--output", "/nowhere/at/all.yaml"), "folder does not exist"),
        (("--api-key-file", "/nowhere"), "--api-key-file"),
        (("--inputs", "64,2040", "--yes"), "the model takes 2048"),
        (("--model", "other", "--yes"), "'other' is not served: org/Tiny is"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_is_refused_before_anything_is_sent(url: str, arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        command(url, *arguments)


def test_the_slo_is_read_with_its_units() -> None:
    assert parse_slo("tpot=40ms, ttft=2.5s", percentile=95.0) == LatencyTarget(40.0, 2500.0, 95.0)
    assert parse_slo("ttft=800ms", percentile=99.0) == LatencyTarget(None, 800.0, 99.0)


def test_the_manifest_states_the_points() -> None:
    tpot, ttft = Latency(10.0, 9.0, 12.0, 13.123456, 15.0), Latency(100.0, 90.0)
    point = LoadPoint(Size(128, 64), 3.14159265, tpot, ttft, 12.5, 600)
    document: dict[str, Any] = manifest(
        flags=EngineFlags(quantization="fp8"),
        name="a",
        model="m",
        gpu="H100",
        tensor_parallel_size=2,
        engine="vllm",
        measured=Measured((point,)),
        today=date(2026, 11, 23),
    )
    assert document["spec"]["measured"]["points"] == [
        {
            "inputTokens": 128,
            "outputTokens": 64,
            "requestsPerSecond": 3.1416,
            "concurrency": 12.5,
            "requests": 600,
            "tpotMs": {"mean": 10.0, "p50": 9.0, "p90": 12.0, "p95": 13.123, "p99": 15.0},
            "ttftMs": {"mean": 100.0, "p50": 90.0},
        }
    ]
    assert document["spec"]["provenance"]["date"] == "2026-11-23"
    found = parse([document])
    assert not found.errors
    rate = found.profiles[0].max_throughput(Size(128, 64), LatencyTarget(tpot_ms=20.0), 2048)
    assert rate.rate_rps == pytest.approx(3.1416)
