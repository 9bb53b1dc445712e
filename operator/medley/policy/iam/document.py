"""IAM policy documents as values: exactly what was written, in types.

A document keeps the difference between one string and a list of one, the spelling of condition keys, and numbers or
booleans written bare, so that printing gives back the JSON value that was read.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from medley.policy.iam.operators import Operator

Scalar = str | bool | int | float
"""A condition value as written; compared as text."""


class Effect(Enum):
    """What a statement does to the requests it matches."""

    ALLOW = "Allow"
    DENY = "Deny"


class Form(Enum):
    """How an element that may hold one value or several was written."""

    ONE = "one"
    LIST = "list"


class Sense(Enum):
    """Action or NotAction, Resource or NotResource, Principal or NotPrincipal."""

    IN = ""
    NOT_IN = "Not"


class DocumentKind(Enum):
    """Where a document is attached. A trust policy is the resource policy of a role."""

    IDENTITY = "identity"
    RESOURCE = "resource"
    BOUNDARY = "boundary"


class PrincipalType(Enum):
    """The keys of a Principal element."""

    AWS = "AWS"
    SERVICE = "Service"
    FEDERATED = "Federated"
    CANONICAL_USER = "CanonicalUser"


@dataclass(frozen=True, slots=True)
class Patterns:
    """An Action or Resource element: patterns with `*` and `?`, and whether the element is the Not… one."""

    items: tuple[str, ...]
    sense: Sense = Sense.IN
    form: Form = Form.LIST


@dataclass(frozen=True, slots=True)
class PrincipalEntry:
    """One line of a Principal element: a type with its identifiers."""

    type: PrincipalType
    items: tuple[str, ...]
    form: Form = Form.LIST


@dataclass(frozen=True, slots=True)
class Principals:
    """A Principal or NotPrincipal element; `everyone` is the bare `"*"`, which has no entries."""

    entries: tuple[PrincipalEntry, ...]
    sense: Sense = Sense.IN

    @property
    def everyone(self) -> bool:
        """Whether it was written as `"*"`."""
        return not self.entries


@dataclass(frozen=True, slots=True)
class Condition:
    """One test: `key` (as written; compared without case) against `values`, any of which may match."""

    operator: Operator
    key: str
    values: tuple[Scalar, ...]
    form: Form = Form.LIST


@dataclass(frozen=True, slots=True)
class Statement:
    """Matches a request when all its elements do. `resource` and `principal` may be left out in some kinds."""

    effect: Effect
    action: Patterns
    resource: Patterns | None = None
    principal: Principals | None = None
    conditions: tuple[Condition, ...] = ()
    sid: str | None = None
    empty_condition: bool = False
    """A Condition element was written without any test."""


VARIABLES_VERSION = "2012-10-17"
"""The only version in which `${…}` is a policy variable; in others it is text."""


@dataclass(frozen=True, slots=True)
class Document:
    """A policy document. `version` None: the element is absent, which means 2008-10-17."""

    statements: tuple[Statement, ...]
    version: str | None = VARIABLES_VERSION
    id: str | None = None
    form: Form = Form.LIST
    """Whether Statement was a list or one object."""

    @property
    def has_variables(self) -> bool:
        """Whether `${…}` means a policy variable."""
        return self.version == VARIABLES_VERSION

    @property
    def kind(self) -> DocumentKind:
        """RESOURCE if any statement names a principal, else IDENTITY. A boundary looks like an identity policy."""
        named = any(statement.principal is not None for statement in self.statements)
        return DocumentKind.RESOURCE if named else DocumentKind.IDENTITY
