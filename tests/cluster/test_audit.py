"""What an API server writes down of requests, and what it gives to everybody: facts of `lab.audit` and `lab.calls`."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from medley.actuation.cluster_api import ApiError, ClusterApi, Json, PatchType
from medley.actuation.rights import Right
from medley.lab.account import grant, kubeconfig_for
from medley.lab.audit import Answer, read
from medley.lab.calls import GIVEN_TO_ALL
from medley.lab.control_plane import ControlPlane
from medley.policy.prove import Proved, Prover
from medley.policy.rbac.document import Role
from medley.policy.rbac.parse import parse_manifest
from medley.policy.rbac.questions import within
from medley.policy.rbac.roleset import RoleSet

pytestmark = pytest.mark.cluster

RIGHTS = (
    Right("", "configmaps", ("create", "get", "list", "patch", "watch"), "all that is tried"),
    Right("apps", "deployments", ("patch",), "but not create"),
)


def test_requests_are_read_as_the_authorizer_saw_them(
    control_plane: ControlPlane, api: ClusterApi, namespace: str, tmp_path: Path, eventually: Callable[..., None]
) -> None:
    log = control_plane.audit_log
    if log is None:
        pytest.skip("the API server of a given cluster writes no audit log that could be read from here")
    grant(api, namespace, "caller", RIGHTS)
    own = ClusterApi(kubeconfig_for(api, control_plane.kubeconfig, tmp_path / "kubeconfig", namespace, "caller"))
    maps, deployments = (
        f"/api/v1/namespaces/{namespace}/configmaps",
        f"/apis/apps/v1/namespaces/{namespace}/deployments",
    )

    def allowed() -> bool:
        with contextlib.suppress(ApiError):
            own.get(maps)
            return True
        return False

    def applied(path: str, kind: Json, **spec: object) -> Json:
        body = {**kind, "metadata": {"name": path.rsplit("/", 1)[1]}, **spec}
        return own.patch(path, body, PatchType.APPLY, fieldManager="test", force="true")

    eventually(allowed, "the role is seen")
    config_map = {"apiVersion": "v1", "kind": "ConfigMap"}
    own.create(maps, {"metadata": {"name": "made"}})
    applied(f"{maps}/applied", config_map)
    applied(f"{maps}/applied", config_map)
    own.items("/api/v1/configmaps", fieldSelector="metadata.name=made")
    labels = {"app": "x"}
    pods = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    with pytest.raises(ApiError, match="cannot create resource"):
        applied(
            f"{deployments}/absent", {"apiVersion": "apps/v1", "kind": "Deployment"},
            spec={"selector": {"matchLabels": labels}, "template": pods},
        )  # fmt: skip
    with pytest.raises(ApiError):
        own.get(f"/api/v1/namespaces/{namespace}/secrets/any")
    own.get("/version")
    with contextlib.closing(own.open(maps, {"watch": "true", "timeoutSeconds": "30"}, 5.0)):
        user = f"system:serviceaccount:{namespace}:caller"
        eventually(lambda: any(call.request.verb == "watch" for call in read(log, user)), "a watch that goes on")
    found = {(str(call.request).partition(" by ")[0], call.answer) for call in read(log, user)}
    here = f"in namespace {namespace}"
    yes, no = Answer.ALLOWED, Answer.REFUSED
    assert found - {(f"list configmaps {here}", no)} == {
        (f"list configmaps {here}", yes),
        (f"create configmaps {here}", yes),
        (f"patch configmaps applied {here}", yes),
        (f"create configmaps applied {here}", yes),
        ("list configmaps made cluster-wide", yes),
        (f"patch deployments.apps absent {here}", yes),
        (f"create deployments.apps absent {here}", no),
        (f"get secrets any {here}", no),
        ("get /version", yes),
        (f"watch configmaps {here}", yes),
    }


def test_nobody_else_is_in_the_log(control_plane: ControlPlane, api: ClusterApi, namespace: str) -> None:
    log = control_plane.audit_log
    if log is None:
        pytest.skip("the API server of a given cluster writes no audit log that could be read from here")
    api.create(f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "made"}, "data": {"key": "a-body"}})
    time.sleep(0.5)
    text = log.read_text() if log.exists() else ""
    users = {json.loads(line)["user"]["username"] for line in text.split("\n")[:-1]}
    assert all(user.startswith("system:serviceaccount:") for user in users), users
    assert not any(user.startswith("system:serviceaccount:kube-system:") for user in users)
    assert "a-body" not in text


def test_what_is_given_to_all_is_what_this_version_gives(api: ClusterApi) -> None:
    written = []
    for role in GIVEN_TO_ALL.objects:
        if isinstance(role, Role):
            for kind in ("ClusterRole", "ClusterRoleBinding"):
                path = f"/apis/rbac.authorization.k8s.io/v1/{kind.lower()}s/{role.metadata.name}"
                item = api.get(path)
                item["metadata"] = {"name": role.metadata.name}
                written.append({**item, "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind})
    real = RoleSet(parse_manifest(yaml.safe_dump_all(written)))
    for inner, outer in ((real, GIVEN_TO_ALL), (GIVEN_TO_ALL, real)):
        assert isinstance(within(inner, outer, Prover()), Proved)
