"""What the fake kubelet knows about a pod, what it lets happen to it, and what stands behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from medley.actuation.cluster_api import Json


@dataclass(frozen=True)
class PodInfo:
    """A pod as its backend needs to know it; env, args and port are those of the first container."""

    namespace: str
    name: str
    uid: str
    ip: str
    """Its own address in 127.0.0.0/8: the place to listen on."""
    node: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    env: Mapping[str, str]
    """Literal values only: the lab resolves no references."""
    args: tuple[str, ...]
    container_port: int | None
    service_account: str = "default"

    @classmethod
    def of(cls, pod: Json, ip: str) -> PodInfo:
        """Reads a bound Pod object."""
        metadata, spec = pod["metadata"], pod["spec"]
        container = spec["containers"][0]
        ports = container.get("ports") or []
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            ip=ip,
            node=spec["nodeName"],
            labels=metadata.get("labels") or {},
            annotations=metadata.get("annotations") or {},
            env={entry["name"]: entry.get("value", "") for entry in container.get("env") or []},
            args=tuple(container.get("args") or ()),
            container_port=ports[0]["containerPort"] if ports else None,
            service_account=spec.get("serviceAccountName") or "default",
        )

    @property
    def path(self) -> str:
        """The pod's path on the API server."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"


class PodFate(StrEnum):
    """What becomes of a pod's container once it starts."""

    READY = "Ready"
    """Becomes Ready after the ready delay."""
    NEVER_READY = "NeverReady"
    """Runs, and its readiness probe never passes."""
    CRASH = "Crash"
    """Exits with an error after the ready delay, and is restarted after a back-off."""


class PodBackend(Protocol):
    """What does a pod's work: a server on the pod's address. Called from several threads, for one pod in order."""

    def start(self, pod: PodInfo) -> None:
        """Starts the pod's work, before the pod is Ready; an exception is a crash of the container."""
        ...

    def stop(self, pod: PodInfo) -> None:
        """Ends it gracefully; the kubelet waits for the return, at most for the pod's grace period."""
        ...


@runtime_checkable
class DrainingBackend(PodBackend, Protocol):
    """A backend that `stop` only asks to end: it then says when it is done, and can be cut off."""

    def draining(self, pod: PodInfo) -> bool:
        """Whether the pod still works on requests it had when it was told to stop."""
        ...

    def kill(self, pod: PodInfo) -> None:
        """Ends it at once: the grace period is over."""
        ...
