"""A user's own statements in a generated policy: taken, cut off, or refused with a request that shows why."""

from __future__ import annotations

from typing import Any

import pytest

from medley.cli.policy_input import shipped_ceilings
from medley.model.errors import UserError
from medley.policy.answers import Engine
from medley.policy.generate import Merged, MergeOutcome, PartName, merge_statements, service_parts
from medley.policy.generate.check import document_of
from medley.policy.iam.evaluate import Evaluator
from medley.policy.iam.request import request
from medley.policy.prove import Prover
from medley.policy.verify import Verdict
from policy_parts import ACCOUNT, IRSA, chat

PART = service_parts(chat(IRSA), IRSA)[0]
HERE = {"aws:ResourceAccount": ACCOUNT, "aws:RequestedRegion": "us-east-1"}
MODEL = "arn:aws:s3:::models/llama/8b/weights"


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def merged(*statements: Any, ceilings: dict[str, str] | None = None) -> Merged:
    if ceilings is None:
        ceilings = {name: shipped_ceilings()[name] for name in PART.ceilings}
    return merge_statements(PART, statements, Prover(), ceilings)


def allows(found: Merged, action: str, resource: str, **context: str) -> bool:
    document = document_of(found.part, found.part.document_text)
    return Evaluator(document).allows(request(action, resource, None, {**HERE, **context}))


def test_what_is_asked_for_outright_is_taken_as_it_is_and_proved() -> None:
    found = merged(allow("s3:GetObject", "arn:aws:s3:::data/list.json", Sid="List"))
    assert found.outcome is MergeOutcome.ACCEPTED
    assert found.usable
    assert found.repair.edits == ()
    assert found.repair.proof is not None
    assert found.repair.proof.verdict is Verdict.SATISFIED
    assert {engines for _, engines in found.repair.proof.proved} == {(Engine.ATOMS, Engine.SMT)}
    assert allows(found, "s3:GetObject", "arn:aws:s3:::data/list.json")
    assert allows(found, "s3:GetObject", MODEL)
    assert "own-1" in [rule["id"] for rule in found.part.spec["floor"]]


def test_what_lies_beyond_the_ceiling_is_cut_off_and_the_rest_is_kept() -> None:
    found = merged(allow("s3:*"))
    assert found.outcome is MergeOutcome.REPAIRED
    assert allows(found, "s3:PutObject", "arn:aws:s3:::data/x")
    assert allows(found, "s3:GetObject", MODEL)
    assert not allows(found, "s3:PutObject", MODEL)
    assert not allows(found, "s3:DeleteObject", MODEL)
    assert found.repair.before.verdict is Verdict.VIOLATED
    assert [edit.kind.value for edit in found.repair.edits] == ["addStatement"]


def test_a_statement_for_everything_keeps_what_may_be_kept() -> None:
    found = merged(allow("*"))
    assert found.outcome is MergeOutcome.REPAIRED
    assert allows(found, "sqs:SendMessage", "arn:aws:sqs:us-east-1:1:q")
    assert not allows(found, "iam:CreateAccessKey", "*")
    assert not allows(found, "sts:AssumeRole", "*")
    assert not allows(found, "lambda:UpdateFunctionCode", "*")


@pytest.mark.parametrize(
    ("statement", "rule", "action"),
    [
        (allow("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin"), "identities", "iam:PassRole"),
        (allow("s3:PutObject", MODEL), "model-changed", "s3:PutObject"),
        (allow("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/admin"), "sts-assumerole", "sts:AssumeRole"),
    ],
)
def test_what_is_asked_for_outright_beyond_the_ceiling_is_refused(statement: Any, rule: str, action: str) -> None:
    found = merged(statement)
    assert found.outcome is MergeOutcome.REFUSED
    assert not found.usable
    assert found.part is PART
    assert f"own-1 asks for what the ceiling {rule} forbids" in found.reason
    assert found.witness is not None
    assert found.witness.action == action


def test_a_statement_of_which_nothing_is_left_is_refused() -> None:
    found = merged(allow("sqs:*"), allow("iam:*"))
    assert found.outcome is MergeOutcome.REFUSED
    assert found.reason == "spec.access.statements[1]: nothing of it lies inside the ceiling (identities)"
    assert found.witness is not None
    assert found.witness.action.startswith("iam:")


def test_a_deny_of_what_the_service_needs_is_refused_and_another_is_taken() -> None:
    found = merged({"Effect": "Deny", "Action": "s3:*", "Resource": "*"})
    assert found.outcome is MergeOutcome.REFUSED
    assert "denies what the service needs (read-model)" in found.reason
    assert found.witness is not None
    assert found.witness.action == "s3:GetObject"
    harmless = merged(allow("sqs:*"), {"Effect": "Deny", "Action": "sqs:Delete*", "Resource": "*"})
    assert harmless.outcome is MergeOutcome.ACCEPTED
    assert not allows(harmless, "sqs:DeleteQueue", "*")


def test_a_ceiling_that_forbids_what_the_service_needs_is_named() -> None:
    found = merged(allow("sqs:*"), ceilings={"mine": "ceiling: [{id: no-keys, action: 'kms:*'}]"})
    assert found.outcome is MergeOutcome.REFUSED
    assert "use-key asks for what the ceiling no-keys forbids" in found.reason


def test_a_statement_may_be_conditional() -> None:
    tagged = {"StringEquals": {"aws:ResourceTag/team": "ours"}}
    found = merged(allow("sqs:SendMessage", f"arn:aws:sqs:us-east-1:{ACCOUNT}:q", Condition=tagged))
    assert found.outcome is MergeOutcome.ACCEPTED
    assert found.part.spec["floor"][-1]["context"] == {"aws:ResourceTag/team": "ours"}
    loose = merged(allow("sqs:SendMessage", "*", Condition={"StringLike": {"aws:ResourceTag/team": "o*"}}))
    assert loose.outcome is MergeOutcome.ACCEPTED
    assert all(not rule["id"].startswith("own") for rule in loose.part.spec["floor"])


def test_too_much_for_a_role_is_refused() -> None:
    many = [f"arn:aws:sqs:us-east-1:{ACCOUNT}:{n}-{'q' * 60}" for n in range(120)]
    found = merged(allow("sqs:SendMessage", many), ceilings={})
    assert found.outcome is MergeOutcome.REFUSED
    assert "characters" in found.reason


@pytest.mark.parametrize(
    ("statement", "field"),
    [
        ({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*", "Principal": "*"}, "[0].Principal"),
        ({"Effect": "Allow", "Action": "s3:GetObject"}, "[0]"),
        ({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*", "Sid": "ReadModel"}, "[0].Sid"),
        ({"Effect": "allow", "Action": "s3:GetObject", "Resource": "*"}, "[0].Effect"),
        ({"Effect": "Allow", "Actions": "s3:GetObject", "Resource": "*"}, "[0].Actions"),
        ("[]", "[0]"),
    ],
)
def test_what_is_no_statement_is_refused_with_its_place(statement: Any, field: str) -> None:
    with pytest.raises(UserError) as caught:
        merged(statement)
    assert f"spec.access.statements{field}" in caught.value.field


def test_statements_go_with_the_pods_policy_alone() -> None:
    trust = next(part for part in service_parts(chat(IRSA), IRSA) if part.name is PartName.POD_TRUST)
    with pytest.raises(UserError, match="no identity policy"):
        merge_statements(trust, [allow("s3:*")], Prover())
    with pytest.raises(UserError, match="more than 16"):
        merged(*[allow("sqs:*")] * 17)
