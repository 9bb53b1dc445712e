"""Condition blocks as functions of the request's context (engine A).

Facts, from the IAM User Guide, "Condition operators" and "Set operators for multivalued context keys":
- A key that is absent fails a positive operator and satisfies a negated one; `…IfExists` is satisfied by absence.
- `ForAllValues` is satisfied by absence, `ForAnyValue` is not, negated or not.
- `ForAnyValue` with a negated operator: some value of the request matches no value of the policy.
- A variable without a value makes its pattern match nothing.
Not documented: an operator without qualifier on a key that holds several values. Here a positive one needs some value
to match, a negated one needs that none does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

from medley.policy.glob import Glob, Matcher, arn_glob, matcher, substitute, text_glob
from medley.policy.iam.document import Condition
from medley.policy.iam.operators import Base, Domain, Operator, Qualifier
from medley.policy.iam.request import ascii_lower
from medley.policy.iam.values import address_of, binary_of, instant_of, number_of, range_of, text_of

Context = Mapping[str, tuple[str, ...]]
ConditionTest = Callable[[Context], bool]


def string_globs(operator: Operator, values: Sequence[str], *, variables: bool) -> tuple[Glob, ...]:
    """Patterns of a String, Arn, Bool or Binary operator; which of them match is what the operator asks."""
    base = operator.base
    if base.value.startswith("Arn"):
        found = (arn_glob(value, variables=variables) for value in values)
        return tuple(glob for glob in found if glob is not None)
    if base is Base.BINARY_EQUALS:
        return tuple(text_glob(binary_of(value) or "", wildcards=False, variables=False) for value in values)
    fold = base in (Base.STRING_EQUALS_IGNORE_CASE, Base.STRING_NOT_EQUALS_IGNORE_CASE, Base.BOOL)
    wildcards = base in (Base.STRING_LIKE, Base.STRING_NOT_LIKE)
    return tuple(text_glob(value, wildcards=wildcards, variables=variables, fold=fold) for value in values)


def absent_result(operator: Operator) -> bool:
    """What the operator says of an absent key (not for Null)."""
    if operator.if_exists or operator.qualifier is Qualifier.FOR_ALL_VALUES:
        return True
    return operator.qualifier is Qualifier.NONE and operator.negated


def needs_all(operator: Operator) -> bool:
    """Whether every value of the request must pass, rather than some value."""
    if operator.qualifier is Qualifier.NONE:
        return operator.negated
    return operator.qualifier is Qualifier.FOR_ALL_VALUES


def condition_test(condition: Condition, *, variables: bool) -> ConditionTest:
    """The condition as a function of the context, whose keys are in lower case."""
    operator, key = condition.operator, ascii_lower(condition.key)
    texts = tuple(text_of(value) for value in condition.values)
    if operator.base is Base.NULL:
        wanted = {ascii_lower(text) for text in texts}
        return lambda context: ("false" if context.get(key) else "true") in wanted
    if operator.domain is Domain.STRING:
        globs = string_globs(operator, texts, variables=variables)
        if any(glob.variables for glob in globs):
            return _quantified(operator, key, lambda context: _with_variables(globs, context))
        match = matcher(globs)
    else:
        match = _ranges(operator, texts)
    if operator.base is Base.BINARY_EQUALS:
        inner = match
        return _fixed(operator, key, lambda value: inner(binary_of(value) or value))
    return _fixed(operator, key, match)


def _fixed(operator: Operator, key: str, match: Matcher) -> ConditionTest:
    absent, negated, every = absent_result(operator), operator.negated, needs_all(operator)

    def test(context: Context) -> bool:
        values = context.get(key)
        if not values:
            return absent
        if len(values) == 1:
            return match(values[0]) is not negated
        passed = (match(value) is not negated for value in values)
        return all(passed) if every else any(passed)

    return test


def _quantified(operator: Operator, key: str, match_in: Callable[[Context], Matcher]) -> ConditionTest:
    def test(context: Context) -> bool:
        return _fixed(operator, key, match_in(context))(context)

    return test


def _with_variables(globs: tuple[Glob, ...], context: Context) -> Matcher:
    keys = sorted(frozenset().union(*(glob.variables for glob in globs)))
    return resolved_matcher(globs, tuple((key, single_value(context, key)) for key in keys))


def single_value(context: Context, key: str) -> str | None:
    """The value that a variable stands for: that of a key with exactly one."""
    values = context.get(key)
    return values[0] if values is not None and len(values) == 1 else None


@lru_cache(maxsize=4096)
def resolved_matcher(globs: tuple[Glob, ...], values: tuple[tuple[str, str | None], ...]) -> Matcher:
    """A matcher of patterns whose variables have these values."""
    known = dict(values)
    found = (substitute(glob, known) for glob in globs)
    return matcher([glob for glob in found if glob is not None])


def _ranges(operator: Operator, texts: Sequence[str]) -> Matcher:
    if operator.domain is Domain.IP:
        ranges = [found for found in map(range_of, texts) if found is not None]

        def inside(value: str) -> bool:
            address = address_of(value)
            if address is None:
                return False
            return any(version == address[0] and low <= address[1] <= high for version, low, high in ranges)

        return inside
    read = number_of if operator.domain is Domain.NUMERIC else instant_of
    bounds = [found for found in map(read, texts) if found is not None]
    compare = _COMPARE[operator.base.value.removeprefix("Numeric").removeprefix("Date").removeprefix("Not")]

    def holds(value: str) -> bool:
        number = read(value)
        return number is not None and any(compare(number, bound) for bound in bounds)

    return holds


_COMPARE: dict[str, Callable[[Fraction, Fraction], bool]] = {
    "Equals": lambda number, bound: number == bound,
    "LessThan": lambda number, bound: number < bound,
    "LessThanEquals": lambda number, bound: number <= bound,
    "GreaterThan": lambda number, bound: number > bound,
    "GreaterThanEquals": lambda number, bound: number >= bound,
}
