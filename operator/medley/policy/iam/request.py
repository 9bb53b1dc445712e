"""One request, and what was decided about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from medley.policy.iam.document import PrincipalType


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. AWS: the ARN of a user, role, role session, federated session or account root."""

    type: PrincipalType
    id: str

    def __str__(self) -> str:
        return f"{self.type.value}:{self.id}"


@dataclass(frozen=True, slots=True)
class Request:
    """Action `service:Name`, resource ARN (or `*`), caller (None: anonymous), and the keys that are present.

    `context` is sorted pairs (key in lower case, values); a key without values is absent. Make it with `request()`.
    """

    action: str
    resource: str
    caller: Caller | None = None
    context: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Decision(Enum):
    """Of the evaluation logic: an explicit deny wins, and without an allow the answer is an implicit deny."""

    ALLOWED = "Allowed"
    IMPLICIT_DENY = "ImplicitDeny"
    EXPLICIT_DENY = "ExplicitDeny"

    @property
    def allowed(self) -> bool:
        """Whether the request goes through."""
        return self is Decision.ALLOWED


def request(
    action: str,
    resource: str = "*",
    caller: Caller | str | None = None,
    context: Mapping[str, str | Iterable[str]] | None = None,
) -> Request:
    """A request with its context put in order. A caller given as text is an AWS principal."""
    pairs: list[tuple[str, tuple[str, ...]]] = []
    for key, value in (context or {}).items():
        values = (value,) if isinstance(value, str) else tuple(value)
        if values:
            pairs.append((ascii_lower(key), values))
    if isinstance(caller, str):
        caller = Caller(PrincipalType.AWS, caller)
    return Request(action, resource, caller, tuple(sorted(pairs)))


_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def ascii_lower(text: str) -> str:
    """Lower case of A to Z alone: `str.lower` would make the Kelvin sign a `k`, and look-alikes would match."""
    return text.lower() if text.isascii() else text.translate(_LOWER)
