"""Protocols for the outside: what the loop needs of metrics, cluster and clock, without saying how.

Owns: Protocols only. May import: model. The fake of each port is shipped code (lab/) or a plain value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from medley.model.objects import ServiceKey, Slo
from medley.model.samples import ServiceSamples


class MetricsSource(Protocol):
    """Where samples come from."""

    def sample(self, service: ServiceKey, slo: Slo, replicas: Sequence[str]) -> ServiceSamples:
        """Rates of the service's replicas over the source's window. A failing source is a `fault`, not an exception."""
        ...


class Clock(Protocol):
    """Time, passed in so that tests can set it."""

    def __call__(self) -> float:
        """Unix time in seconds."""
        ...
