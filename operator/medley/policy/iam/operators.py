"""Condition operators: `[ForAllValues:|ForAnyValue:]Base[IfExists]`.

Source: IAM User Guide, "IAM JSON policy elements: Condition operators". Operator names are case-sensitive here: a
spelling that AWS might accept but documents nowhere is refused rather than guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache


class Domain(Enum):
    """What the values that an operator compares are."""

    STRING = "string"
    NUMERIC = "numeric"
    DATE = "date"
    IP = "ip"
    NULL = "null"


class Qualifier(Enum):
    """How an operator reads a key that holds several values."""

    NONE = ""
    FOR_ALL_VALUES = "ForAllValues"
    FOR_ANY_VALUE = "ForAnyValue"


class Base(Enum):
    """The comparison itself."""

    STRING_EQUALS = "StringEquals"
    STRING_NOT_EQUALS = "StringNotEquals"
    STRING_EQUALS_IGNORE_CASE = "StringEqualsIgnoreCase"
    STRING_NOT_EQUALS_IGNORE_CASE = "StringNotEqualsIgnoreCase"
    STRING_LIKE = "StringLike"
    STRING_NOT_LIKE = "StringNotLike"
    NUMERIC_EQUALS = "NumericEquals"
    NUMERIC_NOT_EQUALS = "NumericNotEquals"
    NUMERIC_LESS_THAN = "NumericLessThan"
    NUMERIC_LESS_THAN_EQUALS = "NumericLessThanEquals"
    NUMERIC_GREATER_THAN = "NumericGreaterThan"
    NUMERIC_GREATER_THAN_EQUALS = "NumericGreaterThanEquals"
    DATE_EQUALS = "DateEquals"
    DATE_NOT_EQUALS = "DateNotEquals"
    DATE_LESS_THAN = "DateLessThan"
    DATE_LESS_THAN_EQUALS = "DateLessThanEquals"
    DATE_GREATER_THAN = "DateGreaterThan"
    DATE_GREATER_THAN_EQUALS = "DateGreaterThanEquals"
    BOOL = "Bool"
    BINARY_EQUALS = "BinaryEquals"
    IP_ADDRESS = "IpAddress"
    NOT_IP_ADDRESS = "NotIpAddress"
    ARN_EQUALS = "ArnEquals"
    ARN_LIKE = "ArnLike"
    ARN_NOT_EQUALS = "ArnNotEquals"
    ARN_NOT_LIKE = "ArnNotLike"
    NULL = "Null"


NEGATED = frozenset(
    {
        Base.STRING_NOT_EQUALS,
        Base.STRING_NOT_EQUALS_IGNORE_CASE,
        Base.STRING_NOT_LIKE,
        Base.NUMERIC_NOT_EQUALS,
        Base.DATE_NOT_EQUALS,
        Base.NOT_IP_ADDRESS,
        Base.ARN_NOT_EQUALS,
        Base.ARN_NOT_LIKE,
    }
)
"""Operators that hold when the key is absent, and when no value of the policy matches."""

_BY_NAME = {base.value: base for base in Base}


@dataclass(frozen=True, slots=True)
class Operator:
    """A condition operator. `if_exists`: holds when the key is absent."""

    base: Base
    qualifier: Qualifier = Qualifier.NONE
    if_exists: bool = False

    @property
    def negated(self) -> bool:
        """Whether it is one of the Not… operators."""
        return self.base in NEGATED

    @property
    def domain(self) -> Domain:
        """What it compares; Bool, Binary and Arn operators compare strings."""
        return _domain(self.base)

    def __str__(self) -> str:
        qualifier = f"{self.qualifier.value}:" if self.qualifier is not Qualifier.NONE else ""
        return f"{qualifier}{self.base.value}{'IfExists' if self.if_exists else ''}"


@cache
def _domain(base: Base) -> Domain:
    if base.value.startswith("Numeric"):
        return Domain.NUMERIC
    if base.value.startswith("Date"):
        return Domain.DATE
    if base in (Base.IP_ADDRESS, Base.NOT_IP_ADDRESS):
        return Domain.IP
    return Domain.NULL if base is Base.NULL else Domain.STRING


def parse_operator(name: str) -> Operator | None:
    """The operator of that name, or None. `Null` takes neither IfExists nor a qualifier."""
    rest = name
    qualifier = Qualifier.NONE
    for candidate in (Qualifier.FOR_ALL_VALUES, Qualifier.FOR_ANY_VALUE):
        if rest.startswith(f"{candidate.value}:"):
            qualifier, rest = candidate, rest[len(candidate.value) + 1 :]
            break
    if_exists = rest.endswith("IfExists")
    base = _BY_NAME.get(rest.removesuffix("IfExists"))
    if base is None or (base is Base.NULL and rest != name) or (base is Base.NULL and if_exists):
        return None
    return Operator(base, qualifier, if_exists)
