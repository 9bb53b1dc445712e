"""Node groups on nodes that are there already: what a group is scaled to becomes nvidia.com/gpu in a node's status.

On a cluster with real kubelets a fake Node would run no pod. So a group's nodes are a number of GPUs that a real node
says it has, and pods of the group's pool find that node by a label of the pool. A kubelet leaves an extended resource
that it does not know of as it is; it stops counting it when it starts anew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from medley.actuation.cluster_api import NOT_FOUND, ApiError, ClusterApi, Json
from medley.lab.node_group import NODE_GROUPS_PATH, install_node_group_crd
from medley.lab.nodes import GPU_RESOURCE
from medley.model.errors import MedleyError, UserError

_EVERY_S = 0.5
_NODES = "/api/v1/nodes"
_log = logging.getLogger(__name__)


def group_label(group: str) -> str:
    """The label of the nodes that a group's GPUs are on."""
    return f"lab.medley.dev/group-{group}"


class SharedNodes:
    """Keeps the GPUs of real nodes in line with the node groups, in a thread of its own. Level triggered.

    Args:
        kubeconfig: the cluster.
        groups: names of the node groups; each has its GPUs on one of the nodes that take ordinary pods.
    """

    def __init__(self, kubeconfig: Path, groups: Sequence[str]) -> None:
        self._api = ClusterApi(kubeconfig)
        self._groups = list(groups)
        self._places: dict[str, str] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shared-nodes", daemon=True)

    def start(self) -> SharedNodes:
        """Install the CRD, label the nodes, and follow the groups.

        Raises:
            UserError: no node without real GPUs takes ordinary pods.
        """
        install_node_group_crd(self._api)
        nodes = sorted(node["metadata"]["name"] for node in self._api.items(_NODES) if takes_groups(node))
        if not nodes:
            raise UserError("no node without real GPUs takes pods without tolerations", fix="Add a node without taints")
        for number, group in enumerate(self._groups):
            node = self._places[group] = nodes[number % len(nodes)]
            self._api.patch(f"{_NODES}/{node}", {"metadata": {"labels": {group_label(group): "true"}}})
        self._thread.start()
        return self

    def stop(self) -> None:
        """End, and leave the nodes as they were."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        for group, node in self._places.items():
            self._api.patch(f"{_NODES}/{node}", {"metadata": {"labels": {group_label(group): None}}})
        for node in self._nodes():
            gone = {"capacity": {GPU_RESOURCE: None}, "allocatable": {GPU_RESOURCE: None}}
            self._api.patch(f"{_NODES}/{node}/status", {"status": gone})
        self._api.close()

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY_S):
            try:
                self._reconcile()
            except MedleyError as error:
                if not self._stopping.is_set():
                    _log.warning("shared nodes: %s; trying again", error)

    def _reconcile(self) -> None:
        gpus = dict.fromkeys(self._nodes(), 0)
        for group in self._api.items(NODE_GROUPS_PATH):
            node = self._places.get(group["metadata"]["name"])
            if node is not None:
                spec = group["spec"]
                gpus[node] += int(spec.get("replicas", 0)) * int(spec["gpusPerNode"])
                self._write_status(group)
        for node, count in gpus.items():
            status = self._api.get(f"{_NODES}/{node}")["status"]
            said = {status.get(part, {}).get(GPU_RESOURCE) for part in ("capacity", "allocatable")}
            if said != {str(count)}:
                now = {GPU_RESOURCE: str(count)}
                self._api.patch(f"{_NODES}/{node}/status", {"status": {"capacity": now, "allocatable": now}})
        self._remove_refused()

    def _remove_refused(self) -> None:
        """Delete pods that a kubelet refused since it heard of the GPUs later than the scheduler.

        Their ReplicaSet has made others; no machine with real GPUs would have left them there.
        """
        for pod in self._api.items("/api/v1/pods", fieldSelector="status.phase=Failed"):
            if pod["status"].get("reason") == f"OutOf{GPU_RESOURCE}" and pod["spec"].get("nodeName") in self._nodes():
                metadata = pod["metadata"]
                path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
                self._api.delete(path, uid=metadata["uid"])

    def _nodes(self) -> set[str]:
        return set(self._places.values())

    def _write_status(self, group: Json) -> None:
        there = int(group["spec"].get("replicas", 0))
        status = {"replicas": there, "readyReplicas": there}
        if group.get("status") == status:
            return
        try:
            self._api.patch(f"{NODE_GROUPS_PATH}/{group['metadata']['name']}/status", {"status": status})
        except ApiError as error:
            if error.status != NOT_FOUND:  # deleted meanwhile
                raise


def takes_groups(node: Json) -> bool:
    """Whether a node takes ordinary pods, and has no GPUs but ours."""
    if node["spec"].get("unschedulable"):
        return False
    if any(taint["effect"] != "PreferNoSchedule" for taint in node["spec"].get("taints") or []):
        return False
    ours = any(label.startswith(group_label("")) for label in node["metadata"].get("labels") or {})
    return ours or GPU_RESOURCE not in (node["status"].get("capacity") or {})
