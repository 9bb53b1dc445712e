"""Manifests to domain values: short forms, defaults, and errors that name the field and what to do (DESIGN §4)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medley.api.convert import Resources, identity, parse, to_pool, to_profile, to_service
from medley.api.manifests import read_manifests
from medley.api.throughputprofile import ONE_OF
from medley.model.errors import UserError
from medley.model.objects import CapacityType, Mode, Offering, RoutingMode, ScaleTarget, ServiceKey, StaticPoint
from medley.model.workload import Size
from medley.profiles.grid import Grid
from medley.profiles.profile import ProfileKey, Provenance
from medley.profiles.step import StepModel

Manifest = dict[str, Any]

API = "medley.dev/v1alpha1"
GRID: Manifest = {
    "slo": {"timePerOutputTokenMs": 120},
    "inputTokens": [128, 512, 2048],
    "outputTokens": [128, 512],
    "requestsPerSecond": [[9.1, 3.0], [7.2, 2.6], [2.2, 1.1]],
}
LINEAR: Manifest = {
    "baseMs": 36.7,
    "perSequenceMs": 0.16,
    "perContextTokenMs": 0.00028,
    "prefillMsPerToken": 0.16,
    "kvCapacityTokens": 41000,
}
POINT: Manifest = {"inputTokens": 512, "outputTokens": 128, "requestsPerSecond": 3.5}
SCALE: Manifest = {"apiVersion": "lab.medley.dev/v1alpha1", "kind": "NodeGroup", "name": "l4"}
UNSET = object()
"""Put in place of a value: the field is taken away."""


def service(**spec: object) -> Manifest:
    base: Manifest = {"model": {"name": "m"}, "slo": {"timePerOutputTokenMs": 120}, "pools": ["l4"]}
    return manifest("LLMService", "chat", base, spec)


def pool(**spec: object) -> Manifest:
    return manifest("GPUPool", "l4", {"instanceType": "g6.xlarge", "provider": {"external": {}}}, spec)


def own_pool(**spec: object) -> Manifest:
    """A pool that the catalogue does not know."""
    base: Manifest = {
        "gpu": "X1",
        "gpusPerNode": 4,
        "offerings": [{"pricePerNodeHour": "2.50"}],
        "provider": {"external": {}},
    }
    return manifest("GPUPool", "own", base, spec)


def profile(**spec: object) -> Manifest:
    return manifest("ThroughputProfile", "m-l4", {"key": {"model": "m", "gpu": "L4"}, "maxThroughput": GRID}, spec)


def manifest(kind: str, name: str, base: Manifest, changes: Manifest) -> Manifest:
    spec = {key: value for key, value in {**copy.deepcopy(base), **changes}.items() if value is not UNSET}
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec}


def grid(**changes: object) -> Manifest:
    return profile(maxThroughput={**GRID, **changes})


def error_of(wrong: Manifest) -> UserError:
    resources = parse([wrong])
    assert (resources.services, resources.pools, resources.profiles) == ((), (), ())
    [(name, error)] = resources.errors
    assert name == identity(wrong)
    return error


# Short forms


def test_service_in_short_form_gets_every_default() -> None:
    made, engine = to_service(service())

    assert made.key == ServiceKey("default", "chat")
    assert [(v.pool, v.tensor_parallel_size, v.min_replicas, v.max_replicas) for v in made.variants] == [
        ("l4", 1, 0, None)
    ]
    assert (made.slo.tpot_ms, made.slo.ttft_ms, made.slo.percentile) == (120, None, 95)
    assert made.mode is Mode.OBSERVE
    assert made.routing is RoutingMode.SERVICE
    assert made.max_model_len is None
    assert made.scaling.min_replicas == 1
    assert made.scaling.max_hourly_cost is None
    assert made.scaling.headroom == pytest.approx(0.10)
    assert made.scaling.min_mix_saving == pytest.approx(0.03)
    assert made.static_points is None
    assert made.uid == ""
    assert made.generation == 1
    assert engine.port == 8000


def test_service_in_full_form_keeps_what_is_written() -> None:
    full = service(
        pools=UNSET,
        variants=[{"pool": "a100", "tensorParallelSize": 2, "minReplicas": 1, "maxReplicas": 5}, {"pool": "l4"}],
        model={"name": "m", "maxModelLen": 16384},
        slo={"timePerOutputTokenMs": 120, "timeToFirstTokenMs": 2000, "percentile": 99},
        mode="Auto",
        scaling={"minReplicas": 0, "maxHourlyCost": "20", "headroomPercent": 25, "minMixSavingPercent": 0},
        routing={"mode": "InputRange"},
    )
    full["metadata"] |= {"namespace": "prod", "uid": "u-1", "generation": 7}
    made, _ = to_service(full)

    assert made.key == ServiceKey("prod", "chat")
    assert (made.uid, made.generation) == ("u-1", 7)
    assert [(v.pool, v.tensor_parallel_size, v.min_replicas, v.max_replicas) for v in made.variants] == [
        ("a100", 2, 1, 5),
        ("l4", 1, 0, None),
    ]
    assert (made.slo.ttft_ms, made.slo.percentile) == (2000, 99)
    assert made.max_model_len == 16384
    assert made.mode is Mode.AUTO
    assert made.routing is RoutingMode.INPUT_RANGE
    assert (made.scaling.min_replicas, made.scaling.max_hourly_cost) == (0, 20.0)
    assert (made.scaling.headroom, made.scaling.min_mix_saving) == (0.25, 0.0)


def test_service_with_known_demand_has_its_points() -> None:
    made, _ = to_service(service(workload={"static": {"points": [POINT, {**POINT, "inputTokens": 2048}]}}))
    assert made.static_points == (StaticPoint(Size(512, 128), 3.5), StaticPoint(Size(2048, 128), 3.5))


def test_pool_by_instance_type_alone_is_completed_from_the_catalogue() -> None:
    made = to_pool(pool())
    assert (made.name, made.gpu, made.gpus_per_node) == ("l4", "L4", 1)
    assert made.offerings == (Offering(CapacityType.ON_DEMAND, 0.8048),)
    assert (made.max_nodes, made.committed_nodes, made.scale) == (None, 0, None)
    assert made.node_selector == (("node.kubernetes.io/instance-type", "g6.xlarge"),)


def test_pool_may_be_given_without_an_instance_type() -> None:
    made = to_pool(own_pool())
    assert (made.gpu, made.gpus_per_node, made.scale) == ("X1", 4, None)
    assert made.offerings == (Offering(CapacityType.ON_DEMAND, 2.5),)
    assert made.node_selector == (("medley.dev/pool", "own"),)


def test_pool_in_full_form_keeps_what_is_written() -> None:
    made = to_pool(
        pool(
            offerings=[
                {"capacityType": "OnDemand", "zones": ["us-east-1a"]},
                {"capacityType": "Spot", "pricePerNodeHour": "0.31"},
            ],
            limits={"nodes": 20},
            committedNodes=2,
            nodeSelector={"pool": "l4", "a": "b"},
        )
    )
    assert made.offerings == (
        Offering(CapacityType.ON_DEMAND, 0.8048, ("us-east-1a",)),
        Offering(CapacityType.SPOT, 0.31),
    )
    assert (made.max_nodes, made.committed_nodes) == (20, 2)
    assert made.node_selector == (("a", "b"), ("pool", "l4"))


def test_pool_overrides_the_catalogue_where_both_know() -> None:
    made = to_pool(pool(gpu="L4-custom", gpusPerNode=2, offerings=[{"pricePerNodeHour": "0.5"}]))
    assert (made.gpu, made.gpus_per_node, made.offerings[0].price_per_node_hour) == ("L4-custom", 2, 0.5)


def test_pool_with_a_scale_target_names_it() -> None:
    made = to_pool(pool(provider={"scale": {**SCALE, "namespace": "lab"}}))
    assert made.scale == ScaleTarget("lab.medley.dev/v1alpha1", "NodeGroup", "l4", "lab")


def test_profile_with_a_grid() -> None:
    made = to_profile(profile())
    assert made.key == ProfileKey("m", "L4", 1, "vllm")
    assert isinstance(made.speed, Grid)
    assert (made.speed.tpot_ms, made.speed.ttft_ms) == (120, None)
    assert made.speed.max_throughput(Size(512, 128)).rate_rps == pytest.approx(7.2)
    assert made.speed.max_throughput(Size(2048, 512)).rate_rps == pytest.approx(1.1)


def test_profile_with_a_step_model() -> None:
    made = to_profile(profile(maxThroughput=UNSET, linear=LINEAR))
    assert isinstance(made.speed, StepModel)
    assert (made.speed.base_ms, made.speed.kv_capacity_tokens, made.speed.max_batch) == (36.7, 41000, 256)


@pytest.mark.parametrize(
    ("spec", "provenance", "derating"),
    [
        ({}, Provenance.ESTIMATED, 0.7),
        ({"provenance": {"kind": "Measured"}}, Provenance.MEASURED, 0.9),
        ({"provenance": {"kind": "Imported"}}, Provenance.IMPORTED, 0.85),
        ({"provenance": {"kind": "Estimated"}}, Provenance.ESTIMATED, 0.7),
        ({"provenance": {"kind": "Estimated"}, "derating": 0.95}, Provenance.ESTIMATED, 0.95),
        ({"provenance": {"kind": "Measured"}, "derating": 1}, Provenance.MEASURED, 1.0),
    ],
)
def test_derating_follows_the_provenance_unless_it_is_written(
    spec: Manifest, provenance: Provenance, derating: float
) -> None:
    made = to_profile(profile(**spec))
    assert (made.provenance, made.derating) == (provenance, derating)


@pytest.mark.parametrize(("value", "mode"), [("true", Mode.OBSERVE), ("True", Mode.OBSERVE), ("false", Mode.AUTO)])
def test_a_paused_service_is_only_observed(value: str, mode: Mode) -> None:
    paused = service(mode="Auto")
    paused["metadata"]["annotations"] = {"medley.dev/paused": value}
    assert to_service(paused)[0].mode is mode


def test_nulls_as_the_apiserver_may_give_them_mean_unset() -> None:
    made, _ = to_service(service(variants=None, slo={"timePerOutputTokenMs": 120, "timeToFirstTokenMs": None}))
    assert made.slo.ttft_ms is None


def test_the_shipped_example_is_valid(chat: Resources) -> None:
    assert chat.errors == ()
    assert (len(chat.services), len(chat.pools), len(chat.profiles)) == (1, 4, 4)


# Wrong inputs


def renamed(base: Manifest, **top: object) -> Manifest:
    return {key: value for key, value in {**base, **top}.items() if value is not UNSET}


WRONG: dict[str, tuple[Manifest, str, str]] = {
    # what is wrong: (manifest, field that the message names, what it says to do)
    "unknown field": (service(sol={}), "spec.sol", "check its spelling"),
    "unknown field below": (service(slo={"timePerOutputTokenMs": 1, "tpot": 1}), "spec.slo.tpot", "Remove it"),
    "unknown provider": (pool(provider={"karpenter": {}}), "spec.provider.karpenter", "Remove it"),
    "no slo": (service(slo=UNSET), "spec.slo", "Add it"),
    "no TPOT": (service(slo={"timeToFirstTokenMs": 1}), "spec.slo.timePerOutputTokenMs", "Add it"),
    "no model": (service(model=UNSET), "spec.model", "Add it"),
    "pools and variants": (service(variants=[{"pool": "l4"}]), "pools", "exactly one of pools and variants"),
    "neither pools nor variants": (service(pools=UNSET), "pools", "exactly one of pools and variants"),
    "empty pools": (service(pools=[]), "spec.pools", "at least 1 item"),
    "duplicate pool": (service(pools=["l4", "l4"]), "pools", "twice"),
    "duplicate variant": (
        service(pools=UNSET, variants=[{"pool": "a"}, {"pool": "a", "tensorParallelSize": 1}]),
        "variants",
        "twice",
    ),
    "maxReplicas below minReplicas": (
        service(pools=UNSET, variants=[{"pool": "a"}, {"pool": "b", "minReplicas": 3, "maxReplicas": 2}]),
        "variants[1].maxReplicas",
        "below minReplicas",
    ),
    "negative rate": (
        service(workload={"static": {"points": [{**POINT, "requestsPerSecond": -1}]}}),
        "spec.workload.static.points[0].requestsPerSecond",
        "greater than or equal to 0",
    ),
    "NaN rate": (
        service(workload={"static": {"points": [{**POINT, "requestsPerSecond": math.nan}]}}),
        "spec.workload.static.points[0].requestsPerSecond",
        "Give a finite number",
    ),
    "infinite rate": (
        service(workload={"static": {"points": [POINT, {**POINT, "requestsPerSecond": math.inf}]}}),
        "spec.workload.static.points[1].requestsPerSecond",
        "Give a finite number",
    ),
    "no points": (service(workload={"static": {"points": []}}), "spec.workload.static.points", "at least 1 item"),
    "fraction of a token": (
        service(workload={"static": {"points": [{**POINT, "inputTokens": 0.5}]}}),
        "spec.workload.static.points[0].inputTokens",
        "valid integer",
    ),
    "percentile 100": (
        service(slo={"timePerOutputTokenMs": 1, "percentile": 100}),
        "spec.slo.percentile",
        "less than or equal to 99.99",
    ),
    "TPOT 0": (service(slo={"timePerOutputTokenMs": 0}), "spec.slo.timePerOutputTokenMs", "greater than 0"),
    "unknown mode": (service(mode="auto"), "spec.mode", "'Observe' or 'Auto'"),
    "unknown routing": (service(routing={"mode": "Exact"}), "spec.routing.mode", "'InputRange' or 'Full'"),
    "budget without quotes": (service(scaling={"maxHourlyCost": 20}), "spec.scaling.maxHourlyCost", "in quotes"),
    "negative headroom": (
        service(scaling={"headroomPercent": -5}),
        "spec.scaling.headroomPercent",
        "greater than or equal to 0",
    ),
    "price without quotes": (
        own_pool(offerings=[{"pricePerNodeHour": 2.5}]),
        "spec.offerings[0].pricePerNodeHour",
        "in quotes",
    ),
    "price with a unit": (
        own_pool(offerings=[{"pricePerNodeHour": "$2.5"}]),
        "spec.offerings[0].pricePerNodeHour",
        "should match",
    ),
    "price of 0": (
        own_pool(offerings=[{"pricePerNodeHour": "0"}]),
        "spec.offerings[0].pricePerNodeHour",
        "Use committedNodes",
    ),
    "no price without a catalogue entry": (
        own_pool(offerings=[{"capacityType": "OnDemand"}]),
        "spec.offerings[0].pricePerNodeHour",
        "Set it",
    ),
    "no offering without a catalogue entry": (
        own_pool(offerings=UNSET),
        "spec.offerings[0].pricePerNodeHour",
        "Set it",
    ),
    "no price for spot": (
        pool(offerings=[{"capacityType": "OnDemand"}, {"capacityType": "Spot"}]),
        "spec.offerings[1].pricePerNodeHour",
        "Set it",
    ),
    "two offerings of a kind": (
        own_pool(offerings=[{"pricePerNodeHour": "1"}, {"pricePerNodeHour": "2"}]),
        "offerings",
        "one offering per capacityType",
    ),
    "unknown instance type without gpu": (
        pool(instanceType="z9.huge"),
        "spec.gpu",
        "Set spec.gpu and spec.gpusPerNode",
    ),
    "unknown instance type without gpusPerNode": (
        pool(instanceType="z9.huge", gpu="Z9"),
        "spec.gpusPerNode",
        "Set spec.gpu and spec.gpusPerNode",
    ),
    "neither instance type nor gpu": (own_pool(gpu=UNSET), "spec.gpu", "Set spec.gpu and spec.gpusPerNode"),
    "two providers": (
        pool(provider={"scale": SCALE, "external": {}}),
        "spec.provider",
        "exactly one of scale and external",
    ),
    "empty provider": (pool(provider={}), "spec.provider", "exactly one of scale and external"),
    "no provider": (pool(provider=UNSET), "spec.provider", "Add it"),
    "spot beside on demand on one scale target": (
        pool(
            provider={"scale": SCALE},
            offerings=[{"capacityType": "OnDemand"}, {"capacityType": "Spot", "pricePerNodeHour": "0.3"}],
        ),
        "offerings",
        "has one",
    ),
    "committed nodes of spot": (
        pool(committedNodes=1, offerings=[{"capacityType": "Spot", "pricePerNodeHour": "0.3"}]),
        "committedNodes",
        "needs an OnDemand offering",
    ),
    "negative limit": (pool(limits={"nodes": -1}), "spec.limits.nodes", "greater than or equal to 0"),
    "too few rows": (
        grid(requestsPerSecond=[[9.1, 3.0], [7.2, 2.6]]),
        "requestsPerSecond",
        "one row per input point",
    ),
    "short row": (
        grid(requestsPerSecond=[[9.1, 3.0], [7.2], [2.2, 1.1]]),
        "requestsPerSecond[1]",
        "one value per output point",
    ),
    "transposed": (
        grid(requestsPerSecond=[[9.1, 7.2, 2.2], [3.0, 2.6, 1.1]]),
        "requestsPerSecond",
        "[input][output]",
    ),
    "points descend": (grid(inputTokens=[2048, 512, 128]), "inputTokens", "ascend strictly"),
    "point twice": (grid(outputTokens=[128, 128]), "outputTokens", "ascend strictly"),
    "infinite grid rate": (
        grid(requestsPerSecond=[[9.1, 3.0], [math.inf, 2.6], [2.2, 1.1]]),
        "spec.maxThroughput.requestsPerSecond[1][0]",
        "Give a finite number",
    ),
    "grid and step model": (profile(linear=LINEAR), "maxThroughput", f"exactly one of {ONE_OF}"),
    "no speed": (profile(maxThroughput=UNSET), "maxThroughput", f"exactly one of {ONE_OF}"),
    "derating above 1": (profile(derating=1.1), "spec.derating", "less than or equal to 1"),
    "derating 0": (profile(derating=0), "spec.derating", "greater than 0"),
    "unknown provenance": (profile(provenance={"kind": "Guessed"}), "spec.provenance.kind", "'Measured'"),
    "wrong apiVersion": (renamed(pool(), apiVersion="medley.dev/v1"), "apiVersion", f"Use {API}"),
    "no apiVersion": (renamed(pool(), apiVersion=UNSET), "apiVersion", f"Use {API}"),
    "no name": (renamed(pool(), metadata={}), "metadata.name", "Give the object a name"),
    "no metadata": (renamed(pool(), metadata=UNSET), "metadata.name", "Give the object a name"),
    "no spec": (renamed(pool(), spec=UNSET), "spec", "Give an object with its fields"),
    "name is a number": (renamed(pool(), metadata={"name": 5}), "metadata.name", "Give the object a name"),
    "unknown kind": (renamed(pool(), kind="NodePool"), "kind", "Use LLMService, GPUPool or ThroughputProfile"),
    "no kind": (renamed(pool(), kind=UNSET), "kind", "Use LLMService, GPUPool or ThroughputProfile"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_input_is_refused_by_field_with_what_to_do(wrong: str) -> None:
    given, field, fix = WRONG[wrong]
    error = error_of(given)
    assert field in str(error)
    assert fix in str(error)
    assert error.field
    assert not error.retryable


def test_metadata_that_is_no_object_is_an_error_of_that_object() -> None:
    resources = parse([renamed(pool(), metadata="l4"), service()])
    assert [name for name, _ in resources.errors] == ["GPUPool/?"]
    assert [error.field for _, error in resources.errors] == ["metadata.name"]
    assert len(resources.services) == 1


def test_further_problems_are_counted() -> None:
    assert "(and 1 more)" in str(error_of(service(slo=UNSET, model=UNSET)))


def test_a_second_profile_with_the_same_key_names_the_first() -> None:
    second = profile()
    second["metadata"] = {"name": "m-l4-again"}
    resources = parse([profile(), second])
    assert [made.name for made in resources.profiles] == ["m-l4"]
    [(name, error)] = resources.errors
    assert name == "ThroughputProfile/m-l4-again"
    assert error.field == "spec.key"
    assert "'m-l4'" in str(error)
    assert "Keep one of the two" in str(error)


@pytest.mark.parametrize("make", [service, pool])
def test_a_second_object_of_the_same_name_is_refused(make: Callable[[], Manifest]) -> None:
    resources = parse([make(), make()])
    assert len(resources.services) + len(resources.pools) == 1
    [(_, error)] = resources.errors
    assert error.field == "metadata.name"
    assert "Keep one of the two" in str(error)


def test_valid_objects_are_kept_when_others_are_wrong() -> None:
    wrong = renamed(service(slo=UNSET), metadata={"name": "bad", "namespace": "prod"})
    resources = parse([wrong, pool(), own_pool(gpu=UNSET), profile(), profile(derating=2), service()])
    assert [str(made.key) for made in resources.services] == ["default/chat"]
    assert [key for key, _ in resources.engines] == [ServiceKey("default", "chat")]
    assert [made.name for made in resources.pools] == ["l4"]
    assert [made.name for made in resources.profiles] == ["m-l4"]
    assert [name for name, _ in resources.errors] == ["LLMService/prod/bad", "GPUPool/own", "ThroughputProfile/m-l4"]


# Files


def test_files_may_hold_documents_lists_and_json_and_directories_stand_for_their_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("---\n---\nkind: A\n---\nkind: B\n")
    (tmp_path / "b.json").write_text('{"kind": "List", "items": [{"kind": "C"}, {"kind": "D"}]}')
    (tmp_path / "notes.txt").write_text("kind: E\n")
    assert [made["kind"] for made in read_manifests([tmp_path])] == ["A", "B", "C", "D"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kind: [", "is not YAML"),
        ("- kind: A\n", "is not an object"),
        ("kind: A\n---\nhello\n", "document 2"),
        ("kind: List\n", "List whose items are objects"),
        ("kind: List\nitems: [1]\n", "is not an object"),
    ],
)
def test_a_file_that_holds_something_else_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=says) as caught:
        read_manifests([file])
    assert str(file) in str(caught.value)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.yaml: cannot be read: .*Check the path"):
        read_manifests([tmp_path / "absent.yaml"])
