"""Everybody but one: notPrincipal in ceilings for IAM, notSubject in ceilings for RBAC."""

from __future__ import annotations

import json

import pytest

from medley.model.errors import UserError
from medley.policy.iam.parse import parse_document
from medley.policy.iam.policyset import alone
from medley.policy.prove import Prover
from medley.policy.rbac.parse import parse_manifest
from medley.policy.rbac.roleset import RoleSet
from medley.policy.rbac.spec import read_spec as read_rbac_spec
from medley.policy.rbac.verify import verify as verify_roles
from medley.policy.repair.repair import Outcome, repair
from medley.policy.spec.read import read_spec
from medley.policy.verify import Verdict, verify

SERVICE = "pods.eks.amazonaws.com"
ROLE = "arn:aws:iam::111122223333:role/app"


def spec_for(caller: str) -> str:
    return f"""
floor: [{{id: app, action: "sts:AssumeRole", resource: "*", principal: {caller}}}]
ceiling: [{{id: others, notPrincipal: {caller}}}]
"""


def trust(principal: object) -> str:
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal}
    return json.dumps({"Statement": [statement]})


@pytest.mark.parametrize(
    "principal",
    [
        {"Service": [SERVICE, "ec2.amazonaws.com"]},
        {"Service": SERVICE, "AWS": "arn:aws:iam::111122223333:root"},
        {"Service": SERVICE, "AWS": "*"},
        {"Service": SERVICE, "Federated": "accounts.google.com"},
        "*",
    ],
)
def test_a_trust_policy_that_lets_others_in_is_found_and_repaired(principal: object) -> None:
    document, spec = parse_document(trust(principal), "t"), read_spec(spec_for(f"{{Service: {SERVICE}}}"), "s")
    report = verify(alone(document), spec, Prover())
    assert report.verdict is Verdict.VIOLATED
    (witness,) = report.witnesses
    assert witness.rule.id == "others"
    assert witness.request.caller is None or witness.request.caller.id != SERVICE
    fixed = repair(document, spec, Prover())
    assert fixed.outcome is Outcome.REPAIRED
    assert verify(alone(fixed.document), spec, Prover()).verdict is Verdict.SATISFIED


def test_a_session_of_the_role_is_another_caller() -> None:
    # A role as principal lets its sessions in: they are callers of their own, and the spec names the role alone.
    report = verify(alone(parse_document(trust({"AWS": ROLE}), "t")), read_spec(spec_for(f'"{ROLE}"'), "s"), Prover())
    assert report.verdict is Verdict.VIOLATED
    assert "assumed-role/app" in str(report.witnesses[0].request.caller)


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ('floor: [{id: a, action: "s3:Get", resource: "*", notPrincipal: "x"}]', "notPrincipal"),
        ('ceiling: [{id: a, principal: "x", notPrincipal: "y"}]', "notPrincipal"),
        ('ceiling: [{id: a, notPrincipal: "*"}]', "notPrincipal"),
        ("ceiling: [{id: a, notPrincipal: [x, y]}]", "notPrincipal"),
        ("ceiling: [{id: a, notPrincipal: {Human: y}}]", "notPrincipal"),
        ('ceiling: [{id: a, notPrincipal: "x", allOf: ["s3:Get", "s3:Put"]}]', "allOf"),
    ],
)
def test_not_principal_is_for_one_caller_of_a_ceiling(rule: str, field: str) -> None:
    with pytest.raises(UserError) as caught:
        read_spec(rule, "s")
    assert caught.value.field.endswith(field)


ROLES = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: a}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: a}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: app}MORE]
"""
RBAC = "ceiling: [{id: others, notSubject: {kind: ServiceAccount, name: app, namespace: a}}]"


@pytest.mark.parametrize(
    ("more", "who"),
    [
        ("", None),
        (", {kind: User, name: eve}", "eve"),
        (", {kind: ServiceAccount, name: app, namespace: b}", "system:serviceaccount:b:app"),
        (", {kind: Group, name: 'system:serviceaccounts:a'}", "system:serviceaccount:a:somebody"),
        (", {kind: Group, name: 'system:unauthenticated'}", "system:anonymous"),
        (", {kind: User, name: 'system:serviceaccount:a:app'}", None),
    ],
)
def test_a_binding_that_brings_others_in_is_found(more: str, who: str | None) -> None:
    roles = RoleSet(parse_manifest(ROLES.replace("MORE", more), "r"))
    report = verify_roles(roles, read_rbac_spec(RBAC, "s"), Prover())
    assert report.verdict is (Verdict.SATISFIED if who is None else Verdict.VIOLATED)
    assert [witness.request.caller.user for witness in report.witnesses] == ([] if who is None else [who])


@pytest.mark.parametrize(
    "rule",
    [
        "floor: [{id: a, verbs: get, apiGroups: '', resources: pods, notSubject: {kind: User, name: eve}}]",
        "ceiling: [{id: a, subject: {kind: User, name: bob}, notSubject: {kind: User, name: eve}}]",
        "ceiling: [{id: a, notSubject: {kind: User}}]",
    ],
)
def test_not_subject_is_for_one_caller_of_a_ceiling(rule: str) -> None:
    with pytest.raises(UserError, match="notSubject"):
        read_rbac_spec(rule, "s")
