"""Edits that may put a wrong example right, with a cost each: cheap where the policy's own words suggest them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from medley.policy.iam.document import Effect
from medley.policy.repair.additions import clone, new_statement
from medley.policy.repair.edits import Edit, EditKind, remove_statement
from medley.policy.repair.narrow import Cut, narrow
from medley.policy.repair.view import Plan, View
from medley.policy.repair.widen import widen

PAIRED = 6
"""Edits of each of two elements that are tried together."""
FLIP = 0.3
"""Cost of turning a statement round; more where to remove it does the same."""
IDLE_FLIP = 0.6


def plans(view: View, number: int) -> Iterator[Plan]:
    """Edits of one statement, alone or together, that may put the example right."""
    effect = view.wanted(number)
    matching = [index for index, mask in enumerate(view.masks) if mask >> number & 1]
    against = [index for index in matching if view.document.statements[index].effect is not effect]
    if effect is Effect.DENY or against:
        for index in against:
            yield from _against(view, index, number)
    if effect is Effect.DENY or not any(view.document.statements[i].effect is Effect.ALLOW for i in matching):
        yield from _reach(view, effect, number)
    for index, statement in enumerate(view.document.statements):
        missing = view.board.missing(statement, number)
        if statement.effect is effect and len(missing) == 2:
            yield from _pairs(view, index, missing, number)
        elif statement.effect is not effect and len(missing) == 1:
            for edits, cost in widen(view, index, missing[0], number):
                yield (_flip(index, effect), *edits), cost + FLIP + 0.05


def _against(view: View, index: int, number: int) -> Iterator[Plan]:
    """A statement of the other effect matches the example: narrow it, remove it, or turn it round."""
    statement, mask = view.document.statements[index], view.masks[index]
    effect = view.wanted(number)
    same = view.board.wanted if effect is Effect.ALLOW else ~view.board.wanted & view.board.full
    # What the statement must go on matching, and the wrong examples like this one that it matches.
    good = mask & ~view.wrong & ~same
    needed = good & (view.without(index) ^ view.allowed)
    yield (remove_statement(index),), 0.8 if needed else 0.2
    yield from narrow(view, Cut(index, statement, good, mask & view.alike(number) | 1 << number, number))
    idle = effect is Effect.DENY and not view.without(index) & mask & same
    flip = IDLE_FLIP if idle else FLIP
    yield (_flip(index, effect),), flip
    bad = mask & ~same & view.board.full
    if bad:
        turned = replace(statement, effect=effect)
        first = (bad & -bad).bit_length() - 1
        for edits, cost in narrow(view, Cut(index, turned, mask & same, bad, first)):
            yield (_flip(index, effect), *edits), cost + flip + 0.05


def _flip(index: int, effect: Effect) -> Edit:
    return Edit(EditKind.SET_EFFECT, index, effect=effect)


def _reach(view: View, effect: Effect, number: int) -> Iterator[Plan]:
    """Statements of the effect made to match the example, or a new one."""
    for index, statement in enumerate(view.document.statements):
        missing = view.board.missing(statement, number)
        if statement.effect is not effect:
            continue
        if len(missing) == 1:
            yield from widen(view, index, missing[0], number)
        elif missing and set(missing) <= {"Action", "Resource", "Principal"}:
            yield from clone(view, statement, missing, number)
    yield from new_statement(view, effect, number)


def _pairs(view: View, index: int, missing: Sequence[str], number: int) -> Iterator[Plan]:
    first, second = (sorted(widen(view, index, name, number), key=lambda item: item[1])[:PAIRED] for name in missing)
    for one, cost in first:
        for other, more in second:
            yield (*one, *other), cost + more + 0.1
