"""The authoritative LIST of a cycle, turned into a Snapshot.

Watches can miss deletions (kopf emits none for what vanished while a watch was down), so a cycle never plans on them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from medley.actuation import routing
from medley.actuation.cluster_api import ClusterApi
from medley.actuation.deployments import GPUS_LABEL, MANAGED, POOL_LABEL, SERVICE_LABEL, VARIANT_LABEL
from medley.api.convert import Resources, parse
from medley.api.crds import PLANNING_KINDS
from medley.controller.memory import Memory
from medley.cycle.snapshot import ObjectError, ServiceState, Settings, Snapshot
from medley.model.objects import API_VERSION, ServiceKey
from medley.model.samples import ReadyReplica
from medley.planning.steps import VariantState
from medley.ports import MetricsSource

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Observed:
    """A snapshot, and what the writes need besides: the objects as they are."""

    snapshot: Snapshot
    resources: Resources
    manifests: dict[str, Json]
    """Of our kinds, by `identity`."""
    deployments: dict[tuple[ServiceKey, str], Json]
    """By service and variant."""
    config_maps: dict[ServiceKey, Json]


def observe(
    api: ClusterApi,
    metrics: MetricsSource | None,
    memory: Memory,
    settings: Settings,
    clock: Callable[[], float],
    namespaces: Sequence[str] = (),
) -> Observed:
    """List everything and sample.

    Args:
        api: the cluster.
        metrics: where samples come from; None: nowhere.
        memory: of the cycles before.
        settings: of decisions.
        clock: unix seconds.
        namespaces: that are looked after; none: all.

    Raises:
        TransientError: the API server did not answer; nothing is decided then.
        ApiError: it refused: a right or a CRD is missing.
    """
    selector = ",".join(f"{key}={value}" for key, value in MANAGED.items())

    def listed(root: str, plural: str, **query: str) -> list[Json]:
        paths = [f"{root}/namespaces/{namespace}/{plural}" for namespace in namespaces] or [f"{root}/{plural}"]
        return [item for path in paths for item in api.items(path, **query)]

    manifests: list[Json] = []
    for kind in PLANNING_KINDS:
        root = f"/apis/{API_VERSION}"
        found = listed(root, kind.plural) if kind.scope == "Namespaced" else api.items(f"{root}/{kind.plural}")
        manifests += [{**item, "apiVersion": API_VERSION, "kind": kind.kind} for item in found]
    deployments = listed("/apis/apps/v1", "deployments", labelSelector=selector)
    pods = listed("/api/v1", "pods", labelSelector=selector)
    config_maps = listed("/api/v1", "configmaps", labelSelector=selector)
    now_s = clock()
    # An object that is being deleted no longer asks for anything.
    manifests = [item for item in manifests if not item["metadata"].get("deletionTimestamp")]
    resources = parse(manifests)
    by_identity = {_identity(item): item for item in manifests}
    by_service: dict[ServiceKey, list[Json]] = defaultdict(list)
    for item in deployments:
        by_service[_key(item)].append(item)
    pods_of: dict[ServiceKey, list[Json]] = defaultdict(list)
    ready_pods: dict[ServiceKey, list[Json]] = defaultdict(list)
    present: Counter[tuple[ServiceKey, str]] = Counter()
    for pod in pods:
        if pod.get("status", {}).get("phase") in ("Failed", "Succeeded"):
            continue  # it holds no GPU any more
        present[_key(pod), _variant(pod)] += 1
        pods_of[_key(pod)].append(pod)
        if _is_ready(pod):
            ready_pods[_key(pod)].append(pod)
    tables = {_key(item): item for item in config_maps if routing.KEY in (item.get("data") or {})}
    states, samples = [], []
    services = {service.key: service for service in resources.services}
    # Also of services that are gone or cannot be read: their pods still run, and their nodes must stay.
    for key in sorted({*services, *by_service, *(key for key, _ in present)}):
        count: dict[str, int] = defaultdict(int)
        for pod in ready_pods[key]:
            count[_variant(pod)] += 1
        ready = sorted((_ready_replica(pod, now_s) for pod in ready_pods[key]), key=lambda replica: replica.name)
        asked = {_variant(item): int(item["spec"].get("replicas") or 0) for item in by_service[key]}
        variants = sorted({*asked, *(variant for owner, variant in present if owner == key)})
        places = {_variant(item): _place(item) for item in (*pods_of[key], *by_service[key])}
        states.append(
            ServiceState(
                key=key,
                variants=tuple(
                    VariantState(name, asked.get(name, 0), count[name], present[key, name], *places[name])
                    for name in variants
                ),
                ready_replicas=tuple(ready),
                acknowledged=routing.acknowledged(tables.get(key, {}), now_s),
                past=memory.past(key),
                last_known=memory.last_known(key),
                real_data_before=_was_true(by_identity.get(f"LLMService/{key}", {}), "DecisionFromRealData"),
            )
        )
        service = services.get(key)
        if service is not None and service.static_points is None and metrics is not None:
            samples.append(metrics.sample(key, service.slo, [replica.name for replica in ready]))
    return Observed(
        Snapshot(
            taken_at_s=now_s,
            settings=settings,
            services=resources.services,
            pools=resources.pools,
            profiles=resources.profiles,
            states=tuple(states),
            samples=tuple(samples),
            errors=tuple(ObjectError(name, error.field, str(error)) for name, error in resources.errors),
            pool_prices=memory.pool_prices,
        ),
        resources,
        by_identity,
        {(_key(item), _variant(item)): item for items in by_service.values() for item in items},
        tables,
    )


def _identity(item: Json) -> str:
    namespace = item["metadata"].get("namespace")
    return "/".join(part for part in (item["kind"], namespace, item["metadata"]["name"]) if part)


def _key(item: Json) -> ServiceKey:
    metadata = item["metadata"]
    return ServiceKey(metadata["namespace"], (metadata.get("labels") or {}).get(SERVICE_LABEL, ""))


def _variant(item: Json) -> str:
    return str((item["metadata"].get("labels") or {}).get(VARIANT_LABEL, ""))


def _place(item: Json) -> tuple[str, int]:
    """Pool and GPUs of a replica, from the labels of its Deployment or pod."""
    labels = item["metadata"].get("labels") or {}
    gpus = str(labels.get(GPUS_LABEL, ""))
    return str(labels.get(POOL_LABEL, "")), int(gpus) if gpus.isdigit() else 1


def _was_true(item: Json, condition: str) -> bool:
    conditions = (item.get("status") or {}).get("conditions") or []
    return any(entry["type"] == condition and entry["status"] == "True" for entry in conditions)


def _is_ready(pod: Json) -> bool:
    return not pod["metadata"].get("deletionTimestamp") and _ready_condition(pod) is not None


def _ready_condition(pod: Json) -> Json | None:
    conditions: list[Json] = pod.get("status", {}).get("conditions") or []
    return next((item for item in conditions if item["type"] == "Ready" and item["status"] == "True"), None)


def _ready_replica(pod: Json, now_s: float) -> ReadyReplica:
    name, variant = pod["metadata"]["name"], _variant(pod)
    since = (_ready_condition(pod) or {}).get("lastTransitionTime")
    try:
        return ReadyReplica(
            name, variant, max(0.0, now_s - datetime.fromisoformat(since).timestamp()) if since else None
        )
    except (TypeError, ValueError):
        return ReadyReplica(name, variant)
