"""`spec.access` of an LLMService: what the model takes, and what pods and policies are made of it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from medley.actuation.deployments import render
from medley.api.convert import Resources, parse
from medley.api.manifests import read_manifests
from medley.api.serviceaccess import to_needs
from medley.model.errors import UserError
from medley.model.objects import CapacityType, ServiceKey
from medley.policy.generate import BucketPrefix
from policy_parts import ACCOUNT, KEY_ID

EXAMPLE = Path(__file__).parents[2] / "examples" / "chat.yaml"
FULL: dict[str, Any] = {
    "serviceAccountName": "chat-engine",
    "modelUri": "s3://models/llama/8b/",
    "cacheUri": "s3://scratch/chat",
    "kmsKeyArn": f"arn:aws:kms:us-east-1:{ACCOUNT}:{KEY_ID}",
    "imageRepositoryArn": f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/vllm/openai",
    "statements": [{"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}],
}


def resources(access: Any) -> Resources:
    manifests = copy.deepcopy(read_manifests([EXAMPLE]))
    for manifest in manifests:
        if manifest["kind"] == "LLMService" and access is not None:
            manifest["spec"]["access"] = access
    return parse(manifests)


def test_it_becomes_what_policies_are_generated_from() -> None:
    ((key, access),) = resources(FULL).access
    needs = to_needs(key, access)
    assert key == ServiceKey("default", "chat")
    assert needs.account == "chat-engine"
    assert needs.model == BucketPrefix("models", "llama/8b")
    assert needs.cache == BucketPrefix("scratch", "chat")
    assert needs.kms_key_arn == FULL["kmsKeyArn"]
    assert needs.image_repository_arn == FULL["imageRepositoryArn"]
    assert access.statements == FULL["statements"]


def test_without_it_nothing_is_needed() -> None:
    assert resources(None).access == ()
    needs = to_needs(ServiceKey("prod", "chat"), None)
    assert not needs.uses_cloud
    assert needs.account is None


def pod(service_account: str | None) -> dict[str, Any]:
    found = resources(None)
    service, (l4, *_) = found.services[0], found.pools
    spec, demand = service.variants[0], CapacityType.ON_DEMAND
    manifest = render(
        service,
        l4,
        "l4",
        1,
        spec=spec,
        capacity_type=demand,
        image="i",
        args=[],
        port=8000,
        service_account=service_account,
    )
    template: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return template


def test_pods_run_under_the_account_and_mount_no_token() -> None:
    assert pod("chat-engine")["serviceAccountName"] == "chat-engine"
    assert pod("chat-engine")["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in pod(None)
    assert pod(None)["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"serviceAccountName": None}, "set serviceAccountName"),
        ({"serviceAccountName": "default"}, "runs as default"),
        ({"modelUri": None, "cacheUri": None}, "need modelUri or cacheUri"),
        ({"modelUri": "s3://models"}, "modelUri"),
        ({"modelUri": "s3://models/*"}, "modelUri"),
        ({"modelUri": "https://models/a"}, "modelUri"),
        ({"kmsKeyArn": "alias/models"}, "kmsKeyArn"),
        ({"imageRepositoryArn": "vllm/openai"}, "imageRepositoryArn"),
        ({"statements": [{"Action": "s3:*"}]}, r"statements\[0\].Effect"),
        ({"statements": [{"Effect": "Allow", "Action": "s3:*", "Resource": ["x" * 7000]}]}, "longer than"),
        ({"statements": [{"Effect": "Allow"}] * 17}, "statements"),
        ({"roleArn": "arn"}, "unknown field"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_field(change: dict[str, Any], message: str) -> None:
    access = {key: value for key, value in {**FULL, **change}.items() if value is not None}
    ((name, error),) = resources(access).errors
    assert name == "LLMService/default/chat"
    with pytest.raises(UserError, match=message):
        raise error


def test_what_the_pattern_lets_through_is_still_checked() -> None:
    ((key, access),) = resources({**FULL, "modelUri": "s3://a..b/llama"}).access
    with pytest.raises(UserError, match="general purpose bucket") as caught:
        to_needs(key, access)
    assert caught.value.field == "LLMService/default/chat spec.access.modelUri"


def test_the_schema_says_what_a_statement_is() -> None:
    crd = yaml.safe_load((EXAMPLE.parents[1] / "crds" / "medley.dev_llmservices.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["access"]
    statements = schema["properties"]["statements"]
    assert statements["maxItems"] == 16
    assert statements["items"]["x-kubernetes-preserve-unknown-fields"] is True
