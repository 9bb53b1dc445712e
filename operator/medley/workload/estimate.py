"""From samples of replicas to a workload, in three states.

Demand is corrected upward, never downward: the rate is of requests that started (their first token came), which counts
aborted ones and does not wait for completion; a growing queue and a backlog add to it; a replica that should have a
sample and has none is taken to be as busy as the busiest one seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from medley.model.samples import HistogramRate, ReadyReplica, ReplicaSample, ServiceSamples
from medley.model.workload import Bucket, Knowledge, Size, Workload
from medley.workload.histogram import Marginal, independent, marginal

MAX_AGE_S = 60.0
"""A newest sample older than this does not count as one."""

BACKLOG_DRAIN_S = 30.0
"""A backlog is planned to be worked off in this time, on top of what keeps arriving."""

STEADY_UNFINISHED = 0.2
"""Share by which starts may exceed completions without a correction: rates over short windows differ by chance."""

COMPLETE = 0.95
"""Share of Ready replicas that samples must cover before anything may shrink (DESIGN §6 rule 2)."""


def estimate(
    samples: ServiceSamples | None,
    ready_replicas: Sequence[ReadyReplica],
    *,
    max_tokens: float,
    max_age_s: float = MAX_AGE_S,
    past: Workload | None = None,
) -> Workload:
    """The demand of one service.

    Args:
        samples: what was measured; None if nothing was asked.
        ready_replicas: the replicas that are Ready now.
        max_tokens: longest context; where the histograms' open cells end.
        max_age_s: older samples do not count.
        past: the last known workload: its mix of sizes serves while requests wait but none has finished.
    """
    if samples is None or samples.fault:
        return _unknown(samples.fault if samples else "no metrics were read")
    if not ready_replicas:
        return _unknown("no replica is Ready, so nothing measures the demand")
    ready = {replica.name: replica for replica in ready_replicas}
    usable, faults = [], []
    for sample in samples.replicas:
        if sample.replica not in ready:
            continue
        fault = sample.fault or _fault(sample, max_age_s)
        if fault:
            faults.append(f"{sample.replica}: {fault}")
        else:
            usable.append(sample)
    coverage = len(usable) / len(ready)
    if not usable:
        return _unknown("; ".join(faults[:3]) or "no Ready replica has a sample yet", coverage=0.0)
    age_s = max(sample.age_s or 0.0 for sample in usable)
    demands = [_demand_rps(sample) for sample in usable]
    backlog = sum(max(0.0, (sample.waiting or 0.0)) for sample in usable) / BACKLOG_DRAIN_S
    imputed = _imputed_rps(ready, {s.replica: rps for s, rps in zip(usable, demands, strict=True)}, samples.window_s)
    rate = sum(demands) + backlog + imputed
    reason = ""
    if len(usable) < len(ready):
        reason = (
            f"{len(usable)} of {len(ready)} Ready replicas have samples; the others count as busy as the busiest, "
            "new ones as idle" + (f" ({faults[0]})" if faults else "")
        )
    running = sum(sample.running or 0.0 for sample in usable)
    if rate <= 0.0 and running <= 0.0:
        knowledge = Knowledge.ZERO if coverage >= COMPLETE else Knowledge.UNKNOWN
        return Workload(knowledge, coverage=coverage, age_s=age_s, reason=reason, sources=("prometheus",))
    inputs = marginal(_total(sample.prompt for sample in usable), max_tokens)
    outputs = marginal(_total(sample.generation for sample in usable), max_tokens)
    if rate <= 0.0 and outputs is not None:
        # Requests run and none arrives: those that finish are what is known of the demand.
        rate = _finished_rps(usable)
    if inputs is None or outputs is None:
        if past is None or past.rate_rps <= 0.0:
            return _unknown(
                "requests are running, but none has finished yet: their sizes are unknown", coverage=coverage
            )
        factor = max(rate, past.rate_rps) / past.rate_rps
        buckets = tuple(Bucket(b.size, b.rate_rps * factor, b.input_range) for b in past.buckets)
        return Workload(
            Knowledge.VALUE,
            buckets,
            past.input_edges,
            coverage,
            age_s,
            past.uncertainty,
            reason or "sizes are those last seen",
            ("prometheus",),
        )
    finished = _total(sample.generation for sample in usable)
    seen = (finished.total_rps if finished else 0.0) * samples.window_s
    started = sum(sample.started_rps or 0.0 for sample in usable)
    outputs = _with_unfinished(outputs, started, finished.total_rps if finished else 0.0)
    buckets, edges = _buckets(inputs, outputs, rate)
    return Workload(
        Knowledge.VALUE,
        buckets,
        edges,
        coverage,
        age_s,
        # One standard error of a count: with few requests the histogram itself is uncertain.
        uncertainty=1.0 / math.sqrt(max(seen, 1.0)),
        reason=reason,
        sources=("prometheus",),
    )


def _unknown(reason: str, coverage: float = 0.0) -> Workload:
    return Workload(Knowledge.UNKNOWN, coverage=coverage, reason=reason)


def _fault(sample: ReplicaSample, max_age_s: float) -> str:
    """Why a sample does not count, naming the metric and what to look at; empty if it counts."""
    values: dict[str, list[float] | None] = {
        "vllm:time_to_first_token_seconds_count": _listed(sample.started_rps),
        "vllm:num_requests_running": _listed(sample.running),
        "vllm:request_prompt_tokens": _numbers(sample.prompt),
        "vllm:request_generation_tokens": _numbers(sample.generation),
    }
    missing = [name for name, numbers in values.items() if numbers is None]
    if missing:
        return f"{missing[0]} is missing; check that Prometheus scrapes the pod"
    if sample.age_s is None or sample.age_s > max_age_s:
        age = "of unknown age" if sample.age_s is None else f"{sample.age_s:.0f} s old"
        return f"the newest sample is {age}; check that Prometheus scrapes the pod"
    if sample.waiting is not None:
        values["vllm:num_requests_waiting"] = [sample.waiting]
    for name, numbers in values.items():
        if any(not math.isfinite(number) for number in numbers or ()):
            return f"{name} is not a finite number; check what exports it"
        if any(number < 0 for number in numbers or ()):
            return f"{name} is negative; check what exports it"
    return ""


def _imputed_rps(ready: Mapping[str, ReadyReplica], seen_rps: Mapping[str, float], window_s: float) -> float:
    """What replicas without a sample are taken to serve: as much as the busiest of their variant, or else of all.

    A replica that is Ready for less than a window adds nothing: the requests it takes were counted at others until
    now, and the peak of the stabilisation window still holds them. Counted twice, every rise would feed itself.
    """
    variants = {name: replica.variant for name, replica in ready.items()}
    total = 0.0
    for name, replica in ready.items():
        if name in seen_rps or (replica.ready_for_s is not None and replica.ready_for_s < window_s):
            continue
        alike = [rps for other, rps in seen_rps.items() if variants[other] == replica.variant]
        total += max(alike or seen_rps.values())
    return total


def _listed(number: float | None) -> list[float] | None:
    return None if number is None else [number]


def _numbers(histogram: HistogramRate | None) -> list[float] | None:
    return None if histogram is None else [*histogram.rates_rps, histogram.tokens_per_s]


def _demand_rps(sample: ReplicaSample) -> float:
    """Requests per second that arrive at a replica: those that start, and what its queue gains.

    Not those that finish: when traffic moves from one replica to another they would be counted at both.
    """
    growth = sample.waiting_growth_rps or 0.0
    return (sample.started_rps or 0.0) + (growth if math.isfinite(growth) and growth > 0 else 0.0)


def _finished_rps(samples: Sequence[ReplicaSample]) -> float:
    """Requests per second that finish."""
    return sum(sample.generation.total_rps for sample in samples if sample.generation)


def _with_unfinished(outputs: Marginal, started_rps: float, finished_rps: float) -> Marginal:
    """Output lengths, corrected for requests that have begun and not finished.

    Short outputs finish first, so under a rise the histogram shows too short a mix. A share of unfinished requests that
    a steady state would not have is taken to be as long as the longest cell seen.
    """
    if started_rps <= 0.0:
        return outputs
    unfinished = 1.0 - finished_rps / started_rps - STEADY_UNFINISHED
    if unfinished <= 0.0:
        return outputs
    weights = [weight * (1.0 - unfinished) for weight in outputs.weights]
    weights[-1] += unfinished
    return Marginal(outputs.edges, outputs.means, tuple(weights))


def _total(histograms: Iterable[HistogramRate | None]) -> HistogramRate | None:
    """Sum of histograms, over the union of their edges.

    Replicas with different max_model_len have different edges; a cell is kept where its own histogram put it, and
    cumulative counts at another's edges are interpolated on a log scale by `marginal`, so edges need not agree.
    """
    present = [histogram for histogram in histograms if histogram is not None and histogram.total_rps > 0]
    if not present:
        return None
    cells: dict[float, float] = {}
    for histogram in present:
        for edge, rate in zip(histogram.edges, histogram.rates_rps, strict=True):
            cells[edge] = cells.get(edge, 0.0) + rate
    edges = tuple(sorted(cells))
    return HistogramRate(edges, tuple(cells[edge] for edge in edges), sum(h.tokens_per_s for h in present))


def _buckets(inputs: Marginal, outputs: Marginal, rate_rps: float) -> tuple[tuple[Bucket, ...], tuple[float, ...]]:
    edges = inputs.edges[:-1]
    buckets = tuple(
        Bucket(Size(i, o), rate_rps * weight, index)
        for (i, o), weight, index in independent(inputs, outputs)
        if weight > 0
    )
    return buckets, edges
