"""Kubernetes Events about our objects."""

from __future__ import annotations

import uuid
from enum import StrEnum
from typing import Any

from medley.actuation.cluster_api import ClusterApi
from medley.actuation.status import timestamp


class EventType(StrEnum):
    """As `kubectl get events` shows it."""

    NORMAL = "Normal"
    WARNING = "Warning"


def post(
    api: ClusterApi, involved: dict[str, Any], event_type: EventType, reason: str, message: str, now_s: float
) -> None:
    """Create one Event; cluster-scoped objects have theirs in `default`.

    Args:
        api: the cluster.
        involved: the object it is about, with apiVersion, kind and metadata.
        event_type: Normal or Warning.
        reason: one CamelCase word.
        message: what happened and what to do.
        now_s: unix time.
    """
    metadata = involved["metadata"]
    namespace = metadata.get("namespace") or "default"
    at = timestamp(now_s)
    body = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name'][:200]}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": involved["apiVersion"],
            "kind": involved["kind"],
            "name": metadata["name"],
            "namespace": metadata.get("namespace", ""),
            "uid": metadata.get("uid", ""),
        },
        "type": event_type.value,
        "reason": reason,
        "message": message[:1024],
        "source": {"component": "medley"},
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }
    api.create(f"/api/v1/namespaces/{namespace}/events", body)
