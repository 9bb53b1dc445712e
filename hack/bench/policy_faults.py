"""Seeded faults: small mistakes of the kind that people make in policies, one of ten kinds at a time.

The kinds are those of the study that the repair was built on, so they resemble the edits that the repair knows; the
mutants of `policy_mutants`, by rules that are not ours, are the harder test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from medley.policy.catalogue import catalogue
from medley.policy.iam.document import Document, Effect, Form, Patterns, Sense, Statement

Fault = Callable[[Document, int, Random], Document | None]
"""A document with a fault in one of its statements; None: this kind does not fit the statement."""


def faulty(document: Document, count: int, rng: Random) -> tuple[Document, tuple[str, ...]]:
    """The document with so many faults, and their kinds; fewer where none fits any more."""
    kinds: list[str] = []
    changed = document
    for _ in range(20 * count):
        if len(kinds) == count or not changed.statements:
            break
        name = rng.choice(tuple(FAULTS))
        made = FAULTS[name](changed, rng.randrange(len(changed.statements)), rng)
        if made is not None and made not in (changed, document):
            changed = made
            kinds.append(name)
    return changed, tuple(kinds)


def _put(document: Document, index: int, statement: Statement) -> Document:
    statements = list(document.statements)
    statements[index] = statement
    return replace(document, statements=tuple(statements))


def _with_item(patterns: Patterns, old: str, new: str) -> Patterns:
    return replace(patterns, items=tuple(dict.fromkeys(new if item == old else item for item in patterns.items)))


def _slip(text: str, start: int, rng: Random) -> str | None:
    """One letter dropped, doubled or swapped with the next, behind `start`."""
    places = [n for n in range(start, len(text) - 1) if text[n].isalnum() and text[n + 1].isalnum()]
    if not places:
        return None
    place = rng.choice(places)
    kind = rng.randrange(3)
    if kind == 0:
        return text[:place] + text[place + 1 :]
    if kind == 1:
        return text[: place + 1] + text[place:]
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def _typo_action(document: Document, index: int, rng: Random) -> Document | None:
    statement = document.statements[index]
    item = rng.choice(statement.action.items)
    slipped = _slip(item, item.find(":") + 1, rng) if ":" in item else None
    if slipped is None or catalogue().get(slipped) is not None:
        return None
    return _put(document, index, replace(statement, action=_with_item(statement.action, item, slipped)))


def _typo_resource(document: Document, index: int, rng: Random) -> Document | None:
    statement = document.statements[index]
    if statement.resource is None:
        return None
    item = rng.choice(statement.resource.items)
    tail = item.rfind(":") + 1
    slipped = _slip(item, tail, rng) if ":" in item and "${" not in item else None
    if slipped is None:
        return None
    return _put(document, index, replace(statement, resource=_with_item(statement.resource, item, slipped)))


def _drop_action(document: Document, index: int, rng: Random) -> Document | None:
    statement = document.statements[index]
    if len(statement.action.items) < 2:
        return None
    gone = rng.choice(statement.action.items)
    kept = tuple(item for item in statement.action.items if item != gone)
    return _put(document, index, replace(statement, action=replace(statement.action, items=kept)))


def _add_deny(document: Document, index: int, rng: Random) -> Document | None:
    statement = document.statements[index]
    if statement.effect is Effect.DENY or statement.action.sense is Sense.NOT_IN:
        return None
    item = rng.choice(statement.action.items)
    resource = statement.resource
    if resource is not None and resource.sense is Sense.IN:
        resource = Patterns((rng.choice(resource.items),), form=Form.ONE)
    deny = replace(
        statement,
        effect=Effect.DENY,
        action=Patterns((item,), form=Form.ONE),
        resource=resource,
        conditions=(),
        sid=None,
    )
    return replace(document, statements=(*document.statements, deny), form=Form.LIST)


def _widen_action(document: Document, index: int, rng: Random) -> Document | None:
    statement = document.statements[index]
    item = rng.choice(statement.action.items)
    service, colon, name = item.partition(":")
    if not colon or name == "*":
        return None
    verb = next((name[: n + 1] for n in range(len(name) - 1) if n and name[n + 1].isupper()), "")
    wider = rng.choice([f"{service}:*", f"{service}:{verb}*"])
    return _put(document, index, replace(statement, action=_with_item(statement.action, item, wider)))


def _widen_resource(document: Document, index: int, rng: Random) -> Document | None:
    statement = document.statements[index]
    if statement.resource is None:
        return None
    item = rng.choice(statement.resource.items)
    if item == "*":
        return None
    cut = max(item.rfind("/"), item.rfind(":")) + 1
    wider = rng.choice([f"{item[:cut]}*" if cut else "*", "*"])
    return _put(document, index, replace(statement, resource=_with_item(statement.resource, item, wider)))


def _narrow_wildcard(document: Document, index: int, rng: Random) -> Document | None:
    """`Get*` becomes `GetO*`, a resource's last `*` gets a text before it."""
    statement = document.statements[index]
    items = [item for item in statement.action.items if item.endswith("*") and ":" in item]
    if items and rng.random() < 0.5:
        item = rng.choice(items)
        found = sorted(action.name for action in catalogue().expand(item))
        if not found:
            return None
        longer = rng.choice(found)[: len(item) + rng.randrange(3)] + "*"
        return _put(document, index, replace(statement, action=_with_item(statement.action, item, longer)))
    if statement.resource is None:
        return None
    items = [item for item in statement.resource.items if item.endswith("*") and item != "*"]
    if not items:
        return None
    item = rng.choice(items)
    changed = _with_item(statement.resource, item, f"{item[:-1]}item{rng.randrange(10)}*")
    return _put(document, index, replace(statement, resource=changed))


def _drop_condition(document: Document, index: int, rng: Random) -> Document | None:
    statement = document.statements[index]
    if not statement.conditions:
        return None
    gone = rng.randrange(len(statement.conditions))
    kept = statement.conditions[:gone] + statement.conditions[gone + 1 :]
    return _put(document, index, replace(statement, conditions=kept))


def _flip_effect(document: Document, index: int, rng: Random) -> Document | None:
    statement = document.statements[index]
    effect = Effect.DENY if statement.effect is Effect.ALLOW else Effect.ALLOW
    return _put(document, index, replace(statement, effect=effect))


def _drop_statement(document: Document, index: int, rng: Random) -> Document | None:
    if len(document.statements) < 2:
        return None
    return replace(document, statements=document.statements[:index] + document.statements[index + 1 :])


FAULTS: dict[str, Fault] = {
    "typo-action": _typo_action,
    "typo-resource": _typo_resource,
    "drop-action": _drop_action,
    "add-deny": _add_deny,
    "widen-action": _widen_action,
    "widen-resource": _widen_resource,
    "narrow-wildcard": _narrow_wildcard,
    "drop-condition": _drop_condition,
    "flip-effect": _flip_effect,
    "drop-statement": _drop_statement,
}
