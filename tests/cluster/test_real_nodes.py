"""What the scene in containers does to a cluster: GPUs in a node's status, and nothing to what was there before."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from medley.actuation.cluster_api import ClusterApi, Json
from medley.lab.control_plane import ControlPlane
from medley.lab.kind_cluster import KindCluster
from medley.lab.kind_scene import LAB, KindScene
from medley.lab.node_group import NODE_GROUPS_PATH, install_node_group_crd, node_group
from medley.lab.nodes import GPU_RESOURCE
from medley.lab.shared_nodes import SharedNodes, group_label
from medley.model.errors import UserError
from world import CHAT

pytestmark = pytest.mark.cluster


@pytest.fixture
def node(api: ClusterApi) -> Iterator[str]:
    """A Node that takes ordinary pods, as a worker of kind."""
    name = f"worker-{uuid.uuid4().hex[:6]}"
    api.create("/api/v1/nodes", {"metadata": {"name": name}})
    api.patch(f"/api/v1/nodes/{name}", {"spec": {"taints": []}})
    yield name
    api.delete(f"/api/v1/nodes/{name}")


@pytest.fixture
def groups(api: ClusterApi) -> Iterator[list[str]]:
    install_node_group_crd(api)
    names = [f"{kind}-{uuid.uuid4().hex[:6]}" for kind in ("one", "eight")]
    for name, gpus in zip(names, (1, 8), strict=True):
        api.create(NODE_GROUPS_PATH, node_group(name, gpu="L4", gpus_per_node=gpus, instance_type="g6.xlarge"))
    yield names
    for name in names:
        api.delete(f"{NODE_GROUPS_PATH}/{name}")


def test_what_groups_are_scaled_to_is_what_the_node_has(
    api: ClusterApi,
    control_plane: ControlPlane,
    node: str,
    groups: list[str],
    namespace: str,
    eventually: Callable[..., None],
) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"

    def placed() -> list[Json]:
        nodes = {
            n["metadata"]["name"]: n for g in groups for n in api.items("/api/v1/nodes", labelSelector=group_label(g))
        }
        return list(nodes.values())

    def said() -> set[int]:
        """What nodes have and what pods may have, which must be the same."""
        return {
            sum(int(n["status"].get(part, {}).get(GPU_RESOURCE, -1)) for n in placed())
            for part in ("capacity", "allocatable")
        }

    def scale(group: str, nodes: int) -> None:
        api.patch(f"{NODE_GROUPS_PATH}/{group}/scale", {"spec": {"replicas": nodes}})

    shared = SharedNodes(control_plane.kubeconfig, groups).start()
    try:
        eventually(lambda: said() == {0}, "no GPUs yet")
        scale(groups[0], 3)
        scale(groups[1], 2)
        eventually(lambda: said() == {19}, "3 nodes with one GPU and 2 with eight")
        eventually(
            lambda: api.get(f"{NODE_GROUPS_PATH}/{groups[1]}")["status"] == {"replicas": 2, "readyReplicas": 2},
            "the group says so too",
        )
        # As a kubelet does that hears of the GPUs later than the scheduler; another failure is none of ours.
        refused, failed = f"{pods}/refused", f"{pods}/failed"
        for path, reason in ((refused, f"OutOf{GPU_RESOURCE}"), (failed, "Error")):
            where = placed()[0]["metadata"]["name"]
            spec = {"nodeName": where, "containers": [{"name": "c", "image": "none"}]}
            api.create(pods, {"metadata": {"name": path.rsplit("/", 1)[1]}, "spec": spec})
            api.patch(f"{path}/status", {"status": {"phase": "Failed", "reason": reason}})
        eventually(lambda: not api.exists(refused), "the refused pod is removed")
        assert api.exists(failed)
        scale(groups[1], 0)
        eventually(lambda: said() == {3}, "they go")
    finally:
        shared.stop()
    assert placed() == []
    assert GPU_RESOURCE not in (api.get(f"/api/v1/nodes/{node}")["status"].get("capacity") or {})


def test_a_cluster_that_has_what_would_be_taken_away_is_refused_and_left_alone(
    api: ClusterApi, control_plane: ControlPlane
) -> None:
    path = f"/api/v1/namespaces/{LAB}"
    api.create("/api/v1/namespaces", {"metadata": {"name": LAB}})
    try:
        with (
            pytest.raises(UserError, match=r"has .* already, and this would take it away"),
            KindScene([CHAT], cluster=KindCluster(control_plane.kubeconfig, "")),
        ):
            pass
        assert "deletionTimestamp" not in api.get(path)["metadata"]
    finally:
        api.delete(path)
