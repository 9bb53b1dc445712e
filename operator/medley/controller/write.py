"""Writes a decision: nodes, Deployments, routing tables, status, Events. A failing object stops no other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from medley.actuation import deployments, routing
from medley.actuation import status as statuses
from medley.actuation.cluster_api import ClusterApi
from medley.actuation.events import EventType, post
from medley.actuation.pools.scale import ScaleProvider
from medley.api.llmservice import EngineSpec
from medley.controller.observe import Observed
from medley.cycle.decision import Decision, Finding, ServiceDecision, Truth
from medley.model.errors import MedleyError
from medley.model.objects import Pool, Service

_log = logging.getLogger(__name__)


class Writer:
    """Acts on decisions. Remembers only which complaints it has made, so as not to repeat them."""

    def __init__(self, api: ClusterApi) -> None:
        self._api = api
        self._scale = ScaleProvider(api)
        self._said: dict[str, str] = {}

    def write(self, observed: Observed, decision: Decision) -> None:
        """Write everything that differs; errors become log lines, findings and Events."""
        now_s = observed.snapshot.taken_at_s
        services = {service.key: service for service in observed.resources.services}
        engines = dict(observed.resources.engines)
        pools = {pool.name: pool for pool in observed.resources.pools}
        failures = dict(self._nodes(observed, decision, pools, now_s))
        for item in decision.services:
            service = services[item.key]
            problems: list[str] = [
                failures[variant.pool] for variant in item.variants if variant.desired and variant.pool in failures
            ]
            if item.act:
                problems += self._replicas(observed, service, item, pools, engines[service.key], now_s)
            if item.act and item.shares:
                with self._said_once(f"{item.key} routing", problems.append):
                    previous = observed.config_maps.get(item.key, {}).get("data", {}).get(routing.KEY)
                    edges = item.input_edges
                    text = routing.table(service, edges, item.shares, previous)
                    if text != previous:
                        routing.apply(self._api, service, text)
            self._status(observed, service, _with_problems(item, problems), now_s)
        for error in observed.snapshot.errors:
            self._complain(observed, error.object, "InvalidSpec", error.message, now_s)

    def _nodes(
        self, observed: Observed, decision: Decision, pools: dict[str, Pool], now_s: float
    ) -> Iterator[tuple[str, str]]:
        """Scale node pools; yields (pool, what went wrong)."""
        for item in decision.pools:
            pool = pools[item.pool]
            try:
                before = self._scale.set_nodes(pool, item.nodes, item.claim)
            except MedleyError as error:
                self._complain(observed, f"GPUPool/{pool.name}", "ScaleFailed", str(error), now_s)
                yield pool.name, f"pool {pool.name} cannot be scaled: {error}"
                continue
            if before is not None:
                _log.info("pool %s: %d → %d nodes", pool.name, before, item.nodes)

    def _replicas(
        self,
        observed: Observed,
        service: Service,
        decision: ServiceDecision,
        pools: dict[str, Pool],
        engine: EngineSpec,
        now_s: float,
    ) -> list[str]:
        """Deployments of a service; returns what went wrong."""
        problems: list[str] = []
        access = dict(observed.resources.access).get(service.key)
        for variant in decision.variants:
            existing = observed.deployments.get((service.key, variant.name))
            before = int(existing["spec"].get("replicas") or 0) if existing else 0
            if existing is None and not variant.desired:
                continue
            with self._said_once(f"{service.key} {variant.name}", problems.append):
                pool = pools.get(variant.pool)
                if pool is None or variant.spec is None or variant.capacity_type is None:
                    assert existing is not None
                    if before != variant.desired:
                        deployments.scale(
                            self._api, service.key.namespace, existing["metadata"]["name"], variant.desired
                        )
                else:
                    manifest = deployments.render(
                        service,
                        pool,
                        variant.name,
                        variant.desired,
                        spec=variant.spec,
                        capacity_type=variant.capacity_type,
                        image=engine.image,
                        args=list(engine.args or []),
                        port=engine.port,
                        service_account=None if access is None else access.service_account_name,
                    )
                    deployments.apply(self._api, manifest)
                if before != variant.desired:
                    text = f"{variant.name}: {before} → {variant.desired} replicas"
                    _log.info("%s %s", service.key, text)
                    self._event(observed, service, EventType.NORMAL, "Scaled", text, now_s)
        return problems

    def _status(self, observed: Observed, service: Service, decision: ServiceDecision, now_s: float) -> None:
        manifest = observed.manifests[f"LLMService/{service.key}"]
        previous = manifest.get("status") or {}
        state = next(state for state in observed.snapshot.states if state.key == service.key)
        body = statuses.status(service, decision, state, previous, now_s)
        with self._said_once(f"{service.key} status"):
            if body != previous:
                statuses.apply(self._api, service, body)
            # Events only once the status holds what they say: else they would be new again in the next cycle.
            for finding in statuses.worth_an_event(decision.findings, previous):
                kind = EventType.WARNING if finding.status is Truth.FALSE else EventType.NORMAL
                text = f"{finding.type}={finding.status.value}: {finding.message or finding.reason}"
                self._event(observed, service, kind, finding.reason, text, now_s)

    def _event(
        self, observed: Observed, service: Service, kind: EventType, reason: str, message: str, now_s: float
    ) -> None:
        with self._said_once(f"{service.key} event"):
            post(self._api, observed.manifests[f"LLMService/{service.key}"], kind, reason, message, now_s)

    def _complain(self, observed: Observed, name: str, reason: str, message: str, now_s: float) -> None:
        """A Warning on an object, once for each message."""
        if self._said.get(name) == message or name not in observed.manifests:
            return
        self._said[name] = message
        _log.warning("%s: %s", name, message)
        with self._said_once(f"{name} event"):
            post(self._api, observed.manifests[name], EventType.WARNING, reason, message, now_s)

    @contextmanager
    def _said_once(self, what: str, report: Callable[[str], None] | None = None) -> Iterator[None]:
        """Keep one object's failure from the others; log it when it is new."""
        try:
            yield
        except MedleyError as error:
            if self._said.get(what) != str(error):
                self._said[what] = str(error)
                _log.warning("%s: %s", what, error)
            if report is not None:
                report(f"{what}: {error}")


def _with_problems(decision: ServiceDecision, problems: list[str]) -> ServiceDecision:
    """The decision with a finding that says what could not be written."""
    if not problems:
        return decision
    finding = Finding("CapacityAvailable", Truth.FALSE, "WriteFailed", "; ".join(problems))
    kept = tuple(item for item in decision.findings if item.type != finding.type)
    return replace(decision, findings=(*kept, finding))
