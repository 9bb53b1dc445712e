"""What RBAC's proofs assume about requests and roles, seen on a real kube-apiserver: names, scopes, default roles."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from medley.actuation.cluster_api import ApiError, ClusterApi, Json
from medley.cli.policy_input import ceiling_text
from medley.lab.control_plane import ControlPlane
from medley.policy.answers import Engine
from medley.policy.prove import Proved, Prover, Refuted
from medley.policy.rbac.document import API_VERSION, Kind, Manifest
from medley.policy.rbac.parse import parse_manifest
from medley.policy.rbac.questions import within
from medley.policy.rbac.render import manifest_text
from medley.policy.rbac.roleset import RoleSet
from medley.policy.rbac.spec import read_spec
from medley.policy.rbac.verify import verify

pytestmark = pytest.mark.cluster

RULES = f"/apis/{API_VERSION}"


@pytest.fixture
def account(control_plane: ControlPlane, api: ClusterApi, namespace: str, tmp_path: Path) -> ClusterApi:
    """A client with the token of a service account of the namespace, which has no rights yet."""
    api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "asker"}})
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/asker/token"
    token = api.create(path, {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}})
    kubeconfig = yaml.safe_load(control_plane.kubeconfig.read_text())
    for entry in kubeconfig["users"]:
        entry["user"] = {"token": token["status"]["token"]}
    file = tmp_path / "asker.kubeconfig"
    file.write_text(yaml.safe_dump(kubeconfig))
    return ClusterApi(file)


def refused(call: Callable[[], object]) -> bool:
    """Whether the authorizer refuses it; any other error comes later than authorisation."""
    try:
        call()
    except ApiError as error:
        return error.status == 403
    return False


def test_requests_carry_the_names_that_the_proofs_assume(
    api: ClusterApi, account: ClusterApi, namespace: str, eventually: Callable[..., None]
) -> None:
    rules = [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": ["a"],
            "verbs": ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"],
        },
        {"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["asker"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["namespaces"], "resourceNames": [namespace], "verbs": ["get"]},
    ]
    where = f"{RULES}/namespaces/{namespace}"
    api.create(f"{where}/roles", {"metadata": {"name": "r"}, "rules": rules})
    # Bound through the group that service accounts of the namespace are in.
    subject = {"kind": "Group", "name": f"system:serviceaccounts:{namespace}", "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"kind": "Role", "name": "r", "apiGroup": "rbac.authorization.k8s.io"}
    api.create(f"{where}/rolebindings", {"metadata": {"name": "b"}, "subjects": [subject], "roleRef": reference})
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    eventually(lambda: not refused(lambda: account.get(f"{maps}/a")), "the binding to be seen")

    def body(name: str) -> Json:
        return {"metadata": {"name": name}}

    token = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}}
    assert refused(lambda: account.get(f"{maps}/b"))
    # A create of a whole object and a deletecollection have no name, so they match no resourceNames.
    assert refused(lambda: account.create(maps, body("a")))
    assert refused(lambda: account.delete(maps))
    # Of a subresource it has.
    assert not refused(lambda: account.create(f"/api/v1/namespaces/{namespace}/serviceaccounts/asker/token", token))
    assert refused(lambda: account.create(f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token", token))
    # A list has a name by its field selector alone.
    assert refused(lambda: account.get(maps))
    assert not refused(lambda: account.get(maps, fieldSelector="metadata.name=a"))
    assert refused(lambda: account.get(maps, fieldSelector="metadata.name=b"))
    # A patch has the name of its URL, and so may create the object by server-side apply.
    assert not refused(lambda: account.patch(f"{maps}/a", {"data": {"x": "y"}}))
    assert not refused(lambda: account.delete(f"{maps}/a"))
    # A namespace lies in itself; a RoleBinding reaches no other, and no list across all.
    assert not refused(lambda: account.get(f"/api/v1/namespaces/{namespace}"))
    assert refused(lambda: account.get("/api/v1/namespaces/default"))
    assert refused(lambda: account.get("/api/v1/configmaps", fieldSelector="metadata.name=a"))


def manifests(api: ClusterApi) -> dict[str, Manifest]:
    """Every ClusterRole of the cluster, read from what the server gives."""
    out = {}
    for item in api.items(f"{RULES}/clusterroles"):
        value: dict[str, Any] = {"apiVersion": API_VERSION, "kind": "ClusterRole", **item}
        # Stored rules stand in for aggregation, which the controller has done already.
        value.pop("aggregationRule", None)
        out[item["metadata"]["name"]] = parse_manifest(json.dumps(value))
    return out


def test_the_default_roles_are_read_printed_and_ordered(api: ClusterApi, eventually: Callable[..., None]) -> None:
    eventually(lambda: len(manifests(api)["admin"].roles[0].rules) > 5, "the default roles to be aggregated")
    found = manifests(api)
    assert len(found) > 60
    for manifest in found.values():
        assert manifest.roles[0].kind is Kind.CLUSTER_ROLE
        assert parse_manifest(manifest_text(manifest)) == manifest
    ladder = [RoleSet(found[name]) for name in ("view", "edit", "admin", "cluster-admin")]
    prover = Prover(timeout_ms=20_000)
    for lower, higher in itertools.pairwise(ladder):
        outcome = within(lower, higher, prover)
        assert isinstance(outcome, Proved)
        assert outcome.engines == (Engine.ATOMS, Engine.SMT)
        assert isinstance(within(higher, lower, prover), Refuted)


def test_the_danger_ceiling_tells_the_default_roles_apart(api: ClusterApi, eventually: Callable[..., None]) -> None:
    eventually(lambda: len(manifests(api)["admin"].roles[0].rules) > 5, "the default roles to be aggregated")
    found = manifests(api)
    spec = read_spec(ceiling_text("kubernetes-danger"), "kubernetes-danger")

    def broken(name: str) -> set[str]:
        report = verify(RoleSet(found[name]), spec, Prover(timeout_ms=20_000))
        assert not report.doubts
        return {witness.rule.id for witness in report.witnesses}

    assert broken("view") == set()
    assert {"read-secrets", "exec", "attach", "pods-anywhere", "workloads-anywhere", "tokens"} <= broken("edit")
    assert broken("cluster-admin") == {rule.id for rule in spec.ceiling}
