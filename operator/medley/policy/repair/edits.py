"""Typed edits of a document: what a repair is made of, whoever proposes it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from medley.model.errors import UserError
from medley.policy.iam.document import (
    Condition,
    Document,
    Effect,
    Form,
    Patterns,
    PrincipalEntry,
    Principals,
    PrincipalType,
    Sense,
    Statement,
)
from medley.policy.iam.parse import statement_of
from medley.policy.iam.render import statement_value


class EditKind(Enum):
    """What an edit does."""

    ADD = "add"
    REMOVE = "remove"
    REPLACE = "replace"
    SET_EFFECT = "setEffect"
    ADD_STATEMENT = "addStatement"
    REMOVE_STATEMENT = "removeStatement"


class ElementName(Enum):
    """Which element of a statement an edit changes."""

    ACTION = "Action"
    RESOURCE = "Resource"
    PRINCIPAL = "Principal"
    CONDITION = "Condition"


Entry = str | Condition | PrincipalEntry


@dataclass(frozen=True, slots=True)
class Edit:
    """One change. `statement` counts in the document that the edits before it leave; `old` and `new` are entries."""

    kind: EditKind
    statement: int = -1
    element: ElementName | None = None
    old: Entry | None = None
    new: Entry | None = None
    effect: Effect | None = None
    added: Statement | None = None


def add_statement(statement: Statement) -> Edit:
    """Appends a statement."""
    return Edit(EditKind.ADD_STATEMENT, added=statement)


def remove_statement(index: int) -> Edit:
    """Takes a statement out."""
    return Edit(EditKind.REMOVE_STATEMENT, index)


def apply_edits(document: Document, edits: Iterable[Edit]) -> Document:
    """The document after the edits, in their order.

    Raises:
        UserError: an edit names a statement or an entry that is not there, or would leave an empty element.
    """
    for number, edit in enumerate(edits):
        document = apply_edit(document, edit, f"edits[{number}]")
    return document


def apply_edit(document: Document, edit: Edit, path: str = "edit") -> Document:
    """The document after one edit."""
    statements = list(document.statements)
    if edit.kind is EditKind.ADD_STATEMENT:
        assert edit.added is not None
        return replace(document, statements=(*statements, edit.added), form=Form.LIST)
    if not 0 <= edit.statement < len(statements):
        raise UserError(f"there is no statement {edit.statement}", field=f"{path}.statement")
    if edit.kind is EditKind.REMOVE_STATEMENT:
        del statements[edit.statement]
        return replace(document, statements=tuple(statements), form=Form.LIST)
    statements[edit.statement] = apply_to_statement(statements[edit.statement], edit, path)
    return replace(document, statements=tuple(statements))


def apply_to_statement(statement: Statement, edit: Edit, path: str = "edit") -> Statement:
    """The statement after an edit of one of its elements or of its effect."""
    if edit.kind is EditKind.SET_EFFECT:
        assert edit.effect is not None
        return replace(statement, effect=edit.effect)
    if edit.element is ElementName.CONDITION:
        conditions = _changed(statement.conditions, edit, path)
        names = [(str(found.operator), found.key.lower()) for found in conditions]
        if len(set(names)) < len(names):
            raise UserError("the same operator and key are there twice", field=f"{path}.new")
        return replace(statement, conditions=conditions, empty_condition=False)
    if edit.element is ElementName.PRINCIPAL:
        return replace(statement, principal=_principal(statement.principal, edit, path))
    name = "action" if edit.element is ElementName.ACTION else "resource"
    patterns: Patterns | None = getattr(statement, name)
    items = _changed(() if patterns is None else patterns.items, edit, path)
    if not items:
        raise UserError("nothing would be left", field=f"{path}.old", fix="Remove the statement")
    form = Form.LIST if patterns is None or len(items) > 1 else patterns.form
    # Written out: the search does this for every plan, and `replace` takes several times as long.
    changed = Patterns(items, Sense.IN if patterns is None else patterns.sense, form)
    action, resource = (changed, statement.resource) if name == "action" else (statement.action, changed)
    rest = statement.principal, statement.conditions, statement.sid, statement.empty_condition
    return Statement(statement.effect, action, resource, *rest)


def _changed(items: tuple[Any, ...], edit: Edit, path: str) -> tuple[Any, ...]:
    if edit.kind is EditKind.ADD:
        return items if edit.new in items else (*items, edit.new)
    if edit.old not in items:
        raise UserError("there is no such entry", field=f"{path}.old")
    if edit.kind is EditKind.REMOVE:
        return tuple(item for item in items if item != edit.old)
    return tuple(dict.fromkeys(edit.new if item == edit.old else item for item in items))


def _principal(principals: Principals | None, edit: Edit, path: str) -> Principals | None:
    single = () if principals is None else _single_entries(principals)
    if principals is not None and principals.everyone and edit.kind is not EditKind.REPLACE:
        raise UserError("the principal is everyone", field=path, fix="Replace it")
    if principals is not None and principals.everyone:
        assert isinstance(edit.new, PrincipalEntry)
        return Principals((edit.new,), principals.sense)
    entries = _changed(single, edit, path)
    if not entries:
        raise UserError("nothing would be left", field=f"{path}.old", fix="Remove the statement")
    grouped: dict[PrincipalType, list[str]] = {}
    for entry in entries:
        grouped.setdefault(entry.type, []).extend(entry.items)
    found = tuple(PrincipalEntry(kind, tuple(items)) for kind, items in grouped.items())
    return Principals(found) if principals is None else replace(principals, entries=found)


def _single_entries(principals: Principals) -> tuple[PrincipalEntry, ...]:
    return tuple(PrincipalEntry(entry.type, (item,)) for entry in principals.entries for item in entry.items)


def edit_value(edit: Edit) -> dict[str, Any]:
    """The JSON of an edit."""
    out: dict[str, Any] = {"edit": edit.kind.value}
    if edit.kind is not EditKind.ADD_STATEMENT:
        out["statement"] = edit.statement
    if edit.element is not None:
        out["element"] = edit.element.value
    for name, entry in (("old", edit.old), ("new", edit.new)):
        if entry is not None:
            out[name] = _entry_value(entry)
    if edit.effect is not None:
        out["effect"] = edit.effect.value
    if edit.added is not None:
        out["value"] = statement_value(edit.added)
    return out


def _entry_value(entry: Entry) -> Any:
    if isinstance(entry, str):
        return entry
    if isinstance(entry, PrincipalEntry):
        return {entry.type.value: entry.items[0]}
    values = entry.values[0] if len(entry.values) == 1 else list(entry.values)
    return {str(entry.operator): {entry.key: values}}


def _entry_text(entry: Entry) -> str:
    value = _entry_value(entry)
    return value if isinstance(value, str) else json.dumps(value)


def edit_text(edit: Edit) -> str:
    """An edit on one line."""
    if edit.kind is EditKind.ADD_STATEMENT:
        assert edit.added is not None
        but = "all but " if edit.added.action.sense is Sense.NOT_IN else ""
        return f"add a statement: {edit.added.effect.value} {but}{', '.join(edit.added.action.items)}"
    place = f"Statement[{edit.statement}]"
    if edit.kind is EditKind.REMOVE_STATEMENT:
        return f"remove {place}"
    if edit.kind is EditKind.SET_EFFECT:
        assert edit.effect is not None
        return f"{place}: Effect becomes {edit.effect.value}"
    assert edit.element is not None
    old, new = (None if entry is None else _entry_text(entry) for entry in (edit.old, edit.new))
    words = {EditKind.ADD: f"add {new}", EditKind.REMOVE: f"remove {old}", EditKind.REPLACE: f"{old} becomes {new}"}
    return f"{place}.{edit.element.value}: {words[edit.kind]}"


def edit_of(value: Any, path: str) -> Edit:
    """An edit from its JSON, checked as a document is: what proposers outside this program send.

    Raises:
        UserError: a field is missing, unknown or of the wrong type.
    """
    if not isinstance(value, dict):
        raise UserError("is not an object", field=path)
    kinds = {kind.value: kind for kind in EditKind}
    kind = kinds.get(value.get("edit", ""))
    if kind is None:
        raise UserError(f"{value.get('edit')!r} is no edit", field=f"{path}.edit", fix=f"Use {', '.join(kinds)}")
    wanted = {
        EditKind.ADD: {"statement", "element", "new"},
        EditKind.REMOVE: {"statement", "element", "old"},
        EditKind.REPLACE: {"statement", "element", "old", "new"},
        EditKind.SET_EFFECT: {"statement", "effect"},
        EditKind.ADD_STATEMENT: {"value"},
        EditKind.REMOVE_STATEMENT: {"statement"},
    }[kind]
    if set(value) != wanted | {"edit"}:
        raise UserError(f"{kind.value} has the fields {', '.join(sorted(wanted))}", field=path)
    index = value.get("statement", -1)
    if not isinstance(index, int) or isinstance(index, bool):
        raise UserError("is not a number", field=f"{path}.statement")
    if kind is EditKind.ADD_STATEMENT:
        return Edit(kind, added=statement_of(value["value"], f"{path}.value"))
    if kind is EditKind.SET_EFFECT:
        if value["effect"] not in ("Allow", "Deny"):
            raise UserError("is neither Allow nor Deny", field=f"{path}.effect")
        return Edit(kind, index, effect=Effect(value["effect"]))
    if kind is EditKind.REMOVE_STATEMENT:
        return Edit(kind, index)
    elements = {element.value: element for element in ElementName}
    element = elements.get(value["element"]) if isinstance(value["element"], str) else None
    if element is None:
        raise UserError("is no element", field=f"{path}.element", fix=f"Use {', '.join(elements)}")
    old, new = (
        _entry_of(value.get(name), element, f"{path}.{name}") if name in value else None for name in ("old", "new")
    )
    return Edit(kind, index, element, old, new)


def _entry_of(value: Any, element: ElementName, path: str) -> Entry:
    """An entry, read as a part of a statement so that the same rules hold."""
    whole: dict[str, Any] = {"Effect": "Allow", "Action": "*", "Resource": "*", element.value: value}
    statement = statement_of(whole, path)
    if element is ElementName.CONDITION:
        if len(statement.conditions) != 1:
            raise UserError("is not one condition", field=path)
        return statement.conditions[0]
    if element is ElementName.PRINCIPAL:
        found = _single_entries(statement.principal) if statement.principal is not None else ()
        if len(found) != 1:
            raise UserError("is not one principal", field=path)
        return found[0]
    patterns = statement.action if element is ElementName.ACTION else statement.resource
    assert patterns is not None
    if len(patterns.items) != 1:
        raise UserError("is not one pattern", field=path)
    return patterns.items[0]
