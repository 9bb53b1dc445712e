"""The generated CRDs on a real API server: accepted, structural, strict, with defaults, rules and columns."""

from __future__ import annotations

import copy
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medley.actuation.cluster_api import ApiError, ClusterApi, Json
from medley.api.crds import KINDS
from medley.api.manifests import read_manifests
from medley.api.throughputprofile import ONE_OF
from medley.lab.control_plane import ControlPlane
from medley.lab.scene import apply, install_crds, path_of
from medley.lab.tools import Tool, ensure

pytestmark = pytest.mark.cluster

API = "medley.dev/v1alpha1"
EXAMPLE = Path(__file__).parents[2] / "examples" / "chat.yaml"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
UNSET = object()
"""Put in place of a value: the field is taken away."""

Eventually = Callable[..., None]
Kubectl = Callable[..., str]

SCALE: Json = {"apiVersion": "lab.medley.dev/v1alpha1", "kind": "NodeGroup", "name": "l4"}
SPOT: Json = {"capacityType": "Spot", "pricePerNodeHour": "0.31"}
KEY = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
STATEMENT: Json = {
    "Effect": "Allow",
    "Action": ["sqs:SendMessage"],
    "Resource": "*",
    "Condition": {"StringEquals": {"aws:ResourceTag/team": "ours"}},
}
ACCESS: Json = {
    "serviceAccountName": "chat-engine",
    "modelUri": "s3://models/llama/8b",
    "kmsKeyArn": KEY,
    "statements": [STATEMENT],
}
GRID: Json = {
    "inputTokens": [128, 512],
    "outputTokens": [128],
    "requestsPerSecond": [[9.1], [7.2]],
}


@pytest.fixture(autouse=True)
def crds(api: ClusterApi, eventually: Eventually) -> None:
    install_crds(api)
    eventually(lambda: all(conditions(api, kind.crd_name).get("Established") for kind in KINDS), "Established CRDs")


@pytest.fixture
def kubectl(control_plane: ControlPlane) -> Kubectl:
    """Runs kubectl; gives its output."""
    binary = ensure([Tool.KUBECTL], progress=print)[Tool.KUBECTL]

    def run(*arguments: str) -> str:
        environment = {**os.environ, "KUBECONFIG": str(control_plane.kubeconfig)}
        done = subprocess.run(
            [binary, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def cleaned(api: ClusterApi) -> Iterator[list[Json]]:
    """Objects put in here are deleted at the end."""
    objects: list[Json] = []
    yield objects
    for item in objects:
        api.delete(path_of(item))


def conditions(api: ClusterApi, crd: str) -> dict[str, bool]:
    found = api.get(f"{CRDS}/{crd}").get("status", {}).get("conditions", [])
    return {condition["type"]: condition["status"] == "True" for condition in found}


def service(namespace: str = "default", **changes: object) -> Json:
    base = {"model": {"name": "m"}, "slo": {"timePerOutputTokenMs": 120}, "pools": ["l4"]}
    return made("LLMService", "test-crds", base, changes, namespace)


def pool(**changes: object) -> Json:
    return made("GPUPool", "test-crds", {"instanceType": "g6.xlarge", "provider": {"external": {}}}, changes)


def profile(**changes: object) -> Json:
    base = {"key": {"model": "m", "gpu": "L4"}, "maxThroughput": GRID}
    return made("ThroughputProfile", "test-crds", base, changes)


def made(kind: str, name: str, base: Json, changes: Json, namespace: str | None = None) -> Json:
    spec = {key: value for key, value in {**copy.deepcopy(base), **changes}.items() if value is not UNSET}
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec}


def try_create(api: ClusterApi, manifest: Json, validation: str = "Strict") -> Json:
    """Create as `kubectl create --dry-run=server` does, without keeping anything."""
    collection = path_of(manifest).rpartition("/")[0]
    return api.create(f"{collection}?dryRun=All&fieldValidation={validation}", copy.deepcopy(manifest))


def points(*given: Any) -> Json:
    return {"static": {"points": list(given)}}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_the_crd_is_established_and_structural(api: ClusterApi, kind: Any) -> None:
    found = conditions(api, kind.crd_name)
    assert found["Established"]
    assert found["NamesAccepted"]
    assert not found.get("NonStructuralSchema", False)


def test_installing_again_changes_nothing(api: ClusterApi) -> None:
    def versions() -> list[int]:
        return [api.get(f"{CRDS}/{kind.crd_name}")["metadata"]["generation"] for kind in KINDS]

    before = versions()
    install_crds(api)
    assert versions() == before


def test_the_example_applies_strictly(api: ClusterApi, namespace: str, cleaned: list[Json]) -> None:
    for manifest in read_manifests([EXAMPLE]):
        if manifest["kind"] == "LLMService":
            manifest["metadata"]["namespace"] = namespace
        cleaned.append(manifest)
        stored = apply(api, manifest)
        assert stored["metadata"]["generation"] == 1
        # Applying what the server gives back is no change.
        assert apply(api, manifest)["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]


def test_the_example_profiles_are_accepted_strictly(api: ClusterApi) -> None:
    profiles = read_manifests([EXAMPLE.parent / "profiles"])
    assert len(profiles) > 100
    for manifest in profiles[::7]:
        assert try_create(api, manifest)["spec"]["key"] == {"engine": "vllm", **manifest["spec"]["key"]}


def test_the_server_fills_the_defaults(api: ClusterApi) -> None:
    chat = try_create(api, service())["spec"]
    assert chat["slo"]["percentile"] == 95
    assert chat["mode"] == "Observe"
    # Blocks that are not written stay away, so that a release may change their defaults; status shows them resolved.
    assert chat.keys() == {"model", "slo", "pools", "mode", "allowEstimatedProfiles"}
    assert chat["allowEstimatedProfiles"] is False
    assert "timeToFirstTokenMs" not in chat["slo"]
    assert "variants" not in chat
    assert try_create(api, pool())["spec"]["committedNodes"] == 0
    key = try_create(api, profile())["spec"]["key"]
    assert (key["tensorParallelSize"], key["engine"]) == (1, "vllm")


def test_defaults_reach_into_what_is_half_written(api: ClusterApi) -> None:
    chat = service(pools=UNSET, variants=[{"pool": "l4"}], scaling={"headroomPercent": 25}, engine={})
    spec = try_create(api, chat)["spec"]
    assert spec["variants"] == [{"pool": "l4", "tensorParallelSize": 1, "minReplicas": 0}]
    assert spec["scaling"] == {"minReplicas": 1, "headroomPercent": 25, "minMixSavingPercent": 3, "priority": 0}
    assert spec["engine"]["port"] == 8000
    assert spec["engine"]["image"].startswith("vllm/")
    offerings = try_create(api, pool(offerings=[{"pricePerNodeHour": "0.5"}]))["spec"]["offerings"]
    assert offerings == [{"capacityType": "OnDemand", "pricePerNodeHour": "0.5"}]


def test_an_unknown_field_is_refused_when_strict_and_pruned_otherwise(api: ClusterApi) -> None:
    typo = service(slo={"timePerOutputTokenMs": 120, "percentil": 99})
    with pytest.raises(ApiError, match=r'unknown field "spec\.slo\.percentil"'):
        try_create(api, typo)
    created = try_create(api, typo, validation="Ignore")
    assert created["spec"]["slo"] == {"timePerOutputTokenMs": 120, "percentile": 95}


def test_statements_are_stored_whole(api: ClusterApi) -> None:
    assert try_create(api, service(access=ACCESS))["spec"]["access"] == ACCESS


VALID: dict[str, Json] = {
    "pool by gpu": pool(instanceType=UNSET, gpu="X1", gpusPerNode=4, offerings=[{"pricePerNodeHour": "2"}]),
    "pool with spot": pool(offerings=[{"capacityType": "OnDemand"}, SPOT]),
    "pool with a scale target": pool(provider={"scale": SCALE}, offerings=[SPOT]),
    "pool with committed nodes": pool(committedNodes=2),
    "pool with committed nodes and both": pool(committedNodes=2, offerings=[{"capacityType": "OnDemand"}, SPOT]),
    "service with known demand": service(
        workload=points({"inputTokens": 512, "outputTokens": 128, "requestsPerSecond": 3.5})
    ),
    "service with variants": service(
        pools=UNSET,
        variants=[
            {"pool": "a", "tensorParallelSize": 2},
            {"pool": "a", "minReplicas": 1, "maxReplicas": 1},
            {"pool": "b", "maxReplicas": 0},
        ],
    ),
    "service with whole numbers and fractions": service(slo={"timePerOutputTokenMs": 33.3, "percentile": 99.99}),
    "service with access": service(access=ACCESS),
    "service with an account alone": service(access={"serviceAccountName": "chat"}),
    "service with an image alone": service(
        access={"imageRepositoryArn": "arn:aws:ecr:us-east-1:111122223333:repository/vllm"}
    ),
    "service with a budget": service(scaling={"maxHourlyCost": "20"}),
    "profile with derating 1": profile(derating=1),
    "profile with zeros": profile(maxThroughput={**GRID, "requestsPerSecond": [[9.1], [0]]}),
}


@pytest.mark.parametrize("name", VALID)
def test_valid_objects_are_accepted(api: ClusterApi, name: str) -> None:
    assert try_create(api, VALID[name])["metadata"]["name"]


INVALID: dict[str, tuple[Json, str, str]] = {
    # CEL rules: (object, field, message)
    "pools and variants": (service(variants=[{"pool": "a"}]), "spec", "set exactly one of pools and variants"),
    "neither": (service(pools=UNSET), "spec", "set exactly one of pools and variants"),
    "maxReplicas below minReplicas": (
        service(pools=UNSET, variants=[{"pool": "a", "minReplicas": 3, "maxReplicas": 2}]),
        "spec",
        "variants: maxReplicas is below minReplicas",
    ),
    "variant twice": (
        service(pools=UNSET, variants=[{"pool": "a"}, {"pool": "a", "tensorParallelSize": 1}]),
        "spec",
        "variants: the same pool, tensorParallelSize and flags twice",
    ),
    "nothing to know a pool by": (
        pool(instanceType=UNSET, gpu="X"),
        "spec",
        "set instanceType, or gpu and gpusPerNode",
    ),
    "two providers": (
        pool(provider={"scale": SCALE, "external": {}}),
        "spec",
        "provider: set exactly one of scale and external",
    ),
    "empty provider": (pool(provider={}), "spec", "provider: set exactly one of scale and external"),
    "two offerings on one scale target": (
        pool(provider={"scale": SCALE}, offerings=[{"capacityType": "OnDemand"}, SPOT]),
        "spec",
        "offerings: a pool with provider.scale has one",
    ),
    "committed nodes of spot": (pool(committedNodes=1, offerings=[SPOT]), "spec", "committedNodes: needs an OnDemand"),
    "grid and step model": (
        profile(
            linear={
                "baseMs": 1,
                "perSequenceMs": 0,
                "perContextTokenMs": 0,
                "prefillMsPerToken": 0,
                "kvCapacityTokens": 1,
            }
        ),
        "spec",
        f"set exactly one of {ONE_OF}",
    ),
    "no speed": (profile(maxThroughput=UNSET), "spec", f"set exactly one of {ONE_OF}"),
    "too few rows": (
        profile(maxThroughput={**GRID, "requestsPerSecond": [[9.1]]}),
        "spec",
        "maxThroughput.requestsPerSecond: one row per inputTokens",
    ),
    "long row": (
        profile(maxThroughput={**GRID, "requestsPerSecond": [[9.1, 1], [7.2, 1]]}),
        "spec",
        "maxThroughput.requestsPerSecond: each row has one value per outputTokens",
    ),
    "a model without an account": (
        service(access={"modelUri": "s3://models/llama"}),
        "spec",
        "access: set serviceAccountName",
    ),
    "the account of every pod": (
        service(access={"serviceAccountName": "default"}),
        "spec",
        "access.serviceAccountName: every pod without another account",
    ),
    "statements without a role": (
        service(access={"serviceAccountName": "chat", "statements": [STATEMENT]}),
        "spec",
        "access: kmsKeyArn and statements need modelUri or cacheUri",
    ),
    "a key without a role": (
        service(access={"kmsKeyArn": KEY}),
        "spec",
        "access: kmsKeyArn and statements need modelUri or cacheUri",
    ),
    # Bounds, types and patterns
    "a whole bucket": (service(access={**ACCESS, "modelUri": "s3://models"}), "spec.access.modelUri", "should match"),
    "a star in a prefix": (
        service(access={**ACCESS, "modelUri": "s3://models/*"}),
        "spec.access.modelUri",
        "should match",
    ),
    "an alias of a key": (
        service(access={**ACCESS, "kmsKeyArn": "alias/models"}),
        "spec.access.kmsKeyArn",
        "should match",
    ),
    "a statement without effect": (
        service(access={**ACCESS, "statements": [{"Action": "s3:*"}]}),
        "spec.access.statements[0].Effect",
        "Required value",
    ),
    "a statement with another effect": (
        service(access={**ACCESS, "statements": [{"Effect": "allow"}]}),
        "spec.access.statements[0].Effect",
        "Unsupported value",
    ),
    "too many statements": (
        service(access={**ACCESS, "statements": [STATEMENT] * 17}),
        "spec.access.statements",
        "must have at most 16 items",
    ),
    "no slo": (service(slo=UNSET), "spec.slo", "Required value"),
    "no provider": (pool(provider=UNSET), "spec.provider", "Required value"),
    "percentile 100": (
        service(slo={"timePerOutputTokenMs": 1, "percentile": 100}),
        "spec.slo.percentile",
        "less than or equal to 99",  # the server's message cuts 99.99
    ),
    "TPOT 0": (service(slo={"timePerOutputTokenMs": 0}), "spec.slo.timePerOutputTokenMs", "greater than 0"),
    "unknown mode": (service(mode="auto"), "spec.mode", 'supported values: "Observe", "Auto"'),
    "pool twice": (service(pools=["l4", "l4"]), "spec.pools[1]", "Duplicate value"),
    "no pools": (service(pools=[]), "spec.pools", "at least 1 items"),
    "bad pool name": (service(pools=["L4!"]), "spec.pools[0]", "should match"),
    "negative rate": (
        service(workload=points({"inputTokens": 1, "outputTokens": 1, "requestsPerSecond": -1})),
        "spec.workload.static.points[0].requestsPerSecond",
        "greater than or equal to 0",
    ),
    "half a token": (
        service(workload=points({"inputTokens": 0.5, "outputTokens": 1, "requestsPerSecond": 1})),
        "spec.workload.static.points[0].inputTokens",
        "must be of type integer",
    ),
    "price without quotes": (
        pool(offerings=[{"pricePerNodeHour": 0.8}]),
        "spec.offerings[0].pricePerNodeHour",
        "must be of type string",
    ),
    "price with a unit": (
        pool(offerings=[{"pricePerNodeHour": "$0.8"}]),
        "spec.offerings[0].pricePerNodeHour",
        "should match",
    ),
    "offering twice": (pool(offerings=[SPOT, SPOT]), "spec.offerings[1]", "Duplicate value"),
    "negative limit": (pool(limits={"nodes": -1}), "spec.limits.nodes", "greater than or equal to 0"),
    "derating above 1": (profile(derating=1.1), "spec.derating", "less than or equal to 1"),
    "unknown provenance": (profile(provenance={"kind": "Guessed"}), "spec.provenance.kind", "Unsupported value"),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_objects_are_refused_with_a_readable_message(api: ClusterApi, name: str) -> None:
    manifest, field, message = INVALID[name]
    with pytest.raises(ApiError) as caught:
        try_create(api, manifest)
    assert caught.value.status in (400, 422)
    assert field in str(caught.value)
    assert message in str(caught.value)


def test_status_is_a_subresource(api: ClusterApi, namespace: str, cleaned: list[Json]) -> None:
    chat = service(namespace)
    cleaned.append(chat)
    apply(api, chat)
    api.patch(path_of(chat), {"status": {"ready": "9/9"}})
    assert "status" not in api.get(path_of(chat))
    stored = api.patch(f"{path_of(chat)}/status", {"spec": {"mode": "Auto"}, "status": {"ready": "1/2"}})
    assert stored["status"]["ready"] == "1/2"
    assert stored["spec"]["mode"] == "Observe"
    assert stored["metadata"]["generation"] == 1


@pytest.mark.parametrize("plural", ["gpupools", "throughputprofiles"])
def test_what_has_no_status_has_no_status_path(api: ClusterApi, plural: str) -> None:
    names = [resource["name"] for resource in api.get(f"/apis/{API}")["resources"]]
    assert plural in names
    assert f"{plural}/status" not in names


def test_explain_shows_the_descriptions(kubectl: Kubectl) -> None:
    text = kubectl("explain", "llmservice.spec.slo")
    assert "Latency objectives." in text
    assert "timePerOutputTokenMs" in text
    assert "-required-" in text
    assert "Time to first token in ms. Unset: none." in text
    assert "One model served under one SLO" in kubectl("explain", "llm")
    assert "Highest rate in req/s" in kubectl("explain", "tprof.spec.maxThroughput.requestsPerSecond")
    assert "Most nodes" in kubectl("explain", "gpool.spec.limits.nodes")


def test_get_shows_the_columns(api: ClusterApi, namespace: str, cleaned: list[Json], kubectl: Kubectl) -> None:
    chat = service(namespace)
    cleaned.append(chat)
    apply(api, chat)
    api.patch(
        f"{path_of(chat)}/status",
        {
            "status": {
                "ready": "1/2",
                "slo": "TPOT<=120ms@p95",
                "rate": "3.5",
                "gpus": 2,
                "costPerHour": "1.61",
                "savedPercent": "12%",
                "bestSingleCostPerHour": "1.83",
            }
        },
    )
    head, row = kubectl("get", "llm", "-n", namespace).splitlines()
    assert head.split() == ["NAME", "MODEL", "MODE", "READY", "SLO", "RATE", "GPUS", "COST/HR", "SAVED", "AGE"]
    expected = ["test-crds", "m", "Observe", "1/2", "TPOT<=120ms@p95", "3.5", "2", "1.61", "12%"]
    assert row.split()[:-1] == expected
    wide = kubectl("get", "llm", "-n", namespace, "-o", "wide")
    assert "BEST-SINGLE" in wide
    assert "1.83" in wide


def test_get_of_the_category_shows_every_kind(
    api: ClusterApi, namespace: str, cleaned: list[Json], kubectl: Kubectl
) -> None:
    for item in (service(namespace), pool(), profile()):
        cleaned.append(item)
        apply(api, item)
    text = kubectl("get", "medley", "-n", namespace)
    assert "llmservice.medley.dev/test-crds" in text
    assert "gpupool.medley.dev/test-crds" in text
    assert "throughputprofile.medley.dev/test-crds" in text
