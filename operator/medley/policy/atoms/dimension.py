"""The options that one dimension of a request offers, by which clauses each leaves alive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_

from medley.policy.answers import TooLarge
from medley.policy.atoms.ranges import address_atoms, number_atoms
from medley.policy.atoms.strings import Pattern, Universe, text_atoms, text_counts
from medley.policy.catalogue import multivalued_keys
from medley.policy.clauses import (
    ACTION,
    CALLER,
    KEY,
    RESOURCE,
    Addresses,
    Clause,
    Constant,
    Numbers,
    Strings,
    Test,
)
from medley.policy.glob import EVERYTHING, Any, Glob, Star, Text
from medley.policy.iam.principals import ANONYMOUS
from medley.policy.iam.values import address_of
from medley.policy.membership import contains

_NAME = (Any(colons=False), Star(colons=False))
ACTIONS = Universe((Glob((*_NAME, Text(":"), *_NAME)),), lower=True)
"""service:name, each without a colon."""
RESOURCES = Universe((Glob((Any(), Star())),))
"""Any text but the empty one."""
CALLERS = Universe(
    (
        Glob((Text(ANONYMOUS),)),
        *tuple(Glob((Text(f"{kind}:"), Any(), Star())) for kind in ("AWS", "Service", "Federated", "CanonicalUser")),
    )
)
TEXTS = Universe((EVERYTHING,))
BOOLEANS = Universe((Glob((Text("true"),)), Glob((Text("false"),))))
"""A key that a Bool operator tests is boolean."""

MAX_OPTIONS = 4096
"""Options of one dimension; more are answered Unknown."""

GLOBAL_MULTIVALUED_KEYS = frozenset(
    {
        "aws:tagkeys", "aws:calledvia", "aws:principalorgpaths", "aws:resourceorgpaths", "aws:sourceorgpaths",
        "aws:principalservicenameslist",
    }
)  # fmt: skip
"""Source: IAM User Guide, "AWS global condition context keys"."""


@dataclass(frozen=True, slots=True)
class Option:
    """A way to fill a dimension: `alive` are the clauses it does not rule out; `values` empty: the key is absent."""

    alive: int
    values: tuple[str, ...]


def universe_of(dimension: str, tests: Sequence[Test]) -> Universe:
    """The texts that a dimension has."""
    if dimension in (ACTION, RESOURCE, CALLER):
        return {ACTION: ACTIONS, RESOURCE: RESOURCES, CALLER: CALLERS}[dimension]
    return BOOLEANS if any(is_boolean(test) for test in tests) else TEXTS


def is_boolean(test: Test) -> bool:
    """Whether a test comes of a Bool operator: it compares with true or false, without case."""
    return isinstance(test.values, Strings) and bool(test.values.globs) and all(
        len(glob.parts) == 1
        and isinstance(glob.parts[0], Text)
        and glob.parts[0].fold
        and glob.parts[0].text.lower() in ("true", "false")
        for glob in test.values.globs
    )  # fmt: skip


def holds_several(dimension: str, tests: Sequence[Test]) -> bool:
    """Whether the key may hold several values: AWS says so, or a set operator is used on it."""
    key = dimension.removeprefix(KEY)
    return key in GLOBAL_MULTIVALUED_KEYS or key in multivalued_keys() or any(test.set_operator for test in tests)


def options(dimension: str, clauses: Sequence[Clause]) -> tuple[Option, ...]:
    """The options of a dimension: the key absent first, then shortest witnesses.

    Raises:
        TooLarge: a bound of the engine, or tests that compare one key both as text with wildcards and as a number.
    """
    by_clause = [[test for test in clause.tests if test.dimension == dimension] for clause in clauses]
    # Statements of two documents are often the same objects: those are hashed once.
    objects = {id(test): test for mine in by_clause for test in mine}
    distinct: dict[Test, Test] = {}
    same = {number: id(distinct.setdefault(test, test)) for number, test in objects.items()}
    # In an order of their own, so that a question and the same the other way round share what is worked out.
    listed = sorted(distinct, key=_order)
    bits = {id(test): 1 << number for number, test in enumerate(listed)}
    untested = sum(1 << number for number, mine in enumerate(by_clause) if not mine)
    masks = [reduce(or_, (bits[same[id(test)]] for test in mine), 0) for mine in by_clause]
    found = _options(dimension, tuple(listed))
    out: dict[int, Option] = {}
    for passed, values in found:
        alive = untested
        for number, mask in enumerate(masks):
            if mask and mask & passed == mask:
                alive |= 1 << number
        if alive not in out:
            out[alive] = Option(alive, values)
    return tuple(out.values())


def _order(test: Test) -> tuple[object, ...]:
    """A key to sort tests by; the few that it does not tell apart stay as they come."""
    flags = (test.complement, test.every, test.absent)
    globs = test.values.globs if isinstance(test.values, Strings) else ()
    ends = (globs[0], globs[-1]) if globs else ()
    return (*flags, len(globs), tuple(part.text for glob in ends for part in glob.parts if isinstance(part, Text)))


@lru_cache(maxsize=512)
def _options(dimension: str, tests: tuple[Test, ...]) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """Masks of the tests that pass together, each with values."""
    atoms = value_atoms(dimension, tests)
    out: dict[int, tuple[str, ...]] = {}
    if dimension.startswith(KEY):
        out[sum(1 << number for number, test in enumerate(tests) if test.absent)] = ()
    if not dimension.startswith(KEY) or not holds_several(dimension, tests):
        for accepts, witness in atoms:
            passed = sum(1 << n for n, test in enumerate(tests) if bool(accepts >> n & 1) is not test.complement)
            out.setdefault(passed, (witness,))
    else:
        for passed, values in _value_sets(atoms, tests):
            out.setdefault(passed, values)
    if len(out) > MAX_OPTIONS:
        raise TooLarge(f"{dimension} has more than {MAX_OPTIONS} options")
    return tuple(out.items())


def _value_sets(atoms: Sequence[tuple[int, str]], tests: Sequence[Test]) -> list[tuple[int, tuple[str, ...]]]:
    """Sets of values by the tests they pass.

    "Every value passes" is "no value fails", so all tests ask whether some value lies in a set. For a set of values
    the answers are the union of its members' answers: the sets to look at are the unions of atoms.
    """
    # Bit n of an atom's answer: it passes test n (some), or it fails test n (every).
    answers: dict[int, str] = {}
    for accepts, witness in atoms:
        answer = 0
        for number, test in enumerate(tests):
            passes = bool(accepts >> number & 1) is not test.complement
            answer |= (passes is not test.every) << number
        answers.setdefault(answer, witness)
    closed: dict[int, tuple[str, ...]] = {answer: (witness,) for answer, witness in answers.items()}
    for answer, witness in answers.items():
        for known, values in list(closed.items()):
            if known | answer not in closed:
                closed[known | answer] = (*values, witness)
                if len(closed) > MAX_OPTIONS:
                    raise TooLarge(f"a key with several values has more than {MAX_OPTIONS} kinds of value sets")
    every = sum(1 << number for number, test in enumerate(tests) if test.every)
    return [(answer ^ every, values) for answer, values in closed.items()]


def value_atoms(dimension: str, tests: Sequence[Test]) -> list[tuple[int, str]]:
    """Sets of tests whose value set holds some value together, with such a value (complements not yet applied)."""
    constants = sum(1 << n for n, test in enumerate(tests) if isinstance(test.values, Constant) and test.values.holds)
    kinds = {type(test.values) for test in tests} - {Constant}
    if len(kinds) > 1 or len({test.values.instants for test in tests if isinstance(test.values, Numbers)}) > 1:
        return [(accepts | constants, witness) for accepts, witness in _mixed(tests)]
    if Numbers in kinds or Addresses in kinds:
        numbered = [(n, test.values) for n, test in enumerate(tests) if not isinstance(test.values, Constant)]
        if Numbers in kinds:
            found = number_atoms([values for _, values in numbered if isinstance(values, Numbers)])
        else:
            found = address_atoms([values for _, values in numbered if isinstance(values, Addresses)])
        return [
            (
                constants | sum(1 << n for index, (n, _) in enumerate(numbered) if atom.accepts >> index & 1),
                atom.witness,
            )
            for atom in found
        ]
    texts = text_atoms(patterns_of(tests), universe_of(dimension, tests))
    return [(constants | atom.sets, atom.witness) for atom in texts]


def value_counts(dimension: str, tests: Sequence[Test]) -> dict[int, int]:
    """How many texts lie in exactly these tests' sets (complements not yet applied)."""
    constants = sum(1 << n for n, test in enumerate(tests) if isinstance(test.values, Constant) and test.values.holds)
    counts = text_counts(patterns_of(tests), universe_of(dimension, tests))
    return {constants | sets: number for sets, number in counts.items()}


def patterns_of(tests: Sequence[Test]) -> tuple[Pattern, ...]:
    """All patterns of the tests; test n is set n."""
    sets: dict[Glob, int] = {}
    for number, test in enumerate(tests):
        if isinstance(test.values, Strings):
            for glob in test.values.globs:
                sets[glob] = sets.get(glob, 0) | 1 << number
    return tuple(Pattern(glob, mask) for glob, mask in sets.items())


def _mixed(tests: Sequence[Test]) -> list[tuple[int, str]]:
    """A key compared as text and as something else: exact while the texts are named outright."""
    texts: set[str] = set()
    for test in tests:
        for glob in test.values.globs if isinstance(test.values, Strings) else ():
            part = glob.parts[0] if len(glob.parts) == 1 else None
            if isinstance(part, Text):
                texts.add(part.text)
            elif glob != EVERYTHING:
                raise TooLarge(f"{test.dimension} is compared both as text with wildcards and otherwise")
    if len({test.values.instants for test in tests if isinstance(test.values, Numbers)}) > 1:
        raise TooLarge(f"{tests[0].dimension} is compared both as a number and as a date")
    candidates = [*sorted(texts), "neither number nor address"]
    for instants in (False, True):
        numbers = [
            test.values for test in tests if isinstance(test.values, Numbers) and test.values.instants is instants
        ]
        for atom in number_atoms(numbers) if numbers else ():
            spelt = atom.witness
            while spelt in texts:
                spelt = spelt + "0" if "." in spelt else spelt + ".0"
            candidates.append(spelt)
    addresses = [test.values for test in tests if isinstance(test.values, Addresses)]
    if addresses:
        named = [Addresses(((*found, found[1]),)) for found in map(address_of, sorted(texts)) if found is not None]
        candidates.extend(atom.witness for atom in address_atoms(addresses + named) if atom.witness not in texts)
    out: dict[int, str] = {}
    for text in candidates:
        out.setdefault(sum(1 << n for n, test in enumerate(tests) if contains(test.values, text)), text)
    return list(out.items())
