"""Policies that AWS manages (tests/data/policy/aws_managed.jsonl): kept as written, and the engines agree on them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medley.policy.answers import Found, Unknown
from medley.policy.atoms.product import find as find_by_atoms
from medley.policy.clauses import All, Builder, Not, Question
from medley.policy.iam.document import Document
from medley.policy.iam.evaluate import Evaluator
from medley.policy.iam.parse import document_of
from medley.policy.iam.render import document_value
from medley.policy.smt.engine import find as find_by_smt

FILE = Path(__file__).parents[1] / "data" / "policy" / "aws_managed.jsonl"
POLICIES: list[dict[str, Any]] = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]


def beyond(p: Document, q: Document) -> Question:
    """What p allows and q does not."""
    builder = Builder()
    return builder.question(All((builder.allowed(p), Not(builder.allowed(q)))))


def test_each_is_printed_as_it_was_read() -> None:
    for policy in POLICIES:
        assert document_value(document_of(policy["document"])) == policy["document"], policy["name"]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy["name"])
def test_the_engines_say_the_same_of_what_a_statement_adds(policy: dict[str, Any]) -> None:
    whole = document_of(policy["document"])
    less = replace(whole, statements=whole.statements[1:])
    for p, q in ((whole, less), (less, whole)):
        atoms, smt = find_by_atoms(beyond(p, q)), find_by_smt(beyond(p, q))
        # Engine B leaves variables that tie two parts of a request together to Z3, and Z3 runs out of time on a few.
        assert not (isinstance(atoms, Unknown) and isinstance(smt, Unknown)), (atoms, smt)
        if isinstance(atoms, Unknown):
            assert "relate two parts" in atoms.reason
        elif isinstance(smt, Unknown):
            assert "no answer within" in smt.reason
        else:
            assert type(atoms) is type(smt)
        for answer in (atoms, smt):
            if isinstance(answer, Found):
                assert Evaluator(p).allows(answer.witness)
                assert not Evaluator(q).allows(answer.witness)
