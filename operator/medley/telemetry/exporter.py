"""Medley's own metrics, in Prometheus' text format: what the last cycle saw and decided, and how cycles go.

Series come from the last decision, so those of a service that is gone go with it. What is unknown has no sample.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from medley.cycle.decision import Decision, ServiceDecision
from medley.cycle.snapshot import ServiceState, Snapshot
from medley.model.objects import ServiceKey
from medley.model.workload import Knowledge

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_OF = ["namespace", "service"]
_OF_VARIANT = [*_OF, "variant", "gpu", "pool"]


class Exporter(Collector):
    """Told by the loop, read by Prometheus. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[Snapshot, Decision] | None = None
        self._registry = CollectorRegistry()
        self._cycles = Counter(
            "medley_cycles", "Planning cycles, by whether they could be done", ["result"], registry=self._registry
        )
        self._seconds = Histogram(
            "medley_cycle_duration_seconds",
            "From reading the cluster to the last write",
            buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
            registry=self._registry,
        )
        self._leads = Gauge("medley_leads", "1 where this process plans and writes", registry=self._registry)
        for result in ("done", "failed"):
            self._cycles.labels(result)
        self._registry.register(self)

    def leads(self) -> None:
        """This process plans from now on."""
        self._leads.set(1)

    def cycle(self, seconds: float, snapshot: Snapshot | None, decision: Decision | None) -> None:
        """A cycle has ended; without a decision it failed, and the last one stands."""
        self._seconds.observe(seconds)
        self._cycles.labels("failed" if decision is None else "done").inc()
        if snapshot is not None and decision is not None:
            with self._lock:
                self._last = snapshot, decision

    def text(self) -> bytes:
        """All metrics, in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """What the last decision says; called by the registry."""
        with self._lock:
            last = self._last
        if last is None:
            return ()
        snapshot, decision = last
        states = {state.key: state for state in snapshot.states}
        return (*_services(decision), *_conditions(decision), *_replicas(decision, states), _nodes(decision))


def _services(decision: Decision) -> Iterator[Metric]:
    def family(name: str, text: str, values: Iterable[tuple[ServiceDecision, float | None]]) -> GaugeMetricFamily:
        made = GaugeMetricFamily(f"medley_service_{name}", text, labels=_OF)
        for service, value in values:
            if value is not None:
                made.add_metric(_key(service), value)
        return made

    services = decision.services
    yield family(
        "demand_requests_per_second",
        "Requests that start, as measured",
        ((s, None if s.workload.knowledge is Knowledge.UNKNOWN else s.workload.rate_rps) for s in services),
    )
    yield family(
        "unserved_requests_per_second",
        "Of sizes that no variant can serve",
        ((s, sum(u.bucket.rate_rps for u in s.allocation.unserved) if s.allocation else None) for s in services),
    )
    yield family("cost_dollars_per_hour", "Of the plan", ((s, s.cost_per_hour) for s in services))
    yield family(
        "best_single_cost_dollars_per_hour",
        "Of the cheapest plan with one GPU type, kept as calm",
        ((s, s.best_single_per_hour) for s in services),
    )
    yield family(
        "lower_bound_dollars_per_hour",
        "No plan costs less",
        ((s, s.allocation.lower_bound_per_hour if s.allocation else None) for s in services),
    )
    yield family("held", "1 where nothing may shrink now", ((s, float(bool(s.held))) for s in services))


def _conditions(decision: Decision) -> Iterator[Metric]:
    made = GaugeMetricFamily(
        "medley_service_condition", "1 for the status that a condition has", labels=[*_OF, "condition", "status"]
    )
    for service in decision.services:
        for finding in service.findings:
            made.add_metric([*_key(service), finding.type, finding.status.value], 1.0)
    yield made


def _replicas(decision: Decision, states: Mapping[ServiceKey, ServiceState]) -> Iterator[Metric]:
    desired = GaugeMetricFamily("medley_replicas_desired", "Asked for now", labels=_OF_VARIANT)
    planned = GaugeMetricFamily("medley_replicas_planned", "Of the plan", labels=_OF_VARIANT)
    ready = GaugeMetricFamily("medley_replicas_ready", "Ready at the last look", labels=_OF_VARIANT)
    for service in decision.services:
        state = states.get(service.key)
        count = {variant.name: variant.ready for variant in state.variants} if state else {}
        for variant in service.variants:
            labels = [*_key(service), variant.name, variant.gpu, variant.pool]
            desired.add_metric(labels, variant.desired)
            planned.add_metric(labels, variant.planned)
            ready.add_metric(labels, count.get(variant.name, 0))
    yield from (desired, planned, ready)


def _nodes(decision: Decision) -> Metric:
    made = GaugeMetricFamily("medley_pool_nodes_desired", "Asked of a pool's scale target", labels=["pool"])
    for pool in decision.pools:
        made.add_metric([pool.pool], pool.nodes)
    return made


def _key(service: ServiceDecision) -> list[str]:
    return [service.key.namespace, service.key.name]
