"""The operator's own account on a real API server: the rights suffice, and each that is missing is named."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from medley.actuation.cluster_api import ApiError, ClusterApi
from medley.actuation.rights import RIGHTS, Right, lease_creation_rights, lease_rights, places, scale_rights
from medley.cli.main import main
from medley.controller.lease import Lease, LeaseSettings
from medley.controller.preflight import preflight
from medley.lab.account import grant, kubeconfig_for
from medley.lab.control_plane import ControlPlane
from medley.lab.node_group import install_node_group_crd
from medley.lab.scene import apply, install_crds, path_of

pytestmark = pytest.mark.cluster


def lease_of(namespace: str) -> tuple[Right, ...]:
    return (*lease_rights(namespace, "medley"), *lease_creation_rights(namespace))


class Answering:
    def fault(self) -> str:
        return ""


def account(
    control_plane: ControlPlane, api: ClusterApi, namespace: str, tmp_path: Path, rights: tuple[Right, ...]
) -> ClusterApi:
    install_crds(api)
    name = f"{namespace}-operator"
    grant(api, namespace, name, rights)
    return ClusterApi(kubeconfig_for(api, control_plane.kubeconfig, tmp_path / "kubeconfig", namespace, name))


def settled(api: ClusterApi, rights: tuple[Right, ...], expected: int) -> list[str]:
    """What is missing, once the authorizer has seen the roles."""
    deadline = time.monotonic() + 10.0
    while True:
        said = [str(item) for item in preflight(api, Answering(), rights)]  # type: ignore[arg-type]
        if len(said) == expected or time.monotonic() > deadline:
            return said
        time.sleep(0.1)


def test_with_its_rights_nothing_is_missing_and_each_right_taken_away_is_named(
    control_plane: ControlPlane, api: ClusterApi, namespace: str, tmp_path: Path
) -> None:
    all_of_them = (*RIGHTS, *lease_of(namespace), *scale_rights("lab.medley.dev", "nodegroups"))
    wanted = tuple(right for right in all_of_them if places(right))
    own = account(control_plane, api, namespace, tmp_path, wanted)
    assert settled(own, wanted, 0) == []
    for right in wanted:
        grant(api, namespace, f"{namespace}-operator", tuple(other for other in wanted if other is not right))
        (said,) = settled(own, wanted, 1)
        assert f"no right to {', '.join(right.verbs)} {right.resource}" in said
        assert right.why in said
    grant(api, namespace, f"{namespace}-operator", wanted)
    assert settled(own, wanted, 0) == []


def test_what_is_not_in_the_list_is_refused(
    control_plane: ControlPlane, api: ClusterApi, namespace: str, tmp_path: Path
) -> None:
    wanted = (*RIGHTS, *lease_of(namespace))
    own = account(control_plane, api, namespace, tmp_path, wanted)
    assert settled(own, wanted, 0) == []
    pods = f"/api/v1/namespaces/{namespace}/pods"
    for attempt in (
        lambda: own.get("/api/v1/secrets"),
        lambda: own.get(f"/api/v1/namespaces/{namespace}/secrets/any"),
        lambda: own.get("/api/v1/nodes"),
        lambda: own.create(pods, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
        lambda: own.delete(f"/apis/apps/v1/namespaces/{namespace}/deployments/any"),
        lambda: own.get(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/another"),
        lambda: own.get("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/medley"),
    ):
        with pytest.raises(ApiError) as refused:
            attempt()
        assert refused.value.status == 403


def test_the_doctor_says_what_is_missing_and_how_to_fix_it(
    control_plane: ControlPlane, api: ClusterApi, namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = (*RIGHTS, *lease_of(namespace))
    some = tuple(right for right in wanted if right.resource != "events")
    assert len(settled(account(control_plane, api, namespace, tmp_path, some), wanted, 1)) == 1
    command = ["doctor", "--kubeconfig", str(tmp_path / "kubeconfig"), "--lease", f"{namespace}/medley"]
    dead = "http://127.0.0.1:9"
    assert main([*command, "--prometheus", dead]) == 1
    text = capsys.readouterr().out
    assert "missing: no right to create events in all namespaces (says what it did)" in text
    assert '{apiGroups: [""], resources: ["events"], verbs: ["create"]}' in text
    assert "missing: Prometheus does not answer" in text
    assert main([*command, "--prometheus", dead, "-o", "json"]) == 1
    assert [item["what"][:21] for item in json.loads(capsys.readouterr().out)["missing"]] == [
        "no right to create ev", "Prometheus does not a",
    ]  # fmt: skip


def test_the_doctor_names_a_right_that_is_missing_on_what_a_pool_names(
    control_plane: ControlPlane, api: ClusterApi, namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = (*RIGHTS, *lease_of(namespace))
    own = account(control_plane, api, namespace, tmp_path, wanted)
    assert settled(own, wanted, 0) == []
    install_node_group_crd(api)
    pool = {
        "apiVersion": "medley.dev/v1alpha1", "kind": "GPUPool", "metadata": {"name": namespace},
        "spec": {
            "instanceType": "g6.xlarge",
            "provider": {"scale": {"apiVersion": "lab.medley.dev/v1alpha1", "kind": "NodeGroup", "name": "the-group"}},
        },
    }  # fmt: skip
    apply(api, pool)
    try:
        assert len(settled(own, wanted, 1)) == 1
        command = ["doctor", "--kubeconfig", str(tmp_path / "kubeconfig"), "--lease", f"{namespace}/medley"]
        assert main(command) == 1
        text = capsys.readouterr().out
        assert f"named the-group in all namespaces (scales the nodes of GPUPool {namespace})" in text
        rule = 'apiGroups: ["lab.medley.dev"], resources: ["nodegroups/scale"], verbs: ["get", "patch"]'
        assert f'{{{rule}, resourceNames: ["the-group"]}}' in text
        grant(api, namespace, f"{namespace}-operator", (*wanted, *scale_rights("lab.medley.dev", "nodegroups")))
        assert settled(own, wanted, 0) == []
    finally:
        api.delete(path_of(pool))


def test_a_lease_is_taken_kept_and_followed_under_these_rights_only(
    control_plane: ControlPlane, api: ClusterApi, namespace: str, tmp_path: Path
) -> None:
    own = account(control_plane, api, namespace, tmp_path, lease_of(namespace))
    assert settled(own, lease_of(namespace), 0) == []
    first, second = (
        Lease(own, LeaseSettings(namespace, "medley", name, duration_s=2.0, every_s=0.2)) for name in ("one", "two")
    )
    assert first.step()
    assert not second.step()
    assert first.step(), "renewed"
    assert not second.step()
    deadline = time.monotonic() + 10.0
    while not second.step():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not first.held
    assert not first.step()
    spec = api.get(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/medley")["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("two", 1)
    second.release()
    assert first.step()
