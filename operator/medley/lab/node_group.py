"""Node groups: a stand-in for a cloud's scaling groups, driven through Kubernetes' own scale subresource.

A NodeGroup is a custom resource whose `spec.replicas` says how many nodes are asked for. Its controller makes fake
nodes appear after a start delay, removes them when fewer are asked for, and can be told to run out of stock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from pathlib import Path

from medley.actuation.cluster_api import CONFLICT, NOT_FOUND, ApiError, ClusterApi, Json, Mirror
from medley.lab.nodes import GpuNode, create_node, remove_node
from medley.model.errors import MedleyError, TransientError

GROUP_LABEL = "lab.medley.dev/node-group"
"""On each node: the group it belongs to."""

NODE_GROUPS_PATH = "/apis/lab.medley.dev/v1alpha1/nodegroups"

_RESYNC_S = 1.0
_CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_CRD_TIMEOUT_S = 20.0
_log = logging.getLogger(__name__)

NODE_GROUP_CRD: Json = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "nodegroups.lab.medley.dev"},
    "spec": {
        "group": "lab.medley.dev",
        "scope": "Cluster",
        "names": {"kind": "NodeGroup", "listKind": "NodeGroupList", "plural": "nodegroups", "singular": "nodegroup"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "additionalPrinterColumns": [
                    {"name": "GPU", "type": "string", "jsonPath": ".spec.gpu"},
                    {"name": "Wanted", "type": "integer", "jsonPath": ".spec.replicas"},
                    {"name": "Nodes", "type": "integer", "jsonPath": ".status.replicas"},
                    {"name": "Ready", "type": "integer", "jsonPath": ".status.readyReplicas"},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
                },
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "description": "Identical fake GPU nodes that can be scaled, as a cloud's scaling group.",
                        "required": ["spec"],
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["instanceType", "gpu", "gpusPerNode"],
                                "properties": {
                                    "replicas": {
                                        "type": "integer",
                                        "format": "int32",
                                        "minimum": 0,
                                        "maximum": 1000,
                                        "default": 0,
                                        "description": "Nodes asked for.",
                                    },
                                    "instanceType": {
                                        "type": "string",
                                        "minLength": 1,
                                        "maxLength": 63,
                                        "description": "Value of the nodes' node.kubernetes.io/instance-type label.",
                                    },
                                    "gpu": {
                                        "type": "string",
                                        "minLength": 1,
                                        "maxLength": 63,
                                        "description": "Value of the nodes' nvidia.com/gpu.product label.",
                                    },
                                    "gpusPerNode": {
                                        "type": "integer",
                                        "minimum": 1,
                                        "maximum": 64,
                                        "description": "GPUs that each node offers.",
                                    },
                                    "labels": {
                                        "type": "object",
                                        "maxProperties": 64,
                                        "additionalProperties": {"type": "string", "maxLength": 63},
                                        "description": "More labels for the nodes.",
                                    },
                                    "startDelaySeconds": {
                                        "type": "number",
                                        "minimum": 0,
                                        "default": 0,
                                        "description": "Time from asking for a node to its being Ready.",
                                    },
                                    "stockout": {
                                        "type": "integer",
                                        "minimum": 0,
                                        "description": "The most nodes that can be had; absent: as many as asked for.",
                                    },
                                },
                            },
                            "status": {
                                "type": "object",
                                "properties": {
                                    "replicas": {"type": "integer", "description": "Nodes that there are."},
                                    "readyReplicas": {"type": "integer", "description": "Nodes that are Ready."},
                                },
                            },
                        },
                    }
                },
            }
        ],
    },
}


def install_node_group_crd(api: ClusterApi) -> None:
    """Creates the CRD unless it is there, and waits until the server serves it."""
    try:
        api.create(_CRD_PATH, NODE_GROUP_CRD)
    except ApiError as error:
        if error.status != CONFLICT:
            raise
    deadline = time.monotonic() + _CRD_TIMEOUT_S
    while not api.exists(NODE_GROUPS_PATH):
        if time.monotonic() > deadline:
            raise TransientError(f"the CRD {NODE_GROUP_CRD['metadata']['name']} is not served yet")
        time.sleep(0.05)


def node_group(
    name: str,
    *,
    gpu: str,
    gpus_per_node: int,
    instance_type: str,
    replicas: int = 0,
    labels: dict[str, str] | None = None,
    start_delay_s: float = 0,
    stockout: int | None = None,
) -> Json:
    """A NodeGroup object, ready to be created."""
    spec: Json = {
        "replicas": replicas,
        "instanceType": instance_type,
        "gpu": gpu,
        "gpusPerNode": gpus_per_node,
        "labels": labels or {},
        "startDelaySeconds": start_delay_s,
    }
    if stockout is not None:
        spec["stockout"] = stockout
    return {"apiVersion": "lab.medley.dev/v1alpha1", "kind": "NodeGroup", "metadata": {"name": name}, "spec": spec}


class NodeGroupController:
    """Keeps every NodeGroup's nodes and status in line with its spec, in a thread of its own.

    Level triggered: each pass compares what is asked for with the nodes that are there. Only the start delays that
    run at the moment live in memory; a new controller begins them afresh.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self._api = ClusterApi(kubeconfig)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._starting: dict[str, list[float]] = defaultdict(list)  # group -> when its nodes on order arrive
        self._ordinals: dict[str, int] = defaultdict(int)
        self._thread = threading.Thread(target=self._run, name="node-groups", daemon=True)
        self._mirrors = [
            Mirror(self._api, path, on_object=self._changed, on_gone=self._changed, **query)
            for path, query in ((NODE_GROUPS_PATH, {}), ("/api/v1/nodes", {"labelSelector": GROUP_LABEL}))
        ]

    def start(self) -> NodeGroupController:
        """Installs the CRD and starts to watch."""
        install_node_group_crd(self._api)
        for mirror in self._mirrors:
            mirror.start()
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ends the controller; nodes stay. Safe to call again."""
        self._stopping.set()
        self._wake.set()
        for mirror in self._mirrors:
            mirror.stop()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._api.close()

    def __enter__(self) -> NodeGroupController:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _changed(self, _: Json) -> None:
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self._reconcile()
            except MedleyError as error:
                if not self._stopping.is_set():
                    _log.warning("node groups: %s; trying again", error)
            self._wake.wait(self._pause_s())

    def _pause_s(self) -> float:
        due = [arrival for arrivals in self._starting.values() for arrival in arrivals]
        return max(0.01, min([_RESYNC_S, *(arrival - time.monotonic() for arrival in due)]))

    def _reconcile(self) -> None:
        groups = {group["metadata"]["name"]: group for group in self._api.items(NODE_GROUPS_PATH)}
        nodes: dict[str, list[Json]] = defaultdict(list)
        for node in self._api.items("/api/v1/nodes", labelSelector=GROUP_LABEL):
            nodes[node["metadata"]["labels"][GROUP_LABEL]].append(node)
        for name in nodes.keys() - groups.keys():
            self._starting.pop(name, None)
            for node in nodes[name]:
                remove_node(self._api, node["metadata"]["name"])
        for name, group in groups.items():
            self._reconcile_group(name, group, nodes[name])

    def _reconcile_group(self, name: str, group: Json, nodes: list[Json]) -> None:
        spec = group["spec"]
        wanted = int(spec.get("replicas", 0))
        obtainable = min(wanted, int(spec.get("stockout", wanted)))
        starting = self._starting[name]
        now = time.monotonic()
        while len(nodes) + len(starting) < obtainable:
            starting.append(now + float(spec.get("startDelaySeconds", 0)))
        while starting and len(nodes) + len(starting) > max(obtainable, len(nodes)):
            starting.pop()  # the youngest order is the first to be cancelled
        arrived = [due for due in starting if due <= now]
        for due in arrived:
            create_node(self._api, self._next_node(name, spec, nodes))
            starting.remove(due)
        for node in self._surplus(nodes, len(nodes) - wanted):
            remove_node(self._api, node["metadata"]["name"])
        if arrived or len(nodes) > wanted:
            nodes = self._api.items("/api/v1/nodes", labelSelector=f"{GROUP_LABEL}={name}")
        self._write_status(name, group, nodes)

    def _next_node(self, group: str, spec: Json, nodes: list[Json]) -> GpuNode:
        newest = max((_ordinal(node) for node in nodes), default=0)
        self._ordinals[group] = max(self._ordinals[group], newest) + 1
        return GpuNode(
            name=f"{group}-{self._ordinals[group]}",
            gpus=spec["gpusPerNode"],
            gpu_product=spec["gpu"],
            instance_type=spec["instanceType"],
            pool_labels={**(spec.get("labels") or {}), GROUP_LABEL: group},
        )

    def _surplus(self, nodes: list[Json], count: int) -> list[Json]:
        """The nodes to remove: idle ones first, and the newest first among them."""
        if count <= 0:
            return []
        busy = {
            pod["spec"]["nodeName"]
            for pod in self._api.items("/api/v1/pods", fieldSelector="spec.nodeName!=")
            if pod["status"].get("phase") not in ("Succeeded", "Failed")
        }
        return sorted(nodes, key=lambda node: (node["metadata"]["name"] in busy, -_ordinal(node)))[:count]

    def _write_status(self, name: str, group: Json, nodes: list[Json]) -> None:
        status = {"replicas": len(nodes), "readyReplicas": sum(1 for node in nodes if _is_ready(node))}
        if group.get("status") == status:
            return
        try:
            self._api.patch(f"{NODE_GROUPS_PATH}/{name}/status", {"status": status})
        except ApiError as error:
            if error.status != NOT_FOUND:  # deleted meanwhile: the next pass removes its nodes
                raise


def _ordinal(node: Json) -> int:
    tail = str(node["metadata"]["name"]).rsplit("-", maxsplit=1)[-1]
    return int(tail) if tail.isdigit() else 0


def _is_ready(node: Json) -> bool:
    conditions = node.get("status", {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
