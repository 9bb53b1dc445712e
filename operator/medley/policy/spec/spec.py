"""An access spec: what must be allowed, and what must not.

A **floor** rule is a set of requests all of which must be allowed; keys that it does not name are absent. A **ceiling**
rule is a set of requests none of which may be allowed; what it does not name is free: a listed must-deny request
stands for every completion of it. A ceiling rule with several parts asks less: not every part may have an allowed
request (a privilege-escalation method that needs two actions).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Generic, Protocol, Self, TypeVar

from medley.policy.clauses import Clause
from medley.policy.iam.document import Statement
from medley.policy.iam.request import Request


class Side(Enum):
    """Which way a rule binds."""

    FLOOR = "floor"
    CEILING = "ceiling"


class Sided(Protocol):
    """What has a side: a rule about documents of either kind."""

    @property
    def side(self) -> Side:
        """Which way it binds."""
        ...


R = TypeVar("R", bound=Sided)


@dataclass(frozen=True, slots=True)
class Rules(Generic[R]):
    """Floor and ceiling, in the order in which they were written."""

    rules: tuple[R, ...]

    @property
    def floor(self) -> tuple[R, ...]:
        """The rules whose requests must be allowed."""
        return tuple(rule for rule in self.rules if rule.side is Side.FLOOR)

    @property
    def ceiling(self) -> tuple[R, ...]:
        """The rules whose requests must not be."""
        return tuple(rule for rule in self.rules if rule.side is Side.CEILING)

    def with_ceilings(self, others: Iterable[Rules[R]]) -> Self:
        """This spec with the ceilings of others as well."""
        return replace(self, rules=self.rules + tuple(rule for other in others for rule in other.ceiling))


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `parts` has one clause but for ceilings that need several actions together.

    `samples` are requests of the set, for the evaluator; `exact` says that they are all of it (floor only: a ceiling's
    free keys are never all tried).
    """

    id: str
    side: Side
    parts: tuple[Clause, ...]
    statements: tuple[Statement, ...]
    """For each part a statement that matches its set: with Allow it gives a floor, with Deny it shuts a ceiling."""
    samples: tuple[Request, ...] = ()
    exact: bool = False
    source: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Spec(Rules[Rule]):
    """Of IAM policies."""
