"""The loop on real parts, as one story: each test goes on where the one before stopped.

On the plain control plane; with `--cluster kind` (make test-kind) the same story in containers on real kubelets.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from medley.lab.loop_scene import LoopScene
from world import World, as_json, eventually, raised

pytestmark = [pytest.mark.cluster, pytest.mark.e2e]


@pytest.fixture(scope="module")
def world(stage: AbstractContextManager[LoopScene]) -> Iterator[World]:
    for scene in raised(stage):
        world = World(scene)
        try:
            yield world
        finally:
            world.silence()


def test_the_floor_comes_up_before_any_demand_is_known(world: World) -> None:
    world.scene.start_operator()
    world.scene.apply_manifests()
    eventually(lambda: sum(world.replicas().values()) == 2, "minReplicas 2", world.scene)
    assert world.scene.wait_first_ready(world.key, 30)
    eventually(lambda: world.condition("Ready")[0] == "True", "Ready", world.scene)
    assert world.status()["observedGeneration"] == 1
    world.floor_power = world.gpu_power()


def test_the_mix_follows_a_step_up(world: World) -> None:
    world.send(1.0)
    eventually(lambda: world.condition("WorkloadKnown")[0] == "True", "the workload is known", world.scene)
    before, power = world.replicas(), world.gpu_power()
    world.send(8.0)
    eventually(lambda: world.gpu_power() > 1.5 * power, f"more than {before}", world.scene)
    eventually(lambda: world.condition("RoutingInPlace")[0] == "True", "the gateway acknowledges", world.scene)
    eventually(lambda: world.status()["resolved"]["routing"] == "InputRange", "planned for the router", world.scene)


def test_replicas_equal_the_replay_of_the_recorded_snapshot(world: World) -> None:
    # A cycle may be under way: compare what a record decided with what the API server had right after it.
    for _ in range(10):
        before = world.records()[-1]
        asked = world.replicas()
        if world.records()[-1] != before:
            continue
        done = subprocess.run(
            [sys.executable, "-m", "medley.cli.main", "replay", str(before), "-o", "json"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        replayed = as_json(done.stdout)["services"][0]["replicas"]
        if {name: count for name, count in replayed.items() if count} == asked:
            return
        time.sleep(0.5)  # its writes were not done yet
    raise AssertionError(f"replay says {replayed}, the API server has {asked}")


def test_killed_and_restarted_it_changes_nothing(world: World) -> None:
    try:
        world.at_rest(at_least_rps=6.0)
    finally:
        # The demand falls, and the operator dies while it keeps what the peak needed: what the next one sees, which
        # knows nothing of that, must be no reason to shrink.
        world.silence()
    world.at_rest(at_most_rps=4.0)
    world.scene.kill_operator()
    time.sleep(0.5)
    uids, generations = world.pod_uids(), world.generations()
    assert world.gpu_power() > world.floor_power, "there must be something to shrink"
    world.scene.start_operator()
    world.cycles(5)
    assert world.pod_uids() == uids
    assert world.generations() == generations


def test_with_prometheus_stopped_nothing_shrinks(world: World) -> None:
    before = world.replicas()
    assert world.gpu_power() > world.floor_power, "there must be something to shrink"
    world.scene.pause_metrics()
    try:
        eventually(lambda: world.condition("WorkloadKnown")[0] == "False", "the demand is unknown", world.scene)
        assert "Prometheus" in world.condition("WorkloadKnown")[2]
        held_since = time.monotonic()
        while time.monotonic() - held_since < 2 * world.scene.settings.stabilisation_s:
            assert all(world.replicas().get(variant, 0) >= count for variant, count in before.items())
            time.sleep(0.5)
        assert any("WorkloadKnown=False" in event for event in world.events("chat"))
    finally:
        world.scene.resume_metrics()


def test_with_complete_data_it_follows_the_fall(world: World) -> None:
    eventually(lambda: sum(world.replicas().values()) == 2, "back to minReplicas", world.scene, timeout_s=90)
    eventually(lambda: world.condition("Ready")[0] == "True", "all Ready", world.scene)
    groups = "/apis/lab.medley.dev/v1alpha1/nodegroups"
    eventually(
        lambda: sum(item["spec"]["replicas"] for item in world.scene.api.items(groups)) == 2,
        "the nodes go too",
        world.scene,
    )


def test_paused_it_changes_nothing(world: World) -> None:
    path = "/apis/medley.dev/v1alpha1/namespaces/default/llmservices/chat"
    world.scene.api.patch(path, {"metadata": {"annotations": {"medley.dev/paused": "true"}}})
    eventually(lambda: world.status()["resolved"]["mode"] == "Observe", "paused", world.scene)
    deployment = next(item for item in world.deployments() if item["spec"].get("replicas"))
    name = f"/apis/apps/v1/namespaces/default/deployments/{deployment['metadata']['name']}"
    world.scene.api.patch(name, {"spec": {"replicas": 0}})
    world.cycles(2)
    assert world.scene.api.get(name)["spec"].get("replicas", 0) == 0
    world.scene.api.patch(path, {"metadata": {"annotations": {"medley.dev/paused": None}}})
    eventually(lambda: sum(world.replicas().values()) == 2, "drift is corrected once it is resumed", world.scene)


def test_deleting_the_service_takes_what_was_made_for_it(world: World) -> None:
    world.scene.api.delete("/apis/medley.dev/v1alpha1/namespaces/default/llmservices/chat")
    eventually(lambda: not world.deployments() and not world.pod_uids(), "garbage collected", world.scene)
    groups = "/apis/lab.medley.dev/v1alpha1/nodegroups"
    eventually(
        lambda: not any(item["spec"]["replicas"] for item in world.scene.api.items(groups)),
        "the nodes that were asked for are given back",
        world.scene,
    )
