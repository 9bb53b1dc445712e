"""Steady demand that is measured with noise, in a closed loop of decisions: what starts must not go at once again."""

from __future__ import annotations

import bisect
import math
import random
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import pytest

from medley.api.convert import Resources
from medley.controller.memory import Memory
from medley.cycle.decide import decide
from medley.cycle.snapshot import ServiceState, Settings, Snapshot
from medley.lab.traces import recorded_trace
from medley.model.objects import RoutingMode
from medley.model.samples import HistogramRate, ReadyReplica, ReplicaSample, ServiceSamples
from medley.planning.steps import VariantState

EDGES = (*(float(m * 10**e) for e in range(5) for m in (1, 2, 5)), math.inf)
"""vLLM's edges of token histograms: 1, 2, 5 and their multiples by powers of ten."""

INTERVAL_S, RATES_S, READY_AFTER_S = 2.0, 12.0, 4.0
Asked = list[tuple[float, dict[str, int]]]


def rates(tokens: Sequence[int]) -> HistogramRate:
    counts = [0.0] * len(EDGES)
    for count in tokens:
        counts[bisect.bisect_left(EDGES, count)] += 1 / RATES_S
    return HistogramRate(EDGES, tuple(counts), sum(tokens) / RATES_S)


def replica(name: str, requests: Sequence[tuple[int, int]]) -> ReplicaSample:
    prompt, output = rates([size[0] for size in requests]), rates([size[1] for size in requests])
    rate_rps = len(requests) / RATES_S
    return ReplicaSample(name, "", 1.0, prompt, output, rate_rps, running=1.0, waiting=0.0, waiting_growth_rps=0.0)


def asked(chat: Resources, seed: int, stabilisation_s: float, rate_rps: float = 8.0, cycles: int = 90) -> Asked:
    """Replicas asked for at each time, of Poisson arrivals with the sizes of the recorded trace."""
    rng, sizes, memory = random.Random(seed), recorded_trace(), Memory(keep_s=600.0)
    (service,) = chat.services
    settings = Settings(stabilisation_s=stabilisation_s, change_cost=0.3)
    pods: dict[str, list[float]] = {}  # start times, oldest first
    arrived: list[tuple[float, tuple[int, int]]] = []
    out: Asked = []
    for cycle in range(cycles):
        now_s = 1e6 + cycle * INTERVAL_S
        at_s = now_s - INTERVAL_S
        while (at_s := at_s + rng.expovariate(rate_rps)) < now_s:
            size = rng.choice(sizes)
            arrived.append((at_s, (size.input_tokens, size.output_tokens)))
        arrived = [item for item in arrived if item[0] > now_s - RATES_S]
        ready = {name: sum(now_s - start >= READY_AFTER_S for start in starts) for name, starts in pods.items()}
        names = [f"{name}-{number}" for name, count in ready.items() for number in range(count)]
        samples = ()
        if names:
            got = defaultdict(list)
            for _, size_of in arrived:
                got[rng.choice(names)].append(size_of)
            samples = (ServiceSamples(service.key, RATES_S, tuple(replica(name, got[name]) for name in names)),)
        state = ServiceState(
            service.key,
            tuple(VariantState(name, len(s), ready[name], len(s), name) for name, s in pods.items()),
            tuple(ReadyReplica(name) for name in names),
            RoutingMode.INPUT_RANGE,
            memory.past(service.key),
            memory.last_known(service.key),
        )
        snapshot = Snapshot(now_s, settings, (service,), chat.pools, chat.profiles, (state,), samples)
        decision = decide(snapshot)
        memory.remember(decision, now_s)
        want = {variant.name: variant.desired for variant in decision.services[0].variants}
        for name, count in want.items():
            starts = pods.setdefault(name, [])
            del starts[count:]
            starts += [now_s] * (count - len(starts))
        out.append((now_s, want))
    return out


def reversals(series: Asked, within_s: float) -> int:
    """How often a variant shrinks within a time after it grew."""
    grew: dict[str, float] = {}
    count = 0
    for (_, before), (at_s, now) in pairwise(series):
        for name in {*before, *now}:
            change = now.get(name, 0) - before.get(name, 0)
            if change > 0:
                grew[name] = at_s
            elif change < 0 and at_s - grew.get(name, -math.inf) < within_s:
                count += 1
    return count


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noise_makes_nothing_come_and_go_and_calm_costs_little(chat: Resources, seed: int) -> None:
    prices = {pool.name: pool.offerings[0].price_per_node_hour for pool in chat.pools}

    def paid(series: Asked) -> float:
        return sum(prices[name] * count for _, want in series for name, count in want.items()) / len(series)

    calm, restless = (asked(chat, seed, window_s)[15:] for window_s in (20.0, 2 * INTERVAL_S + 0.1))
    assert reversals(restless, 20.0) >= 4, "there must be noise to calm"
    assert reversals(calm, 20.0) <= reversals(restless, 20.0) / 3
    assert paid(calm) <= 1.1 * paid(restless)
