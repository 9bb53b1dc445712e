"""Regions: sets of requests, as clauses.

A region names actions, resources, callers and keys; what it does not name is free. A closed region has no key beyond
those it names.
"""

from __future__ import annotations

from medley.policy.clauses import ACTION, CALLER, KEY, RESOURCE, Clause, Strings, Test
from medley.policy.glob import Glob, Text
from medley.policy.iam.principals import caller_text
from medley.policy.iam.request import Request, ascii_lower


def exactly(dimension: str, value: str) -> Test:
    """The dimension has this one value."""
    return Test(dimension, Strings((Glob((Text(value),)),)))


def region_of(request: Request) -> Clause:
    """The region that holds one request alone."""
    tests = [
        exactly(ACTION, ascii_lower(request.action)),
        exactly(RESOURCE, request.resource),
        exactly(CALLER, caller_text(request.caller)),
    ]
    for key, values in request.context:
        tests.extend(_exactly_these(KEY + key, values))
    return Clause(tuple(tests), closed=True)


def _exactly_these(dimension: str, values: tuple[str, ...]) -> list[Test]:
    """The key holds each of the values, and no other."""
    if len(values) == 1:
        return [exactly(dimension, values[0])]
    globs = tuple(Glob((Text(value),)) for value in values)
    return [Test(dimension, Strings(globs), every=True), *(exactly(dimension, value) for value in values)]
