"""The routing table that Medley publishes for each service, and what routers say of it.

ConfigMap `<service>-routing`, key `routing.json` (schema: docs/reference/routing.md). A router that steers by it says
so in the annotation `medley.dev/router-acknowledged`: {"generation": n, "mode": "InputRange", "at": RFC 3339}.
An acknowledgement older than a minute no longer counts: a router that is gone steers nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from medley.actuation.cluster_api import ClusterApi, PatchType
from medley.actuation.deployments import FIELD_MANAGER, MANAGED, SERVICE_LABEL, owner_reference
from medley.model.objects import RoutingMode, Service

ACKNOWLEDGED = "medley.dev/router-acknowledged"
KEY = "routing.json"
ACKNOWLEDGEMENT_TTL_S = 60.0
SCHEMA_VERSION = 1

Manifest = dict[str, Any]


def config_map_name(service: str) -> str:
    """Name of the ConfigMap of a service."""
    return f"{service}-routing"


def table(
    service: Service, input_edges: Sequence[float], shares: Sequence[tuple[str, Sequence[float]]], previous: str | None
) -> str:
    """The table as JSON; its generation goes up whenever anything else in it changes."""
    # The table has no output classes: for Full it offers what it can say.
    offered = service.routing.at_most(RoutingMode.INPUT_RANGE)
    by_range = offered is RoutingMode.INPUT_RANGE
    content: dict[str, Any] = {
        "schemaVersion": SCHEMA_VERSION,
        "service": str(service.key),
        "mode": offered.value,
        "inputEdges": list(input_edges) if by_range else [],
        "shares": [
            {
                "variant": variant,
                "byRange": list(row) if by_range else list(row[:1]),
            }
            for variant, row in shares
        ],
    }
    generation = 1
    if previous:
        try:
            old = json.loads(previous)
            generation = int(old.pop("generation", 0))
            if old != content:
                generation += 1
        except (ValueError, AttributeError, TypeError):
            generation = 1
    return json.dumps({**content, "generation": generation}, sort_keys=True)


def apply(api: ClusterApi, service: Service, text: str) -> None:
    """Publish the table."""
    name = config_map_name(service.key.name)
    body: Manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": service.key.namespace,
            "labels": {**MANAGED, SERVICE_LABEL: service.key.name},
            "ownerReferences": [owner_reference(service)],
        },
        "data": {KEY: text},
    }
    api.patch(
        f"/api/v1/namespaces/{service.key.namespace}/configmaps/{name}",
        body,
        PatchType.APPLY,
        fieldManager=FIELD_MANAGER,
        force="true",
    )


def acknowledged(config_map: Mapping[str, Any], now_s: float) -> RoutingMode | None:
    """What a router says it steers by now; None if none says so, or not lately."""
    text = (config_map.get("metadata", {}).get("annotations") or {}).get(ACKNOWLEDGED)
    if not text:
        return None
    try:
        said = json.loads(text)
        at_s = datetime.fromisoformat(said["at"]).timestamp()
        mode = RoutingMode(said["mode"])
    except (ValueError, KeyError, TypeError):
        return None
    return mode if abs(now_s - at_s) <= ACKNOWLEDGEMENT_TTL_S else None


def acknowledge(api: ClusterApi, namespace: str, service: str, generation: int, mode: str, at: str) -> None:
    """What a router calls: say that it steers by this generation."""
    said = json.dumps({"generation": generation, "mode": mode, "at": at})
    api.patch(
        f"/api/v1/namespaces/{namespace}/configmaps/{config_map_name(service)}",
        {"metadata": {"annotations": {ACKNOWLEDGED: said}}},
        PatchType.MERGE,
        fieldManager="medley-router",
    )
