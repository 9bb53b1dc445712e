"""Searches the product of the dimensions' options, remembering by which clauses are still alive.

A path picks an option in each dimension. A clause dies as soon as one of its tests fails; what is left at the end are
the clauses that hold. Two paths that leave the same clauses alive have the same future, so the search is bounded by
the number of such sets, not by the number of paths.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from medley.policy.answers import Answer, Empty, Found, TooLarge, Unknown, Values, read_as
from medley.policy.atoms.dimension import Option, options, value_counts
from medley.policy.clauses import (
    KEY,
    All,
    AnyOf,
    Clause,
    Formula,
    Not,
    Question,
    Strings,
    Test,
    absence,
    holds,
)
from medley.policy.glob import Glob, Text, Variable, substitute
from medley.policy.iam.reading import request_of
from medley.policy.iam.request import Request

MAX_NODES = 400_000
"""Sets of alive clauses looked at; a question that needs more is answered Unknown."""
MAX_ASSIGNMENTS = 64
"""Ways to fill in the variables of a question that are tried."""
FRESH = "no-such-name"
"""The value of a variable that nothing else in the question names."""


def find(question: Question) -> Answer[Request]:
    """A request to AWS for which the question's formula holds."""
    return read_as(find_values(question), request_of)


def find_values(question: Question) -> Answer[Values]:
    """Values for which the question's formula holds.

    With policy variables a request that is found is real, but to find none proves nothing here: the answer is Unknown.
    """
    try:
        keys = variables_of(question)
        if not keys:
            values = _find(question)
            return Empty() if values is None else Found(values)
        for assignment in _assignments(question, keys):
            values = _find(_fill_in(question, assignment))
            if values is not None:
                return Found(values)
    except TooLarge as error:
        return Unknown(f"engine B: {error}")
    return Unknown(f"engine B: the policy variables {', '.join(keys)} relate two parts of the request")


def variables_of(question: Question) -> list[str]:
    """Keys that patterns of the question need the value of."""
    return sorted({key for _, glob in _globs(question) for key in glob.variables})


def _globs(question: Question) -> Iterator[tuple[str, Glob]]:
    for clause in question.clauses:
        for test in clause.tests:
            if isinstance(test.values, Strings):
                for glob in test.values.globs:
                    yield test.dimension, glob


def _find(question: Question) -> Values | None:
    order, tables = _tables(question)
    path = _Search(question, tables).run()
    return None if path is None else dict(zip(order, path, strict=True))


def _tables(question: Question) -> tuple[list[str], list[tuple[Option, ...]]]:
    """Dimensions with few options first: they rule out most clauses early."""
    found = [(dimension, options(dimension, question.clauses)) for dimension in question.dimensions()]
    found.sort(key=lambda item: (len(item[1]), item[0]))
    return [dimension for dimension, _ in found], [table for _, table in found]


class _Search:
    """Depth first, with the dead ends remembered."""

    def __init__(self, question: Question, tables: list[tuple[Option, ...]]) -> None:
        self._formula = question.formula
        self._tables = tables
        self._all = (1 << len(question.clauses)) - 1
        self._dead: set[tuple[int, int]] = set()
        self._path: list[tuple[str, ...]] = []
        # Clauses that dimension i or a later one may still rule out.
        self._pending = [0] * (len(tables) + 1)
        for number in range(len(tables) - 1, -1, -1):
            doubtful = 0
            for option in tables[number]:
                doubtful |= self._all & ~option.alive
            self._pending[number] = self._pending[number + 1] | doubtful

    def run(self) -> list[tuple[str, ...]] | None:
        return self._path if self._from(0, self._all) else None

    def _from(self, number: int, alive: int) -> bool:
        if (number, alive) in self._dead:
            return False
        verdict = three_valued(self._formula, alive, alive & ~self._pending[number])
        if verdict is False:
            self._dead.add((number, alive))
            return False
        if number == len(self._tables):
            return bool(verdict)
        for option in self._tables[number]:
            self._path.append(option.values)
            if self._from(number + 1, alive & option.alive):
                return True
            self._path.pop()
        self._dead.add((number, alive))
        if len(self._dead) > MAX_NODES:
            raise TooLarge(f"more than {MAX_NODES:,} combinations of statements")
        return False


def three_valued(formula: Formula, possible: int, certain: int) -> bool | None:
    """The formula's truth where `certain` clauses hold and others of `possible` may; None: it depends on those."""
    if isinstance(formula, AnyOf):
        return True if formula.mask & certain else (None if formula.mask & possible else False)
    if isinstance(formula, Not):
        inner = three_valued(formula.inner, possible, certain)
        return None if inner is None else not inner
    stop = not isinstance(formula, All)
    unsure = False
    for part in formula.inner:
        value = three_valued(part, possible, certain)
        if value is stop:
            return stop
        unsure = unsure or value is None
    return None if unsure else not stop


# Policy variables: the values worth trying, and the question with them filled in.


def _assignments(question: Question, keys: list[str]) -> Iterator[dict[str, str | None]]:
    candidates: list[list[str | None]] = []
    for key in keys:
        found: list[str | None] = [FRESH]
        found.extend(text for text in _named_values(question, key) if text not in found)
        candidates.append([*found[:8], None])
    for number, values in enumerate(itertools.product(*candidates)):
        if number >= MAX_ASSIGNMENTS:
            return
        yield dict(zip(keys, values, strict=True))


def _named_values(question: Question, key: str) -> Iterator[str]:
    """Texts that tests name for the key, and those that make a pattern with the variable equal a text beside it."""
    texts: dict[str, list[str]] = {}
    for dimension, glob in _globs(question):
        literal = glob.literal
        if literal is not None:
            texts.setdefault(dimension, []).append(literal)
    yield from texts.get(KEY + key, [])
    for dimension, glob in _globs(question):
        if key in glob.variables:
            for text in [*texts.get(dimension, []), *_beginnings(question, dimension)]:
                value = _solve(glob, text)
                if value:
                    yield value


def _beginnings(question: Question, dimension: str) -> Iterator[str]:
    for other, glob in _globs(question):
        if other == dimension and len(glob.parts) > 1 and isinstance(glob.parts[0], Text):
            yield glob.parts[0].text


def _solve(glob: Glob, text: str) -> str | None:
    """The value that a pattern's first variable has if the text begins as the pattern does."""
    first = next(number for number, part in enumerate(glob.parts) if isinstance(part, Variable))
    before = "".join(part.text for part in glob.parts[:first] if isinstance(part, Text))
    if len(glob.parts[:first]) > 1 or not text.startswith(before):
        return None
    rest = text[len(before) :]
    after = glob.parts[first + 1] if first + 1 < len(glob.parts) else None
    if isinstance(after, Text):
        end = rest.find(after.text)
        return rest[:end] if end > 0 else rest
    return rest


def _fill_in(question: Question, values: dict[str, str | None]) -> Question:
    pins: list[Test] = []
    for key, value in values.items():
        if value is None:
            pins.append(absence(KEY + key))
        else:
            pins.append(Test(KEY + key, Strings((Glob((Text(value),) if value else ()),)), every=True))
    clauses = [
        replace(clause, tests=tuple(_fill_test(test, values) for test in clause.tests)) for clause in question.clauses
    ]
    pin = AnyOf(1 << len(clauses))
    return Question((*clauses, Clause(tuple(pins))), All((question.formula, pin)))


def _fill_test(test: Test, values: dict[str, str | None]) -> Test:
    if not isinstance(test.values, Strings):
        return test
    globs = (substitute(glob, values) for glob in test.values.globs)
    return replace(test, values=Strings(tuple(glob for glob in globs if glob is not None)))


# Counting.


def count(question: Question) -> int | None:
    """How many requests make the formula true, over actions, resources and callers of up to 100 printable characters.

    A condition key counts once for each kind of value that the tests tell apart (absence is one): its values are not
    numbers of requests. None: the question has policy variables or passes a bound.
    """
    if variables_of(question):
        return None
    try:
        tables = [_weights(dimension, question) for dimension in question.dimensions()]
    except TooLarge:
        return None
    return _total(question, tables)


def count_kinds(question: Question) -> int | None:
    """How many kinds of requests, which the tests tell apart, make the formula true. None: it passes a bound."""
    try:
        found = [options(dimension, question.clauses) for dimension in question.dimensions()]
    except TooLarge:
        return None
    return _total(question, [{option.alive: 1 for option in table} for table in found])


def _total(question: Question, tables: list[dict[int, int]]) -> int:
    """The sum over the product of the tables, of weights by the clauses left alive."""
    memo: dict[tuple[int, int], int] = {}

    def total(number: int, alive: int) -> int:
        if number == len(tables):
            return int(holds(question.formula, alive))
        known = memo.get((number, alive))
        if known is None:
            known = sum(weight * total(number + 1, alive & mask) for mask, weight in tables[number].items())
            memo[number, alive] = known
        return known

    return total(0, (1 << len(question.clauses)) - 1)


def _weights(dimension: str, question: Question) -> dict[int, int]:
    if dimension.startswith(KEY):
        return {option.alive: 1 for option in options(dimension, question.clauses)}
    tests = tuple({test: None for clause in question.clauses for test in clause.tests if test.dimension == dimension})
    out: dict[int, int] = {}
    for accepts, number in value_counts(dimension, tests).items():
        passed = {test for n, test in enumerate(tests) if bool(accepts >> n & 1) is not test.complement}
        alive = sum(
            1 << n
            for n, clause in enumerate(question.clauses)
            if all(test in passed for test in clause.tests if test.dimension == dimension)
        )
        out[alive] = out.get(alive, 0) + number
    return out
