"""Statements to add: a copy of one with other entries, or a new one made from an example and those that are like it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from medley.policy.iam.document import Condition, Effect, Form, Patterns, PrincipalEntry, Principals, Sense, Statement
from medley.policy.repair.action_shapes import spelt
from medley.policy.repair.edits import add_statement
from medley.policy.repair.shapes import separating_conditions
from medley.policy.repair.view import Plan, View
from medley.policy.repair.widen import MANY_CALLERS


def clone(view: View, statement: Statement, missing: Sequence[str], number: int) -> Iterator[Plan]:
    """Copies of a statement with the example's entries in the elements that do not match it."""
    request = view.request(number)
    changed = statement
    if "Action" in missing:
        if statement.action.sense is Sense.NOT_IN:
            return
        changed = replace(changed, action=Patterns((spelt(request.action),), form=Form.ONE))
    if "Principal" in missing:
        if request.caller is None:
            return
        entry = PrincipalEntry(request.caller.type, (request.caller.id,), Form.ONE)
        changed = replace(changed, principal=Principals((entry,)))
    changed = replace(changed, sid=None)
    if "Resource" not in missing:
        yield (add_statement(changed),), 1.0
        return
    for pattern, cost in view.resource_patterns(number):
        yield (add_statement(replace(changed, resource=Patterns((pattern,), form=Form.ONE))),), cost + 0.6


def new_statement(view: View, effect: Effect, number: int) -> Iterator[Plan]:
    """Statements that match the example, from its own entries to patterns for all that go wrong like it.

    Each comes without conditions, and with those that hold for all the wrong examples that it would put right.
    """
    actions = view.action_patterns(number)
    alike = view.alike(number)
    same = view.board.wanted if effect is Effect.ALLOW else ~view.board.wanted & view.board.full
    known: dict[tuple[int, int], tuple[Condition, ...]] = {}
    for principal, more in _principals(view, number):
        for pattern, cost in view.resource_patterns(number):
            for action, extra in actions:
                elements = Patterns((action,), form=Form.ONE), Patterns((pattern,), form=Form.ONE), principal
                base = Statement(effect, *elements)
                whole = cost + extra + more
                yield (add_statement(base),), whole + 0.4
                mask = view.board.statement(base)
                parts = mask & alike | 1 << number, mask & ~same
                if parts not in known:
                    known[parts] = _conditions(view, *parts)
                if known[parts]:
                    yield (add_statement(Statement(effect, *elements, known[parts])),), whole + 0.5


def _principals(view: View, number: int) -> Iterator[tuple[Principals | None, float]]:
    """The example's caller; the document's own elements that name it; everyone, where many are wanted."""
    if not view.with_principal:
        yield None, 0.0
        return
    caller = view.request(number).caller
    if caller is None:
        yield Principals(()), 0.0
        return
    yield Principals((PrincipalEntry(caller.type, (caller.id,), Form.ONE),)), 0.0
    if len(view.alike_callers(number)) < MANY_CALLERS:
        return
    own = [statement.principal for statement in view.document.statements if statement.principal is not None]
    for principal in dict.fromkeys(found for found in own if found.sense is Sense.IN):
        if view.board.principal(principal) >> number & 1:
            yield principal, 0.0
    yield Principals(()), 0.3


def _conditions(view: View, good: int, bad: int) -> tuple[Condition, ...]:
    """For each key a condition that holds for all good examples: the document's own, or its contrary; else values."""
    contexts = [view.board.contexts[n] for n in view.numbers(good)]
    away = [view.board.contexts[n] for n in view.numbers(bad)]
    keys = sorted(set.intersection(*(set(context) for context in contexts)))
    out: list[Condition] = []
    for key in keys:
        own = [found for found in view.conditions.get(key, ()) if not good & ~view.board.condition(found)]
        kept, cut = ([context.get(key, ()) for context in found] for found in (contexts, away))
        others = (found for found, _ in separating_conditions(view.spelling.get(key, key), kept, cut))
        chosen = next(iter(own), None) or next(others, None)
        if chosen is not None:
            out.append(chosen)
    return tuple(out)
