"""Engine A: decides one request, in microseconds.

Documents are compiled once: every element becomes a function, and the statements that can match an action are
remembered by action. Nothing here is shared with the engines that prove (`clauses`) except how patterns are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from medley.policy.glob import Glob, Matcher, action_glob, matcher, resource_glob
from medley.policy.iam.conditions import ConditionTest, Context, condition_test, resolved_matcher, single_value
from medley.policy.iam.document import Document, Effect, Patterns, Principals, Sense, Statement
from medley.policy.iam.policyset import Grant, Layer, Matched, PolicySet, allows, alone, split_grants
from medley.policy.iam.principals import caller_text, principal_globs
from medley.policy.iam.request import Decision, Request, ascii_lower

_REMEMBERED_ACTIONS = 4096


@dataclass(frozen=True, slots=True)
class StatementRef:
    """A statement by its layer, the number of its document within the layer, and its number within the document."""

    layer: Layer
    document: int
    statement: int


class CompiledStatement:
    """One statement as functions."""

    __slots__ = (
        "_conditions", "_not_action", "_not_principal", "_not_resource", "_principal", "_resource",
        "_resource_variables", "action", "effect",
    )  # fmt: skip

    def __init__(self, statement: Statement, *, variables: bool) -> None:
        self.effect = statement.effect
        self.action = matcher([action_glob(pattern) for pattern in statement.action.items])
        self._not_action = statement.action.sense is Sense.NOT_IN
        self._resource, self._resource_variables = _resource_matcher(statement.resource, variables=variables)
        self._not_resource = statement.resource is not None and statement.resource.sense is Sense.NOT_IN
        self._principal = _principal_matcher(statement.principal)
        self._not_principal = statement.principal is not None and statement.principal.sense is Sense.NOT_IN
        self._conditions: tuple[ConditionTest, ...] = tuple(
            condition_test(condition, variables=variables) for condition in statement.conditions
        )

    def matches_action(self, action: str) -> bool:
        """Whether the Action element matches an action in lower case."""
        return self.action(action) is not self._not_action

    def matches_rest(self, resource: str, caller: str, context: Context) -> bool:
        """Whether the other elements match."""
        if self._resource is not None:
            if self._resource(resource) is self._not_resource:
                return False
        elif self._resource_variables is not None and self._variable_resource(resource, context) is self._not_resource:
            return False
        if self._principal is not None and self._principal(caller) is self._not_principal:
            return False
        for condition in self._conditions:  # noqa: SIM110  (a generator would double the time)
            if not condition(context):
                return False
        return True

    def _variable_resource(self, resource: str, context: Context) -> bool:
        assert self._resource_variables is not None
        globs, keys = self._resource_variables
        return resolved_matcher(globs, tuple((key, single_value(context, key)) for key in keys))(resource)


VariableGlobs = tuple[tuple[Glob, ...], tuple[str, ...]]
"""Patterns with variables, and the keys that they need."""


def _resource_matcher(element: Patterns | None, *, variables: bool) -> tuple[Matcher | None, VariableGlobs | None]:
    if element is None:
        return None, None
    globs = tuple(resource_glob(pattern, variables=variables) for pattern in element.items)
    keys = tuple(sorted(frozenset[str]().union(*(glob.variables for glob in globs))))
    return (None, (globs, keys)) if keys else (matcher(globs), None)


def _principal_matcher(element: Principals | None) -> Matcher | None:
    return None if element is None else matcher(principal_globs(element))


class Evaluator:
    """Decides requests by a set of documents."""

    def __init__(self, policies: PolicySet | Document) -> None:
        self.policies = alone(policies) if isinstance(policies, Document) else policies
        self._simple = self.policies.boundary is None and (self.policies.resource is None or not self.policies.identity)
        self._statements: list[tuple[StatementRef, Grant, CompiledStatement]] = []
        numbers: dict[Layer, int] = {}
        for layer, document in self.policies.layers():
            number = numbers[layer] = numbers.get(layer, -1) + 1
            for index, statement in enumerate(document.statements):
                ref = StatementRef(layer, number, index)
                parts = [(Grant.DIRECT, statement)]
                if layer is Layer.RESOURCE and not self._simple:
                    parts = split_grants(statement)
                for grant, part in parts:
                    compiled = CompiledStatement(part, variables=document.has_variables)
                    self._statements.append((ref, grant, compiled))
        self._statements.sort(key=lambda item: item[2].effect is Effect.ALLOW)
        self._by_action: dict[str, tuple[tuple[StatementRef, Grant, CompiledStatement], ...]] = {}

    def decide(self, request: Request) -> Decision:
        """The decision on a request."""
        found = self._by_action.get(request.action)
        if found is None:
            found = self._for_action(request.action)
        context = dict(request.context)
        caller = caller_text(request.caller)
        if not self._simple:
            return self._decide_layers(found, request.resource, caller, context)
        for _, _, statement in found:
            if statement.matches_rest(request.resource, caller, context):
                return Decision.ALLOWED if statement.effect is Effect.ALLOW else Decision.EXPLICIT_DENY
        return Decision.IMPLICIT_DENY

    def allows(self, request: Request) -> bool:
        """Whether the request goes through."""
        return self.decide(request) is Decision.ALLOWED

    def matching(self, request: Request) -> Iterator[tuple[StatementRef, Effect]]:
        """Every statement that matches the request, deny statements first."""
        context, caller = dict(request.context), caller_text(request.caller)
        seen = set()
        for ref, _, statement in self._for_action(request.action):
            if ref not in seen and statement.matches_rest(request.resource, caller, context):
                seen.add(ref)
                yield ref, statement.effect

    def _for_action(self, action: str) -> tuple[tuple[StatementRef, Grant, CompiledStatement], ...]:
        lowered = ascii_lower(action)
        found = tuple(item for item in self._statements if item[2].matches_action(lowered))
        if len(self._by_action) >= _REMEMBERED_ACTIONS:
            self._by_action.clear()
        self._by_action[action] = found
        return found

    def _decide_layers(
        self,
        found: tuple[tuple[StatementRef, Grant, CompiledStatement], ...],
        resource: str,
        caller: str,
        context: Context,
    ) -> Decision:
        matched = set()
        for ref, grant, statement in found:
            if statement.matches_rest(resource, caller, context):
                if statement.effect is Effect.DENY:
                    return Decision.EXPLICIT_DENY
                matched.add((ref.layer, grant))
        facts = Matched(
            deny=False,
            identity=(Layer.IDENTITY, Grant.DIRECT) in matched,
            boundary=(Layer.BOUNDARY, Grant.DIRECT) in matched,
            direct=(Layer.RESOURCE, Grant.DIRECT) in matched,
            role=(Layer.RESOURCE, Grant.ROLE) in matched,
            account=(Layer.RESOURCE, Grant.ACCOUNT) in matched,
            caller_is_root=caller.endswith(":root"),
        )
        return Decision.ALLOWED if allows(self.policies, facts) else Decision.IMPLICIT_DENY
