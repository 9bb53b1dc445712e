"""What a scene of the whole loop can be asked, whatever it stands on: processes on this machine, or pods."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from medley.actuation.cluster_api import ClusterApi
from medley.api.convert import Resources
from medley.lab.load import Outcome
from medley.lab.scene import SceneSettings
from medley.lab.traces import Trace
from medley.model.objects import ServiceKey


class Load(Protocol):
    """A trace that is sent: `LoadGenerator` here, `RemoteLoad` in a cluster."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """Break off what is under way, without outcomes."""

    def outcomes(self) -> tuple[Outcome, ...]:
        """All so far, in order of completion."""
        ...

    @property
    def in_flight(self) -> int:
        """Requests sent and not ended."""
        ...

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began; NaN before."""
        ...


class LoopScene(Protocol):
    """`Scene` on the plain control plane, `KindScene` on a cluster with kubelets."""

    settings: SceneSettings
    manifests: list[dict[str, Any]]
    resources: Resources
    api: ClusterApi
    """As an administrator."""

    @property
    def kubeconfig(self) -> Path:
        """Of an administrator."""
        ...

    @property
    def records(self) -> Path:
        """Where the records of the cycles are."""
        ...

    @property
    def operator_log(self) -> str:
        """What operators have logged."""
        ...

    def start_operator(self) -> object:
        """Have an operator that leads or is about to."""

    def kill_operator(self) -> None:
        """End the one that leads, or was started last, as a crash would."""

    def apply_manifests(self) -> None:
        """Apply the objects, as a user would."""

    def load(self, service: ServiceKey, trace: Trace) -> Load:
        """What sends this to the service, not started yet."""
        ...

    def wait_first_ready(self, service: ServiceKey, timeout_s: float) -> bool:
        """Wait until a replica is Ready and can be sent to; whether one is."""
        ...

    def pause_metrics(self) -> None:
        """Prometheus answers no more."""

    def resume_metrics(self) -> None:
        """It answers again."""
