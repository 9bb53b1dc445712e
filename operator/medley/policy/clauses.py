"""Questions about all requests at once, as the engines that prove read them.

A **test** asks one dimension of a request (action, resource, caller, or one condition key) whether its values lie in a
set. A **clause** is a conjunction of tests: a statement without its effect, or a region of an access spec. A
**question** is a formula over clauses: is there a request that makes it true? "Does the document allow anything in
this region?", "does P allow what Q does not?" are questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

from medley.policy.glob import EVERYTHING, Glob, Star, Text, action_glob, resource_glob
from medley.policy.iam.conditions import absent_result, needs_all, string_globs
from medley.policy.iam.document import Condition, Document, Effect, Sense, Statement
from medley.policy.iam.operators import Base, Domain, Qualifier
from medley.policy.iam.policyset import Grant, Layer, PolicySet, Relation, alone, split_grants
from medley.policy.iam.principals import principal_globs
from medley.policy.iam.request import ascii_lower
from medley.policy.iam.values import Range, instant_of, number_of, range_of, text_of

ACTION = "action"
RESOURCE = "resource"
CALLER = "caller"
KEY = "key:"
"""Prefix of the dimensions of condition keys."""


@dataclass(frozen=True, slots=True)
class Strings:
    """Texts that one of the patterns matches."""

    globs: tuple[Glob, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """Numbers between two bounds; None: without bound."""

    low: Fraction | None
    high: Fraction | None
    closed: bool = True
    """Whether the bounds belong to it."""

    def contains(self, number: Fraction) -> bool:
        """Whether it holds the number."""
        if self.low is not None and (number < self.low or (number == self.low and not self.closed)):
            return False
        return self.high is None or number < self.high or (number == self.high and self.closed)


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers, or instants as seconds since 1970, in one of the intervals."""

    intervals: tuple[Interval, ...]
    instants: bool = False


@dataclass(frozen=True, slots=True)
class Addresses:
    """IP addresses in one of the ranges."""

    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Constant:
    """Every value, or none: for tests of presence alone."""

    holds: bool


ValueSet = Strings | Numbers | Addresses | Constant


@dataclass(frozen=True, slots=True)
class Test:
    """Whether a dimension's values are in a set, or with `complement` out of it; `every` or some value."""

    __test__ = False  # not a test of pytest's

    dimension: str
    values: ValueSet
    complement: bool = False
    every: bool = False
    absent: bool = False
    """The answer where the key is absent."""
    set_operator: bool = False
    """Written with ForAllValues or ForAnyValue: the key may hold several values."""


@dataclass(frozen=True, slots=True)
class Clause:
    """Holds for the requests that pass all tests. `closed`: keys that it does not test are absent."""

    tests: tuple[Test, ...]
    closed: bool = False


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Some clause of the mask (bit i is clause i) holds."""

    mask: int


@dataclass(frozen=True, slots=True)
class Not:
    """The inner formula does not hold."""

    inner: Formula


@dataclass(frozen=True, slots=True)
class All:
    """All inner formulas hold."""

    inner: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """Some inner formula holds."""

    inner: tuple[Formula, ...]


Formula = AnyOf | Not | All | Some


@dataclass(frozen=True, slots=True)
class Question:
    """Is there a request for which the formula over the clauses holds?"""

    clauses: tuple[Clause, ...]
    formula: Formula

    def dimensions(self) -> list[str]:
        """Dimensions that some clause tests, in order of name."""
        return sorted({test.dimension for clause in self.clauses for test in clause.tests})


def holds(formula: Formula, mask: int) -> bool:
    """The formula's truth where exactly the clauses of the mask hold."""
    if isinstance(formula, AnyOf):
        return bool(formula.mask & mask)
    if isinstance(formula, Not):
        return not holds(formula.inner, mask)
    if isinstance(formula, All):
        return all(holds(inner, mask) for inner in formula.inner)
    return any(holds(inner, mask) for inner in formula.inner)


class Builder:
    """Collects the clauses of a question; equal clauses are one."""

    def __init__(self) -> None:
        self._clauses: dict[Clause, int] = {}

    def clause(self, clause: Clause) -> AnyOf:
        """A formula that says that the clause holds."""
        return AnyOf(1 << self._clauses.setdefault(clause, len(self._clauses)))

    def any_of(self, clauses: Iterable[Clause]) -> AnyOf:
        """A formula that says that some of the clauses hold."""
        mask = 0
        for clause in clauses:
            mask |= self.clause(clause).mask
        return AnyOf(mask)

    def allowed(self, policies: PolicySet | Document) -> Formula:
        """A formula that says that the documents allow the request."""
        if isinstance(policies, Document):
            policies = alone(policies)
        by_kind: dict[tuple[Layer, Grant], list[Clause]] = {}
        denies: list[Clause] = []
        simple = policies.boundary is None and (policies.resource is None or not policies.identity)
        for layer, document in policies.layers():
            for statement in document.statements:
                if statement.effect is Effect.DENY:
                    denies.append(statement_clause(statement, document.has_variables))
                    continue
                parts = [(Grant.DIRECT, statement)]
                if layer is Layer.RESOURCE and not simple:
                    parts = split_grants(statement)
                for grant, part in parts:
                    by_kind.setdefault((layer, grant), []).append(statement_clause(part, document.has_variables))
        return All((self._allow(policies, by_kind, simple=simple), Not(self.any_of(denies))))

    def _allow(self, policies: PolicySet, by_kind: dict[tuple[Layer, Grant], list[Clause]], *, simple: bool) -> Formula:
        def kind(layer: Layer, grant: Grant = Grant.DIRECT) -> Formula:
            return self.any_of(by_kind.get((layer, grant), ()))

        if simple:
            return kind(Layer.IDENTITY if policies.resource is None else Layer.RESOURCE)
        bounded: tuple[Formula, ...] = () if policies.boundary is None else (kind(Layer.BOUNDARY),)
        identity = All((kind(Layer.IDENTITY), *bounded))
        if policies.resource is None:
            return identity
        direct, role, account = (kind(Layer.RESOURCE, grant) for grant in (Grant.DIRECT, Grant.ROLE, Grant.ACCOUNT))
        if policies.relation is Relation.CROSS_ACCOUNT:
            return All((identity, Some((direct, role, account))))
        return Some((identity, direct, All((role, *bounded)), All((account, self.clause(ROOT_CALLER)))))

    def question(self, formula: Formula) -> Question:
        """The question with all clauses so far; closed clauses get a test of absence for the keys of the others."""
        keys = {
            test.dimension for clause in self._clauses for test in clause.tests if test.dimension.startswith(KEY)
        } | {
            KEY + key
            for clause in self._clauses
            for test in clause.tests
            if isinstance(test.values, Strings)
            for glob in test.values.globs
            for key in glob.variables
        }
        return Question(tuple(_close(clause, keys) for clause in self._clauses), formula)


def _close(clause: Clause, keys: set[str]) -> Clause:
    if not clause.closed:
        return clause
    missing = sorted(keys - {test.dimension for test in clause.tests})
    return replace(clause, tests=clause.tests + tuple(absence(dimension) for dimension in missing))


def absence(dimension: str) -> Test:
    """A test that the key is absent."""
    return Test(dimension, Constant(False), absent=True)


ROOT_CALLER = Clause((Test(CALLER, Strings((Glob((Star(), Text(":root"))),))),))


@lru_cache(maxsize=4096)
def statement_clause(statement: Statement, variables: bool) -> Clause:
    """A statement's elements as tests."""
    tests = [
        Test(
            ACTION,
            Strings(tuple(action_glob(item) for item in statement.action.items)),
            complement=statement.action.sense is Sense.NOT_IN,
        )
    ]
    if statement.resource is not None:
        globs = tuple(resource_glob(item, variables=variables) for item in statement.resource.items)
        tests.append(Test(RESOURCE, Strings(globs), complement=statement.resource.sense is Sense.NOT_IN))
    if statement.principal is not None:
        globs = principal_globs(statement.principal)
        tests.append(Test(CALLER, Strings(globs), complement=statement.principal.sense is Sense.NOT_IN))
    tests.extend(_condition_tests(statement.conditions, variables))
    return Clause(tuple(test for test in tests if not _always(test)))


def _always(test: Test) -> bool:
    if test.dimension.startswith(KEY) or test.complement or not isinstance(test.values, Strings):
        return False
    return EVERYTHING in test.values.globs


def _condition_tests(conditions: Iterable[Condition], variables: bool) -> Iterator[Test]:
    for condition in conditions:
        yield from condition_tests(condition, variables)


def condition_tests(condition: Condition, variables: bool) -> Iterator[Test]:
    """The tests of one condition: one, or none where it always holds."""
    operator = condition.operator
    dimension = KEY + ascii_lower(condition.key)
    texts = tuple(text_of(value) for value in condition.values)
    if operator.base is Base.NULL:
        wanted = {ascii_lower(text) for text in texts}
        yield Test(dimension, Constant("false" in wanted), absent="true" in wanted)
        return
    yield Test(
        dimension,
        _value_set(condition, texts, variables),
        complement=operator.negated,
        every=needs_all(operator),
        absent=absent_result(operator),
        set_operator=operator.qualifier is not Qualifier.NONE,
    )


def _value_set(condition: Condition, texts: tuple[str, ...], variables: bool) -> ValueSet:
    operator = condition.operator
    if operator.domain is Domain.STRING:
        return Strings(string_globs(operator, texts, variables=variables))
    if operator.domain is Domain.IP:
        return Addresses(tuple(found for found in map(range_of, texts) if found is not None))
    instants = operator.domain is Domain.DATE
    read = instant_of if instants else number_of
    bounds = [bound for bound in map(read, texts) if bound is not None]
    return Numbers(tuple(_interval(operator.base.value, bound) for bound in bounds), instants)


def _interval(name: str, bound: Fraction) -> Interval:
    if name.endswith("LessThan"):
        return Interval(None, bound, closed=False)
    if name.endswith("LessThanEquals"):
        return Interval(None, bound)
    if name.endswith("GreaterThan"):
        return Interval(bound, None, closed=False)
    if name.endswith("GreaterThanEquals"):
        return Interval(bound, None)
    return Interval(bound, bound)
