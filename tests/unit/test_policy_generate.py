"""Generated policies: each is proved against its own spec, and each spec rejects what damages its document."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from typing import Any

import pytest

from medley.cli.policy_input import shipped_ceilings
from medley.model.errors import UserError
from medley.model.objects import ServiceKey
from medley.policy.answers import Engine
from medley.policy.catalogue import catalogue
from medley.policy.generate import (
    ClusterEnvironment,
    NodegroupPool,
    OperatorNeeds,
    Part,
    PartName,
    PolicyKind,
    RouterAccess,
    RouterNeeds,
    Trust,
    bucket_prefix,
    check,
    check_text,
    operator_parts,
    service_parts,
)
from medley.policy.generate.check import document_of
from medley.policy.generate.part import yaml_text
from medley.policy.glob import action_glob, matcher
from medley.policy.iam.render import document_text
from medley.policy.prove import Prover
from medley.policy.rbac.parse import parse_manifest
from medley.policy.rbac.render import manifest_text
from medley.policy.rbac.repair import repair as repair_roles
from medley.policy.rbac.spec import read_spec as read_rbac_spec
from medley.policy.repair.repair import Outcome, repair
from medley.policy.spec.read import read_spec
from medley.policy.verify import Verdict
from policy_parts import (
    ACCOUNT,
    CHINA,
    ENVIRONMENTS,
    IRSA,
    ISSUER,
    KEY_ID,
    OTHER_ACCOUNT,
    POD_IDENTITY,
    all_parts,
    chat,
    damaged,
    operator,
)

BOTH = Prover()
ATOMS = Prover(engines=(Engine.ATOMS,))
KINDS = [name.value for name in PartName]


def text_of(document: Any) -> str:
    return yaml_text(document) if isinstance(document, list) else json.dumps(document)


def part_of(name: str, at: ClusterEnvironment = IRSA) -> Part:
    return next(part for part in all_parts(at) if part.name.value == name)


@pytest.mark.parametrize("place", ENVIRONMENTS)
def test_every_document_is_proved_by_both_engines(place: str) -> None:
    parts = all_parts(ENVIRONMENTS[place])
    assert [part.name.value for part in parts] == KINDS
    for part in parts:
        found = check(part, BOTH)
        assert found.report.verdict is Verdict.SATISFIED, (part.title, found.report.witnesses, found.report.doubts)
        assert found.engines == (Engine.ATOMS, Engine.SMT), part.title
        assert not found.report.disagreements
        assert found.usable


def test_every_document_is_inside_the_shipped_ceilings_that_suit_it() -> None:
    shipped = shipped_ceilings()
    for part in all_parts(IRSA):
        assert part.ceilings, part.title
        found = check(part, ATOMS, {name: shipped[name] for name in part.ceilings})
        assert found.report.verdict is Verdict.SATISFIED, (part.title, found.report.witnesses)
    assert {name for part in all_parts(IRSA) for name in part.ceilings} == set(shipped)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("place", ["irsa", "pod-identity"])
def test_every_damage_is_rejected(place: str, name: str) -> None:
    part = part_of(name, ENVIRONMENTS[place])
    kinds: Counter[str] = Counter()
    for kind, document in damaged(part):
        kinds[kind] += 1
        if part.name is PartName.OPERATOR_ROLES and kinds[kind] > 2:
            continue  # it has many rules alike
        report = check_text(part, text_of(document), ATOMS).report
        assert report.verdict is Verdict.VIOLATED, (kind, text_of(document))
    assert len(kinds) >= 10, kinds


@pytest.mark.parametrize("name", ["pod-policy", "pod-trust", "image-pull", "service-account", "router"])
def test_every_kind_of_damage_is_repaired_and_the_repair_is_proved(name: str) -> None:
    part = part_of(name)
    seen = set()
    for kind, document in damaged(part):
        if kind in seen or not document or (isinstance(document, dict) and not document["Statement"]):
            continue  # IAM takes no policy without statements
        seen.add(kind)
        if part.kind is PolicyKind.RBAC:
            roles = repair_roles(parse_manifest(text_of(document)), read_rbac_spec(part.spec_text, "s"), BOTH)
            assert roles.outcome is Outcome.REPAIRED, kind
            repaired = manifest_text(roles.manifest)
        else:
            given, spec = document_of(part, text_of(document)), read_spec(part.spec_text, "s")
            found = repair(given, spec, BOTH, None if part.limit is None else part.limit.value)
            assert found.outcome is Outcome.REPAIRED, kind
            repaired = document_text(found.document)
            if part.kind is PolicyKind.IAM_TRUST:
                # IAM refuses a Resource there, and a statement without a Principal.
                assert all(statement.resource is None for statement in found.document.statements), kind
                assert all(statement.principal is not None for statement in found.document.statements), kind
        assert check_text(part, repaired, BOTH).usable, kind
    assert len(seen) >= 10


def test_actions_and_condition_keys_exist_and_go_with_each_other() -> None:
    known = catalogue()
    for part in all_parts(IRSA):
        if isinstance(part.document, dict):
            for statement in part.document["Statement"]:
                actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
                for action in actions:
                    found = known.get(action)
                    assert found is not None, action
                    if statement.get("Resource") == "*":
                        assert not found.arns, f"{action} could name a resource"


def test_no_action_of_s3_on_objects_but_reading_is_left_out_of_what_changes_a_model() -> None:
    (rule,) = (rule for rule in part_of("pod-policy").outer if rule["id"] == "model-changed")
    covered = matcher(tuple(action_glob(item) for item in rule["action"]))
    objects = [a.name for a in catalogue().by_service["s3"] if any("ObjectName" in arn for arn in a.arns)]
    assert len(objects) > 20
    assert {name for name in objects if not covered(name.lower())} == {
        name for name in objects if name.startswith(("s3:Get", "s3:List"))
    }


@pytest.mark.parametrize(("place", "other"), [(IRSA, "eu-west-1"), (CHINA, "cn-northwest-1")])
def test_a_document_of_another_region_or_account_is_rejected(place: ClusterEnvironment, other: str) -> None:
    issuer = place.oidc_issuer.replace(place.region, other) if place.oidc_issuer else None
    elsewhere = dataclasses.replace(place, region=other, oidc_issuer=issuer)
    abroad = dataclasses.replace(place, account=OTHER_ACCOUNT)
    for stranger in (elsewhere, abroad):
        for ours, theirs in zip(all_parts(place), all_parts(stranger), strict=True):
            if ours.kind is not PolicyKind.RBAC:
                report = check_text(ours, theirs.document_text, ATOMS).report
                assert report.verdict is Verdict.VIOLATED, ours.title


def test_what_is_not_needed_is_not_generated() -> None:
    names = [part.name.value for part in service_parts(chat(IRSA, model=None, cache=None, kms_key_arn=None), IRSA)]
    assert names == ["image-pull", "service-account", "router"]
    bare = chat(IRSA, account=None, model=None, cache=None, kms_key_arn=None, image_repository_arn=None, router=None)
    assert service_parts(bare, IRSA) == ()
    # Karpenter, other scale targets and external pools need no role of the cloud.
    others = dataclasses.replace(operator(), nodegroups=())
    assert [part.name.value for part in operator_parts(others, IRSA)] == ["operator-roles"]
    assert [part.name.value for part in service_parts(chat(IRSA))] == ["service-account", "router"]


def test_a_cache_is_written_and_the_model_is_not() -> None:
    with_cache, without = (part_of_service(chat(IRSA, **more)) for more in ({}, {"cache": None}))
    assert "s3:PutObject" in with_cache.document_text
    assert "kms:GenerateDataKey" in with_cache.document_text
    assert "PutObject" not in without.document_text
    assert "GenerateDataKey" not in without.document_text
    report = check_text(without, with_cache.document_text, ATOMS).report
    assert {witness.rule.id for witness in report.witnesses} >= {"other-actions", "other-resources-1"}


def part_of_service(needs: Any, at: ClusterEnvironment = IRSA) -> Part:
    return service_parts(needs, at)[0]


def test_two_folders_of_one_bucket_are_listed_in_one_statement() -> None:
    part = part_of_service(chat(IRSA, cache=bucket_prefix("s3://models/cache", "cacheUri")))
    assert check(part, ATOMS).usable
    statements = part.document["Statement"]  # type: ignore[call-overload]
    listing = [statement for statement in statements if "s3:ListBucket" in statement["Action"]]
    assert [statement["Condition"]["StringLike"]["s3:prefix"] for statement in listing] == [["llama/8b/*", "cache/*"]]


def test_irsa_trusts_one_account_of_one_issuer() -> None:
    (statement,) = part_of("pod-trust").document["Statement"]  # type: ignore[call-overload]
    assert statement["Principal"] == {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}"}
    assert statement["Condition"] == {
        "StringEquals": {
            f"{ISSUER}:sub": "system:serviceaccount:prod:chat-engine",
            f"{ISSUER}:aud": "sts.amazonaws.com",
        }
    }
    annotations = part_of("service-account").document[0]["metadata"]["annotations"]  # type: ignore[index]
    assert annotations == {"eks.amazonaws.com/role-arn": f"arn:aws:iam::{ACCOUNT}:role/medley_prod_prod_chat"}


def test_pod_identity_trusts_one_account_of_one_cluster() -> None:
    (statement,) = part_of("pod-trust", POD_IDENTITY).document["Statement"]  # type: ignore[call-overload]
    assert statement["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    assert statement["Action"] == ["sts:AssumeRole", "sts:TagSession"]
    assert statement["Condition"]["StringEquals"] == {
        "aws:RequestTag/eks-cluster-arn": f"arn:aws:eks:eu-central-1:{ACCOUNT}:cluster/prod",
        "aws:RequestTag/kubernetes-namespace": "prod",
        "aws:RequestTag/kubernetes-service-account": "chat-engine",
    }
    assert "annotations" not in part_of("service-account", POD_IDENTITY).document[0]["metadata"]  # type: ignore[index]


def test_a_router_that_only_reads_may_not_patch() -> None:
    reading = RouterNeeds("chat-router", "chat-routing", RouterAccess.READ)
    (reader,) = (p for p in service_parts(chat(IRSA, router=reading), IRSA) if p.name is PartName.ROUTER)
    assert check(reader, BOTH).usable
    report = check_text(reader, part_of("router").document_text, ATOMS).report
    assert {witness.rule.id for witness in report.witnesses} == {"other-verbs-on-configmaps-of-core"}


def test_no_two_services_share_a_role() -> None:
    names = [("c", "a-b", "c"), ("c", "a", "b-c"), ("c-a", "b", "c"), ("c_a", "b", "c"), ("c", "b", "a.c")]
    roles = []
    for cluster, namespace, name in names:
        at = dataclasses.replace(IRSA, cluster=cluster)
        roles.append(part_of_service(chat(at, key=ServiceKey(namespace, name)), at).role)
    assert len(set(roles)) == len(roles)


STRANGE_URIS = [
    ("s3://models", "whole bucket"),
    ("s3://models/", "whole bucket"),
    ("https://models/llama", "not in S3"),
    ("models/llama", "not in S3"),
    ("s3://models/llama*", "characters"),
    ("s3://models/ll?ma", "characters"),
    ("s3://models/${aws:username}", "characters"),
    ("s3://models/$llama", "characters"),
    ("s3://models/a//b", "characters"),
    ("s3://models//a", "characters"),
    ("s3://models/a//", "characters"),
    ("s3://models/lla ma", "characters"),
    ("s3://models/läma", "characters"),
    ("s3://models/a\n", "characters"),
    ("s3://models/" + "a" * 600, "characters"),
    ("s3://Models/llama", "bucket"),
    ("s3://mo*els/llama", "bucket"),
    ("s3://m/llama", "bucket"),
    ("s3://a..b/llama", "bucket"),
    ("s3://192.168.0.1/llama", "bucket"),
    ("s3://xn--models/llama", "bucket"),
    ("s3://models--x-s3/llama", "bucket"),
    ("s3://models-s3alias/llama", "bucket"),
    ("s3:///llama", "bucket"),
]


@pytest.mark.parametrize(("uri", "message"), STRANGE_URIS)
def test_a_strange_place_is_refused_with_the_field_and_the_fix(uri: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        bucket_prefix(uri, "spec.access.modelUri")
    assert caught.value.field == "spec.access.modelUri"
    assert caught.value.fix


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("kmsKeyArn", {"kms_key_arn": f"arn:aws:kms:us-east-1:{OTHER_ACCOUNT}:{KEY_ID}"}),
        ("kmsKeyArn", {"kms_key_arn": f"arn:aws:kms:us-west-2:{ACCOUNT}:{KEY_ID}"}),
        ("kmsKeyArn", {"kms_key_arn": f"arn:aws-cn:kms:us-east-1:{ACCOUNT}:{KEY_ID}"}),
        ("kmsKeyArn", {"kms_key_arn": f"arn:aws:kms:us-east-1:{ACCOUNT}:key/*"}),
        ("kmsKeyArn", {"kms_key_arn": f"arn:aws:kms:us-east-1:{ACCOUNT}:alias/models"}),
        ("kmsKeyArn", {"kms_key_arn": "*"}),
        ("kmsKeyArn", {"kms_key_arn": f"arn:aws:s3:us-east-1:{ACCOUNT}:{KEY_ID}"}),
        ("kmsKeyArn", {"model": None, "cache": None}),
        ("imageRepositoryArn", {"image_repository_arn": f"arn:aws:ecr:us-east-1:{OTHER_ACCOUNT}:repository/vllm"}),
        ("imageRepositoryArn", {"image_repository_arn": f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/*"}),
        ("imageRepositoryArn", {"image_repository_arn": f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/${{x}}"}),
        ("serviceAccountName", {"account": None}),
        ("serviceAccountName", {"account": "default"}),
        ("serviceAccountName", {"account": "chat:engine"}),
        ("cacheUri", {"cache": bucket_prefix("s3://models/llama", "")}),
        ("cacheUri", {"cache": bucket_prefix("s3://models/llama/8b/cache", "")}),
        ("cacheUri", {"cache": bucket_prefix("s3://models/llama/8b", "")}),
        ("name", {"key": ServiceKey("prod", "Chat")}),
        ("namespace", {"key": ServiceKey("*", "chat")}),
        ("router", {"router": RouterNeeds("chat-engine", "chat-routing")}),
        ("router", {"router": RouterNeeds("default", "chat-routing")}),
        ("the role of its pods", {"key": ServiceKey("n" * 40, "s" * 40)}),
        ("the role of its pods", {"role": "r" * 65}),
        ("the role of its pods", {"role": "r/*"}),
    ],
)  # fmt: skip
def test_a_strange_need_is_refused_with_the_field_and_the_fix(field: str, change: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        service_parts(chat(IRSA, **change), IRSA)
    assert caught.value.field.endswith(field)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("partition", {"partition": "gcp"}),
        ("partition", {"partition": "*"}),
        ("region", {"region": "*"}),
        ("region", {"region": "cn-north-1"}),
        ("region", {"partition": "aws-cn"}),
        ("region", {"region": "us-gov-west-1"}),
        ("account", {"account": "1111"}),
        ("account", {"account": "*"}),
        ("cluster", {"cluster": f"arn:aws:eks:us-east-1:{ACCOUNT}:cluster/prod"}),
        ("cluster", {"cluster": "pr*d"}),
        ("oidcIssuer", {"oidc_issuer": f"https://{ISSUER}"}),
        ("oidcIssuer", {"oidc_issuer": f"{ISSUER}/"}),
        ("oidcIssuer", {"oidc_issuer": "*"}),
        ("oidcIssuer", {"oidc_issuer": None}),
    ],
)
def test_a_strange_environment_is_refused_with_the_field_and_the_fix(field: str, change: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        dataclasses.replace(IRSA, **change)
    assert caught.value.field == field
    assert caught.value.fix


def test_the_same_node_group_for_two_pools_is_refused() -> None:
    pools = (NodegroupPool("a", "gpu"), NodegroupPool("b", "gpu"))
    with pytest.raises(UserError, match="twice"):
        OperatorNeeds(ServiceKey("medley-system", "medley"), pools)
    for strange in ("gp*", "${x}", ""):
        with pytest.raises(UserError):
            NodegroupPool("a", strange)
        with pytest.raises(UserError):
            NodegroupPool("a", "gpu", strange or "*")


def test_a_policy_that_is_too_long_for_a_role_is_not_usable() -> None:
    pools = tuple(NodegroupPool(f"pool-{n}", f"gpu-{n}") for n in range(40))
    (policy, _) = operator_parts(OperatorNeeds(ServiceKey("medley-system", "medley"), pools), IRSA)
    found = check(policy, ATOMS)
    assert found.report.verdict is Verdict.SATISFIED
    assert found.too_long
    assert not found.usable


def test_the_trust_can_be_pod_identity_without_an_issuer() -> None:
    at = ClusterEnvironment("aws", ACCOUNT, "us-east-1", "prod", trust=Trust.POD_IDENTITY)
    assert check(part_of_service(chat(at), at), ATOMS).usable
