"""Reads an IAM policy document, strictly: what it does not know is an error that names the place.

Source: IAM User Guide, "Grammar of the IAM JSON policy language". Stricter than AWS in that element and operator names
must be spelt as documented, and a condition key may not be there twice in two spellings.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from medley.model.errors import UserError
from medley.policy.iam.document import (
    Condition,
    Document,
    DocumentKind,
    Effect,
    Form,
    Patterns,
    PrincipalEntry,
    Principals,
    PrincipalType,
    Scalar,
    Sense,
    Statement,
)
from medley.policy.iam.operators import Base, Domain, Operator, Qualifier, parse_operator
from medley.policy.iam.request import ascii_lower
from medley.policy.iam.values import binary_of, instant_of, number_of, range_of, text_of
from medley.policy.json_text import read_json

VERSIONS = ("2012-10-17", "2008-10-17")
PARTITIONS = ("aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f", "aws-eusc")
"""AWS partitions; a Resource of any other can match nothing, so it is a slip."""

_DOCUMENT_KEYS = ("Version", "Id", "Statement")
_STATEMENT_KEYS = (
    "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition",
)  # fmt: skip


def parse_document(text: str, name: str = "document", kind: DocumentKind | None = None) -> Document:
    """A document from JSON text. `kind` None takes what it looks like.

    Raises:
        UserError: not JSON, an element that is missing, unknown or of the wrong type; the field is the JSON path.
    """
    return document_of(read_json(text, name), f"{name}: $", kind)


def document_of(value: Any, path: str = "$", kind: DocumentKind | None = None) -> Document:
    """A document from a JSON value whose keys are known to be distinct."""
    _object(value, path, _DOCUMENT_KEYS)
    if "Statement" not in value:
        raise UserError("has no Statement", field=path)
    version = value.get("Version")
    if version is not None and version not in VERSIONS:
        raise UserError(f"{version!r} is no version", field=f"{path}.Version", fix=f"Use {VERSIONS[0]}")
    if "Version" in value and version is None:
        raise UserError("null is no version", field=f"{path}.Version", fix=f"Use {VERSIONS[0]}")
    statements = value["Statement"]
    single = isinstance(statements, dict)
    items = [statements] if single else statements
    if not isinstance(items, list):
        raise UserError("is neither an object nor a list of objects", field=f"{path}.Statement")
    parsed = []
    sids: set[str] = set()
    for number, item in enumerate(items):
        place = f"{path}.Statement" if single else f"{path}.Statement[{number}]"
        statement = statement_of(item, place)
        if statement.sid:
            if statement.sid in sids:
                raise UserError(f"{statement.sid!r} is there twice", field=f"{place}.Sid", fix="Give each its own")
            sids.add(statement.sid)
        parsed.append((place, statement))
    document = Document(
        tuple(statement for _, statement in parsed),
        version,
        _optional_text(value, "Id", path),
        Form.ONE if single else Form.LIST,
    )
    _check_kind(parsed, kind or document.kind, explicit=kind is not None)
    return document


def _check_kind(statements: list[tuple[str, Statement]], kind: DocumentKind, *, explicit: bool) -> None:
    for place, statement in statements:
        if kind is DocumentKind.RESOURCE:
            if statement.principal is None and explicit:
                raise UserError("has no Principal, which a resource policy needs", field=place)
            continue
        if statement.principal is not None:
            raise UserError(f"names a principal, which a policy of kind {kind.value} cannot", field=place)
        if statement.resource is None:
            raise UserError("has neither Resource nor NotResource", field=place)


def statement_of(value: Any, path: str) -> Statement:
    """One statement from its JSON value."""
    _object(value, path, _STATEMENT_KEYS)
    effect = value.get("Effect")
    if effect not in ("Allow", "Deny"):
        said = "has no Effect" if "Effect" not in value else f"{effect!r} is no effect"
        raise UserError(said, field=path if "Effect" not in value else f"{path}.Effect", fix="Use Allow or Deny")
    action = _patterns(value, "Action", path)
    if action is None:
        raise UserError("has neither Action nor NotAction", field=path)
    for number, pattern in enumerate(action.items):
        _check_action(pattern, _item(path, f"{action.sense.value}Action", action.form, number))
    resource = _patterns(value, "Resource", path)
    if resource is not None:
        for number, pattern in enumerate(resource.items):
            _check_resource(pattern, _item(path, f"{resource.sense.value}Resource", resource.form, number))
    conditions: tuple[Condition, ...] = ()
    if "Condition" in value:
        conditions = tuple(_conditions(value["Condition"], f"{path}.Condition"))
    return Statement(
        Effect(effect),
        action,
        resource,
        _principals(value, path),
        conditions,
        _optional_text(value, "Sid", path),
        "Condition" in value and not conditions,
    )


def _patterns(value: dict[str, Any], name: str, path: str) -> Patterns | None:
    sense = _sense(value, name, path)
    if sense is None:
        return None
    element = f"{sense.value}{name}"
    items, form = _texts(value[element], f"{path}.{element}")
    return Patterns(items, sense, form)


def _sense(value: dict[str, Any], name: str, path: str) -> Sense | None:
    if name in value and f"Not{name}" in value:
        raise UserError(f"has both {name} and Not{name}", field=path, fix="Keep one")
    if name in value:
        return Sense.IN
    return Sense.NOT_IN if f"Not{name}" in value else None


def _principals(value: dict[str, Any], path: str) -> Principals | None:
    sense = _sense(value, "Principal", path)
    if sense is None:
        return None
    place = f"{path}.{sense.value}Principal"
    written = value[f"{sense.value}Principal"]
    if written == "*":
        return Principals((), sense)
    names = tuple(kind.value for kind in PrincipalType)
    _object(written, place, names)
    if not written:
        raise UserError("names nobody", field=place, fix='Use "*" or one of ' + ", ".join(names))
    entries = []
    for name, inner in written.items():
        items, form = _texts(inner, f"{place}.{name}")
        entries.append(PrincipalEntry(PrincipalType(name), items, form))
    return Principals(tuple(entries), sense)


def _conditions(value: Any, path: str) -> Iterable[Condition]:
    if not isinstance(value, dict):
        raise UserError("is not an object of operators", field=path)
    for name, block in value.items():
        operator = parse_operator(name)
        if operator is None:
            raise UserError(f"{name!r} is no condition operator", field=f"{path}.{name}", fix=_near_operator(name))
        if not isinstance(block, dict) or not block:
            raise UserError("is not an object of condition keys", field=f"{path}.{name}")
        seen: dict[str, str] = {}
        for key, written in block.items():
            place = f"{path}.{name}.{key}"
            if not key or not key.isascii():
                raise UserError(f"{key!r} is no condition key", field=place, fix="Keys are ASCII")
            if ascii_lower(key) in seen:
                raise UserError(f"is the same key as {seen[ascii_lower(key)]!r}", field=place, fix="Merge the two")
            seen[ascii_lower(key)] = key
            values, form = _scalars(written, place)
            for item in values:
                _check_value(operator, text_of(item), place)
            yield Condition(operator, key, values, form)


_READERS = {
    Domain.NUMERIC: (number_of, "a number"),
    Domain.DATE: (instant_of, "a date"),
    Domain.IP: (range_of, "an IP prefix"),
}


def _check_value(operator: Operator, text: str, path: str) -> None:
    reader = _READERS.get(operator.domain)
    if reader is not None:
        if reader[0](text) is None:
            raise UserError(f"{text!r} is not {reader[1]}", field=path)
    elif operator.base in (Base.BOOL, Base.NULL):
        if ascii_lower(text) not in ("true", "false"):
            raise UserError(f"{text!r} is neither true nor false", field=path)
    elif operator.base is Base.BINARY_EQUALS and binary_of(text) is None:
        raise UserError(f"{text!r} is not base64", field=path)


def _near_operator(name: str) -> str:
    known = [base.value for base in Base] + [
        f"{qualifier.value}:{base.value}" for qualifier in Qualifier if qualifier.value for base in Base
    ]
    near = difflib.get_close_matches(name, known, 1, 0.5)
    return f"Did you mean {near[0]}?" if near else "Operators are spelt as in the IAM User Guide"


def _check_action(pattern: str, path: str) -> None:
    if pattern.strip("*") == "" and pattern:
        return
    if not pattern.isascii():
        raise UserError(f"{pattern!r} is not ASCII: it may look like an action, but is none", field=path)
    service, colon, name = pattern.partition(":")
    if not colon or not service or not name or ":" in name or any(character.isspace() for character in pattern):
        raise UserError(f"{pattern!r} is no action", field=path, fix="Use service:Name, or *")


def _check_resource(pattern: str, path: str) -> None:
    if pattern.strip("*") == "" and pattern:
        return
    if not pattern.startswith("arn:"):
        raise UserError(f"{pattern!r} is no ARN", field=path, fix="Use an ARN, or *")
    partition = pattern.split(":")[1]
    if not any(mark in partition for mark in "*?$") and partition not in PARTITIONS:
        raise UserError(f"{partition!r} is no AWS partition", field=path, fix=f"Use one of {', '.join(PARTITIONS)}")


def _item(path: str, element: str, form: Form, number: int) -> str:
    return f"{path}.{element}" if form is Form.ONE else f"{path}.{element}[{number}]"


def _texts(value: Any, path: str) -> tuple[tuple[str, ...], Form]:
    items = value if isinstance(value, list) else [value]
    if not items:
        raise UserError("is an empty list", field=path, fix="Name at least one")
    for number, item in enumerate(items):
        if not isinstance(item, str) or not item:
            place = f"{path}[{number}]" if isinstance(value, list) else path
            raise UserError("is not a text" if not isinstance(item, str) else "is empty", field=place)
    return tuple(items), Form.LIST if isinstance(value, list) else Form.ONE


def _scalars(value: Any, path: str) -> tuple[tuple[Scalar, ...], Form]:
    items = value if isinstance(value, list) else [value]
    for number, item in enumerate(items):
        if not isinstance(item, str | bool | int | float):
            place = f"{path}[{number}]" if isinstance(value, list) else path
            raise UserError("is not a text, a number or a boolean", field=place)
    return tuple(items), Form.LIST if isinstance(value, list) else Form.ONE


def _optional_text(value: dict[str, Any], key: str, path: str) -> str | None:
    text = value.get(key)
    if key in value and not isinstance(text, str):
        raise UserError("is not a text", field=f"{path}.{key}")
    return text


def _object(value: Any, path: str, known: tuple[str, ...]) -> None:
    if not isinstance(value, dict):
        raise UserError("is not an object", field=path)
    for key in value:
        if key not in known:
            near = [name for name in known if name.lower() == key.lower()]
            near = near or difflib.get_close_matches(key, known, 1, 0.6)
            fix = f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(known)}"
            raise UserError(f"{key!r} is no element", field=f"{path}.{key}", fix=fix)
