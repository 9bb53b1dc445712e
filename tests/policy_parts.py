"""Environments, needs and damage for tests of generated policies."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from medley.actuation.rights import RIGHTS, lease_rights, role_manifests, scale_rights
from medley.model.objects import ServiceKey
from medley.policy.generate import (
    ClusterEnvironment,
    NodegroupPool,
    OperatorNeeds,
    Part,
    PolicyKind,
    RouterAccess,
    RouterNeeds,
    ServiceNeeds,
    Trust,
    bucket_prefix,
    operator_parts,
    service_parts,
)

Json = dict[str, Any]
ACCOUNT, OTHER_ACCOUNT = "111122223333", "444455556666"
ISSUER = "oidc.eks.us-east-1.amazonaws.com/id/ABC123"
IRSA = ClusterEnvironment("aws", ACCOUNT, "us-east-1", "prod", ISSUER)
POD_IDENTITY = ClusterEnvironment("aws", ACCOUNT, "eu-central-1", "prod", trust=Trust.POD_IDENTITY)
CHINA = ClusterEnvironment("aws-cn", ACCOUNT, "cn-north-1", "prod", "oidc.eks.cn-north-1.amazonaws.com.cn/id/ABC123")
GOVERNMENT = ClusterEnvironment("aws-us-gov", ACCOUNT, "us-gov-west-1", "prod_1", trust=Trust.POD_IDENTITY)
ENVIRONMENTS = {"irsa": IRSA, "pod-identity": POD_IDENTITY, "china": CHINA, "government": GOVERNMENT}
KEY_ID = "key/1234abcd-12ab-34cd-56ef-1234567890ab"
RIGHTS_OF_ALL = (*RIGHTS, *lease_rights("medley-system", "medley"), *scale_rights("karpenter.sh", "nodepools"))


def chat(at: ClusterEnvironment, **changes: Any) -> ServiceNeeds:
    """A service that needs everything."""
    values: dict[str, Any] = {
        "key": ServiceKey("prod", "chat"),
        "account": "chat-engine",
        "model": bucket_prefix("s3://models/llama/8b", "modelUri"),
        "cache": bucket_prefix("s3://scratch/chat", "cacheUri"),
        "kms_key_arn": at.arn("kms", KEY_ID),
        "image_repository_arn": at.arn("ecr", "repository/vllm/openai"),
        "router": RouterNeeds("chat-router", "chat-routing", RouterAccess.ACKNOWLEDGE),
    }
    return ServiceNeeds(**{**values, **changes})


def operator(services: tuple[str, ...] = ("prod", "dev")) -> OperatorNeeds:
    """The operator with four node groups, two of which it scales through their Auto Scaling groups."""
    return OperatorNeeds(
        ServiceKey("medley-system", "medley"),
        (
            NodegroupPool("l4", "gpu-l4"),
            NodegroupPool("a10", "gpu-a10"),
            NodegroupPool("a100", "gpu-a100", "eks-gpu-a100-0a1b2c3d"),
            NodegroupPool("h100", "gpu-h100", "eks-gpu-h100-4e5f6a7b"),
        ),
        RIGHTS_OF_ALL,
        tuple(role_manifests("medley", "medley-system", RIGHTS_OF_ALL, services)),
        services,
    )


def all_parts(at: ClusterEnvironment) -> tuple[Part, ...]:
    return (*service_parts(chat(at), at), *operator_parts(operator(), at))


def damaged(part: Part) -> Iterator[tuple[str, Any]]:
    """(kind of damage, document) of every way to damage the part; kinds repeat for each place."""
    if part.kind is PolicyKind.RBAC:
        assert isinstance(part.document, list)
        yield from _of_roles(part.document)
        return
    assert isinstance(part.document, dict)
    trust = part.kind is PolicyKind.IAM_TRUST
    every = dict(_TRUST_DAMAGE if trust else _IDENTITY_DAMAGE) | _ANY_DAMAGE
    for kind, change in every.items():
        for number in range(len(part.document["Statement"])):
            document = copy.deepcopy(part.document)
            if change(document["Statement"], number):
                yield kind, document


Damage = Callable[[list[Json], int], bool]
"""Changes the statement of a number; whether it could."""


def _put(key: str, value: Any) -> Damage:
    def change(statements: list[Json], number: int) -> bool:
        statement = statements[number]
        given = value(statement[key]) if callable(value) else value
        if given is None or _listed(given) == _listed(statement.get(key)):
            return False
        statement[key] = given
        return True

    return change


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _each_resource(change: Callable[[str], str]) -> Damage:
    return _put("Resource", lambda value: [item if item == "*" else change(item) for item in _listed(value)])


def _parent(arn: str) -> str:
    """A wider pattern: a folder up, or everything that begins alike."""
    head = arn.removesuffix("/*")
    return head.rpartition("/")[0] + "/*" if head != arn and "/" in head else arn[:-1] + "*"


def _drop_statement(statements: list[Json], number: int) -> bool:
    del statements[number]
    return True


def _add_statement(statements: list[Json], number: int) -> bool:
    added = copy.deepcopy(statements[number])
    added.pop("Condition", None)
    added.pop("Sid", None)
    statements.append({**added, "Action": "s3:DeleteObject"})
    return True


def _other_action(statements: list[Json], number: int) -> bool:
    actions = _listed(statements[number].pop("Action"))
    statements[number]["NotAction"] = actions
    return True


def _condition(change: Callable[[Json], bool]) -> Damage:
    def damage(statements: list[Json], number: int) -> bool:
        return "Condition" in statements[number] and change(statements[number]["Condition"])

    return damage


def _if_exists(condition: Json) -> bool:
    for operator_name in list(condition):
        condition[f"{operator_name}IfExists"] = condition.pop(operator_name)
    return True


def _star(condition: Json) -> bool:
    block = condition.pop("StringEquals")
    key, *_ = block
    block.pop(key)
    condition["StringLike"] = {**condition.get("StringLike", {}), key: "*"}
    if block:
        condition["StringEquals"] = block
    return True


def _second_value(condition: Json) -> bool:
    block = condition["StringEquals"]
    key, *_ = block
    block[key] = [*_listed(block[key]), OTHER_ACCOUNT]
    return True


def _other_value(condition: Json) -> bool:
    block = condition["StringEquals"]
    key = list(block)[-1]
    block[key] = "something-else"
    return True


def _first_key_dropped(condition: Json) -> bool:
    block = condition["StringEquals"]
    del block[next(iter(block))]
    if not block:
        del condition["StringEquals"]
        if not condition:
            condition["Null"] = {"aws:TokenIssueTime": "true"}  # something that asks for nothing of ours
    return True


def _narrowed(statements: list[Json], number: int) -> bool:
    condition = statements[number].setdefault("Condition", {})
    condition.setdefault("StringEquals", {})["aws:PrincipalTag/team"] = "ours"
    return True


_ANY_DAMAGE: dict[str, Damage] = {
    "action added": _put("Action", lambda value: [*_listed(value), "iam:PassRole"]),
    "every action of the service": _put("Action", lambda value: f"{_listed(value)[0].partition(':')[0]}:*"),
    "every action": _put("Action", "*"),
    "another action in its place": _put("Action", "s3:GetObjectAcl"),
    "all but the action": _other_action,
    "statement dropped": _drop_statement,
    "statement added": _add_statement,
    "denied": _put("Effect", "Deny"),
    "all conditions dropped": lambda s, n: s[n].pop("Condition", None) is not None,
    "condition dropped": _condition(_first_key_dropped),
    "conditions only if the key exists": _condition(_if_exists),
    "any value": _condition(_star),
    "a second value": _condition(_second_value),
    "another value": _condition(_other_value),
    "condition added": _narrowed,
}
_IDENTITY_DAMAGE: dict[str, Damage] = {
    "every resource": _put("Resource", "*"),
    "wider resource": _each_resource(_parent),
    "narrower resource": _each_resource(lambda arn: arn + "x"),
    "resource added": _put(
        "Resource", lambda value: [*_listed(value), "arn:aws:s3:::others/*"] if value != "*" else None
    ),
    "resource of another account": _each_resource(lambda arn: arn.replace(ACCOUNT, OTHER_ACCOUNT)),
    "resource of any region": _each_resource(
        lambda arn: ":".join([*arn.split(":")[:3], "*" if arn.split(":")[3] else "", *arn.split(":")[4:]])
    ),
}
_TRUST_DAMAGE: dict[str, Damage] = {
    "everyone": _put("Principal", "*"),
    "every AWS principal": _put("Principal", {"AWS": "*"}),
    "principal added": _put("Principal", lambda value: {**value, "AWS": f"arn:aws:iam::{ACCOUNT}:root"}),
    "another service": _put("Principal", {"Service": "ec2.amazonaws.com"}),
    "another provider": _put("Principal", {"Federated": f"arn:aws:iam::{OTHER_ACCOUNT}:oidc-provider/{ISSUER}"}),
    "service added": _put(
        "Principal", lambda value: {**value, "Service": ["pods.eks.amazonaws.com", "ec2.amazonaws.com"]}
    ),
}


def _of_roles(objects: list[Json]) -> Iterator[tuple[str, list[Json]]]:
    def copied() -> list[Json]:
        return copy.deepcopy(objects)

    for number, found in enumerate(objects):
        if found["kind"] in ("Role", "ClusterRole"):
            for kind, change in _RULE_DAMAGE.items():
                for index in range(len(found["rules"])):
                    document = copied()
                    if change(document[number]["rules"], index):
                        yield kind, document
        if found["kind"].endswith("Binding"):
            for kind, subjects in _SUBJECTS.items():
                document = copied()
                document[number]["subjects"] = subjects(document[number]["subjects"])
                yield kind, document
            document = copied()
            del document[number]
            yield "binding dropped", document
    account = next(found for found in objects if found["kind"] == "ServiceAccount")["metadata"]
    subject = {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
    group = "rbac.authorization.k8s.io"
    for kind, rule in (
        ("role added", {"apiGroups": [""], "resources": ["pods"], "verbs": ["delete"]}),
        ("secrets added", {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}),
        ("URL added", {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}),
        ("everything added", {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}),
        ("impersonation added", {"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"]}),
    ):
        role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": "more"}, "rules": [rule]}
        accounts = f"system:serviceaccounts:{account['namespace']}"
        for how, who in (
            ("", subject),
            (" through the accounts of the namespace", {"kind": "Group", "apiGroup": group, "name": accounts}),
            (" through everybody", {"kind": "Group", "apiGroup": group, "name": "system:authenticated"}),
        ):
            reference = {"apiGroup": group, "kind": "ClusterRole", "name": "more"}
            binding = {
                "apiVersion": f"{group}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "more"},
                "roleRef": reference,
                "subjects": [who],
            }
            yield kind + how, [*copied(), role, binding]


def _of_rule(key: str, value: Callable[[list[str]], Any]) -> Damage:
    def change(rules: list[Json], index: int) -> bool:
        if key not in rules[index]:
            return False
        given = value(rules[index][key])
        if given is None or given == rules[index][key]:
            return False
        if given == []:
            del rules[index][key]
        else:
            rules[index][key] = given
        return True

    return change


_RULE_DAMAGE: dict[str, Damage] = {
    "verb added": _of_rule("verbs", lambda verbs: [*verbs, "delete"]),
    "verb dropped": _of_rule("verbs", lambda verbs: verbs[1:] or None),
    "every verb": _of_rule("verbs", lambda _: ["*"]),
    "every resource": _of_rule("resources", lambda _: ["*"]),
    "resource added": _of_rule("resources", lambda found: [*found, "secrets"]),
    "subresource in its place": _of_rule("resources", lambda found: [f"{item.split('/')[0]}/other" for item in found]),
    "every group": _of_rule("apiGroups", lambda _: ["*"]),
    "another group": _of_rule("apiGroups", lambda _: ["example.com"]),
    "every name": _of_rule("resourceNames", lambda _: []),
    "name added": _of_rule("resourceNames", lambda names: [*names, "other"]),
    "name changed": _of_rule("resourceNames", lambda names: [f"{name}-2" for name in names]),
    "rule dropped": _drop_statement,
}
_SUBJECTS: dict[str, Callable[[list[Json]], list[Json]]] = {
    "account added": lambda found: [*found, {**found[0], "name": "other"}],
    "account of another namespace": lambda found: [{**found[0], "namespace": "other"}],
    "everybody added": lambda found: [
        *found, {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:authenticated"}
    ],
    "user added": lambda found: [*found, {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "eve"}],
    "nobody": lambda _: [],
}  # fmt: skip
