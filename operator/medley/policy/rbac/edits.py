"""Typed edits of a manifest: what a repair is made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from medley.model.errors import UserError
from medley.policy.rbac.document import RULE_FIELDS, Binding, Manifest, Other, PolicyRule, Role, Subject
from medley.policy.rbac.render import object_value, rule_value, subject_value


class EditKind(Enum):
    """What an edit does."""

    ADD = "add"
    REMOVE = "remove"
    SET = "set"
    SPLIT_RULE = "splitRule"
    ADD_RULE = "addRule"
    REMOVE_RULE = "removeRule"
    ADD_SUBJECT = "addSubject"
    REMOVE_SUBJECT = "removeSubject"
    ADD_OBJECT = "addObject"
    REMOVE_OBJECT = "removeObject"


Key = tuple[str, str, str]
"""Kind, namespace, name."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of the object `target`. `rule` counts in the manifest that the edits before it leave.

    `entries` of `field` are added, removed, what is left of it, or what the new rule after a split gets.
    """

    kind: EditKind
    target: Key
    rule: int = -1
    field: str = ""
    entries: tuple[str, ...] = ()
    added: PolicyRule | Role | Binding | None = None
    subject: Subject | None = None


def apply_edits(manifest: Manifest, edits: Iterable[Edit]) -> Manifest:
    """The manifest after the edits, in their order.

    Raises:
        UserError: an edit names something that is not there, or would leave an empty field.
    """
    for number, edit in enumerate(edits):
        manifest = apply_edit(manifest, edit, f"edits[{number}]")
    return manifest


def apply_edit(manifest: Manifest, edit: Edit, path: str = "edit") -> Manifest:
    """The manifest after one edit."""
    objects = {found.key: found for found in manifest.objects}
    if edit.kind is EditKind.ADD_OBJECT:
        assert isinstance(edit.added, Role | Binding)
        if edit.added.key in objects:
            raise UserError(f"{edit.added} is there already", field=f"{path}.value")
        return replace(manifest, objects=(*manifest.objects, edit.added))
    found = objects.get(edit.target)
    if found is None:
        raise UserError("there is no such object", field=f"{path}.object")
    if edit.kind is EditKind.REMOVE_OBJECT:
        return replace(manifest, objects=tuple(other for other in manifest.objects if other is not found))
    if isinstance(found, Other):
        raise UserError(f"{key_text(found.key)} is neither role nor binding", field=f"{path}.object")
    if isinstance(found, Binding):
        changed: Role | Binding = replace(found, subjects=_subjects(found, edit, path))
    else:
        changed = replace(found, rules=_rules(found.rules, edit, path))
    return replace(manifest, objects=tuple(changed if other is found else other for other in manifest.objects))


def _subjects(binding: Binding, edit: Edit, path: str) -> tuple[Subject, ...]:
    others = tuple(subject for subject in binding.subjects if subject != edit.subject)
    there = len(others) < len(binding.subjects)
    if edit.kind is EditKind.REMOVE_SUBJECT and there:
        return others
    if edit.kind is EditKind.ADD_SUBJECT and not there and edit.subject is not None:
        return (*binding.subjects, edit.subject)
    raise UserError("cannot be done to the binding", field=path)


def _rules(rules: tuple[PolicyRule, ...], edit: Edit, path: str) -> tuple[PolicyRule, ...]:
    if edit.kind is EditKind.ADD_RULE:
        assert isinstance(edit.added, PolicyRule)
        return (*rules, edit.added)
    if not 0 <= edit.rule < len(rules):
        raise UserError(f"there is no rule {edit.rule}", field=f"{path}.rule")
    before, rule, after = rules[: edit.rule], rules[edit.rule], rules[edit.rule + 1 :]
    if edit.kind is EditKind.REMOVE_RULE:
        return (*before, *after)
    if edit.kind is EditKind.SPLIT_RULE:
        rest = _without(rule, edit, path)
        return (*before, rest, with_entries(rule, edit.field, edit.entries), *after)
    return (*before, _changed(rule, edit, path), *after)


def _changed(rule: PolicyRule, edit: Edit, path: str) -> PolicyRule:
    if edit.kind is EditKind.REMOVE:
        return _without(rule, edit, path)
    if edit.kind is EditKind.ADD:
        return with_entries(rule, edit.field, tuple(dict.fromkeys((*entries_of(rule, edit.field), *edit.entries))))
    if edit.kind is not EditKind.SET or not edit.entries:
        raise UserError("cannot be done to a rule", field=path)
    return with_entries(rule, edit.field, edit.entries)


def _without(rule: PolicyRule, edit: Edit, path: str) -> PolicyRule:
    entries = entries_of(rule, edit.field)
    rest = tuple(entry for entry in entries if entry not in edit.entries)
    if not set(edit.entries) <= set(entries):
        raise UserError("there is no such entry", field=f"{path}.entries")
    if not rest:
        raise UserError("nothing would be left", field=f"{path}.entries", fix="Remove the rule")
    return with_entries(rule, edit.field, rest)


def entries_of(rule: PolicyRule, field: str) -> tuple[str, ...]:
    """The entries of a field, named as in a manifest."""
    found: tuple[str, ...] = getattr(rule, RULE_FIELDS[field])
    return found


def with_entries(rule: PolicyRule, field: str, entries: tuple[str, ...]) -> PolicyRule:
    """The rule with these entries in a field, named as in a manifest."""
    changed: dict[str, Any] = {RULE_FIELDS[field]: entries}
    return replace(rule, **changed)


def key_text(key: Key) -> str:
    """An object as people name it: `Role serving/medley`."""
    kind, namespace, name = key
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


def edit_value(edit: Edit) -> dict[str, Any]:
    """The JSON of an edit."""
    out: dict[str, Any] = {"edit": edit.kind.value, "object": key_text(edit.target)}
    if edit.rule >= 0:
        out["rule"] = edit.rule
    if edit.field:
        out["field"] = edit.field
        out["entries"] = list(edit.entries)
    if edit.subject is not None:
        out["subject"] = subject_value(edit.subject)
    if edit.added is not None:
        out["value"] = rule_value(edit.added) if isinstance(edit.added, PolicyRule) else object_value(edit.added)
    return out


def edit_text(edit: Edit) -> str:
    """An edit on one line."""
    name = key_text(edit.target)
    place = f"{name} rules[{edit.rule}]"
    entries = ", ".join(entry or '""' for entry in edit.entries)
    words = {
        EditKind.ADD: f"{place}.{edit.field}: add {entries}",
        EditKind.REMOVE: f"{place}.{edit.field}: remove {entries}",
        EditKind.SET: f"{place}.{edit.field} becomes {entries}",
        EditKind.SPLIT_RULE: f"{place}: a rule of its own for the {edit.field} {entries}",
        EditKind.REMOVE_RULE: f"remove {place}",
        EditKind.ADD_SUBJECT: f"{name}: add {edit.subject}",
        EditKind.REMOVE_SUBJECT: f"{name}: remove {edit.subject}",
        EditKind.ADD_OBJECT: f"add {name}",
        EditKind.REMOVE_OBJECT: f"remove {name}",
    }
    if edit.kind is EditKind.ADD_RULE:
        assert isinstance(edit.added, PolicyRule)
        what = ", ".join((*edit.added.resources, *edit.added.non_resource_urls))
        return f"{name}: add a rule: {', '.join(edit.added.verbs)} on {what}"
    return words[edit.kind]
