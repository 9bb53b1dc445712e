"""Protocols for the outside: what the loop needs of metrics, cluster and clock, without saying how.

Owns: Protocols only. May import: model. The fake of each port is shipped code (lab/) or a plain value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from medley.model.live_policy import LivePolicy
from medley.model.objects import ServiceKey, Slo
from medley.model.samples import ServiceSamples


class MetricsSource(Protocol):
    """Where samples come from."""

    def sample(self, service: ServiceKey, slo: Slo, replicas: Sequence[str]) -> ServiceSamples:
        """Rates of the service's replicas over the source's window. A failing source is a `fault`, not an exception."""
        ...

    def fault(self) -> str:
        """Why it cannot be asked; empty if it can."""
        ...


class RepairProposer(Protocol):
    """Proposes edits of an access policy. What it says is unchecked: it is held to the same proof as any other edit."""

    def propose(self, task: Mapping[str, Any]) -> Sequence[Any]:
        """Edits as JSON values for a task: `document`, `faults`, `refused` (what was tried before, and why not).

        Raises:
            TransientError: no answer, not in time, or none that is a list of edits.
        """
        ...


class Clock(Protocol):
    """Time, passed in so that tests can set it."""

    def __call__(self) -> float:
        """Unix time in seconds."""
        ...


class PolicyHome(Protocol):
    """Where one policy is in force: roles of a cluster, a role of a cloud."""

    def read(self) -> LivePolicy:
        """What is in force.

        Raises:
            AccessError: a right is missing, or there is no such role.
            TransientError: no answer, or not in time.
        """
        ...

    def write(self, live: LivePolicy, document: str) -> None:
        """Put a document in the place of the one that was read; nothing else changes.

        Raises:
            TransientError: it has changed since it was read, or there was no answer.
            AccessError: the outside refuses it.
        """
        ...
