"""Repair: what comes out meets the spec, or nothing does."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from medley.model.errors import UserError
from medley.policy.answers import Engine
from medley.policy.iam.document import Document, Effect, Form, Patterns, PrincipalEntry, PrincipalType, Statement
from medley.policy.iam.evaluate import Evaluator
from medley.policy.iam.parse import parse_document
from medley.policy.iam.policyset import alone
from medley.policy.iam.render import document_value, size_characters
from medley.policy.iam.request import request
from medley.policy.prove import Prover
from medley.policy.repair.edits import Edit, EditKind, ElementName, apply_edits, edit_of, edit_value
from medley.policy.repair.repair import Outcome, prove_edits, repair
from medley.policy.repair.tidy import merges
from medley.policy.requests import generate
from medley.policy.spec.read import read_spec
from medley.policy.spec.spec import Side, Spec
from medley.policy.verify import Verdict, verify, within
from policy_strategies import CALLERS, RESOURCES, conditions, documents

POLICIES = sorted((Path(__file__).parents[1] / "data" / "policies").glob("*.json"))
ATOMS = Prover(engines=(Engine.ATOMS,))


def document(*statements: dict[str, object]) -> Document:
    return parse_document(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))


BUCKET = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::b/*"}


def repaired(policy: Document, spec: str, **options: int) -> list[dict[str, object]]:
    result = repair(policy, read_spec(spec, "spec"), Prover(), **options)
    assert result.outcome is Outcome.REPAIRED
    assert result.proof is not None
    assert result.proof.verdict is Verdict.SATISFIED
    assert apply_edits(policy, result.edits) == result.document
    return [edit_value(edit) for edit in result.edits]


def test_the_smallest_edit_takes_one_action_out():
    spec = """
floor: [{id: read, action: s3:GetObject, resource: "arn:aws:s3:::b/*"}]
ceiling: [{id: write, action: "s3:Put*"}]
"""
    assert repaired(document(BUCKET), spec) == [
        {"edit": "remove", "statement": 0, "element": "Action", "old": "s3:PutObject"}
    ]


def test_a_typing_slip_is_put_right_by_the_catalogue():
    policy = document({**BUCKET, "Action": ["s3:GetObjct", "s3:PutObject"]})
    spec = "floor: [{id: read, action: s3:GetObject, resource: 'arn:aws:s3:::b/x'}]"
    assert repaired(policy, spec) == [
        {"edit": "replace", "statement": 0, "element": "Action", "old": "s3:GetObjct", "new": "s3:GetObject"}
    ]


def test_a_bucket_named_without_its_objects_gets_them():
    policy = document({**BUCKET, "Resource": "arn:aws:s3:::b"})
    spec = "floor: [{id: read, action: s3:GetObject, resource: 'arn:aws:s3:::b/a/b'}]"
    assert repaired(policy, spec)[0]["new"] == "arn:aws:s3:::b/*"


def test_counterexamples_drive_the_search_beyond_the_samples():
    spec = """
floor: [{id: read, action: s3:GetObject, resource: "arn:aws:s3:::b/models/*"}]
ceiling: [{id: rest, action: "s3:*", notResource: "arn:aws:s3:::b/models/*"}]
"""
    policy = document({**BUCKET, "Action": "s3:*", "Resource": "*"})
    repaired(policy, spec)


def test_variables_are_repaired_with_the_proof_of_smt():
    home = document({**BUCKET, "Resource": "arn:aws:s3:::b/${aws:username}/*"})
    spec = """
floor: [{id: own, action: s3:GetObject, resource: "arn:aws:s3:::b/bob/x", context: {"aws:username": bob}}]
ceiling: [{id: alice, action: "s3:*", resource: "arn:aws:s3:::b/alice/*"}]
"""
    repaired(home, spec)


def test_contradictions_come_back_as_the_pair_with_a_proof():
    spec = read_spec(
        """
floor: [{id: read, action: s3:GetObject, resource: "arn:aws:s3:::b/*"}]
ceiling: [{id: never, action: "s3:Get*"}]
""",
        "spec",
    )
    result = repair(document(BUCKET), spec, Prover())
    assert result.outcome is Outcome.CONTRADICTION
    assert [(found.floor.id, found.ceiling.id, found.proved) for found in result.contradictions] == [
        ("read", "never", True)
    ]
    assert result.document == document(BUCKET)


def test_an_identity_policy_cannot_tell_callers_apart():
    spec = read_spec(
        """
floor: [{id: bob, action: s3:GetObject, resource: "*", principal: "arn:aws:iam::111122223333:user/bob"}]
ceiling: [{id: eve, action: s3:GetObject, resource: "*", principal: "arn:aws:iam::111122223333:user/eve"}]
""",
        "spec",
    )
    result = repair(document(BUCKET), spec, Prover())
    assert result.outcome is Outcome.CONTRADICTION
    assert result.contradictions[0].callers_ignored
    bucket = document({**BUCKET, "Principal": {"AWS": "arn:aws:iam::111122223333:user/eve"}, "Resource": "*"})
    assert repair(bucket, spec, Prover()).outcome is Outcome.REPAIRED


def test_a_result_over_the_size_limit_is_refused():
    spec = "floor: [{id: read, action: sqs:SendMessage, resource: 'arn:aws:sqs:us-east-1:111122223333:q'}]"
    policy = document(BUCKET)
    result = repair(policy, read_spec(spec, "spec"), Prover(), limit_characters=size_characters(policy) + 10)
    assert result.outcome is Outcome.TOO_LONG
    assert result.document == policy


def test_nothing_is_done_where_nothing_is_wrong():
    spec = read_spec("ceiling: [{id: iam, action: 'iam:*'}]", "spec")
    result = repair(document(BUCKET), spec, Prover())
    assert result.outcome is Outcome.UNCHANGED
    assert result.edits == ()


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_request_lists_of_real_policies(path: Path):
    policy = parse_document(path.read_text(), path.name)
    spec = read_spec(json.dumps(generate(policy, 20, random.Random(7))), "requests")
    result = repair(policy, spec, Prover())
    assert result.outcome in (Outcome.REPAIRED, Outcome.UNCHANGED)
    evaluator = Evaluator(result.document)
    for rule in spec.rules:
        for sample in rule.samples:
            assert evaluator.allows(sample) is (rule.side is Side.FLOOR)


def test_request_lists_are_the_same_for_the_same_seed():
    policy = document(BUCKET)
    first, again = (generate(policy, 10, random.Random(3)) for _ in range(2))
    assert first == again
    assert [item["Effect"] for item in first["Requests"]] == ["Allow"] * 6 + ["Deny"] * 4


@settings(max_examples=60, deadline=None)
@given(documents(variables=False), st.data())
def test_merging_changes_nothing(policy: Document, data: st.DataObject):
    first = data.draw(st.integers(0, len(policy.statements)))
    merged = apply_edits(policy, merges(policy, first))
    assert type(within(alone(policy), alone(merged), ATOMS)).__name__ != "Refuted"
    assert type(within(alone(merged), alone(policy), ATOMS)).__name__ != "Refuted"


SPEC = read_spec(
    """
floor:
- {id: read, action: s3:GetObject, resource: "arn:aws:s3:::b/a"}
ceiling:
- {id: write, action: s3:PutObject}
- {id: elsewhere, action: "ec2:*"}
""",
    "spec",
)


WORDS = {
    ElementName.ACTION: st.sampled_from(
        ("*", "s3:*", "s3:GetObject", "s3:PutObject", "s3:?ut*", "ec2:RunInstances", "s3:Invented", "S3:PUTOBJECT")
    ),
    ElementName.RESOURCE: st.sampled_from(("*", "arn:aws:s3:::b/*", "arn:aws:s3:::b/a", "arn:aws:*", "x", "${a}")),
    ElementName.CONDITION: conditions(),
    ElementName.PRINCIPAL: st.sampled_from(
        [PrincipalEntry(PrincipalType.AWS, (item,)) for item in ("*", "111122223333", "arn:aws:iam::111122223333:root")]
    ),
}


@st.composite
def hostile_edits(draw: st.DrawFn, *, resource: bool = False) -> Edit:
    kind = draw(st.sampled_from(EditKind))
    index = draw(st.integers(-1, 3))
    if kind is EditKind.ADD_STATEMENT:
        return Edit(kind, added=draw(documents(resource=resource)).statements[0])
    if kind is EditKind.SET_EFFECT:
        return Edit(kind, index, effect=draw(st.sampled_from(Effect)))
    element = draw(st.sampled_from((ElementName.ACTION, ElementName.ACTION, *ElementName)))
    old, new = draw(WORDS[element]), draw(WORDS[element])
    if kind is EditKind.REMOVE_STATEMENT:
        return Edit(kind, index)
    return Edit(kind, index, element, None if kind is EditKind.ADD else old, None if kind is EditKind.REMOVE else new)


@st.composite
def hostile_cases(draw: st.DrawFn) -> tuple[Document, list[Edit]]:
    resource = draw(st.booleans())
    # Half of them near to what the spec wants, so that some proposals are good.
    policy = draw(documents(resource=resource, most=2) | st.sampled_from(NEAR))
    return policy, draw(st.lists(hostile_edits(resource=resource), max_size=4))


NEAR = tuple(
    document({**BUCKET, **changed}, *more)
    for changed in ({}, {"Action": "s3:GetObject"}, {"Action": ["s3:PutObject", "s3:GetO*"], "Resource": "*"})
    for more in ((), ({"Effect": "Deny", "Action": "s3:PutObject", "Resource": "*"},))
)


def check_hostile(policy: Document, edits: list[Edit], spec: Spec) -> None:
    """Whatever was proposed: what comes out is the document that was given, or one that meets the spec."""
    before = verify(alone(policy), spec, ATOMS)
    try:
        result = prove_edits(policy, tuple(edits), spec, Prover(timeout_ms=500), None, before)
    except UserError:
        event("cannot be applied")
        return
    event(result.outcome.value)
    if result.outcome is not Outcome.REPAIRED:
        assert result.document == policy
        return
    evaluator = Evaluator(result.document)
    for rule in spec.floor:
        assert all(evaluator.allows(sample) for sample in rule.samples)
    for caller in CALLERS:
        for action in ("s3:PutObject", "ec2:RunInstances", "ec2:Anything"):
            for target in RESOURCES:
                assert not evaluator.allows(request(action, target, caller))
    assert verify(alone(result.document), spec, ATOMS).verdict is not Verdict.VIOLATED


@settings(max_examples=500, deadline=None)
@given(hostile_cases())
def test_no_proposal_gets_out_that_breaks_the_spec(case: tuple[Document, list[Edit]]):
    check_hostile(*case, SPEC)


@pytest.mark.long
@pytest.mark.timeout(3600)
@settings(max_examples=10_000, deadline=None)
@given(hostile_cases())
def test_no_proposal_gets_out_that_breaks_the_spec_long(case: tuple[Document, list[Edit]]):
    check_hostile(*case, SPEC)


@settings(max_examples=60, deadline=None)
@given(documents(resource=False, variables=False, most=3))
def test_random_documents_are_repaired(policy: Document):
    result = repair(policy, SPEC, ATOMS)
    assert result.outcome in (Outcome.REPAIRED, Outcome.UNCHANGED)


def test_edits_survive_json():
    statement = Statement(Effect.DENY, Patterns(("s3:*",), form=Form.ONE), Patterns(("*",), form=Form.ONE))
    for value in (
        {"edit": "addStatement", "value": {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}},
        {"edit": "add", "statement": 0, "element": "Condition", "new": {"Bool": {"aws:SecureTransport": "true"}}},
        {"edit": "replace", "statement": 1, "element": "Principal", "old": {"AWS": "*"}, "new": {"AWS": "a"}},
        {"edit": "setEffect", "statement": 0, "effect": "Deny"},
        {"edit": "removeStatement", "statement": 2},
    ):
        assert edit_value(edit_of(value, "edits[0]")) == value
    assert edit_of({"edit": "addStatement", "value": document_value(Document((statement,)))["Statement"][0]}, "e").added


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("rm -rf", "is not an object"),
        ({"edit": "rewrite"}, "is no edit"),
        ({"edit": "removeStatement", "statement": "0"}, "is not a number"),
        ({"edit": "add", "statement": 0, "element": "Action", "new": "GetObject"}, "is no action"),
        ({"edit": "add", "statement": 0, "element": "Effect", "new": "Allow"}, "is no element"),
        ({"edit": "add", "statement": 0, "element": "Action", "new": ["s3:A", "s3:B"]}, "is not one pattern"),
        ({"edit": "addStatement", "value": {"Action": "*", "Resource": "*"}}, "has no Effect"),
        ({"edit": "setEffect", "statement": 0, "effect": "Permit"}, "neither Allow nor Deny"),
    ],
)
def test_edits_from_outside_are_held_to_the_rules_of_documents(value: object, said: str):
    with pytest.raises(UserError) as error:
        edit_of(value, "edits[0]")
    assert said in str(error.value)
