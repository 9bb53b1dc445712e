"""A question as Z3 constraints, and Z3's model as a request."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import z3

from medley.policy.answers import Answer, Empty, Found, TooLarge, Unknown, Values, read_as
from medley.policy.atoms.dimension import holds_several, is_boolean
from medley.policy.atoms.product import variables_of
from medley.policy.clauses import (
    KEY,
    Addresses,
    All,
    AnyOf,
    Clause,
    Constant,
    Formula,
    Not,
    Numbers,
    Question,
    Strings,
    Test,
)
from medley.policy.glob import EVERYTHING, Glob, Text, matcher
from medley.policy.iam.reading import request_of
from medley.policy.iam.request import Request
from medley.policy.iam.values import address_of, address_text, instant_of, instant_text, number_of, number_text
from medley.policy.smt.patterns import Value, matches, regular_expression
from medley.policy.smt.texts import TextSplitter, string_value, universe

TIMEOUT_MS = 5000
"""Default time limit of one question."""
MAX_PATTERNS = 4000
"""Patterns of a question; the largest policy that AWS takes has some 1,000. Z3's time limit does not cover building."""
MAX_VALUES = 16
"""Values of a key that holds several; more tests than that on one key are answered Unknown."""


def find(question: Question, timeout_ms: int = TIMEOUT_MS) -> Answer[Request]:
    """A request to AWS for which the question's formula holds, by Z3."""
    return read_as(find_values(question, timeout_ms), request_of)


def find_values(question: Question, timeout_ms: int = TIMEOUT_MS) -> Answer[Values]:
    """Values for which the question's formula holds, by Z3. A time-out is Unknown."""
    try:
        encoding = _Encoding(question)
    except TooLarge as error:
        return Unknown(f"engine C: {error}")
    solver = z3.Solver()
    solver.set("timeout", timeout_ms)
    solver.add(*encoding.constraints)
    verdict = solver.check()
    if verdict == z3.unsat:
        return Empty()
    if verdict == z3.unknown:
        reason = solver.reason_unknown()
        limit = f"no answer within {timeout_ms} ms"
        return Unknown(f"engine C: {limit if reason in ('timeout', 'canceled') else reason}")
    return Found(encoding.values(solver.model()))


class _Text:
    """One text (a dimension's, or one value of a key) with the answers of every test on it."""

    def __init__(self, dimension: str, name: str, tests: Sequence[Test], value_of: Value, *, whole: bool) -> None:
        self.constraints: list[z3.BoolRef] = []
        self.whole: z3.SeqRef | None = None
        self._inside: dict[Test, z3.BoolRef] = {}
        stringy = [test for test in tests if isinstance(test.values, Strings)]
        if any(is_boolean(test) for test in tests) and dimension.startswith(KEY):
            self._boolean(name, stringy)
        elif any(glob.variables for test in stringy for glob in _globs(test)) or whole:
            self._related(dimension, name, stringy, value_of)
        else:
            splitter = TextSplitter(dimension, name)
            node = splitter.node([frozenset(glob.parts for glob in _globs(test)) for test in stringy])
            self._inside = dict(zip(stringy, node.passes, strict=True))
            self.constraints = splitter.constraints
            self.read = node.read

    def _boolean(self, name: str, tests: Sequence[Test]) -> None:
        truth = z3.Bool(f"{name}.true")
        for test in tests:
            match = matcher(_globs(test))
            self._inside[test] = z3.If(truth, z3.BoolVal(match("true")), z3.BoolVal(match("false")))
        self.read = lambda model: "true" if _true(model, truth) else "false"

    def _related(self, dimension: str, name: str, tests: Sequence[Test], value_of: Value) -> None:
        whole = self.whole = z3.String(f"{name}.text")
        self.constraints.extend(universe(dimension, "", whole))
        for test in tests:
            plain = [regular_expression(glob.parts) for glob in _globs(test) if not glob.variables]
            found = [matches(glob, whole, value_of) for glob in _globs(test) if glob.variables]
            if plain:
                found.append(z3.InRe(whole, plain[0] if len(plain) == 1 else z3.Union(*plain)))
            self._inside[test] = z3.Or(*found) if found else z3.BoolVal(False)
        self.read = lambda model: string_value(model, whole)

    def inside(self, test: Test) -> z3.BoolRef:
        """Whether one of the test's patterns matches."""
        return self._inside[test]


def _globs(test: Test) -> tuple[Glob, ...]:
    assert isinstance(test.values, Strings)
    return test.values.globs


class _Value:
    """One value of a key, as far as the tests look at it: text, number, address."""

    def __init__(self, dimension: str, name: str, tests: Sequence[Test], value_of: Value, *, variable: bool) -> None:
        kinds = {type(test.values) for test in tests} - {Constant}
        instants = {test.values.instants for test in tests if isinstance(test.values, Numbers)}
        self.used = z3.Bool(f"{name}.used")
        self.number = z3.Real(f"{name}.number")
        self.address = z3.BitVec(f"{name}.address", 128)
        self.version6 = z3.Bool(f"{name}.v6")
        self.is_number = z3.Bool(f"{name}.is_number")
        self.is_address = z3.Bool(f"{name}.is_address")
        self.kinds = kinds
        self.mixed = len(kinds) > 1
        self._instants = True in instants
        self.constraints: list[z3.BoolRef] = []
        if Addresses in kinds:
            self.constraints.append(z3.Or(self.version6, z3.ULE(self.address, z3.BitVecVal(2**32 - 1, 128))))
        if variable and kinds - {Strings}:
            raise TooLarge(f"the variable {dimension.removeprefix(KEY)} is also compared as something other than text")
        self._named: dict[str, Test] = {}
        if self.mixed:
            if len(instants) > 1:
                raise TooLarge(f"{dimension} is compared as values of several types")
            self._named = {text: Test(dimension, Strings((Glob((Text(text),)),))) for text in _outright(tests)}
        self.text: _Text | None = None
        if Strings in kinds or variable or not kinds:
            asked = list(dict.fromkeys((*tests, *self._named.values())))
            self.text = _Text(dimension, name, asked, value_of, whole=variable)
            if variable and self.text.whole is None:
                raise TooLarge(f"the variable {dimension.removeprefix(KEY)} is also compared with true or false")
            self.constraints.extend(self.text.constraints)
        if self.mixed:
            self._link()
        else:
            self.constraints.extend((self.is_number, self.is_address))

    def _link(self) -> None:
        """A text that is named has the number and address it spells; another may have one of them, or none."""
        assert self.text is not None
        read = instant_of if self._instants else number_of
        for text, test in self._named.items():
            number, address = read(text), address_of(text)
            facts = [self.is_number == (number is not None), self.is_address == (address is not None)]
            if number is not None:
                facts.append(self.number == _real(number))
            if address is not None:
                facts.extend((self.version6 == (address[0] == 6), self.address == z3.BitVecVal(address[1], 128)))
            self.constraints.append(z3.Implies(self.text.inside(test), z3.And(*facts)))
        self.constraints.append(z3.Not(z3.And(self.is_number, self.is_address)))

    def read(self, model: z3.ModelRef) -> str:
        """The value as text."""
        if self.mixed and self.text is not None:
            text = self.text.read(model)
            if text in self._named:
                return text
        if Numbers in self.kinds and _true(model, self.is_number):
            number = model.eval(self.number, model_completion=True)
            value = Fraction(number.numerator_as_long(), number.denominator_as_long())
            spelt = instant_text(value) if self._instants else number_text(value)
            while spelt in self._named:
                spelt = spelt + "0" if "." in spelt else spelt + ".0"
            return spelt
        if Addresses in self.kinds and _true(model, self.is_address):
            number = model.eval(self.address, model_completion=True).as_long()
            return address_text(6 if _true(model, self.version6) else 4, number)
        return self.text.read(model) if self.text is not None else "x"


def _outright(tests: Sequence[Test]) -> list[str]:
    """The texts that the tests name, none of which may have a wildcard."""
    named: set[str] = set()
    for test in tests:
        for glob in _globs(test) if isinstance(test.values, Strings) else ():
            part = glob.parts[0] if len(glob.parts) == 1 else None
            if not glob.parts:
                named.add("")
            elif isinstance(part, Text):
                named.add(part.text)
            elif glob != EVERYTHING:
                raise TooLarge(f"{test.dimension} is compared both as text with wildcards and otherwise")
    return sorted(named)


class _Encoding:
    def __init__(self, question: Question) -> None:
        patterns = sum(
            len(test.values.globs)
            for clause in question.clauses
            for test in clause.tests
            if isinstance(test.values, Strings)
        )
        if patterns > MAX_PATTERNS:
            raise TooLarge(f"there are {patterns:,} patterns, more than {MAX_PATTERNS:,}")
        self.constraints: list[z3.BoolRef] = []
        self._texts: dict[str, _Text] = {}
        self._keys: dict[str, list[_Value]] = {}
        self._variables = frozenset(KEY + key for key in variables_of(question))
        by_dimension: dict[str, dict[Test, None]] = {name: {} for name in self._variables}
        for clause in question.clauses:
            for test in clause.tests:
                by_dimension.setdefault(test.dimension, {})[test] = None
        # Values that each make one "some value" test true, or one "every value" test false, are enough.
        self._slots = {
            dimension: max(1, len(tests)) if holds_several(dimension, list(tests)) else 1
            for dimension, tests in by_dimension.items()
        }
        for dimension in sorted(by_dimension):
            tests = list(by_dimension[dimension])
            if dimension.startswith(KEY):
                self._declare(dimension, tests)
            else:
                self._texts[dimension] = _Text(dimension, dimension, tests, self._single, whole=False)
                self.constraints.extend(self._texts[dimension].constraints)
        clauses = [z3.Bool(f"clause{number}") for number in range(len(question.clauses))]
        for variable, clause in zip(clauses, question.clauses, strict=True):
            self.constraints.append(variable == self._clause(clause))
        self.constraints.append(_formula(question.formula, clauses))

    def _declare(self, dimension: str, tests: list[Test]) -> None:
        number = self._slots[dimension]
        if number > MAX_VALUES:
            raise TooLarge(f"{dimension} holds several values and has more than {MAX_VALUES} tests")
        variable = dimension in self._variables
        self._keys[dimension] = [
            _Value(dimension, f"{dimension}.{n}", tests, self._single, variable=variable) for n in range(number)
        ]
        for value in self._keys[dimension]:
            self.constraints.extend(value.constraints)

    def _clause(self, clause: Clause) -> z3.BoolRef:
        return z3.And(*(self._test(test) for test in clause.tests)) if clause.tests else z3.BoolVal(True)

    def _test(self, test: Test) -> z3.BoolRef:
        if test.dimension in self._texts:
            inside = self._texts[test.dimension].inside(test)
            return z3.Not(inside) if test.complement else inside
        values = self._keys[test.dimension]
        passes = []
        for value in values:
            inside = self._inside(test, value)
            passes.append(z3.Not(inside) if test.complement else inside)
        present = z3.Or(*(value.used for value in values))
        if test.every:
            holds = z3.And(*(z3.Implies(v.used, found) for v, found in zip(values, passes, strict=True)))
        else:
            holds = z3.Or(*(z3.And(v.used, found) for v, found in zip(values, passes, strict=True)))
        return z3.If(present, holds, z3.BoolVal(test.absent))

    def _inside(self, test: Test, value: _Value) -> z3.BoolRef:
        found = test.values
        if isinstance(found, Constant):
            return z3.BoolVal(found.holds)
        if isinstance(found, Strings):
            assert value.text is not None
            return value.text.inside(test)
        if isinstance(found, Addresses):
            ranges = [
                z3.And(
                    value.version6 == (version == 6),
                    z3.UGE(value.address, z3.BitVecVal(low, 128)),
                    z3.ULE(value.address, z3.BitVecVal(high, 128)),
                )
                for version, low, high in found.ranges
            ]
            return z3.And(value.is_address, z3.Or(*ranges) if ranges else z3.BoolVal(False))
        intervals = []
        for interval in found.intervals:
            bounds = []
            if interval.low is not None:
                low = _real(interval.low)
                bounds.append(value.number >= low if interval.closed else value.number > low)
            if interval.high is not None:
                high = _real(interval.high)
                bounds.append(value.number <= high if interval.closed else value.number < high)
            intervals.append(z3.And(*bounds))
        return z3.And(value.is_number, z3.Or(*intervals) if intervals else z3.BoolVal(False))

    def _single(self, key: str) -> tuple[z3.BoolRef, z3.SeqRef]:
        # By name: the value may be that of a key whose own tests are being written down.
        dimension = KEY + key
        used = [z3.Bool(f"{dimension}.{number}.used") for number in range(self._slots[dimension])]
        whole = z3.String(f"{dimension}.0.text")
        if len(used) == 1:
            return used[0], whole
        # Which value it is does not matter: the first is used whenever any is.
        others = z3.Or(*used[1:])
        self.constraints.append(z3.Implies(others, used[0]))
        return z3.And(used[0], z3.Not(others)), whole

    def values(self, model: z3.ModelRef) -> Values:
        """The values that a model describes."""
        out: dict[str, tuple[str, ...]] = {name: (found.read(model),) for name, found in self._texts.items()}
        for dimension, values in self._keys.items():
            texts = tuple(dict.fromkeys(value.read(model) for value in values if _true(model, value.used)))
            if texts:
                out[dimension] = texts
        return out


def _formula(formula: Formula, clauses: list[z3.BoolRef]) -> z3.BoolRef:
    if isinstance(formula, AnyOf):
        found = [clause for number, clause in enumerate(clauses) if formula.mask >> number & 1]
        return z3.Or(*found) if found else z3.BoolVal(False)
    if isinstance(formula, Not):
        return z3.Not(_formula(formula.inner, clauses))
    inner = [_formula(part, clauses) for part in formula.inner]
    if isinstance(formula, All):
        return z3.And(*inner) if inner else z3.BoolVal(True)
    return z3.Or(*inner) if inner else z3.BoolVal(False)


def _real(value: Fraction) -> z3.RatNumRef:
    return z3.RealVal(f"{value.numerator}/{value.denominator}")


def _true(model: z3.ModelRef, term: z3.BoolRef) -> bool:
    return bool(z3.is_true(model.eval(term, model_completion=True)))
