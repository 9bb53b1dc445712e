"""Whether one request lies in a region: the clauses read directly, without any engine."""

from __future__ import annotations

from medley.policy.clauses import ACTION, CALLER, KEY, RESOURCE, Addresses, Clause, Numbers, Strings, Test, ValueSet
from medley.policy.glob import matcher
from medley.policy.iam.principals import caller_text
from medley.policy.iam.request import Request, ascii_lower
from medley.policy.iam.values import address_of, instant_of, number_of


def lies_in(region: Clause, request: Request) -> bool:
    """Whether the region, whose patterns have no variables, holds the request."""
    values: dict[str, tuple[str, ...]] = {KEY + key: found for key, found in request.context}
    if region.closed and not values.keys() <= {test.dimension for test in region.tests}:
        return False
    values[ACTION] = (ascii_lower(request.action),)
    values[RESOURCE] = (request.resource,)
    values[CALLER] = (caller_text(request.caller),)
    return all(passes(test, values.get(test.dimension, ())) for test in region.tests)


def passes(test: Test, values: tuple[str, ...]) -> bool:
    """Whether the values of a dimension pass a test; none: the key is absent."""
    if not values:
        return test.absent
    found = (contains(test.values, value) is not test.complement for value in values)
    return all(found) if test.every else any(found)


def contains(values: ValueSet, text: str) -> bool:
    """Whether a value set without variables holds a text."""
    if isinstance(values, Strings):
        return matcher(values.globs)(text)
    if isinstance(values, Numbers):
        number = instant_of(text) if values.instants else number_of(text)
        return number is not None and any(interval.contains(number) for interval in values.intervals)
    if isinstance(values, Addresses):
        address = address_of(text)
        return address is not None and any(
            version == address[0] and low <= address[1] <= high for version, low, high in values.ranges
        )
    return values.holds
