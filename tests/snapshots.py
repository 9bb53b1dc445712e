"""Snapshots of the example service, made by hand."""

from __future__ import annotations

import math
from dataclasses import replace

from medley.api.convert import Resources
from medley.cycle.snapshot import ServiceState, Settings, Snapshot
from medley.model.objects import Mode, RoutingMode
from medley.model.samples import HistogramRate, ReadyReplica, ReplicaSample, ServiceSamples
from medley.planning.stabilisation import PastPlan
from medley.planning.steps import VariantState

NOW = 1_000_000.0
WINDOW = 60.0


def replica(name: str, rate: float) -> ReplicaSample:
    prompt = HistogramRate((500.0, 1000.0, 2000.0, math.inf), (rate / 2, rate / 4, rate / 4, 0.0), rate * 700)
    output = HistogramRate((100.0, 200.0, 500.0, math.inf), (rate / 4, rate / 2, rate / 4, 0.0), rate * 180)
    return ReplicaSample(name, "", 1.0, prompt, output, rate, running=rate * 5, waiting=0.0, waiting_growth_rps=0.0)


def snapshot(
    chat: Resources,
    *,
    running: dict[str, int],
    samples: ServiceSamples | None,
    past_rps: float | None = None,
    acknowledged: RoutingMode | None = None,
    mode: Mode = Mode.AUTO,
) -> Snapshot:
    service = replace(chat.services[0], mode=mode)
    names = tuple(f"{variant}-{n}" for variant, count in running.items() for n in range(count))
    past = () if past_rps is None else tuple(PastPlan(NOW - t) for t in range(100, 0, -5))
    state = ServiceState(
        service.key, tuple(VariantState(name, count, count, count, name) for name, count in running.items()),
        tuple(ReadyReplica(name) for name in names),
        acknowledged, past,
    )  # fmt: skip
    return Snapshot(
        NOW, Settings(stabilisation_s=WINDOW), (service,), chat.pools, chat.profiles, (state,),
        () if samples is None else (samples,),
    )  # fmt: skip


def whole(chat: Resources, running: dict[str, int], rate: float) -> ServiceSamples:
    names = [f"{variant}-{n}" for variant, count in running.items() for n in range(count)]
    return ServiceSamples(chat.services[0].key, 60.0, tuple(replica(name, rate / len(names)) for name in names))
