"""The frame that every access spec has: a list of floor rules and a list of ceiling rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from medley.model.errors import UserError
from medley.policy.spec.spec import Side


def rules_of(value: Any, name: str, others: str = "") -> Iterator[tuple[Any, Side, int, str]]:
    """Each rule's value, side, number and path; `others`: what else could stand at the top.

    Raises:
        UserError: it is no spec.
    """
    path = f"{name}: $"
    if not isinstance(value, dict) or not value:
        raise UserError("is not a spec", field=path, fix=f"Give floor and ceiling{f', or {others}' if others else ''}")
    for key in value:
        if key not in ("floor", "ceiling"):
            known = ", ".join(("floor", "ceiling", *((others,) if others else ())))
            raise UserError(f"{key!r} is no field", field=f"{path}.{key}", fix=f"Known: {known}")
    for side in Side:
        items = value.get(side.value) or []
        if not isinstance(items, list):
            raise UserError("is not a list", field=f"{path}.{side.value}")
        for number, item in enumerate(items):
            yield item, side, number, f"{path}.{side.value}[{number}]"
