"""Edits after which a statement matches more: one element made wider."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from medley.policy.catalogue import catalogue
from medley.policy.glob import action_glob, matcher
from medley.policy.iam.document import Condition, Form, PrincipalEntry, PrincipalType, Sense, Statement
from medley.policy.iam.operators import Base, Domain
from medley.policy.iam.request import Request, ascii_lower
from medley.policy.iam.values import number_of, range_of, text_of
from medley.policy.repair.action_shapes import spelt
from medley.policy.repair.edits import Edit, EditKind, ElementName
from medley.policy.repair.narrow import drop_hits
from medley.policy.repair.shapes import shared_start, similar, widened_resources
from medley.policy.repair.view import Plan, View

EVERYONE = PrincipalEntry(PrincipalType.AWS, ("*",))
MANY_CALLERS = 3
"""Different callers that are wanted together before everyone is proposed."""


def widen(view: View, index: int, missing: str, number: int) -> Iterator[Plan]:
    """Edits after which the element named by `missing` (see `Board.missing`) matches the example."""
    statement, request = view.document.statements[index], view.request(number)
    if missing == "Action":
        yield from _action(view, index, statement, request, number)
    elif missing == "Resource":
        yield from _resource(view, index, statement, request, number)
    elif missing == "Principal":
        yield from _principal(view, index, statement, number)
    else:
        condition = statement.conditions[int(missing)]
        yield (Edit(EditKind.REMOVE, index, ElementName.CONDITION, condition),), 0.6
        for changed, cost in _conditions(condition, request):
            yield (Edit(EditKind.REPLACE, index, ElementName.CONDITION, condition, changed),), cost


def _action(view: View, index: int, statement: Statement, request: Request, number: int) -> Iterator[Plan]:
    element = ElementName.ACTION
    items = statement.action.items
    if statement.action.sense is Sense.NOT_IN:
        yield from drop_hits(view, index, statement.action, element, request.action, number)
        return
    for pattern in items:
        if catalogue().get(pattern) is None and "*" not in pattern and similar(pattern, request.action):
            yield (Edit(EditKind.REPLACE, index, element, pattern, spelt(request.action)),), 0.1
    harmful = [item for item in items if view.harmful(index, view.board.action_pattern(item))]
    for pattern, cost in view.action_patterns(number, items):
        match = matcher((action_glob(pattern),))
        covered = [item for item in items if match(ascii_lower(item))]
        if len(covered) == 1 and "*" in pattern and ascii_lower(covered[0]) != ascii_lower(request.action):
            # An entry that is now a special case of the pattern was a narrowed wildcard.
            yield (Edit(EditKind.REPLACE, index, element, covered[0], pattern),), cost - 0.1
        yield (Edit(EditKind.ADD, index, element, new=pattern),), cost
        for item in harmful:
            yield (Edit(EditKind.REPLACE, index, element, item, pattern),), cost + 0.1
    for pattern in items:
        wider = _wider_action(pattern, request.action)
        if wider is not None:
            yield (Edit(EditKind.REPLACE, index, element, pattern, wider),), 0.55


def _wider_action(pattern: str, action: str) -> str | None:
    """A narrowed wildcard made wide again: `s3:GetObject*` for s3:GetBucketAcl is `s3:Get*`."""
    if "*" not in pattern or not pattern.endswith("*"):
        return None
    shared = shared_start([ascii_lower(pattern.rstrip("*")), ascii_lower(action)])
    service = pattern.partition(":")[0]
    return f"{pattern[: len(shared)]}*" if len(shared) > len(service) + 1 else None


def _resource(view: View, index: int, statement: Statement, request: Request, number: int) -> Iterator[Plan]:
    assert statement.resource is not None
    element = ElementName.RESOURCE
    items = statement.resource.items
    if statement.resource.sense is Sense.NOT_IN:
        yield from drop_hits(view, index, statement.resource, element, request.resource, number)
        return
    for pattern in items:
        for wider, cost in widened_resources(pattern, request.resource):
            yield (Edit(EditKind.REPLACE, index, element, pattern, wider),), cost
    harmful = [item for item in items if view.harmful(index, view.board.resource_pattern(item))]
    for pattern, cost in view.resource_patterns(number):
        yield (Edit(EditKind.ADD, index, element, new=pattern),), cost + 0.1
        for item in harmful:
            yield (Edit(EditKind.REPLACE, index, element, item, pattern),), cost + 0.2
    if len(items) == 1 and items[0] != "*":
        yield (Edit(EditKind.REPLACE, index, element, items[0], "*"),), 0.9


def _principal(view: View, index: int, statement: Statement, number: int) -> Iterator[Plan]:
    principal, caller = statement.principal, view.request(number).caller
    assert principal is not None
    if caller is None or principal.sense is Sense.NOT_IN:
        return
    element = ElementName.PRINCIPAL
    entry = PrincipalEntry(caller.type, (caller.id,))
    yield (Edit(EditKind.ADD, index, element, new=entry),), 0.5
    singles = [PrincipalEntry(e.type, (item,)) for e in principal.entries for item in e.items]
    for single in singles:
        if similar(single.items[0], caller.id):
            yield (Edit(EditKind.REPLACE, index, element, single, entry),), 0.2
    if len(singles) == 1 and len(view.alike_callers(number)) >= MANY_CALLERS:
        yield (Edit(EditKind.REPLACE, index, element, singles[0], EVERYONE),), 0.9


def _conditions(condition: Condition, request: Request) -> Iterator[tuple[Condition, float]]:
    values = dict(request.context).get(ascii_lower(condition.key), ())
    operator = condition.operator
    if not values:
        if not operator.if_exists and operator.base is not Base.NULL:
            yield replace(condition, operator=replace(operator, if_exists=True)), 0.9
        return
    value = values[0]
    if operator.base is Base.NULL:
        return
    if operator.negated:
        kept = tuple(v for v in condition.values if text_of(v) != value)
        if kept and len(kept) < len(condition.values):
            yield replace(condition, values=kept), 0.45
        return
    if operator.domain is Domain.NUMERIC and number_of(value) is not None:
        yield replace(condition, values=(value,), form=Form.ONE), 0.45
    if operator.domain is Domain.STRING or (operator.domain is Domain.IP and range_of(value) is not None):
        yield replace(condition, values=(*condition.values, value), form=Form.LIST), 0.45
        if len(condition.values) == 1:
            cost = 0.2 if similar(text_of(condition.values[0]), value) else 0.5
            yield replace(condition, values=(value,)), cost
