"""Specs, verification and localisation on documents small enough to check by eye."""

import json

import pytest

from medley.model.errors import UserError
from medley.policy.answers import Engine
from medley.policy.atoms.product import count
from medley.policy.clauses import All, Builder
from medley.policy.iam.document import Document
from medley.policy.iam.parse import parse_document
from medley.policy.iam.policyset import PolicySet, alone
from medley.policy.iam.request import Decision
from medley.policy.localise import Case, localise
from medley.policy.prove import Proved, Prover, Refuted, Unproved
from medley.policy.spec.read import read_spec
from medley.policy.verify import Verdict, verify, within


def document(*statements: dict[str, object]) -> Document:
    return parse_document(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))


def allow(action: object, resource: object = "*", **more: object) -> dict[str, object]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: object, resource: object = "*", **more: object) -> dict[str, object]:
    return {"Effect": "Deny", "Action": action, "Resource": resource, **more}


READ = allow("s3:GetObject", "arn:aws:s3:::b/*")
SPEC = """
floor:
- {id: read, action: s3:GetObject, resource: "arn:aws:s3:::b/models/*"}
ceiling:
- {id: other, action: "s3:*", notResource: ["arn:aws:s3:::b", "arn:aws:s3:::b/*"]}
- {id: write, action: ["s3:Put*", "s3:Delete*"]}
- {id: pass-and-run, allOf: [iam:PassRole, ec2:RunInstances]}
"""


def test_satisfied_with_a_proof_by_both_engines():
    report = verify(alone(document(READ)), read_spec(SPEC, "spec"), Prover())
    assert report.verdict is Verdict.SATISFIED
    assert {engines for _, engines in report.proved} == {(Engine.ATOMS, Engine.SMT)}
    assert len(report.proved) == 4


def test_each_violation_has_a_request_of_the_rule():
    policy = document(
        allow(["s3:GetObject", "s3:PutObject"], "arn:aws:s3:::b*"), deny("s3:*", "arn:aws:s3:::b/models/x")
    )
    report = verify(alone(policy), read_spec(SPEC, "spec"), Prover())
    assert report.verdict is Verdict.VIOLATED
    found = {witness.rule.id: witness for witness in report.witnesses}
    assert set(found) == {"read", "other", "write"}
    assert found["read"].request.resource == "arn:aws:s3:::b/models/x"
    assert found["read"].decision is Decision.EXPLICIT_DENY
    assert found["write"].request.action == "s3:PutObject"
    assert found["other"].decision is Decision.ALLOWED
    assert [ref.statement for ref in found["other"].statements] == [0]


def test_a_method_of_several_actions_needs_all_of_them():
    spec = read_spec(SPEC, "spec")
    assert verify(alone(document(READ, allow("iam:PassRole"))), spec, Prover()).verdict is Verdict.SATISFIED
    report = verify(alone(document(READ, allow("iam:PassRole"), allow("ec2:*"))), spec, Prover())
    assert [(witness.rule.id, witness.part) for witness in report.witnesses] == [
        ("pass-and-run", 0),
        ("pass-and-run", 1),
    ]


def test_a_listed_deny_stands_for_every_completion():
    spec = read_spec(
        json.dumps({"Requests": [{"id": 1, "Effect": "DENY", "Action": "s3:GetObject", "Resource": "*"}]}), "s"
    )
    policy = document(allow("s3:GetObject", Condition={"StringEquals": {"aws:username": "bob"}}))
    report = verify(alone(policy), spec, Prover())
    assert report.verdict is Verdict.VIOLATED
    assert dict(report.witnesses[0].request.context) == {"aws:username": ("bob",)}


def test_a_listed_allow_has_no_other_keys():
    item = {"id": "a", "Effect": "Allow", "Action": "x:New", "Resource": "arn:aws:s3:::b"}
    policy = document(allow("*", Condition={"StringEquals": {"aws:username": "bob"}}))
    closed = read_spec(json.dumps({"Requests": [item]}), "s")
    assert verify(alone(policy), closed, Prover()).verdict is Verdict.VIOLATED
    named = read_spec(json.dumps({"Requests": [{**item, "Condition": {"StringLike": {"aws:username": "bob"}}}]}), "s")
    assert verify(alone(policy), named, Prover()).verdict is Verdict.SATISFIED


def test_relational_facts_are_proved_by_smt_alone():
    home = document(allow("s3:GetObject", "arn:aws:s3:::b/${aws:username}/*"))

    def as_bob(name: str):
        rule = f"action: s3:GetObject, resource: 'arn:aws:s3:::b/{name}/*', context: {{aws:username: bob}}"
        return verify(alone(home), read_spec(f"ceiling: [{{id: x, {rule}}}]", "s"), Prover())

    assert as_bob("alice").verdict is Verdict.SATISFIED
    assert as_bob("alice").proved[0][1] == (Engine.SMT,)
    assert as_bob("bob").verdict is Verdict.VIOLATED


def test_what_an_engine_cannot_say_is_unknown_and_never_safe():
    # One key compared as text with a wildcard and as a number: neither engine takes that.
    policy = document(
        allow(
            "s3:ListBucket", Condition={"StringLike": {"s3:max-keys": "1*"}, "NumericGreaterThan": {"s3:max-keys": "5"}}
        )
    )
    report = verify(alone(policy), read_spec("ceiling: [{id: list, action: 's3:List*'}]", "s"), Prover())
    assert report.verdict is Verdict.UNKNOWN
    assert report.doubts[0].rule.id == "list"


def test_a_time_out_is_unknown():
    home = document(allow("s3:*", "arn:aws:s3:::b/${aws:username}/*x*y*z*${aws:PrincipalTag/team}*"))
    spec = read_spec("ceiling: [{id: a, action: s3:GetObject, resource: 'arn:aws:s3:::b/*/secret/*'}]", "s")
    report = verify(alone(home), spec, Prover(timeout_ms=1))
    assert report.verdict is not Verdict.SATISFIED


def test_within():
    narrow, wide = alone(document(READ)), alone(document(allow("s3:Get*", "arn:aws:s3:::*")))
    assert isinstance(within(narrow, wide, Prover()), Proved)
    assert isinstance(within(wide, narrow, Prover()), Refuted)


def test_boundary_and_resource_policy():
    identity = document(allow("s3:*"))
    boundary = document(allow("s3:Get*"))
    spec = read_spec("ceiling: [{id: put, action: 's3:Put*'}]", "s")
    assert verify(PolicySet((identity,), boundary=boundary), spec, Prover()).verdict is Verdict.SATISFIED
    user = "arn:aws:iam::111122223333:user/u"
    open_bucket = document(allow("s3:PutObject", Principal={"AWS": user}))
    report = verify(PolicySet((identity,), open_bucket, boundary), spec, Prover())
    # A user whom the resource policy names is not held by the boundary; a role would be.
    assert report.verdict is Verdict.VIOLATED
    role = document(allow("s3:PutObject", Principal={"AWS": "arn:aws:iam::111122223333:role/r"}))
    assert verify(PolicySet((identity,), role, boundary), spec, Prover()).verdict is Verdict.SATISFIED


def test_the_three_cases_of_localisation():
    policy = document(
        allow("s3:GetObject", "arn:aws:s3:::b/*"),
        deny("s3:GetObject", "arn:aws:s3:::b/private/*"),
        allow("s3:PutObject", "arn:aws:s3:::b/in/*", Condition={"Bool": {"aws:SecureTransport": "true"}}),
    )
    spec = read_spec(
        """
floor:
- {id: denied, action: s3:GetObject, resource: "arn:aws:s3:::b/private/x"}
- {id: missing, action: s3:PutObject, resource: "arn:aws:s3:::b/in/x"}
ceiling:
- {id: public, action: s3:GetObject, resource: "arn:aws:s3:::b/secret"}
""",
        "s",
    )
    report = verify(alone(policy), spec, Prover())
    faults = {witness.rule.id: localise(alone(policy), witness) for witness in report.witnesses}
    assert faults["denied"].case is Case.EXPLICIT_DENY
    assert [blame.statement.statement for blame in faults["denied"].blamed] == [1]
    assert faults["public"].case is Case.ALLOWED
    assert [blame.statement.statement for blame in faults["public"].blamed] == [0]
    assert faults["missing"].case is Case.IMPLICIT_DENY
    assert faults["missing"].blamed == ()
    nearest = next(blame for blame in faults["missing"].near if blame.statement.statement == 2)
    assert [e.name for e in nearest.elements if not e.matches] == ["Condition Bool aws:SecureTransport"]


def test_counts_are_exact_for_finite_patterns():
    builder = Builder()
    question = builder.question(
        All((builder.allowed(document(allow("s3:GetObject", ["arn:aws:s3:::b?", "arn:aws:s3:::b"]))),))
    )
    assert count(question) == 1 + 95


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a spec"),
        ("floor: 3", "floor: is not a list"),
        ("floors: []", "'floors' is no field"),
        ("floor: [{action: s3:GetObject}]", "has no resource"),
        ("ceiling: [{action: s3:GetObject, when: now}]", "$.ceiling[0].when"),
        ("ceiling: [{action: GetObject}]", "is no action"),
        ("ceiling: [{allOf: [s3:GetObject]}]", "two or more"),
        ("floor: [{id: a, id: b}]", "is there twice"),
        ("a: &x [1]\nb: *x", "alias"),
        ('{"Requests": {}}', "$.Requests: is not a list"),
        ('{"Requests": [{"Effect": "Maybe"}]}', "$.Requests[0].Effect"),
        ('{"Requests": [{"Effect": "Allow", "Action": "s3:Get", "Resource": ""}]}', "$.Requests[0].Resource"),
        ('{"Requests": [{"Effect": "Allow", "Action": "s3:Get", "Resource": "*", "Conditon": {}}]}', "Conditon"),
        (
            '{"Requests": [{"Effect": "Deny", "Action": "s3:X", "Resource": "*", '
            '"Condition": {"IpAddress": {"a": "b"}}}]}',
            "Condition.IpAddress.a",
        ),
    ],
)
def test_bad_specs_are_refused_with_their_place(text: str, said: str):
    with pytest.raises(UserError) as error:
        read_spec(text, "spec")
    assert said in str(error.value)


def test_an_engine_that_is_contradicted_by_the_evaluator_is_not_believed():
    builder = Builder()
    question = builder.question(builder.allowed(document(READ)))
    outcome = Prover().prove(question, lambda request: False)
    assert isinstance(outcome, Unproved)
    assert outcome.disagreement
