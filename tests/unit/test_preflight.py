from __future__ import annotations

from typing import Any

import pytest

from medley.actuation.cluster_api import NOT_FOUND, ApiError
from medley.actuation.rights import RIGHTS, Right, lease_rights, places, role_manifests
from medley.api.crds import PLANNING_KINDS
from medley.controller.preflight import preflight
from medley.model.errors import TransientError

KARPENTER = {
    "/apis/karpenter.sh/v1": [
        {"name": "nodepools", "kind": "NodePool", "namespaced": False},
        {"name": "nodepools/scale", "kind": "Scale", "namespaced": False},
    ],
    "/apis/eks.example.org/v1": [{"name": "nodegroups", "kind": "Nodegroup", "namespaced": True}],
    "/apis/lab.medley.dev/v1": [],
}


class Cluster:
    """An API server that answers what checks ask; `refuses` are (resource, verb)."""

    def __init__(self, version: str = "34", refuses: tuple[tuple[str, str], ...] = (), kinds: bool = True) -> None:
        self.version, self.refuses, self.kinds = version, refuses, kinds
        self.asked: list[dict[str, Any]] = []
        self.pools: list[dict[str, Any]] | None = []

    def items(self, path: str) -> list[dict[str, Any]]:
        assert path == "/apis/medley.dev/v1alpha1/gpupools"
        if self.pools is None:
            raise ApiError(403, "gpupools is forbidden")
        return self.pools

    def get(self, path: str) -> dict[str, Any]:
        if path in KARPENTER:
            return {"resources": KARPENTER[path]}
        if path == "/version":
            return {"major": "1", "minor": self.version, "gitVersion": f"v1.{self.version}.0"}
        if not self.kinds:
            raise ApiError(NOT_FOUND, "not found")
        return {"resources": [{"name": kind.plural} for kind in PLANNING_KINDS] + [{"name": "llmservices/status"}]}

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        asked = body["spec"]["resourceAttributes"]
        self.asked.append(asked)
        name = asked["resource"] + (f"/{asked['subresource']}" if asked["subresource"] else "")
        return {"status": {"allowed": (name, asked["verb"]) not in self.refuses}}


class Metrics:
    def __init__(self, fault: str = "") -> None:
        self._fault = fault

    def fault(self) -> str:
        return self._fault


def found(cluster: Cluster, metrics: Metrics | None = None, rights: tuple[Right, ...] = RIGHTS) -> list[str]:
    source: Any = metrics or Metrics()
    return [str(item) for item in preflight(cluster, source, rights)]  # type: ignore[arg-type]


def test_nothing_is_missing_where_all_is_there() -> None:
    cluster = Cluster()
    assert found(cluster) == []
    assert len(cluster.asked) == sum(len(right.verbs) for right in RIGHTS if places(right))


@pytest.mark.parametrize(("minor", "old"), [("29", True), ("30", False), ("30+", False), ("34", False), ("", False)])
def test_an_old_kubernetes_is_named(minor: str, old: bool) -> None:
    said = found(Cluster(version=minor))
    assert bool(said) == old
    if old:
        assert said == ["Kubernetes v1.29.0 is older than 1.30. Upgrade the cluster to 1.30 or later"]


def test_missing_crds_are_named_with_the_command() -> None:
    (said,) = found(Cluster(kinds=False))
    assert "llmservices.medley.dev, " in said
    assert said.endswith("Install them: medley crds | kubectl apply --server-side -f -")


def test_a_missing_right_is_named_as_the_rule_to_add() -> None:
    lease = lease_rights("medley-system", "medley")
    said = found(Cluster(refuses=(("deployments", "patch"), ("leases", "get"))), rights=(*RIGHTS, *lease))
    assert said == [
        "no right to patch deployments.apps in all namespaces (applies one Deployment per variant). "
        "Add to the ClusterRole of its ServiceAccount: "
        '{apiGroups: ["apps"], resources: ["deployments"], verbs: ["patch"]}',
        "no right to get leases.coordination.k8s.io named medley in namespace medley-system (holds the lease of the "
        'one that leads). Add to the Role of its ServiceAccount: {apiGroups: ["coordination.k8s.io"], '
        'resources: ["leases"], verbs: ["get"], resourceNames: ["medley"]}',
    ]


def test_rights_in_the_namespaces_of_services_are_asked_for_there_only() -> None:
    cluster = Cluster(refuses=(("configmaps", "patch"),))
    said = [str(item) for item in preflight(cluster, None, RIGHTS, ("serving", "batch"))]  # type: ignore[arg-type]
    assert [text.split(" (")[0] for text in said] == [
        "no right to patch configmaps in namespace serving", "no right to patch configmaps in namespace batch",
    ]  # fmt: skip
    assert "Add to the Role of its ServiceAccount" in said[0]
    written = {(asked["resource"], asked.get("namespace")) for asked in cluster.asked if asked["verb"] == "patch"}
    assert written == {
        ("gpupools", None), ("llmservices", "serving"), ("llmservices", "batch"), ("deployments", "serving"),
        ("deployments", "batch"), ("configmaps", "serving"), ("configmaps", "batch"),
    }  # fmt: skip
    assert {place for resource, place in written if resource == "gpupools"} == {None}


def test_prometheus_is_asked() -> None:
    (said,) = found(Cluster(), Metrics("Prometheus does not answer: refused"))
    assert said.startswith("Prometheus does not answer: refused. Check --prometheus")
    assert preflight(Cluster(), None, ()) == (), "static workloads need none"  # type: ignore[arg-type]


def test_an_api_server_that_does_not_answer_is_all_that_is_said() -> None:
    class Silent(Cluster):
        def get(self, path: str) -> dict[str, Any]:
            raise TransientError("GET /version: the API server did not answer")

    (said,) = found(Silent(), Metrics("silent too"))
    assert said.startswith("GET /version: the API server did not answer")


def test_roles_hold_each_right_once_and_nothing_about_secrets() -> None:
    rights = (*RIGHTS, *lease_rights("medley-system", "medley"))
    manifests = role_manifests("medley", "medley-system", rights)
    kinds = [item["kind"] for item in manifests]
    assert kinds == ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]
    rules = [rule for item in manifests for rule in item.get("rules", [])]
    assert len(rules) == sum(bool(places(right)) for right in rights)
    text = str(rules)
    for forbidden in ("secrets", "'*'", "delete", "escalate", "bind", "impersonate"):
        assert forbidden not in text
    leases = [rule for rule in rules if rule["resources"] == ["leases"]]
    assert leases[0] == {
        "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "patch"],
        "resourceNames": ["medley"],
    }  # fmt: skip
    assert manifests[3]["metadata"]["namespace"] == "medley-system"


def pool(name: str, api_version: str, kind: str, namespace: str | None = None) -> dict[str, Any]:
    """As a list of the API server has it: without apiVersion and kind."""
    target = {"apiVersion": api_version, "kind": kind, "name": f"{name}-nodes"}
    scale = {**target, **({"namespace": namespace} if namespace else {})}
    return {"metadata": {"name": name}, "spec": {"instanceType": "g6.xlarge", "provider": {"scale": scale}}}


def test_rights_on_what_pools_name_are_asked_for_by_name_and_place() -> None:
    cluster = Cluster(
        refuses=(("nodepools/scale", "patch"), ("nodegroups/scale", "get"), ("nodegroups/scale", "patch"))
    )
    cluster.pools = [
        pool("b", "karpenter.sh/v1", "NodePool"),
        pool("a", "karpenter.sh/v1", "NodePool"),
        pool("c", "eks.example.org/v1", "Nodegroup", "infra"),
        {"metadata": {"name": "external"}, "spec": {"instanceType": "g6.xlarge", "provider": {"external": {}}}},
        {"metadata": {"name": "wrong"}, "spec": {"instanceType": "no-such-type"}},
    ]
    assert found(cluster) == [
        "no right to get, patch nodegroups/scale.eks.example.org named c-nodes in namespace infra (scales the nodes of "
        'GPUPool c). Add to the Role of its ServiceAccount: {apiGroups: ["eks.example.org"], resources: '
        '["nodegroups/scale"], verbs: ["get", "patch"], resourceNames: ["c-nodes"]}',
        "no right to patch nodepools/scale.karpenter.sh named a-nodes, b-nodes in all namespaces (scales the nodes of "
        'GPUPool a, b). Add to the ClusterRole of its ServiceAccount: {apiGroups: ["karpenter.sh"], resources: '
        '["nodepools/scale"], verbs: ["patch"], resourceNames: ["a-nodes", "b-nodes"]}',
    ]
    asked = [item for item in cluster.asked if item["subresource"] == "scale" and item["verb"] == "get"]
    assert [(item.get("name"), item.get("namespace")) for item in asked if item["resource"] != "deployments"] == [
        ("c-nodes", "infra"), ("a-nodes", None), ("b-nodes", None),
    ]  # fmt: skip


def test_pools_that_cannot_be_listed_or_name_a_kind_that_is_not_served_add_nothing() -> None:
    cluster = Cluster()
    cluster.pools = [pool("a", "lab.medley.dev/v1", "NodeGroup")]
    assert found(cluster) == []
    cluster.pools = None
    assert found(cluster) == []
