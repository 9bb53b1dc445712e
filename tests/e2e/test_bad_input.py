"""Bad input on a running operator: a condition and an Event that name field and fix; other services go on."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from medley.api.manifests import read_manifests
from medley.lab.scene import Scene, SceneSettings, apply
from world import CHAT, Json, World, eventually, raised

pytestmark = [pytest.mark.cluster, pytest.mark.e2e]

MODEL = "meta-llama/Llama-3.1-8B-Instruct"


def service(name: str, **spec: object) -> Json:
    body: Json = {
        "model": {"name": MODEL, "maxModelLen": 16384},
        "slo": {"timePerOutputTokenMs": 120},
        "pools": ["l4"],
        "mode": "Auto",
        "workload": {"static": {"points": [{"inputTokens": 512, "outputTokens": 128, "requestsPerSecond": 0.2}]}},
    }
    return {
        "apiVersion": "medley.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {**body, **spec},
    }


@pytest.fixture(scope="module")
def world(settings: SceneSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    path: Path = tmp_path_factory.mktemp("bad-input") / "objects.yaml"
    objects = [item for item in read_manifests([CHAT]) if item["kind"] != "LLMService"]
    path.write_text(yaml.safe_dump_all([*objects, service("good")]))
    for scene in raised(Scene([path], settings)):
        scene.start_operator()
        scene.apply_manifests()
        yield settled(World(scene))


def settled(world: World) -> World:
    eventually(lambda: world.condition("Ready")[0] == "True", "the good service is Ready", world.scene)
    return world


CASES = {
    "unknown-pool": (service("unknown-pool", pools=["h9000"]), "Ready", "spec.variants[0].pool", "Create it"),
    "no-profile": (
        service("no-profile", model={"name": "other/model"}),
        "Ready", "ThroughputProfile", "another model",
    ),
    "slo-nobody-meets": (
        service("slo-nobody-meets", slo={"timePerOutputTokenMs": 1}),
        "Optimised", "TimePerOutputTokenAtBatch1", "timePerOutputTokenMs",
    ),
    "size-nobody-serves": (
        service(
            "size-nobody-serves",
            model={"name": MODEL},
            workload={"static": {"points": [{"inputTokens": 60000, "outputTokens": 10, "requestsPerSecond": 1},
                                            {"inputTokens": 512, "outputTokens": 128, "requestsPerSecond": 0.2}]}},
        ),
        "Optimised", "60000/10", "KVDoesNotFit",
    ),
    "limits-too-low": (
        service(
            "limits-too-low",
            workload={"static": {"points": [{"inputTokens": 512, "outputTokens": 128, "requestsPerSecond": 500}]}},
        ),
        "CapacityAvailable", "limits allow only", "pool l4 limits.nodes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(CASES))
def test_bad_input_is_named_and_leaves_others_alone(world: World, case: str) -> None:
    manifest, condition, names, fix = CASES[case]
    generations = {name: value for name, value in world.generations().items() if name.startswith("good-")}
    uids = world.pod_uids()
    apply(world.scene.api, manifest)
    try:
        eventually(lambda: world.condition(condition, manifest)[0] == "False", f"{condition} is False", world.scene)
        message = world.condition(condition, manifest)[2]
        assert names in message, message
        assert fix in message, message
        eventually(lambda: any(names in text for text in world.events(case)), "an Event", world.scene)
        assert uids <= world.pod_uids()
        assert {n: v for n, v in world.generations().items() if n.startswith("good-")} == generations
        assert world.condition("Ready")[0] == "True"
    finally:
        world.scene.api.delete(f"/apis/medley.dev/v1alpha1/namespaces/default/llmservices/{case}")


def test_a_service_that_becomes_wrong_keeps_what_it_runs(world: World) -> None:
    manifest = service("turns-wrong")
    apply(world.scene.api, manifest)
    eventually(lambda: world.condition("Ready", manifest)[0] == "True", "Ready", world.scene)
    uids = world.pod_uids()
    wrong = copy.deepcopy(manifest)
    wrong["spec"]["pools"] = ["h9000"]
    apply(world.scene.api, wrong)
    eventually(lambda: world.condition("Ready", manifest)[0] == "False", "Ready is False", world.scene)
    world.cycles(3)
    assert uids <= world.pod_uids()
    world.scene.api.delete("/apis/medley.dev/v1alpha1/namespaces/default/llmservices/turns-wrong")


def test_a_pool_that_cannot_be_scaled_is_said(world: World) -> None:
    pool = {
        "apiVersion": "medley.dev/v1alpha1",
        "kind": "GPUPool",
        "metadata": {"name": "astray"},
        "spec": {
            "instanceType": "g6.xlarge",
            "provider": {"scale": {"apiVersion": "lab.medley.dev/v1alpha1", "kind": "NodeGroup", "name": "nowhere"}},
        },
    }
    apply(world.scene.api, pool)
    manifest = service("astray", pools=["astray"])
    apply(world.scene.api, manifest)
    eventually(lambda: world.condition("CapacityAvailable", manifest)[1] == "WriteFailed", "said", world.scene)
    assert "spec.provider.scale" in world.condition("CapacityAvailable", manifest)[2]
    eventually(lambda: any("nowhere" in text for text in world.events("astray")), "an Event", world.scene)
    world.scene.api.delete("/apis/medley.dev/v1alpha1/namespaces/default/llmservices/astray")
    world.scene.api.delete("/apis/medley.dev/v1alpha1/gpupools/astray")


def test_observe_plans_and_touches_nothing(world: World) -> None:
    group = "/apis/lab.medley.dev/v1alpha1/nodegroups/l40s"
    world.scene.api.patch(group, {"spec": {"replicas": 3}})  # somebody else's nodes
    manifest = service("watched", mode="Observe", pools=["l40s"])
    apply(world.scene.api, manifest)
    eventually(lambda: world.status(manifest).get("costPerHour") is not None, "a plan is reported", world.scene)
    world.cycles(2)
    assert not [item for item in world.deployments() if item["metadata"]["name"].startswith("watched-")]
    assert world.status(manifest)["variants"][0]["planned"] == 1
    assert world.scene.api.get(group)["spec"]["replicas"] == 3
    world.scene.api.delete("/apis/medley.dev/v1alpha1/namespaces/default/llmservices/watched")
