"""Edits after which a statement matches less: an entry taken out or made narrower, a condition added."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from medley.policy.iam.document import Condition, Form, Patterns, PrincipalEntry, Principals, Sense, Statement
from medley.policy.iam.operators import Base, Domain
from medley.policy.iam.request import Caller, Request, ascii_lower
from medley.policy.iam.values import text_of
from medley.policy.repair.action_shapes import ActionGroup, spelt, verb_patterns
from medley.policy.repair.edits import Edit, EditKind, ElementName
from medley.policy.repair.shapes import matches_resource, separating_conditions, shared_start
from medley.policy.repair.view import Plan, View

MOST_LISTED = 6
"""Actions that may take the place of one wildcard."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What is to be cut off a statement.

    Attributes:
        index: of the statement in the document.
        statement: as it stands, or as an edit before makes it.
        good: examples that it must go on matching.
        bad: examples that it must not match.
        number: the one of them that is looked at.
    """

    index: int
    statement: Statement
    good: int
    bad: int
    number: int


def narrow(view: View, cut: Cut) -> Iterator[Plan]:
    """Edits after which the statement matches less."""
    statement, request = cut.statement, view.request(cut.number)
    yield from drop_hits(view, cut.index, statement.action, ElementName.ACTION, request.action, cut.number)
    if statement.resource is not None:
        yield from drop_hits(view, cut.index, statement.resource, ElementName.RESOURCE, request.resource, cut.number)
    if statement.action.sense is Sense.IN:
        yield from _actions(view, cut, statement.action)
    if statement.resource is not None and statement.resource.sense is Sense.IN:
        yield from _resources(view, cut, statement.resource)
    if statement.principal is not None and statement.principal.sense is Sense.IN:
        yield from _principals(cut.index, statement.principal, request.caller)
    yield from _added_conditions(view, cut)
    for condition in statement.conditions:
        for changed, cost in _conditions(condition, request):
            yield (Edit(EditKind.REPLACE, cut.index, ElementName.CONDITION, condition, changed),), cost


def drop_hits(
    view: View, index: int, patterns: Patterns, element: ElementName, text: str, number: int
) -> Iterator[Plan]:
    """Removing the entry that matches (IN: to narrow; NOT_IN: to widen), or adding one to a Not element."""
    pattern_mask = view.board.action_pattern if element is ElementName.ACTION else view.board.resource_pattern
    hits = [item for item in patterns.items if pattern_mask(item) >> number & 1]
    if len(hits) == 1 and len(patterns.items) > 1:
        yield (Edit(EditKind.REMOVE, index, element, hits[0]),), 0.4
    if patterns.sense is Sense.NOT_IN and not hits:
        if element is ElementName.ACTION:
            yield (Edit(EditKind.ADD, index, element, new=spelt(text)),), 0.4
        else:
            for pattern, cost in view.resource_patterns(number):
                yield (Edit(EditKind.ADD, index, element, new=pattern),), cost


def _actions(view: View, cut: Cut, patterns: Patterns) -> Iterator[Plan]:
    index, element = cut.index, ElementName.ACTION
    for item in patterns.items:
        mask = view.board.action_pattern(item)
        if ("*" not in item and "?" not in item) or not mask >> cut.number & 1:
            continue
        others = 0
        for other in patterns.items:
            others |= view.board.action_pattern(other) if other != item else 0
        kept = sorted({spelt(view.request(n).action) for n in view.numbers(cut.good & mask)})
        bad = [view.request(n).action for n in view.numbers(cut.bad)]
        alone = verb_patterns({view.request(n).action for n in view.numbers(cut.good & mask & ~others)}, bad)
        group = ActionGroup(kept)
        for pattern, cost in dict(found for name in kept for found in group.around(name)).items():
            if len(pattern) < len(item) + 40:
                yield (Edit(EditKind.REPLACE, index, element, item, pattern),), cost
        if 1 < len(alone) <= MOST_LISTED:
            first = Edit(EditKind.REPLACE, index, element, item, alone[0])
            rest = (Edit(EditKind.ADD, index, element, new=name) for name in alone[1:])
            yield (first, *rest), 0.5 + 0.25 * (len(alone) - 1)
        service = item.partition(":")[0]
        if item == "*":
            for name in {action.partition(":")[0] for action in kept}:
                yield (Edit(EditKind.REPLACE, index, element, item, f"{name}:*"),), 0.4
        elif service and kept:
            # A `Get*` grown to `G*` or `*`: the longest beginning that the good examples share.
            shared = shared_start(kept)
            if len(shared) > len(item.rstrip("*")):
                word = all(name[len(shared) : len(shared) + 1].isupper() for name in kept if name != shared)
                yield (Edit(EditKind.REPLACE, index, element, item, f"{shared}*"),), 0.5 if word else 0.85


def _resources(view: View, cut: Cut, patterns: Patterns) -> Iterator[Plan]:
    resource = view.request(cut.number).resource
    for item in patterns.items:
        mask = view.board.resource_pattern(item)
        if not mask >> cut.number & 1:
            continue
        for pattern, cost in view.shared_resources(cut.good & mask):
            if pattern != item and not matches_resource(pattern, resource):
                yield (Edit(EditKind.REPLACE, cut.index, ElementName.RESOURCE, item, pattern),), cost


def _principals(index: int, principal: Principals, caller: Caller | None) -> Iterator[Plan]:
    singles = [PrincipalEntry(e.type, (item,)) for e in principal.entries for item in e.items]
    for single in singles:
        if caller is not None and len(singles) > 1 and single.items[0] == caller.id:
            yield (Edit(EditKind.REMOVE, index, ElementName.PRINCIPAL, single),), 0.4


def _added_conditions(view: View, cut: Cut) -> Iterator[Plan]:
    present = {ascii_lower(condition.key) for condition in cut.statement.conditions}
    taken = {(str(condition.operator), ascii_lower(condition.key)) for condition in cut.statement.conditions}

    def added(condition: Condition) -> tuple[Edit, ...]:
        return (Edit(EditKind.ADD, cut.index, ElementName.CONDITION, new=condition),)

    for condition in (found for listed in view.conditions.values() for found in listed):
        mask = view.board.condition(condition)
        fresh = (str(condition.operator), ascii_lower(condition.key)) not in taken
        if fresh and cut.good & ~mask == 0 and cut.bad & ~mask:
            yield added(condition), 0.3
    good_contexts = [view.board.contexts[n] for n in view.numbers(cut.good)]
    bad_contexts = [view.board.contexts[n] for n in view.numbers(cut.bad)]
    keys = sorted({key for context in (*good_contexts, *bad_contexts) for key in context})
    for key in keys:
        kept = [context.get(key, ()) for context in good_contexts]
        away = [context.get(key, ()) for context in bad_contexts]
        for condition, cost in separating_conditions(view.spelling.get(key, key), kept, away):
            if (str(condition.operator), key) not in taken:
                yield added(condition), cost + (0.2 if key in present else 0.0)


def _conditions(condition: Condition, request: Request) -> Iterator[tuple[Condition, float]]:
    values = dict(request.context).get(ascii_lower(condition.key), ())
    operator = condition.operator
    if operator.if_exists and not values:
        yield replace(condition, operator=replace(operator, if_exists=False)), 0.4
    if not values or operator.base is Base.NULL:
        return
    value = values[0]
    if operator.negated:
        if operator.domain is Domain.STRING or operator.domain is Domain.IP:
            yield replace(condition, values=(*condition.values, value), form=Form.LIST), 0.4
    elif len(condition.values) > 1:
        kept = tuple(v for v in condition.values if text_of(v) != value)
        if len(kept) < len(condition.values):
            yield replace(condition, values=kept), 0.6
