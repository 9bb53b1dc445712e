"""Documents that decide together, and by which rule.

Facts, from the IAM User Guide, "Policy evaluation logic" and "Permissions boundaries for IAM entities":
- An explicit deny in any document wins.
- In one account, the identity policies (inside the boundary) or the resource policy suffice. Across accounts both
  must allow.
- A resource policy that names the account gives nothing by itself: it leaves the choice to the account's own policies.
  (The root that it names is the exception.)
- A resource policy that names a role is still limited by the role's boundary; one that names a user, a role session
  or everyone is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from medley.policy.iam.document import (
    Document,
    Effect,
    PrincipalEntry,
    Principals,
    PrincipalType,
    Sense,
    Statement,
)
from medley.policy.iam.principals import is_account, is_role


class Relation(Enum):
    """Whether caller and resource are of one account; it matters only beside a resource policy."""

    SAME_ACCOUNT = "same account"
    CROSS_ACCOUNT = "cross account"


class Layer(Enum):
    """Which part of the decision a statement belongs to."""

    IDENTITY = "identity"
    BOUNDARY = "boundary"
    RESOURCE = "resource"


class Grant(Enum):
    """How a resource policy's Allow names the caller."""

    DIRECT = "direct"
    ROLE = "role"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class PolicySet:
    """The documents that decide. A document alone, of either kind, decides by its own statements."""

    identity: tuple[Document, ...] = ()
    resource: Document | None = None
    boundary: Document | None = None
    relation: Relation = Relation.SAME_ACCOUNT

    def layers(self) -> Iterator[tuple[Layer, Document]]:
        """Every document with its layer."""
        for document in self.identity:
            yield Layer.IDENTITY, document
        if self.boundary is not None:
            yield Layer.BOUNDARY, self.boundary
        if self.resource is not None:
            yield Layer.RESOURCE, self.resource


def alone(document: Document) -> PolicySet:
    """A document that decides by itself."""
    if document.kind.value == "resource":
        return PolicySet(resource=document)
    return PolicySet(identity=(document,))


def split_grants(statement: Statement) -> list[tuple[Grant, Statement]]:
    """A resource policy's statement by how it names callers; the parts together match what the whole does."""
    principal = statement.principal
    if statement.effect is Effect.DENY or principal is None or principal.everyone or principal.sense is Sense.NOT_IN:
        return [(Grant.DIRECT, statement)]
    parts: dict[Grant, list[PrincipalEntry]] = {}
    for entry in principal.entries:
        for item in entry.items:
            grant = Grant.DIRECT
            if entry.type is PrincipalType.AWS and item != "*":
                grant = Grant.ACCOUNT if is_account(item) else Grant.ROLE if is_role(item) else Grant.DIRECT
            parts.setdefault(grant, []).append(PrincipalEntry(entry.type, (item,)))
    return [(grant, replace(statement, principal=Principals(tuple(found)))) for grant, found in parts.items()]


@dataclass(frozen=True, slots=True)
class Matched:
    """Which kinds of statements matched a request."""

    deny: bool
    identity: bool
    boundary: bool
    direct: bool
    role: bool
    account: bool
    caller_is_root: bool


def allows(policies: PolicySet, matched: Matched) -> bool:
    """The evaluation logic on the kinds of statements that matched."""
    if matched.deny:
        return False
    bounded = policies.boundary is None or matched.boundary
    identity = matched.identity and bounded
    if policies.resource is None:
        return identity
    named = matched.direct or matched.role or matched.account
    if not policies.identity and policies.boundary is None:
        return named
    if policies.relation is Relation.CROSS_ACCOUNT:
        return identity and named
    return identity or matched.direct or (matched.role and bounded) or (matched.account and matched.caller_is_root)
