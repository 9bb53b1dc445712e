"""Parsed documents: objects and numbers are taken out of them with the place in the file in every error."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from medley.model.errors import UserError


def parse_json(file: str, text: str) -> object:
    """The JSON value in a file's text.

    Raises:
        UserError: the text is empty or not JSON.
    """
    if not text.strip():
        raise UserError("is empty", field=file, fix="Check that the benchmark ended and wrote its result")
    try:
        # NaN and Infinity pass here, and are refused where the number is known.
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"is not JSON: {error.msg}", field=f"{file}: line {error.lineno}", fix="Give the file as the tool wrote it"
        ) from None


def parse_json_lines(file: str, text: str) -> list[tuple[str, object]]:
    """(place, value) of each JSON value: one document, a list of them, or one a line, as appending tools write."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if len(lines) > 1 and all(line.lstrip().startswith("{") and line.rstrip().endswith("}") for _, line in lines):
        found = []
        for number, line in lines:
            try:
                found.append((f"{file}: line {number}", json.loads(line)))
            except json.JSONDecodeError as error:
                fix = "Remove the line, or give the file as the tool wrote it"
                raise UserError(f"is not JSON: {error.msg}", field=f"{file}: line {number}", fix=fix) from None
        return found
    value = parse_json(file, text)
    if isinstance(value, list):
        return [(f"{file}: [{number}]", item) for number, item in enumerate(value)]
    return [(file, value)]


def to_object(value: object, where: str, fix: str) -> Mapping[str, Any]:
    """The value as a JSON object."""
    if not isinstance(value, Mapping):
        raise UserError(f"is {kind(value)}, not an object", field=where, fix=fix)
    return value


def number(value: object, where: str, *, least: float = 0.0, above: bool = False) -> float:
    """The value as a finite number that is at least (or, with `above`, more than) a bound."""
    found = real(value)
    if found is None:
        raise UserError(f"is {kind(value)}, not a number", field=where, fix="Measure it again, or remove the run")
    if not math.isfinite(found):
        raise UserError(f"is {found}", field=where, fix="Measure it again: no number came out of this run")
    if found < least or (above and found == least):
        bound = f"more than {least:g}" if above else f"{least:g} or more"
        raise UserError(f"is {found:g}, it must be {bound}", field=where, fix="Measure it again, or correct the file")
    return found


def real(value: object) -> float | None:
    """The value if it is a number, else None. true and false are none, and an integer beyond floats is infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def day(timestamp_s: object) -> str | None:
    """The UTC day of a Unix timestamp; None if it is none."""
    if isinstance(timestamp_s, bool) or not isinstance(timestamp_s, int | float) or not 0 < timestamp_s < 1e11:
        return None
    return datetime.fromtimestamp(timestamp_s, UTC).date().isoformat()


def kind(value: object) -> str:
    """What a JSON value is, for messages."""
    match value:
        case None:
            return "missing"
        case bool():
            return f"{str(value).lower()}"
        case str():
            return f"the text {value[:40]!r}"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "an object"
        case _:
            return f"{value}"[:40]
