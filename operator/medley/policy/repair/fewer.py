"""Fewer edits to the same end: edits that can be left out, and edits that are one.

The size of an edit list is what `repair` keeps small: one for each edit, and for a statement that is added one for each
of its elements and conditions (Action, Resource, Principal).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from medley.model.errors import UserError
from medley.policy.answers import Engine
from medley.policy.iam.document import Document
from medley.policy.iam.evaluate import Evaluator
from medley.policy.iam.policyset import alone
from medley.policy.prove import Prover
from medley.policy.repair.edits import Edit, EditKind, add_statement, apply_edits, apply_to_statement
from medley.policy.repair.tidy import in_order
from medley.policy.spec.spec import Rule, Side
from medley.policy.verify import Verdict, Verification

MOST_EDITS = 60
"""Longer lists stay as they are."""


def size_of(edits: Sequence[Edit]) -> int:
    """Entries that the edits change: one each, and for an added statement one for each element and condition."""
    return sum(_entries(edit) for edit in edits)


def _entries(edit: Edit) -> int:
    if edit.added is None:
        return 1
    elements = (edit.added.action, edit.added.resource, edit.added.principal)
    return sum(element is not None for element in elements) + len(edit.added.conditions)


def needed(document: Document, edits: Sequence[Edit], rules: Sequence[Rule]) -> tuple[Edit, ...]:
    """The edits without those that the rules do not need, one by one from the last; the rules must hold after them."""
    kept = list(edits)
    for place in range(len(kept) - 1, -1, -1) if 1 < len(kept) <= MOST_EDITS else ():
        without = [*kept[:place], *kept[place + 1 :]]
        try:
            changed = apply_edits(document, without)
        except UserError:
            continue
        if _hold(changed, rules):
            kept = without
    return tuple(kept)


def _hold(document: Document, rules: Sequence[Rule]) -> bool:
    evaluator = Evaluator(document)
    for rule in rules:
        if any(evaluator.allows(sample) is not (rule.side is Side.FLOOR) for sample in rule.samples):
            return False
    check = Verification(alone(document), Prover(engines=(Engine.ATOMS,)))
    return check.run(rules).verdict is Verdict.SATISFIED


def joined(document: Document, edits: Sequence[Edit]) -> tuple[Edit, ...]:
    """Edits after which the document is the same but for the order of entries, where two of the given are one."""
    kept = tuple(edits)
    if len(kept) > MOST_EDITS:
        return kept
    goal = in_order(apply_edits(document, kept))
    shorter: tuple[Edit, ...] | None = kept
    while shorter is not None:
        kept = shorter
        shorter = next((found for found in _shorter(document, kept) if _reaches(document, found, goal)), None)
    return kept


def _reaches(document: Document, edits: Sequence[Edit], goal: Document) -> bool:
    try:
        return in_order(apply_edits(document, edits)) == goal
    except UserError:
        return False


def _shorter(document: Document, edits: tuple[Edit, ...]) -> Iterator[tuple[Edit, ...]]:
    """Lists in which a later edit is taken into an earlier one; whether they come to the same is not checked."""
    count = len(document.statements)
    for first, one in enumerate(edits):
        count += (one.kind is EditKind.ADD_STATEMENT) - (one.kind is EditKind.REMOVE_STATEMENT)
        for second in range(first + 1, len(edits)):
            for both in _one(one, edits[second], count - 1):
                yield (*edits[:first], *both, *edits[first + 1 : second], *edits[second + 1 :])


def _one(one: Edit, other: Edit, last: int) -> Iterator[tuple[Edit, ...]]:
    """One edit, or none, for two. `last`: where a statement that the first one adds stands."""
    if one.added is not None and other.statement == last:
        if other.kind is EditKind.REMOVE_STATEMENT:
            yield ()
        elif other.added is None:
            try:
                yield (add_statement(apply_to_statement(one.added, other)),)
            except UserError:
                return
        return
    if one.statement != other.statement or one.element is not other.element or one.element is None:
        if one.kind is other.kind is EditKind.SET_EFFECT and one.statement == other.statement:
            yield from ((), (other,))
        return
    if one.kind is EditKind.REMOVE and other.kind is EditKind.ADD:
        yield (replace(one, kind=EditKind.REPLACE, new=other.new),)
    elif one.kind is EditKind.ADD and other.kind is EditKind.REMOVE and one.new != other.old:
        yield (replace(other, kind=EditKind.REPLACE, new=one.new),)
    elif one.new is not None and one.new == other.old:
        if one.old is not None:
            yield (replace(one, kind=EditKind.REMOVE if other.new is None else EditKind.REPLACE, new=other.new),)
        else:
            yield () if other.new is None else (replace(one, new=other.new),)
