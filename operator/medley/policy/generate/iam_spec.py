"""Access specs of IAM documents from a list of accesses: each is a floor, and all but their union is the ceiling.

The complement is cut into few rules: other actions; for each action other resources; for each access requests that lack
a condition or meet it with another value; for trust policies other callers. Accesses that share an action must not
overlap in resources, else the conditions of one would forbid what the other asks for.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from medley.policy.generate.part import Json

_NEGATED = {"StringEquals": "StringNotEquals", "StringLike": "StringNotLike"}


@dataclass(frozen=True, slots=True)
class Bound:
    """A condition that every request of an access meets. `samples`: values of it that requests will have."""

    key: str
    values: tuple[str, ...]
    operator: str = "StringEquals"
    samples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Access:
    """Actions on resources (patterns) under conditions, and why they are needed."""

    id: str
    actions: tuple[str, ...]
    resources: tuple[str, ...] = ("*",)
    bounds: tuple[Bound, ...] = ()
    why: str = ""


def spec_of(accesses: Sequence[Access], caller: dict[str, str] | None = None) -> Json:
    """Floor and ceiling of the accesses; with `caller`, those of a trust policy that lets in this caller alone."""
    return {
        "floor": [rule for access in accesses for rule in _floor(access, caller)],
        "ceiling": [*_ceiling(accesses), *_others(caller)],
    }


def _floor(access: Access, caller: dict[str, str] | None) -> Iterable[Json]:
    cases = list(itertools.product(*(bound.samples or bound.values for bound in access.bounds)))
    for number, values in enumerate(cases):
        rule: Json = {
            "id": access.id + (f"-{number + 1}" if len(cases) > 1 else ""),
            "action": _one_or_list(access.actions),
            "resource": _one_or_list(access.resources),
        }
        if caller is not None:
            rule["principal"] = dict(caller)
        if values:
            rule["context"] = {bound.key: value for bound, value in zip(access.bounds, values, strict=True)}
        if access.why:
            rule["reason"] = access.why
        yield rule


def _ceiling(accesses: Sequence[Access]) -> Iterable[Json]:
    resources: dict[str, tuple[str, ...]] = {}
    for access in accesses:
        for action in access.actions:
            resources[action] = tuple(dict.fromkeys((*resources.get(action, ()), *access.resources)))
    yield {"id": "other-actions", "notAction": _one_or_list(tuple(resources)), "reason": "nothing else is needed"}
    together: dict[tuple[str, ...], list[str]] = {}
    for action, found in resources.items():
        if "*" not in found:
            together.setdefault(found, []).append(action)
    for number, (found, actions) in enumerate(together.items()):
        yield {
            "id": "other-resources" + (f"-{number + 1}" if len(together) > 1 else ""),
            "action": _one_or_list(tuple(actions)),
            "notResource": _one_or_list(found),
        }
    for access in accesses:
        for bound in access.bounds:
            rule: Json = {"id": f"{access.id}-not-{_word(bound.key)}", "action": _one_or_list(access.actions)}
            if "*" not in access.resources:
                rule["resource"] = _one_or_list(access.resources)
            # Negated operators hold where the key is absent, too.
            rule["condition"] = {_NEGATED[bound.operator]: {bound.key: _one_or_list(bound.values)}}
            yield rule


def _others(caller: dict[str, str] | None) -> Iterable[Json]:
    if caller is not None:
        yield {"id": "other-callers", "notPrincipal": dict(caller)}


def _word(key: str) -> str:
    """A condition key as a part of a rule's name."""
    return re.sub(r"[^a-z0-9]+", "-", re.split("[/:]", key)[-1].lower()).strip("-")


def _one_or_list(items: tuple[str, ...]) -> Any:
    return items[0] if len(items) == 1 else list(items)
