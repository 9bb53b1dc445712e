"""The load generator against the simulated server: what clients measure is what the step model says."""

from __future__ import annotations

import asyncio
import math
import random
import socket

import pytest

from medley.lab.load import Latency, LoadGenerator, Outcome, OutcomeStatus, latency_percentile, slo_attainment
from medley.lab.router import Router, RoutingTable, Target
from medley.lab.traces import Trace, TraceRequest
from medley.lab.vllm_engine import Engine
from medley.lab.vllm_server import SimulatedPods, VllmServer
from medley.profiles.step import StepModel

MODEL = StepModel(10.0, 0.1, 0.0002, 0.02, kv_capacity_tokens=40_000, max_batch=64)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def served(trace: Trace, *, stream_interval: int = 1) -> tuple[Outcome, ...]:
    async def main() -> tuple[Outcome, ...]:
        engine = Engine(MODEL, rng=random.Random(1), noise=0.0)
        server = VllmServer("127.0.0.1", 0, "tiny", engine, 4096, stream_interval=stream_interval)
        await server.start()
        target = Target("l4", server.base_url)
        load = LoadGenerator(trace, lambda _: target, model_name="tiny")
        await load.run()
        await server.stop(timeout_s=1)
        return load.outcomes()

    return asyncio.run(main())


@pytest.mark.parametrize("stream_interval", [1, 16])
def test_clients_of_an_unloaded_server_measure_the_step_model(stream_interval: int) -> None:
    trace = tuple(TraceRequest(number * 0.8, 1000, 41) for number in range(3))
    outcomes = served(trace, stream_interval=stream_interval)
    for outcome in outcomes:
        assert outcome.status is OutcomeStatus.OK
        assert (outcome.input_tokens, outcome.output_tokens, outcome.variant) == (1000, 41, "l4")
        assert outcome.ttft_ms == pytest.approx(10 + 0.02 * 1000, abs=15)
        assert outcome.tpot_ms == pytest.approx(10 + 0.1 + 0.0002 * 1020, rel=0.08)
    assert [outcome.at_s for outcome in outcomes] == [request.at_s for request in trace]


def test_the_loop_is_open() -> None:
    outcomes = served(tuple(TraceRequest(0.01 * number, 10, 20) for number in range(20)))
    # 20 requests of 0.2 s each one after the other would take 4 s and end in order with a flat TTFT.
    assert len(outcomes) == 20
    assert latency_percentile(outcomes, Latency.TTFT, 95) < 100
    assert slo_attainment(outcomes, tpot_ms=25, ttft_ms=250) == 1.0


def test_refusals_are_recorded() -> None:
    long = served((TraceRequest(0.0, 5000, 10),))  # 400: longer than the model
    assert [outcome.status for outcome in long] == [OutcomeStatus.REFUSED]
    nowhere = LoadGenerator((TraceRequest(0.0, 10, 10),), lambda _: None)
    asyncio.run(nowhere.run())
    (outcome,) = nowhere.outcomes()
    assert (outcome.status, outcome.variant, outcome.output_tokens) == (OutcomeStatus.REFUSED, "", 0)
    assert math.isnan(outcome.ttft_ms)


def test_a_refused_connection_is_tried_once_elsewhere() -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    text = (
        '{"schemaVersion": 1, "service": "a/b", "generation": 1, "mode": "InputRange", "inputEdges": [],'
        ' "shares": [{"variant": "l4", "byRange": [1]}]}'
    )
    pods = SimulatedPods()
    try:
        alive = pods.start("pod", "127.0.0.1", 0, model_name="m", step_model=MODEL, max_model_len=4096, seed=1)
        router = Router(RoutingTable.parse(text), {"l4": [dead, alive]}, random.Random(1))
        trace = tuple(TraceRequest(0.02 * number, 10, 2) for number in range(20))
        load = LoadGenerator(trace, router.pick, repick=router.pick_other, done=router.done)
        load.start()
        assert load.join(10)
        assert [outcome.status for outcome in load.outcomes()] == [OutcomeStatus.OK] * 20
        assert router.outstanding() == {}
        router.set_endpoints({"l4": [dead]})
        only_dead = LoadGenerator(trace[:3], router.pick, repick=router.pick_other, done=router.done)
        asyncio.run(only_dead.run())
        assert {outcome.status for outcome in only_dead.outcomes()} == {OutcomeStatus.REFUSED}
        plain = LoadGenerator(trace[:1], lambda _: Target("l4", dead))
        asyncio.run(plain.run())
        assert [outcome.status for outcome in plain.outcomes()] == [OutcomeStatus.REFUSED]
    finally:
        pods.close()


def test_a_server_that_breaks_off_fails_the_request() -> None:
    pods = SimulatedPods()
    try:
        url = pods.start("pod", "127.0.0.1", 0, model_name="m", step_model=MODEL, max_model_len=4096, seed=1)
        load = LoadGenerator((TraceRequest(0.0, 10, 1000),), lambda _: Target("l4", url))
        load.start()
        assert not load.join(0.3)
        assert load.in_flight == 1
        pods.stop("pod", timeout_s=0.1)
        assert load.join(5)
        assert [outcome.status for outcome in load.outcomes()] == [OutcomeStatus.FAILED]
        assert math.isnan(load.outcomes()[0].tpot_ms)
    finally:
        pods.close()


def test_stop_breaks_off() -> None:
    load = LoadGenerator(tuple(TraceRequest(10.0 * number, 1, 1) for number in range(10)), lambda _: None)
    load.start()
    assert not load.join(0.1)
    load.stop()
    load.stop()
    assert load.join(1)
    assert len(load.outcomes()) == 1


def outcome(at_s: float, ttft_ms: float, tpot_ms: float, status: OutcomeStatus = OutcomeStatus.OK) -> Outcome:
    return Outcome(at_s, 10, 10, ttft_ms, tpot_ms, "l4", status)


def test_attainment_counts_refused_requests_as_missed() -> None:
    outcomes = (
        outcome(0, 100, 20),
        outcome(1, 900, 20),
        outcome(2, 100, 80),
        outcome(3, math.nan, math.nan, OutcomeStatus.REFUSED),
    )
    assert slo_attainment(outcomes) == 0.75
    assert slo_attainment(outcomes, tpot_ms=50) == 0.5
    assert slo_attainment(outcomes, tpot_ms=50, ttft_ms=500) == 0.25
    assert slo_attainment(outcomes, tpot_ms=50, since_s=2) == 0.0
    assert math.isnan(slo_attainment(outcomes, since_s=9))


def test_percentiles_are_of_served_requests() -> None:
    outcomes = [outcome(number, float(number), 1.0) for number in range(1, 101)]
    outcomes.append(outcome(5, math.nan, math.nan, OutcomeStatus.FAILED))
    assert latency_percentile(outcomes, Latency.TTFT, 95) == 95.0
    assert latency_percentile(outcomes, Latency.TTFT, 0) == 1.0
    assert latency_percentile(outcomes, Latency.TPOT, 50, since_s=50) == 1.0
    assert math.isnan(latency_percentile([], Latency.TPOT, 50))
