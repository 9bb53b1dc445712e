"""Several operators: one leads; when it dies or is stopped another does, and nothing that runs changes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from medley.controller.lease import LOST_LEASE
from medley.lab.processes import SupervisedProcess
from medley.lab.scene import OPERATOR_NAME, OPERATOR_NAMESPACE, Scene, SceneSettings, apply
from world import CHAT, World, eventually, raised

pytestmark = [pytest.mark.cluster, pytest.mark.e2e]

LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{OPERATOR_NAMESPACE}/leases/{OPERATOR_NAME}"
FAIL_OVER_S = 15.0


@pytest.fixture(scope="module")
def world(settings: SceneSettings) -> Iterator[World]:
    for scene in raised(Scene([CHAT], settings)):
        yield World(scene)


def spec(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.scene.api.get(LEASE)["spec"] if world.scene.api.exists(LEASE) else {}
    return found


def started(world: World, name: str) -> SupervisedProcess:
    return world.scene.start_operator("--identity", name)


def leads(world: World, name: str, timeout_s: float) -> float:
    """Seconds until it does."""
    began_s = time.monotonic()
    eventually(lambda: spec(world).get("holderIdentity") == name, f"{name} leads", world.scene, timeout_s=timeout_s)
    return time.monotonic() - began_s


def test_one_leads_the_others_wait_and_a_dead_one_is_followed(world: World) -> None:
    first = started(world, "one")
    leads(world, "one", 30.0)
    second = started(world, "two")
    world.scene.apply_manifests()
    eventually(lambda: sum(world.replicas().values()) == 2, "minReplicas 2", world.scene)
    eventually(lambda: world.condition("Ready")[0] == "True", "Ready", world.scene)
    time.sleep(3.0)
    assert spec(world)["holderIdentity"] == "one"
    world.cycles(1)
    uids, generations = world.pod_uids(), world.generations()
    os.kill(first.pid, signal.SIGKILL)
    first.stop(grace_s=0)
    assert leads(world, "two", FAIL_OVER_S + 5.0) <= FAIL_OVER_S
    world.cycles(2)
    assert world.pod_uids() == uids
    assert world.generations() == generations
    assert spec(world)["leaseTransitions"] == 1
    assert second.running()


def test_one_that_was_stopped_for_a_while_ends_when_it_wakes_up_and_writes_nothing(world: World) -> None:
    stopped = world.scene.operators[-1]
    stopped.freeze()
    try:
        third = started(world, "three")
        leads(world, "three", 30.0)
        world.cycles(1)
    finally:
        stopped.thaw()
    eventually(lambda: not stopped.running(), "it ends", world.scene, timeout_s=20.0)
    assert stopped.exit_code == LOST_LEASE
    assert "the lease is lost: this process ends" in world.scene.operator_log
    assert third.running()
    assert spec(world)["holderIdentity"] == "three"


def test_services_elsewhere_are_left_alone(world: World) -> None:
    other = "not-looked-after"
    world.scene.api.create("/api/v1/namespaces", {"metadata": {"name": other}})
    (manifest,) = [item for item in world.scene.manifests if item["kind"] == "LLMService"]
    elsewhere = {**manifest, "metadata": {"name": "elsewhere", "namespace": other}}
    apply(world.scene.api, elsewhere)
    world.cycles(2)
    assert world.status(elsewhere) == {}
    assert not world.scene.api.items(f"/apis/apps/v1/namespaces/{other}/deployments")
    # A refused call is an error or a warning with the API server's "forbidden" in it; a bare 403 may
    # be the milliseconds of a time stamp.
    assert "no right" not in world.scene.operator_log
    assert "forbidden" not in world.scene.operator_log.lower()


def test_one_that_is_asked_to_end_is_followed_at_once(world: World) -> None:
    third = world.scene.operators[-1]
    fourth = started(world, "four")
    time.sleep(4.0)  # until it waits for the lease
    third.stop(grace_s=20)
    assert leads(world, "four", FAIL_OVER_S) <= 6.0, "the lease was given back"
    assert fourth.running()
