"""Documents under a size limit: shorter without a change of what they allow, or refused."""

import json

from hypothesis import given, settings

from medley.policy.answers import Engine
from medley.policy.iam.document import Document
from medley.policy.iam.parse import parse_document
from medley.policy.iam.policyset import alone
from medley.policy.iam.render import document_value, size_characters
from medley.policy.prove import Prover
from medley.policy.repair.edits import apply_edits
from medley.policy.repair.repair import Outcome, repair
from medley.policy.repair.shrink import shrink
from medley.policy.spec.read import read_spec
from medley.policy.verify import Verdict, within
from policy_strategies import documents

ATOMS = Prover(engines=(Engine.ATOMS,))
READ = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}


def document(*statements: dict[str, object]) -> Document:
    return parse_document(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))


def shortest(policy: Document) -> list[object]:
    found = shrink(policy, 0, Prover())
    assert apply_edits(policy, found.edits) == found.document
    return document_value(found.document)["Statement"]


def test_covered_entries_go():
    wide = {**READ, "Action": ["s3:GetObject", "s3:Get*", "S3:getobjectacl", "s3:PutObject"]}
    assert shortest(document(wide)) == [{**READ, "Action": ["s3:Get*", "s3:PutObject"]}]
    # Each covers the other: one of them stays.
    assert shortest(document({**READ, "Action": ["s3:Get*", "S3:GET*"]})) == [{**READ, "Action": ["s3:Get*"]}]


def test_statements_that_differ_in_one_element_become_one():
    several = [{**READ, "Resource": f"arn:aws:s3:::b/{name}/*"} for name in ("one", "two", "three")]
    found = shortest(document(*several))
    assert len(found) == 1


def test_what_nothing_needs_goes():
    star = {**READ, "Action": "s3:*", "Resource": "*"}
    idle_deny = {**READ, "Effect": "Deny", "Action": "ec2:*"}
    assert shortest(document(star, READ, idle_deny)) == [star]
    # Needed: the deny leaves a gap that the second statement does not fill.
    needed = {**READ, "Effect": "Deny", "Action": "s3:GetObject"}
    assert shortest(document(star, needed)) == [star, needed]


def test_an_entry_that_another_statement_has_goes():
    first = {**READ, "Action": ["s3:GetObject", "s3:PutObject"]}
    other = {"Effect": "Allow", "Action": ["s3:PutObject", "s3:DeleteObject"], "Resource": "*"}
    assert shortest(document(first, other)) == [{**READ, "Action": ["s3:GetObject"]}, other]


def test_nothing_is_done_where_it_fits():
    policy = document(READ, READ)
    found = shrink(policy, size_characters(policy), ATOMS)
    assert found.edits == ()
    assert found.document == policy


def test_variables_are_left_to_the_proof_of_smt():
    home = {**READ, "Resource": ["arn:aws:s3:::b/${aws:username}/*", "arn:aws:s3:::b/*", "arn:aws:s3:::b/a"]}
    found = shrink(document(home), 0, Prover(timeout_ms=120_000))
    assert document_value(found.document)["Statement"][0]["Resource"] == [
        "arn:aws:s3:::b/${aws:username}/*", "arn:aws:s3:::b/*",
    ]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(documents(variables=False))
def test_a_shorter_document_allows_the_same(policy: Document):
    found = shrink(policy, 0, ATOMS)
    assert size_characters(found.document) <= size_characters(policy)
    assert apply_edits(policy, found.edits) == found.document
    assert type(within(alone(policy), alone(found.document), ATOMS)).__name__ != "Refuted"
    assert type(within(alone(found.document), alone(policy), ATOMS)).__name__ != "Refuted"


SPEC = """
floor: [{id: send, action: sqs:SendMessage, resource: "arn:aws:sqs:us-east-1:111122223333:q"}]
ceiling: [{id: iam, action: "iam:*"}]
"""
LONG = document(*({**READ, "Resource": f"arn:aws:s3:::b/{number}/*"} for number in range(60)))


def test_a_repair_over_the_limit_is_made_shorter():
    limit = size_characters(LONG) - 1000
    result = repair(LONG, read_spec(SPEC, "spec"), Prover(), limit)
    assert result.outcome is Outcome.REPAIRED
    assert size_characters(result.document) <= limit
    assert 0 < result.shortening < len(result.edits)
    assert apply_edits(LONG, result.edits) == result.document
    assert result.proof is not None
    assert result.proof.verdict is Verdict.SATISFIED
    longer = apply_edits(LONG, result.edits[: -result.shortening])
    assert size_characters(longer) > limit
    assert type(within(alone(longer), alone(result.document), Prover())).__name__ == "Proved"
    assert type(within(alone(result.document), alone(longer), Prover())).__name__ == "Proved"


def test_a_document_that_is_only_too_long_is_made_shorter():
    spec = read_spec("ceiling: [{id: iam, action: 'iam:*'}]", "spec")
    result = repair(LONG, spec, Prover(), 2048)
    assert result.outcome is Outcome.REPAIRED
    assert result.shortening == len(result.edits)
    assert size_characters(result.document) <= 2048
    assert repair(LONG, spec, Prover()).outcome is Outcome.UNCHANGED


def test_what_cannot_be_made_short_enough_is_refused():
    result = repair(LONG, read_spec(SPEC, "spec"), Prover(), 300)
    assert result.outcome is Outcome.TOO_LONG
    assert result.document == LONG
    assert "more than 300" in result.reason
    assert "without what it does not need" in result.reason
