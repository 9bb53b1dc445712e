"""Regions: sets of requests that a spec names, with the words of a rule.

What is left out is free. Entries mean what they mean in a rule (`*`, `*/scale`, a URL's trailing `*`); with `negated`
the region has everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from medley.policy.clauses import All, AnyOf, Clause, Formula, Not, Test
from medley.policy.rbac.dimensions import (
    GROUP,
    NAME,
    NAMESPACE,
    ON_PATH,
    ON_RESOURCE,
    VERB,
    one_of,
    path_test,
    resource_tests,
)
from medley.policy.rbac.document import ALL, PolicyRule
from medley.policy.rbac.evaluate import resource_matches, url_matches
from medley.policy.rbac.questions import Space
from medley.policy.rbac.request import Caller, Request


@dataclass(frozen=True, slots=True)
class Among:
    """One of the items, or with `negated` none of them."""

    items: tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Region:
    """A set of requests; None: whatever it is. `caller` None: whoever asks; `not_caller`: whoever but this one."""

    verbs: Among | None = None
    api_groups: Among | None = None
    resources: Among | None = None
    names: Among | None = None
    namespaces: Among | None = None
    urls: Among | None = None
    caller: Caller | None = None
    not_caller: Caller | None = None

    @property
    def on_resources(self) -> bool:
        """Whether it names something that only requests for resources have."""
        return any(found is not None for found in (self.api_groups, self.resources, self.names, self.namespaces))

    def formula(self, space: Space, who: Callable[[Caller], bool] | None = None) -> Formula:
        """A formula that says that the request lies in it; with `who` by one of those in place of its caller."""
        tests: list[Test] = [*_listed(VERB, self.verbs), *_listed(GROUP, self.api_groups)]
        tests.extend(_exactly(NAME, self.names))
        tests.extend(_exactly(NAMESPACE, self.namespaces))
        if who is not None:
            tests.append(space.callers.test(who))
        elif self.caller is not None:
            tests.append(space.callers.test(lambda caller: caller == self.caller))
        if self.not_caller is not None:
            tests.append(space.callers.test(lambda caller: caller != self.not_caller))
        if self.urls is not None:
            tests.extend((ON_PATH, path_test(self.urls.items, complement=self.urls.negated)))
        if self.on_resources:
            tests.append(ON_RESOURCE)
        parts: list[Formula] = [space.builder.clause(Clause(tuple(tests)))]
        if self.resources is not None:
            found = self._resources(space)
            parts.append(Not(found) if self.resources.negated else found)
        return All(tuple(parts))

    def _resources(self, space: Space) -> AnyOf:
        assert self.resources is not None
        return space.builder.any_of(Clause(tests) for tests in resource_tests(self.resources.items))

    def contains(self, request: Request) -> bool:
        """Whether the request lies in it, read without any engine."""
        if self.caller is not None and request.caller != self.caller:
            return False
        if self.not_caller is not None and request.caller == self.not_caller:
            return False
        if request.path:
            url = _passes(self.urls, lambda items: url_matches(PolicyRule((), non_resource_urls=items), request.path))
            return not self.on_resources and url and _in_list(self.verbs, request.verb)
        whole, subresource = request.whole_resource, request.subresource
        return (
            self.urls is None
            and _in_list(self.verbs, request.verb)
            and _in_list(self.api_groups, request.api_group)
            and _passes(
                self.resources, lambda items: resource_matches(PolicyRule((), resources=items), whole, subresource)
            )
            and _passes(self.names, lambda items: request.name in items)
            and _passes(self.namespaces, lambda items: request.namespace in items)
        )


def _listed(dimension: str, among: Among | None) -> tuple[Test, ...]:
    if among is None or (ALL in among.items and not among.negated):
        return ()
    return (one_of(dimension, among.items, complement=among.negated),)


def _exactly(dimension: str, among: Among | None) -> tuple[Test, ...]:
    return () if among is None else (one_of(dimension, among.items, complement=among.negated),)


def _in_list(among: Among | None, text: str) -> bool:
    return _passes(among, lambda items: ALL in items or text in items)


def _passes(among: Among | None, inside: Callable[[tuple[str, ...]], bool]) -> bool:
    return among is None or inside(among.items) is not among.negated
