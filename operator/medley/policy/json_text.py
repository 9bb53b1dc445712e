"""JSON text to plain values, strictly: one value per key, no NaN, no lone surrogates, and every error has a path.

`json.loads` keeps the last of two equal keys; in a policy that drops a restriction without a word.
"""

from __future__ import annotations

import json
from typing import Any

from medley.model.errors import UserError

MAX_CHARACTERS = 1_000_000
"""Longest text read. AWS's largest policy has 20,480 characters; a request list of 1 MB has some 5,000 requests."""


class _Pairs(list[tuple[str, Any]]):
    """An object before its keys are known to be distinct."""


def read_json(text: str, name: str) -> Any:
    """The value of a JSON text; `name` (a file name, as a rule) starts the path in errors.

    Raises:
        UserError: too long, not JSON, nested too deeply, a duplicate key, or a string that is not Unicode text.
    """
    if len(text) > MAX_CHARACTERS:
        raise UserError(
            f"is {len(text):,} characters long, more than the {MAX_CHARACTERS:,} that are read",
            field=name,
            fix="Split it, or check that it is the right file",
        )
    try:
        raw = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_Pairs, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"is not JSON: {error.msg} at {where}", field=name) from None
    except RecursionError:
        raise UserError("is nested too deeply", field=name, fix="A policy has at most 6 levels") from None
    except ValueError as error:
        raise UserError(f"is not JSON: {error}", field=name) from None
    try:
        return _plain(raw, f"{name}: $")
    except RecursionError:
        raise UserError("is nested too deeply", field=name, fix="A policy has at most 6 levels") from None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")


def _plain(value: Any, path: str) -> Any:
    if isinstance(value, _Pairs):
        out: dict[str, Any] = {}
        for key, inner in value:
            _check_text(key, path)
            if key in out:
                raise UserError(f"the key {key!r} is there twice", field=path, fix="Merge the two into one")
            out[key] = _plain(inner, f"{path}.{key}")
        return out
    if isinstance(value, list):
        return [_plain(inner, f"{path}[{number}]") for number, inner in enumerate(value)]
    if isinstance(value, str):
        _check_text(value, path)
    return value


def _check_text(text: str, path: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UserError("holds half of a surrogate pair, which is no character", field=path)


def check_texts(value: Any, path: str) -> None:
    """Refuses texts in a plain value that hold half a character.

    Raises:
        UserError: one does.
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            check_texts(key, path)
            check_texts(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            check_texts(inner, f"{path}[{number}]")
    elif isinstance(value, str):
        _check_text(value, path)
