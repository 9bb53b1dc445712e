"""Regions: sets of requests, as clauses.

A region names actions, resources, callers and keys; what it does not name is free. A closed region has no key beyond
those it names.
"""

from __future__ import annotations

from medley.policy.clauses import (
    ACTION,
    CALLER,
    KEY,
    RESOURCE,
    Addresses,
    Clause,
    Constant,
    Interval,
    Numbers,
    Strings,
    Test,
    absence,
)
from medley.policy.glob import Glob, Text
from medley.policy.iam.document import Condition, Form
from medley.policy.iam.operators import Base, Domain, Operator
from medley.policy.iam.principals import caller_text
from medley.policy.iam.request import Caller, Request, ascii_lower
from medley.policy.iam.values import address_text, binary_of, instant_of, number_of, range_of


def exactly(dimension: str, value: str) -> Test:
    """The dimension has this one value (a key that may hold several: no other beside it)."""
    return Test(dimension, Strings((Glob((Text(value),) if value else ()),)), every=True)


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
    globs = tuple(Glob((Text(value),) if value else ()) for value in values)
    return [
        Test(dimension, Strings(globs), every=True),
        *(Test(dimension, Strings((glob,))) for glob in globs),
    ]


def caller_test(caller: Caller | None) -> Test:
    """This one caller; None: nobody, an anonymous request."""
    return exactly(CALLER, caller_text(caller))


def key_test(operator: Operator, key: str, text: str) -> Test | None:
    """The key is there and equals this value, the operator saying only of which type it is.

    An address may be a prefix: any address inside. `Null` says whether the key is there at all. None: the text is no
    value of that type.
    """
    dimension = KEY + ascii_lower(key)
    if operator.base is Base.NULL:
        wanted = ascii_lower(text)
        if wanted not in ("true", "false"):
            return None
        return absence(dimension) if wanted == "true" else Test(dimension, Constant(True))
    if operator.domain is Domain.IP:
        found = range_of(text)
        return None if found is None else Test(dimension, Addresses((found,)), every=True)
    if operator.domain in (Domain.NUMERIC, Domain.DATE):
        instants = operator.domain is Domain.DATE
        number = instant_of(text) if instants else number_of(text)
        return None if number is None else Test(dimension, Numbers((Interval(number, number),), instants), every=True)
    if operator.base is Base.BOOL:
        if ascii_lower(text) not in ("true", "false"):
            return None
        return Test(dimension, Strings((Glob((Text(ascii_lower(text), fold=True),)),)), every=True)
    if operator.base is Base.BINARY_EQUALS:
        text = binary_of(text) or text
    return exactly(dimension, text)


def equality(operator: Operator, key: str, text: str) -> Condition:
    """The condition of a policy that `key_test` asks of a request."""
    base = operator.base
    if base is Base.NULL or operator.domain is Domain.IP:
        base = Base.NULL if base is Base.NULL else Base.IP_ADDRESS
    elif operator.domain in (Domain.NUMERIC, Domain.DATE):
        base = Base.NUMERIC_EQUALS if operator.domain is Domain.NUMERIC else Base.DATE_EQUALS
    elif base not in (Base.BOOL, Base.BINARY_EQUALS):
        base = Base.STRING_EQUALS
    return Condition(Operator(base), key, (text,), Form.ONE)


def escaped(text: str) -> str:
    """A Resource pattern that matches this text alone."""
    return "".join(f"${{{character}}}" if character in "*?" else character for character in text)


def sample_values(operator: Operator, text: str) -> tuple[str, ...]:
    """Values of the set that `key_test` describes: the text, or the ends of a prefix; empty: the key is absent."""
    if operator.base is Base.NULL:
        return () if ascii_lower(text) == "true" else ("x",)
    if operator.domain is Domain.IP:
        found = range_of(text)
        assert found is not None
        version, low, high = found
        return tuple(dict.fromkeys((address_text(version, low), address_text(version, high))))
    if operator.base is Base.BOOL:
        return (ascii_lower(text),)
    return (text,)
