"""Statements to add: a copy of one with other entries, or a new one made from an example and those that are like it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from medley.policy.iam.document import Condition, Effect, Form, Patterns, PrincipalEntry, Principals, Sense, Statement
from medley.policy.iam.request import ascii_lower
from medley.policy.repair.edits import add_statement
from medley.policy.repair.shapes import separating_conditions, spelt
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
    """Statements that match the example, from its own entries to patterns for all that go wrong like it."""
    actions = view.action_patterns(number)
    conditions = _conditions_of(view, number)
    for principal, more in _principals(view, number):
        for pattern, cost in view.resource_patterns(number):
            for action, extra in actions:
                base = Statement(
                    effect, Patterns((action,), form=Form.ONE), Patterns((pattern,), form=Form.ONE), principal
                )
                whole = cost + extra + more
                yield (add_statement(base),), whole + 0.4
                if conditions:
                    yield (add_statement(replace(base, conditions=conditions)),), whole + 0.5


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


def _conditions_of(view: View, number: int) -> tuple[Condition, ...]:
    """Conditions of the document that hold for the example, one for each key that it has; else equality."""
    out: list[Condition] = []
    for key, values in view.request(number).context:
        own = [
            condition
            for statement in view.document.statements
            for condition in statement.conditions
            if ascii_lower(condition.key) == key and view.board.condition(condition) >> number & 1
        ]
        if own:
            out.append(own[0])
        else:
            out.extend(found for found, _ in list(separating_conditions(view.spelling.get(key, key), [values], []))[:1])
    return tuple(out)
