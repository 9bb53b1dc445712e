"""The plain measurement that `make test-vllm` holds `profile run` against is itself right, where the truth is known."""

from __future__ import annotations

import asyncio
import math
import statistics

import pytest

from medley.model.workload import Size
from medley.profiles.latency import LatencyTarget
from plain_measurement import (
    FAR,
    LONG_PROBES,
    PERCENTILE,
    TPOT_MS,
    Plain,
    Probed,
    crossing,
    measure,
    on_engine,
    paced,
)
from simulated_endpoint import true_highest_rate


@pytest.mark.parametrize("size", [(16, 32), (64, 16)])
def test_it_finds_the_true_rate_of_the_engine(size: tuple[int, int]) -> None:
    truth = true_highest_rate(paced(size), Size(*size), LatencyTarget(tpot_ms=TPOT_MS, percentile=PERCENTILE))
    found = [on_engine(paced(size), size, TPOT_MS, seed=seed) for seed in range(6)]
    errors = [rate / truth - 1.0 for rate, _ in found]
    assert abs(statistics.mean(errors)) < 0.02
    assert max(map(abs, errors)) < 0.05
    assert 0.004 < statistics.mean(uncertain for _, uncertain in found) < 0.02


def test_the_crossing_of_a_power_law_is_exact() -> None:
    rate, uncertain = crossing([Probed(at, 50.0 * (at / 30.0) ** 1.7, 1) for at in (26.0, 29.0, 33.0)], 50.0)
    assert rate == pytest.approx(30.0)
    assert uncertain == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("about_rps", [15.0, 25.0, 60.0])
def test_probes_far_from_the_objective_are_made_again_and_counted(about_rps: float) -> None:
    sent = []

    async def probe(size: tuple[int, int], rate_rps: float, requests: int) -> Probed:
        sent.append(requests)
        overloaded = rate_rps > 40.0
        return Probed(rate_rps, math.inf if overloaded else 50.0 * (rate_rps / 30.0) ** 2.5, requests)

    plain = Plain((32, 32), about_rps=about_rps)
    asyncio.run(measure(probe, plain, 50.0))
    assert len(plain.probes) == LONG_PROBES < len(sent)
    assert plain.requests == sum(sent)
    assert all(50.0 / FAR < found.tpot_ms < 50.0 * FAR for found in plain.probes)
    assert crossing(plain.probes, 50.0)[0] == pytest.approx(30.0)
