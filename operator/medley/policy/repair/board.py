"""Scores statements on example requests: one bit an example, so that a whole document is a few integer operations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

from medley.policy.glob import action_glob, matcher, resource_glob
from medley.policy.iam.conditions import condition_test, resolved_matcher, single_value
from medley.policy.iam.document import Condition, Effect, Patterns, Principals, Sense, Statement
from medley.policy.iam.principals import caller_text, principal_globs
from medley.policy.iam.request import Request, ascii_lower


@dataclass(frozen=True, slots=True)
class Example:
    """A request and whether it must be allowed. `weight` bits: how often it counts is left to the search."""

    request: Request
    allow: bool


class Board:
    """The examples, and remembered masks of elements on them (bit n is example n)."""

    def __init__(self, examples: Sequence[Example], *, variables: bool) -> None:
        self.examples = list(examples)
        self._variables = variables
        self.full = (1 << len(self.examples)) - 1
        self.wanted = sum(1 << number for number, example in enumerate(self.examples) if example.allow)
        self.contexts = [dict(example.request.context) for example in self.examples]
        self._actions = _positions(ascii_lower(example.request.action) for example in self.examples)
        self._resources = _positions(example.request.resource for example in self.examples)
        self._callers = _positions(caller_text(example.request.caller) for example in self.examples)
        self._masks: dict[object, int] = {}

    def statement(self, statement: Statement) -> int:
        """Examples that the statement matches."""
        mask = self.action(statement.action)
        if mask and statement.resource is not None:
            mask &= self.resource(statement.resource)
        if mask and statement.principal is not None:
            mask &= self.principal(statement.principal)
        for condition in statement.conditions:
            if not mask:
                break
            mask &= self.condition(condition)
        return mask

    def action(self, element: Patterns) -> int:
        """Examples whose action the element matches."""
        mask = reduce(or_, (self.action_pattern(item) for item in element.items), 0)
        return mask if element.sense is Sense.IN else self.full & ~mask

    def action_pattern(self, pattern: str) -> int:
        """Examples whose action a pattern matches."""
        key = ("action", pattern)
        if key not in self._masks:
            match = matcher((action_glob(pattern),))
            self._masks[key] = sum(bits for text, bits in self._actions.items() if match(text))
        return self._masks[key]

    def resource(self, element: Patterns) -> int:
        """Examples whose resource the element matches."""
        mask = reduce(or_, (self.resource_pattern(item) for item in element.items), 0)
        return mask if element.sense is Sense.IN else self.full & ~mask

    def resource_pattern(self, pattern: str) -> int:
        """Examples whose resource a pattern matches."""
        key = ("resource", pattern)
        if key not in self._masks:
            glob = resource_glob(pattern, variables=self._variables)
            if glob.variables:
                mask = 0
                for number, (example, context) in enumerate(zip(self.examples, self.contexts, strict=True)):
                    values = tuple((name, single_value(context, name)) for name in sorted(glob.variables))
                    mask |= resolved_matcher((glob,), values)(example.request.resource) << number
                self._masks[key] = mask
            else:
                match = matcher((glob,))
                self._masks[key] = sum(bits for text, bits in self._resources.items() if match(text))
        return self._masks[key]

    def principal(self, element: Principals) -> int:
        """Examples whose caller the element matches."""
        key = ("principal", element)
        if key not in self._masks:
            match = matcher(principal_globs(element))
            wanted = element.sense is Sense.IN
            self._masks[key] = sum(bits for text, bits in self._callers.items() if match(text) is wanted)
        return self._masks[key]

    def condition(self, condition: Condition) -> int:
        """Examples on which the condition holds."""
        key = ("condition", condition)
        if key not in self._masks:
            test = condition_test(condition, variables=self._variables)
            self._masks[key] = sum(test(context) << number for number, context in enumerate(self.contexts))
        return self._masks[key]

    def allowed(self, statements: Iterable[tuple[Effect, int]]) -> int:
        """Examples that statements with these masks allow."""
        allow = deny = 0
        for effect, mask in statements:
            if effect is Effect.ALLOW:
                allow |= mask
            else:
                deny |= mask
        return allow & ~deny

    def wrong(self, allowed: int) -> int:
        """Examples that go the wrong way."""
        return (allowed ^ self.wanted) & self.full

    def missing(self, statement: Statement, number: int) -> list[str]:
        """Elements that do not match an example: Action, Resource, Principal, or the index of a condition."""
        bit = 1 << number
        out = []
        if not self.action(statement.action) & bit:
            out.append("Action")
        if statement.resource is not None and not self.resource(statement.resource) & bit:
            out.append("Resource")
        if statement.principal is not None and not self.principal(statement.principal) & bit:
            out.append("Principal")
        out.extend(str(index) for index, found in enumerate(statement.conditions) if not self.condition(found) & bit)
        return out


def _positions(values: Iterable[str]) -> dict[str, int]:
    out: dict[str, int] = {}
    for number, value in enumerate(values):
        out[value] = out.get(value, 0) | 1 << number
    return out
