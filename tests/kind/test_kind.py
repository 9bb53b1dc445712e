"""Image and chart on real kubelets, as one story: install, live traffic, fail-over, upgrade, uninstall.

`make test-kind` runs it.

Requests go through a Kubernetes Service to simulated engines in containers, Prometheus scrapes them, and the operator,
restricted and with the rights of its chart only, scales by what it reads there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from medley.api.crds import KINDS
from medley.lab.kind_cluster import KindCluster
from medley.lab.kind_scene import KindScene
from medley.lab.load import OutcomeStatus
from medley.lab.scene import OPERATOR_NAME, OPERATOR_NAMESPACE, SceneSettings
from medley.lab.traffic import Through
from world import CHAT, World, eventually, raised

pytestmark = [pytest.mark.kind, pytest.mark.timeout(1800)]

FAIL_OVER_S = 15.0
LOAD_RPS = 6.0
CRDS = [f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind.crd_name}" for kind in KINDS]


@pytest.fixture(scope="module")
def scene(kind_cluster: KindCluster) -> Iterator[KindScene]:
    # Nothing shrinks within 300 s: what goes away in this story would be taken away by mistake.
    settings = SceneSettings(ready_delay_s=0.5, interval_s=3.0, stabilisation_s=300.0, window_s=12.0)
    yield from raised(
        KindScene([CHAT], settings, cluster=kind_cluster, through=Through.SERVICE, values={"crds": {"keep": True}})
    )


@pytest.fixture(scope="module")
def world(scene: KindScene) -> Iterator[World]:
    world = World(scene)
    yield world
    world.silence()


def pods(scene: KindScene) -> list[dict[str, Any]]:
    return [scene.api.get(f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{name}") for name in scene.operators()]


def running(world: World) -> dict[str, int]:
    """Restarts by uid of the pods that are not ending."""
    return {
        item["metadata"]["uid"]: sum(c["restartCount"] for c in item["status"].get("containerStatuses") or [])
        for item in world.scene.api.items(f"/api/v1/namespaces/{world.key.namespace}/pods")
        if not item["metadata"].get("deletionTimestamp")
    }


def test_it_installs_under_the_restricted_standard_with_the_rights_of_the_chart(scene: KindScene) -> None:
    scene.start_operator()
    namespace = scene.api.get(f"/api/v1/namespaces/{OPERATOR_NAMESPACE}")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    found = pods(scene)
    assert len(found) == 2
    for pod in found:
        assert pod["spec"]["serviceAccountName"] == OPERATOR_NAME
        assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    account = f"--as=system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR_NAME}"
    listed = scene.kubectl("auth", "can-i", "--list", account, "-n", "default")
    assert "secrets" not in listed
    assert "*.*" not in listed
    scene.helm("test", OPERATOR_NAME, "--timeout", "120s")


def test_the_floor_of_a_service_comes_up_in_containers(world: World) -> None:
    world.scene.apply_manifests()
    eventually(lambda: sum(world.replicas().values()) == 2, "minReplicas 2", world.scene)
    eventually(lambda: world.condition("Ready")[0] == "True", "Ready", world.scene, timeout_s=120)
    statuses = [item["status"] for item in world.scene.api.items("/api/v1/namespaces/default/pods")]
    assert all(status["containerStatuses"][0]["imageID"] for status in statuses), "a kubelet ran them"
    assert len({status["podIP"] for status in statuses}) == 2


def test_it_is_scaled_by_live_traffic(world: World) -> None:
    floor = world.gpu_power()
    world.send(1.0)
    eventually(lambda: world.condition("WorkloadKnown")[0] == "True", "the workload is known", world.scene)
    world.send(LOAD_RPS)
    eventually(lambda: world.gpu_power() > 1.5 * floor, f"more than {floor} $/h", world.scene, timeout_s=120)
    world.at_rest(at_least_rps=0.7 * LOAD_RPS, timeout_s=180)
    assert world.condition("DecisionFromRealData")[0] == "True"
    assert any(outcome.status is OutcomeStatus.OK for outcome in world.outcomes())


def test_the_other_takes_over_when_the_leader_is_killed_and_the_traffic_does_not_notice(
    world: World, scene: KindScene
) -> None:
    first, before = scene.holder(), running(world)
    killed_s = world.sent_for_s()
    scene.kill_operator()
    began_s = time.monotonic()
    eventually(lambda: scene.holder() not in ("", first), "another leads", scene, timeout_s=30)
    assert time.monotonic() - began_s <= FAIL_OVER_S
    world.cycles(3, timeout_s=90)
    after = running(world)
    assert {uid: after.get(uid) for uid in before} == before, "nothing was taken away or started anew"
    since = [outcome for outcome in world.outcomes() if outcome.at_s >= killed_s]
    assert since
    assert {outcome.status for outcome in since} == {OutcomeStatus.OK}
    assert "forbidden" not in scene.operator_log.lower()


def test_an_upgrade_changes_nothing_that_runs(world: World, scene: KindScene) -> None:
    world.silence()
    world.at_rest(at_most_rps=4.0)
    before, generations = running(world), world.generations()
    old = set(scene.operators())
    planning = {**scene.values()["planning"], "stabilisationSeconds": 360}
    scene.install(planning=planning)
    eventually(lambda: scene.holder() in scene.operators() and not old & set(scene.operators()), "new ones", scene)
    world.cycles(3, timeout_s=90)
    assert running(world) == before
    assert world.generations() == generations


def test_uninstalling_keeps_the_crds_or_not(world: World, scene: KindScene) -> None:
    api = scene.api
    before, generations = running(world), world.generations()
    scene.helm("uninstall", OPERATOR_NAME, "--wait")
    assert all(api.exists(path) for path in CRDS)
    assert running(world) == before, "what runs goes on"
    scene.install(crds={"keep": False})
    eventually(lambda: scene.holder() in scene.operators(), "one leads", scene)
    world.cycles(2, timeout_s=90)
    assert running(world) == before
    assert world.generations() == generations
    scene.helm("uninstall", OPERATOR_NAME, "--wait")
    eventually(lambda: not any(api.exists(path) for path in CRDS), "the CRDs are gone", scene)
    eventually(lambda: not world.deployments(), "what it ran is gone with them", scene, timeout_s=120)
    left = [
        f"{plural}/{item['metadata']['name']}"
        for plural in ("clusterroles", "clusterrolebindings")
        for item in api.items(f"/apis/rbac.authorization.k8s.io/v1/{plural}")
        if item["metadata"]["name"].startswith(OPERATOR_NAMESPACE)
    ]
    assert left == []
