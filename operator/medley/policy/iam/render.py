"""Prints a document: back to the JSON value it was read from, elements in the User Guide's order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum
from typing import Any

from medley.model.errors import BugError
from medley.policy.iam.document import Document, Form, Patterns, Principals, Statement


class SizeLimit(Enum):
    """Longest document of each target in characters, white space not counted. Source: IAM and STS quotas."""

    MANAGED_POLICY = 6144
    ROLE_INLINE_POLICY = 10240
    USER_INLINE_POLICY = 2048
    GROUP_INLINE_POLICY = 5120
    TRUST_POLICY = 2048
    BUCKET_POLICY = 20480


def document_value(document: Document) -> dict[str, Any]:
    """The JSON value of a document."""
    out: dict[str, Any] = {}
    if document.version is not None:
        out["Version"] = document.version
    if document.id is not None:
        out["Id"] = document.id
    statements = [statement_value(statement) for statement in document.statements]
    out["Statement"] = statements[0] if document.form is Form.ONE and len(statements) == 1 else statements
    return out


def document_text(document: Document) -> str:
    """The document as indented JSON, ending in a line feed."""
    return json.dumps(document_value(document), indent=2, ensure_ascii=False) + "\n"


def size_characters(document: Document) -> int:
    """Length as AWS counts it: without white space between tokens."""
    return len(json.dumps(document_value(document), separators=(",", ":"), ensure_ascii=False))


def statement_value(statement: Statement) -> dict[str, Any]:
    """The JSON value of a statement."""
    out: dict[str, Any] = {}
    if statement.sid is not None:
        out["Sid"] = statement.sid
    out["Effect"] = statement.effect.value
    if statement.principal is not None:
        out[f"{statement.principal.sense.value}Principal"] = _principals(statement.principal)
    _put(out, "Action", statement.action)
    if statement.resource is not None:
        _put(out, "Resource", statement.resource)
    if statement.conditions or statement.empty_condition:
        blocks: dict[str, dict[str, Any]] = {}
        for condition in statement.conditions:
            block = blocks.setdefault(str(condition.operator), {})
            if condition.key in block:
                raise BugError(f"two conditions with {condition.operator} on {condition.key}")
            block[condition.key] = _written(condition.values, condition.form)
        out["Condition"] = blocks
    return out


def _put(out: dict[str, Any], name: str, patterns: Patterns) -> None:
    out[f"{patterns.sense.value}{name}"] = _written(patterns.items, patterns.form)


def _principals(principals: Principals) -> Any:
    if principals.everyone:
        return "*"
    return {entry.type.value: _written(entry.items, entry.form) for entry in principals.entries}


def _written(items: Sequence[Any], form: Form) -> Any:
    return items[0] if form is Form.ONE and len(items) == 1 else list(items)
