"""Fake GPU nodes: Node objects with the labels, taint and capacity of the real thing, and no machine behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from medley.actuation.cluster_api import NOT_FOUND, ApiError, ClusterApi, Json, PatchType

FAKE_NODE_LABEL = "lab.medley.dev/fake-node"
"""Marks nodes of the lab: the fake kubelet leaves pods on any other node alone."""

GPU_RESOURCE = "nvidia.com/gpu"
GPU_TAINT: Json = {"key": GPU_RESOURCE, "value": "present", "effect": "NoSchedule"}

_MAX_PODS = 110
_READY_CONDITIONS = (
    ("Ready", "True", "KubeletReady"),
    ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID"),
)


class NodeHealth(StrEnum):
    """A node's Ready condition."""

    READY = "True"
    UNHEALTHY = "False"
    UNREACHABLE = "Unknown"


@dataclass(frozen=True)
class GpuNode:
    """What a fake node claims to be."""

    name: str
    gpus: int
    gpu_product: str
    """The value of nvidia.com/gpu.product, as GPU feature discovery writes it."""
    instance_type: str
    pool_labels: Mapping[str, str] = field(default_factory=dict)
    cpus: int = 96
    memory_gib: int = 768


def create_node(api: ClusterApi, node: GpuNode) -> None:
    """Creates `node`, Ready and open for pods that tolerate the GPU taint."""
    labels = {
        "kubernetes.io/hostname": node.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": node.instance_type,
        "nvidia.com/gpu.product": node.gpu_product,
        "nvidia.com/gpu.count": str(node.gpus),
        FAKE_NODE_LABEL: "true",
        **node.pool_labels,
    }
    api.create(
        "/api/v1/nodes",
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": node.name, "labels": labels},
            "spec": {"taints": [GPU_TAINT]},
        },
    )
    path = _path(node.name)
    resources = {
        "cpu": str(node.cpus),
        "memory": f"{node.memory_gib}Gi",
        "ephemeral-storage": "1Ti",
        "pods": str(_MAX_PODS),
        GPU_RESOURCE: str(node.gpus),
    }
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": "set by the lab",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        for kind, status, reason in _READY_CONDITIONS
    ]
    status: Json = {
        "capacity": resources,
        "allocatable": resources,
        "conditions": conditions,
        "addresses": [{"type": "Hostname", "address": node.name}],
    }
    api.patch(f"{path}/status", {"status": status})
    # Admission adds a not-ready taint to every new node, and the controller that would lift it is left out of the lab.
    api.patch(path, {"spec": {"taints": [GPU_TAINT]}})


def remove_node(api: ClusterApi, name: str) -> None:
    """Removes a node as a cloud does when the machine is gone: its pods are force-deleted. A missing node is fine."""
    # The node goes first, so that the scheduler puts nothing new on it. What it was binding at that very moment
    # shows up in the second look.
    api.delete(_path(name))
    for _ in range(2):
        for pod in pods_on(api, name):
            metadata = pod["metadata"]
            path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
            api.delete(path, grace_period_s=0, uid=metadata["uid"])


def set_health(api: ClusterApi, name: str, health: NodeHealth) -> None:
    """Sets a node's Ready condition, to play a machine that fails or comes back."""
    condition = {"type": "Ready", "status": health.value}
    api.patch(f"{_path(name)}/status", {"status": {"conditions": [condition]}}, PatchType.STRATEGIC)


def pods_on(api: ClusterApi, name: str) -> list[Json]:
    """The pods bound to a node."""
    return api.items("/api/v1/pods", fieldSelector=f"spec.nodeName={name}")


def is_fake(api: ClusterApi, name: str) -> bool:
    """Whether there is such a node and it is one of the lab's."""
    try:
        node = api.get(_path(name))
    except ApiError as error:
        if error.status == NOT_FOUND:
            return False
        raise
    return FAKE_NODE_LABEL in (node["metadata"].get("labels") or {})


def _path(name: str) -> str:
    return f"/api/v1/nodes/{name}"
