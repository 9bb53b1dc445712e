"""Metrics of `medley access`, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class AccessExporter:
    """Told by the loop, read by Prometheus. Safe to use from several threads."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._policies = Gauge(
            "medley_access_policies", "AccessPolicies by verdict at the last look", ["verdict"], registry=self._registry
        )
        self._events = Counter(
            "medley_access_events",
            "What became of AccessPolicies, as their events say",
            ["reason"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "medley_access_look_duration_seconds",
            "One look at every AccessPolicy, with all reviews and writes",
            buckets=(0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
            registry=self._registry,
        )

    def look(self, seconds: float, verdicts: Mapping[str, int]) -> None:
        """A look has ended."""
        self._seconds.observe(seconds)
        for verdict, count in verdicts.items():
            self._policies.labels(verdict).set(count)

    def event(self, reason: str) -> None:
        """Something became of an AccessPolicy: the reason of its event."""
        self._events.labels(reason).inc()

    def text(self) -> bytes:
        """All metrics, in Prometheus' text format."""
        return generate_latest(self._registry)
