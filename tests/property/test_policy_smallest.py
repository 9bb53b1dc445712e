"""How small a repair is, against exhaustive search on small documents.

Size is `fewer.size_of`: one for each edit, two for an added statement of an Action and a Resource. The search does not
promise the smallest; this says how often it finds it.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from medley.model.errors import UserError
from medley.policy.answers import Engine
from medley.policy.iam.document import Document, Effect, Form, Patterns, Statement
from medley.policy.iam.evaluate import Evaluator
from medley.policy.iam.policyset import alone
from medley.policy.prove import Prover
from medley.policy.repair.edits import (
    Edit,
    EditKind,
    ElementName,
    add_statement,
    apply_edit,
    apply_edits,
    remove_statement,
)
from medley.policy.repair.fewer import joined, needed, size_of
from medley.policy.repair.repair import Outcome, repair
from medley.policy.repair.tidy import in_order
from medley.policy.spec.read import read_spec
from medley.policy.spec.spec import Side, Spec
from medley.policy.verify import Verdict, verify
from policy_strategies import documents
from thoroughness import scaled

ATOMS = Prover(engines=(Engine.ATOMS,))
ACTIONS = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:*", "s3:Get*")
RESOURCES = ("arn:aws:s3:::b/a", "arn:aws:s3:::c/a", "arn:aws:s3:::b/*", "*")
ASKED = ("arn:aws:s3:::b/a", "arn:aws:s3:::c/a", "arn:aws:s3:::b/z")
CASES = 300


def small_document(rng: random.Random) -> Document:
    return Document(
        tuple(
            Statement(
                rng.choice((Effect.ALLOW, Effect.ALLOW, Effect.DENY)),
                Patterns(tuple(rng.sample(ACTIONS, rng.choice((1, 2))))),
                Patterns(tuple(rng.sample(RESOURCES, rng.choice((1, 1, 2))))),
            )
            for _ in range(rng.choice((1, 2, 2)))
        )
    )


def small_spec(rng: random.Random) -> Spec:
    asked = rng.sample([(action, resource) for action in ACTIONS[:3] for resource in ASKED], rng.choice((2, 3, 4, 5)))
    requests = [
        {"id": str(n), "Effect": rng.choice(("Allow", "Deny")), "Action": action, "Resource": resource}
        for n, (action, resource) in enumerate(asked)
    ]
    return read_spec(json.dumps({"Requests": requests}), "requests")


def single_edits(document: Document) -> Iterator[Edit]:
    """Every edit of one entry over the small vocabulary, and every statement of one action and one resource."""
    for index, statement in enumerate(document.statements):
        yield remove_statement(index)
        other = Effect.DENY if statement.effect is Effect.ALLOW else Effect.ALLOW
        yield Edit(EditKind.SET_EFFECT, index, effect=other)
        assert statement.resource is not None
        for element, items, words in (
            (ElementName.ACTION, statement.action.items, ACTIONS),
            (ElementName.RESOURCE, statement.resource.items, RESOURCES),
        ):
            yield from (Edit(EditKind.ADD, index, element, new=word) for word in words)
            yield from (Edit(EditKind.REMOVE, index, element, item) for item in items)
            for item in items:
                yield from (Edit(EditKind.REPLACE, index, element, item, word) for word in words if word != item)
    for effect in Effect:
        for action in ACTIONS:
            for resource in RESOURCES:
                one = Patterns((action,), form=Form.ONE), Patterns((resource,), form=Form.ONE)
                yield add_statement(Statement(effect, *one))


def meets(document: Document, spec: Spec) -> bool:
    evaluator = Evaluator(document)
    quick = all(evaluator.allows(s) is (rule.side is Side.FLOOR) for rule in spec.rules for s in rule.samples)
    return quick and verify(alone(document), spec, ATOMS).verdict is Verdict.SATISFIED


def smallest(document: Document, spec: Spec, most: int) -> int | None:
    """Size of the smallest edit list over the vocabulary; None: it is larger than `most`."""
    layers: dict[int, set[Document]] = {0: {document}}
    seen = {document}
    for size in range(1, most + 1):
        layers[size] = set()
        for step in (1, 2):
            for start in layers.get(size - step, ()):
                for edit in single_edits(start):
                    if size_of((edit,)) != step:
                        continue
                    try:
                        changed = apply_edit(start, edit)
                    except UserError:
                        continue
                    if changed in seen:
                        continue
                    seen.add(changed)
                    if meets(changed, spec):
                        return size
                    layers[size].add(changed)
    return None


def test_most_small_repairs_are_the_smallest() -> None:
    over: dict[int, Counter[int]] = {1: Counter(), 2: Counter()}
    for seed in range(CASES):
        rng = random.Random(seed)
        document, spec = small_document(rng), small_spec(rng)
        result = repair(document, spec, ATOMS)
        assert result.outcome in (Outcome.REPAIRED, Outcome.UNCHANGED)
        least = smallest(document, spec, 2) if result.outcome is Outcome.REPAIRED else None
        if least is not None:
            over[least][size_of(result.edits) - least] += 1
    # 97 and 119 cases; what is found may be smaller, its patterns are not bound to the vocabulary.
    for least, counts in over.items():
        total = counts.total()
        assert total > 80
        assert max(counts) <= 2
        assert sum(number for more, number in counts.items() if more <= 0) >= (0.95 if least == 1 else 0.85) * total


@settings(max_examples=scaled(60), deadline=None)
@given(st.integers(1000, 10**6))
def test_no_edit_can_be_left_out(seed: int) -> None:
    rng = random.Random(seed)
    document, spec = small_document(rng), small_spec(rng)
    result = repair(document, spec, ATOMS)
    if result.outcome is Outcome.REPAIRED and len(result.edits) > 1:
        assert len(needed(document, result.edits, spec.rules)) == len(result.edits)


@st.composite
def edit_lists(draw: st.DrawFn) -> tuple[Document, tuple[Edit, ...]]:
    document = changed = draw(documents(resource=False, variables=False, most=2))
    edits = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(EditKind))
        index = draw(st.integers(0, max(0, len(changed.statements) - 1)))
        word = st.sampled_from(("s3:*", "s3:GetObject", "s3:PutObject"))
        if kind is EditKind.ADD_STATEMENT:
            edit = add_statement(draw(documents(resource=False, variables=False, most=1)).statements[0])
        elif kind is EditKind.SET_EFFECT:
            edit = Edit(kind, index, effect=draw(st.sampled_from(Effect)))
        elif kind is EditKind.REMOVE_STATEMENT:
            edit = remove_statement(index)
        elif kind is EditKind.ADD:
            edit = Edit(kind, index, ElementName.ACTION, new=draw(word))
        else:
            new = None if kind is EditKind.REMOVE else draw(word)
            edit = Edit(kind, index, ElementName.ACTION, draw(word), new)
        try:
            changed = apply_edit(changed, edit)
        except UserError:
            continue
        edits.append(edit)
    return document, tuple(edits)


@settings(max_examples=scaled(200), deadline=None)
@given(edit_lists())
def test_joined_edits_come_to_the_same(case: tuple[Document, tuple[Edit, ...]]) -> None:
    document, edits = case
    short = joined(document, edits)
    assert in_order(apply_edits(document, short)) == in_order(apply_edits(document, edits))
    assert len(short) <= len(edits)
    assert size_of(short) <= size_of(edits)


def test_two_edits_that_are_one() -> None:
    document = Document((Statement(Effect.ALLOW, Patterns(("s3:GetObject", "s3:PutObject")), Patterns(("*",))),))
    action = ElementName.ACTION
    remove, add = (
        Edit(EditKind.REMOVE, 0, action, "s3:PutObject"),
        Edit(EditKind.ADD, 0, action, new="s3:DeleteObject"),
    )
    wider = Edit(EditKind.REPLACE, 0, action, "s3:DeleteObject", "s3:Delete*")
    one = Edit(EditKind.REPLACE, 0, action, "s3:PutObject", "s3:Delete*")
    assert joined(document, (remove, add, wider)) == (one,)
    assert joined(document, (add, remove, wider)) == (one,)
    statement = Statement(Effect.DENY, Patterns(("s3:DeleteObject",)), Patterns(("*",)))
    grown = Edit(EditKind.REPLACE, 1, action, "s3:DeleteObject", "s3:Delete*")
    assert joined(document, (add_statement(statement), grown)) == (
        add_statement(Statement(Effect.DENY, Patterns(("s3:Delete*",)), Patterns(("*",)))),
    )
    assert joined(document, (add_statement(statement), remove, remove_statement(1))) == (remove,)
