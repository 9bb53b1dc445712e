"""Edits that may put a wrong example right, with a cost each: cheap where the policy's own words suggest them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from medley.policy.catalogue import catalogue
from medley.policy.glob import action_glob, matcher
from medley.policy.iam.document import (
    Condition,
    Document,
    Effect,
    Form,
    Patterns,
    PrincipalEntry,
    Principals,
    Sense,
    Statement,
)
from medley.policy.iam.operators import Base, Domain
from medley.policy.iam.request import Caller, Request, ascii_lower
from medley.policy.iam.values import number_of, range_of, text_of
from medley.policy.repair.board import Board
from medley.policy.repair.edits import Edit, EditKind, ElementName, add_statement, remove_statement
from medley.policy.repair.shapes import (
    action_patterns,
    matches_resource,
    resource_patterns,
    separating_conditions,
    shared_start,
    similar,
    spelt,
    widened_resources,
)

Costed = tuple[Edit, float]
Plan = tuple[tuple[Edit, ...], float]
"""Edits that only together put an example right, all of one statement, with their cost."""
PAIRED = 6
"""Edits of each of two elements that are tried together."""


class Candidates:
    """Proposes edits of one document on one board."""

    def __init__(
        self, document: Document, board: Board, masks: Sequence[int], allowed: int, spelling: Mapping[str, str]
    ) -> None:
        self._document = document
        self._spelling = spelling  # of condition keys, by their lower case
        self._board = board
        self._masks = masks
        self._allowed = allowed
        self._wrong = board.wrong(allowed)
        self._with_principal = any(statement.principal is not None for statement in document.statements)

    def plans(self, number: int) -> Iterator[Plan]:
        """Edits, and pairs of edits, that may put the example right."""
        for edit, cost in self._single(number):
            yield (edit,), cost
        wanted = Effect.ALLOW if self._board.wanted >> number & 1 else Effect.DENY
        for index, statement in enumerate(self._document.statements):
            missing = self._board.missing(statement, number)
            if statement.effect is wanted and len(missing) == 2:
                yield from self._pairs(index, missing, number)
            elif statement.effect is not wanted and len(missing) == 1:
                for edit, cost in self._widen(index, missing[0], number):
                    yield (Edit(EditKind.SET_EFFECT, index, effect=wanted), edit), cost + 0.35

    def _pairs(self, index: int, missing: Sequence[str], number: int) -> Iterator[Plan]:
        first, second = (
            sorted(self._widen(index, name, number), key=lambda item: item[1])[:PAIRED] for name in missing
        )
        for one, cost in first:
            for other, more in second:
                yield (one, other), cost + more + 0.1

    def _single(self, number: int) -> Iterator[Costed]:
        bit = 1 << number
        matching = [index for index, mask in enumerate(self._masks) if mask & bit]
        if self._board.wanted & bit:
            denying = [i for i in matching if self._document.statements[i].effect is Effect.DENY]
            if denying:
                for index in denying:
                    yield from self._narrow(index, number)
                    yield Edit(EditKind.SET_EFFECT, index, effect=Effect.ALLOW), 0.3
            if not any(self._document.statements[i].effect is Effect.ALLOW for i in matching):
                yield from self._reach(Effect.ALLOW, number)
            return
        for index in matching:
            if self._document.statements[index].effect is Effect.ALLOW:
                yield from self._narrow(index, number)
                yield Edit(EditKind.SET_EFFECT, index, effect=Effect.DENY), 0.3
        yield from self._reach(Effect.DENY, number)

    def _request(self, number: int) -> Request:
        return self._board.examples[number].request

    def _numbers(self, mask: int) -> list[int]:
        return [number for number in range(len(self._board.examples)) if mask >> number & 1]

    # Making statements match more.

    def _reach(self, effect: Effect, number: int) -> Iterator[Costed]:
        for index, statement in enumerate(self._document.statements):
            missing = self._board.missing(statement, number)
            if statement.effect is not effect:
                continue
            if len(missing) == 1:
                yield from self._widen(index, missing[0], number)
            elif set(missing) == {"Action", "Resource"} or (
                missing and set(missing) <= {"Action", "Resource", "Principal"}
            ):
                yield from self._clone(statement, missing, number)
        yield from self._new_statement(effect, number)

    def _alike(self, number: int) -> int:
        """Wrong examples that want the same thing."""
        wanted = self._board.wanted
        return self._wrong & (wanted if wanted >> number & 1 else ~wanted)

    def _widen(self, index: int, missing: str, number: int) -> Iterator[Costed]:
        statement, request = self._document.statements[index], self._request(number)
        if missing == "Action":
            yield from self._widen_action(index, statement, request, number)
        elif missing == "Resource":
            yield from self._widen_resource(index, statement, request, number)
        elif missing == "Principal":
            yield from self._widen_principal(index, statement, request.caller)
        else:
            condition = statement.conditions[int(missing)]
            yield Edit(EditKind.REMOVE, index, ElementName.CONDITION, condition), 0.6
            for changed, cost in _widened_conditions(condition, request):
                yield Edit(EditKind.REPLACE, index, ElementName.CONDITION, condition, changed), cost

    def _widen_action(self, index: int, statement: Statement, request: Request, number: int) -> Iterator[Costed]:
        element = ElementName.ACTION
        if statement.action.sense is Sense.NOT_IN:
            yield from self._drop_hits(index, statement.action, element, request.action, number)
            return
        for pattern in statement.action.items:
            if catalogue().get(pattern) is None and "*" not in pattern and similar(pattern, request.action):
                yield Edit(EditKind.REPLACE, index, element, pattern, spelt(request.action)), 0.1
        alike = [self._request(n).action for n in self._numbers(self._alike(number))]
        for pattern, cost in action_patterns(request.action, (*alike, *statement.action.items)):
            covered = [item for item in statement.action.items if matcher((action_glob(pattern),))(ascii_lower(item))]
            if len(covered) == 1 and "*" in pattern and ascii_lower(covered[0]) != ascii_lower(request.action):
                # An entry that is now a special case of the pattern was a narrowed wildcard.
                yield Edit(EditKind.REPLACE, index, element, covered[0], pattern), cost - 0.1
            yield Edit(EditKind.ADD, index, element, new=pattern), cost
        for pattern in statement.action.items:
            wider = _wider_action(pattern, request.action)
            if wider is not None:
                yield Edit(EditKind.REPLACE, index, element, pattern, wider), 0.55

    def _widen_resource(self, index: int, statement: Statement, request: Request, number: int) -> Iterator[Costed]:
        assert statement.resource is not None
        element = ElementName.RESOURCE
        if statement.resource.sense is Sense.NOT_IN:
            yield from self._drop_hits(index, statement.resource, element, request.resource, number)
            return
        for pattern in statement.resource.items:
            for wider, cost in widened_resources(pattern, request.resource):
                yield Edit(EditKind.REPLACE, index, element, pattern, wider), cost
        for pattern, cost in self._resource_patterns(number):
            yield Edit(EditKind.ADD, index, element, new=pattern), cost + 0.1
        if len(statement.resource.items) == 1 and statement.resource.items[0] != "*":
            yield Edit(EditKind.REPLACE, index, element, statement.resource.items[0], "*"), 0.9

    def _resource_patterns(self, number: int) -> Iterator[tuple[str, float]]:
        request = self._request(number)
        alike = {self._request(n).resource for n in self._numbers(self._alike(number))} - {request.resource}
        return resource_patterns(request.resource, self._document, sorted(alike))

    def _widen_principal(self, index: int, statement: Statement, caller: Caller | None) -> Iterator[Costed]:
        principal = statement.principal
        assert principal is not None
        if caller is None or principal.sense is Sense.NOT_IN:
            return
        entry = PrincipalEntry(caller.type, (caller.id,))
        yield Edit(EditKind.ADD, index, ElementName.PRINCIPAL, new=entry), 0.5
        singles = [PrincipalEntry(e.type, (item,)) for e in principal.entries for item in e.items]
        for single in singles:
            if similar(single.items[0], caller.id):
                yield Edit(EditKind.REPLACE, index, ElementName.PRINCIPAL, single, entry), 0.2

    def _clone(self, statement: Statement, missing: Sequence[str], number: int) -> Iterator[Costed]:
        request = self._request(number)
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
            yield add_statement(changed), 1.0
            return
        for pattern, cost in self._resource_patterns(number):
            yield add_statement(replace(changed, resource=Patterns((pattern,), form=Form.ONE))), cost + 0.6

    def _new_statement(self, effect: Effect, number: int) -> Iterator[Costed]:
        request = self._request(number)
        principal = None
        if self._with_principal:
            entries = (
                () if request.caller is None else (PrincipalEntry(request.caller.type, (request.caller.id,), Form.ONE),)
            )
            principal = Principals(entries)
        alike = [self._request(n).action for n in self._numbers(self._alike(number))]
        actions = list(action_patterns(request.action, alike))
        conditions = self._conditions_of(number)
        for pattern, cost in self._resource_patterns(number):
            for action, extra in actions:
                base = Statement(
                    effect, Patterns((action,), form=Form.ONE), Patterns((pattern,), form=Form.ONE), principal
                )
                yield add_statement(base), cost + extra + 0.4
                if conditions:
                    yield add_statement(replace(base, conditions=conditions)), cost + extra + 0.5

    def _conditions_of(self, number: int) -> tuple[Condition, ...]:
        """Conditions of the document that hold for the example, one for each key that it has; else equality."""
        request = self._request(number)
        out: list[Condition] = []
        for key, values in request.context:
            own = [
                condition
                for statement in self._document.statements
                for condition in statement.conditions
                if ascii_lower(condition.key) == key and self._board.condition(condition) >> number & 1
            ]
            if own:
                out.append(own[0])
            else:
                out.extend(
                    found for found, _ in list(separating_conditions(self._spelling.get(key, key), [values], []))[:1]
                )
        return tuple(out)

    # Making statements match less.

    def _narrow(self, index: int, number: int) -> Iterator[Costed]:
        statement, request = self._document.statements[index], self._request(number)
        bit = 1 << number
        # What the statement must go on matching, and the wrong examples like this one that it matches.
        good = self._masks[index] & ~self._wrong
        good &= self._board.wanted if statement.effect is Effect.ALLOW else ~self._board.wanted & self._board.full
        bad = self._masks[index] & self._alike(number) | bit
        yield remove_statement(index), 0.8 if good & self._needs(index) else 0.2
        yield from self._drop_hits(index, statement.action, ElementName.ACTION, request.action, number)
        if statement.resource is not None:
            yield from self._drop_hits(index, statement.resource, ElementName.RESOURCE, request.resource, number)
        if statement.action.sense is Sense.IN:
            yield from self._narrowed_actions(index, statement.action, number, good)
        if statement.resource is not None and statement.resource.sense is Sense.IN:
            yield from self._narrowed_resources(index, statement.resource, number, good)
        if statement.principal is not None and statement.principal.sense is Sense.IN:
            yield from self._narrowed_principals(index, statement.principal, request.caller)
        yield from self._added_conditions(index, statement, good, bad)
        for condition in statement.conditions:
            for changed, cost in _narrowed_conditions(condition, request):
                yield Edit(EditKind.REPLACE, index, ElementName.CONDITION, condition, changed), cost

    def _needs(self, index: int) -> int:
        """Examples that would be decided otherwise without the statement."""
        pairs = [
            (statement.effect, mask)
            for number, (statement, mask) in enumerate(zip(self._document.statements, self._masks, strict=True))
            if number != index
        ]
        return self._board.allowed(pairs) ^ self._allowed

    def _drop_hits(
        self, index: int, patterns: Patterns, element: ElementName, text: str, number: int
    ) -> Iterator[Costed]:
        """Removing the entries that match (IN: to narrow; NOT_IN: to widen), or adding one to a Not element."""
        pattern_mask = self._board.action_pattern if element is ElementName.ACTION else self._board.resource_pattern
        hits = [item for item in patterns.items if pattern_mask(item) >> number & 1]
        if len(hits) == 1 and len(patterns.items) > 1:
            yield Edit(EditKind.REMOVE, index, element, hits[0]), 0.4
        if patterns.sense is Sense.NOT_IN and not hits:
            if element is ElementName.ACTION:
                yield Edit(EditKind.ADD, index, element, new=spelt(text)), 0.4
            else:
                for pattern, cost in self._resource_patterns(number):
                    yield Edit(EditKind.ADD, index, element, new=pattern), cost

    def _narrowed_actions(self, index: int, patterns: Patterns, number: int, good: int) -> Iterator[Costed]:
        for item in patterns.items:
            if ("*" not in item and "?" not in item) or not self._board.action_pattern(item) >> number & 1:
                continue
            kept = sorted(
                {spelt(self._request(n).action) for n in self._numbers(good & self._board.action_pattern(item))}
            )
            seen = set()
            for name in kept:
                for pattern, cost in action_patterns(name, kept):
                    if pattern not in seen and len(pattern) < len(item) + 40:
                        seen.add(pattern)
                        yield Edit(EditKind.REPLACE, index, ElementName.ACTION, item, pattern), cost
            service = item.partition(":")[0]
            if item == "*":
                for name in {action.partition(":")[0] for action in kept}:
                    yield Edit(EditKind.REPLACE, index, ElementName.ACTION, item, f"{name}:*"), 0.4
            elif service and kept:
                # A `Get*` grown to `G*` or `*`: the longest beginning that the good examples share.
                shared = shared_start(kept)
                if len(shared) > len(item.rstrip("*")):
                    word = all(name[len(shared) : len(shared) + 1].isupper() for name in kept if name != shared)
                    cost = 0.5 if word else 0.85
                    yield Edit(EditKind.REPLACE, index, ElementName.ACTION, item, f"{shared}*"), cost

    def _narrowed_resources(self, index: int, patterns: Patterns, number: int, good: int) -> Iterator[Costed]:
        request = self._request(number)
        own = {
            item
            for statement in self._document.statements
            if statement.resource is not None
            for item in statement.resource.items
        }
        for item in patterns.items:
            if not self._board.resource_pattern(item) >> number & 1:
                continue
            kept = sorted({self._request(n).resource for n in self._numbers(good & self._board.resource_pattern(item))})
            if not kept:
                continue
            options: dict[str, float] = {}
            for resource in kept[:4]:
                for pattern, cost in resource_patterns(resource, self._document, [k for k in kept if k != resource]):
                    options[pattern] = min(cost, options.get(pattern, 9.0))
            for pattern in own:
                if all(matches_resource(pattern, resource) for resource in kept):
                    options[pattern] = 0.25
            for pattern, cost in options.items():
                if pattern != item and not matches_resource(pattern, request.resource):
                    yield Edit(EditKind.REPLACE, index, ElementName.RESOURCE, item, pattern), cost

    def _narrowed_principals(self, index: int, principal: Principals, caller: Caller | None) -> Iterator[Costed]:
        singles = [PrincipalEntry(e.type, (item,)) for e in principal.entries for item in e.items]
        for single in singles:
            if caller is not None and len(singles) > 1 and single.items[0] == caller.id:
                yield Edit(EditKind.REMOVE, index, ElementName.PRINCIPAL, single), 0.4

    def _added_conditions(self, index: int, statement: Statement, good: int, bad: int) -> Iterator[Costed]:
        present = {ascii_lower(condition.key) for condition in statement.conditions}
        taken = {(str(condition.operator), ascii_lower(condition.key)) for condition in statement.conditions}
        for other in self._document.statements:
            for condition in other.conditions:
                mask = self._board.condition(condition)
                fresh = (str(condition.operator), ascii_lower(condition.key)) not in taken
                if fresh and good & ~mask == 0 and bad & ~mask:
                    yield Edit(EditKind.ADD, index, ElementName.CONDITION, new=condition), 0.3
        good_contexts = [dict(self._request(n).context) for n in self._numbers(good)]
        bad_contexts = [dict(self._request(n).context) for n in self._numbers(bad)]
        keys = sorted({key for context in (*good_contexts, *bad_contexts) for key in context})
        for key in keys:
            kept = [context.get(key, ()) for context in good_contexts]
            cut = [context.get(key, ()) for context in bad_contexts]
            for condition, cost in separating_conditions(self._spelling.get(key, key), kept, cut):
                if (str(condition.operator), key) not in taken:
                    extra = 0.2 if key in present else 0.0
                    yield Edit(EditKind.ADD, index, ElementName.CONDITION, new=condition), cost + extra


def _wider_action(pattern: str, action: str) -> str | None:
    """A narrowed wildcard made wide again: `s3:GetObject*` for s3:GetBucketAcl is `s3:Get*`."""
    if "*" not in pattern or not pattern.endswith("*"):
        return None
    shared = shared_start([ascii_lower(pattern.rstrip("*")), ascii_lower(action)])
    service = pattern.partition(":")[0]
    return f"{pattern[: len(shared)]}*" if len(shared) > len(service) + 1 else None


def _widened_conditions(condition: Condition, request: Request) -> Iterator[tuple[Condition, float]]:
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


def _narrowed_conditions(condition: Condition, request: Request) -> Iterator[tuple[Condition, float]]:
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
