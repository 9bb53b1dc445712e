"""Texts for Z3, split by how the patterns begin.

Z3 decides regular expressions over strings, but slowly when many long patterns meet on one string. Most patterns of
policies begin with plain text, and two that begin differently never match the same text. So a text is a choice of its
beginning (an integer), then a choice of what follows, and so on; Z3's strings and regular expressions are left with
what comes after the first wildcard that still matters. The split is exact: beginnings at one level exclude each other,
and "none of them" is a choice of its own.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import z3

from medley.policy.answers import TooLarge
from medley.policy.clauses import ACTION, CALLER, RESOURCE
from medley.policy.glob import Part, Star, Text
from medley.policy.iam.principals import ANONYMOUS
from medley.policy.smt.patterns import but, literal, regular_expression

Parts = tuple[Part, ...]
CALLER_KINDS = ("AWS", "Service", "Federated", "CanonicalUser")
MAX_REGULAR = 60
"""Patterns that begin with a wildcard on one Z3 string: with more, Z3 builds for minutes and minds no time limit."""
_PLAIN = "xyz0123456789abcdefghijklmnopqrstuvw"


@dataclass(frozen=True, slots=True)
class Node:
    """A text from some point on: for each test whether it passes, and how to read the text from a model."""

    passes: list[z3.BoolRef]
    read: Callable[[z3.ModelRef], str]


class TextSplitter:
    """Builds the nodes of one dimension; collects the constraints that go with them."""

    def __init__(self, dimension: str, name: str) -> None:
        self.constraints: list[z3.BoolRef] = []
        self._dimension = dimension
        self._name = name
        self._count = 0

    def node(self, tests: Sequence[frozenset[Parts]], path: str = "") -> Node:
        """The text after `path`, which each test asks whether one of its patterns matches."""
        everything = (Star(),)
        passes: list[z3.BoolRef] = [z3.BoolVal(everything in patterns) for patterns in tests]
        open_tests = [number for number, patterns in enumerate(tests) if patterns and everything not in patterns]
        rest = sorted({parts for number in open_tests for parts in tests[number]}, key=repr)
        if all(not parts or _head(parts) for parts in rest):
            return self._choice(tests, open_tests, rest, passes, path)
        early = sum(bool(parts) and not _head(parts) for parts in rest)
        if early > MAX_REGULAR:
            raise TooLarge(f"{early} patterns with early wildcards meet on one text, more than {MAX_REGULAR}")
        self._count += 1
        text = z3.String(f"{self._name}.{self._count}")
        for number in open_tests:
            found = [regular_expression(parts) for parts in sorted(tests[number], key=repr)]
            inside = found[0] if len(found) == 1 else z3.Union(*found)
            # "Not in R" as "in the complement of R": Z3 decides that at once where it would unfold the other for ever.
            passed = passes[number] = z3.Bool(f"{self._name}.{self._count}.in{number}")
            self.constraints.append(z3.Implies(passed, z3.InRe(text, inside)))
            self.constraints.append(z3.Implies(z3.Not(passed), z3.InRe(text, z3.Complement(inside))))
        self.constraints.extend(_included(tests, open_tests, passes))
        self.constraints.extend(universe(self._dimension, path, text))
        return Node(passes, lambda model: path + string_value(model, text))

    def _choice(
        self,
        tests: Sequence[frozenset[Parts]],
        open_tests: list[int],
        rest: list[Parts],
        passes: list[z3.BoolRef],
        path: str,
    ) -> Node:
        self._count += 1
        choice = z3.Int(f"{self._name}.{self._count}")
        heads = _beginnings(rest)
        readers: list[Callable[[z3.ModelRef], str]] = [lambda model: path + _other(self._dimension, path, heads)]
        alternatives: list[list[z3.BoolRef]] = [[] for _ in tests]
        if () in rest:
            if _may_end(self._dimension, path):
                for number in open_tests:
                    if () in tests[number]:
                        alternatives[number].append(choice == len(readers))
            else:
                self.constraints.append(choice != len(readers))
            readers.append(lambda model: path)
        by_head = [_grouped(tests[number], heads) for number in open_tests]
        for head in heads:
            inner = [frozenset(_without(parts, head) for parts in groups.get(head, ())) for groups in by_head]
            child = self.node(inner, path + head)
            for number, passed in zip(open_tests, child.passes, strict=True):
                if not z3.is_false(passed):
                    alternatives[number].append(z3.And(choice == len(readers), passed))
            readers.append(child.read)
        self.constraints.extend((choice >= 0, choice < len(readers)))
        for number in open_tests:
            passes[number] = z3.Or(*alternatives[number]) if alternatives[number] else z3.BoolVal(False)

        def read(model: z3.ModelRef) -> str:
            return readers[int(model.eval(choice, model_completion=True).as_long())](model)

        return Node(passes, read)


def _included(
    tests: Sequence[frozenset[Parts]], open_tests: Sequence[int], passes: Sequence[z3.BoolRef]
) -> Iterator[z3.BoolRef]:
    """A test that has all patterns of another passes with it, and only with those that together have all of its own.

    True anyway; Z3 would find it by unfolding the expressions, for ever where their wildcards stand in the middle.
    """
    for number in open_tests:
        if len(tests[number]) < 2:
            continue
        inner = [other for other in open_tests if tests[other] < tests[number]]
        for other in inner:
            yield z3.Implies(passes[other], passes[number])
        if inner and frozenset().union(*(tests[other] for other in inner)) == tests[number]:
            yield z3.Implies(passes[number], z3.Or(*(passes[other] for other in inner)))


def _head(parts: Parts) -> str:
    first = parts[0]
    return first.text if isinstance(first, Text) and not first.fold else ""


def _beginnings(rest: Sequence[Parts]) -> list[str]:
    """Texts of which no one begins another, such that every pattern begins with one of them."""
    out: list[str] = []
    for head in sorted({_head(parts) for parts in rest if parts}):
        if not out or not head.startswith(out[-1]):
            out.append(head)
    return out


def _grouped(patterns: frozenset[Parts], heads: Sequence[str]) -> dict[str, list[Parts]]:
    """The patterns by the one of the heads, which are sorted, that each begins with."""
    out: dict[str, list[Parts]] = {}
    for parts in patterns:
        if parts:
            out.setdefault(heads[bisect.bisect_right(heads, _head(parts)) - 1], []).append(parts)
    return out


def _without(parts: Parts, head: str) -> Parts:
    text = _head(parts)[len(head) :]
    return (Text(text), *parts[1:]) if text else parts[1:]


def _may_end(dimension: str, path: str) -> bool:
    if dimension == ACTION:
        return ":" in path and not path.endswith(":")
    return bool(path) if dimension in (RESOURCE, CALLER) else True


def _other(dimension: str, path: str, heads: Sequence[str]) -> str:
    """What may follow the path and begins with none of the heads."""
    firsts = {head[0] for head in heads}
    usable = _PLAIN if dimension == ACTION else _PLAIN + _PLAIN.upper()
    other = next((c for c in usable if c not in firsts), None)
    if other is None:
        other = next(chr(code) for code in range(0x100, 0x2000) if chr(code) not in firsts)
    if dimension == ACTION and ":" not in path:
        return f"{other}:{other}"
    if dimension == CALLER and not path:
        return next(
            text
            for text in (*(f"{kind}:{other}" for kind in CALLER_KINDS), ANONYMOUS)
            if not any(text.startswith(head) for head in heads)
        )
    return other


def universe(dimension: str, path: str, text: z3.SeqRef) -> list[z3.BoolRef]:
    """What a text after a path must be so that the whole is a value of the dimension."""
    if dimension == ACTION:
        character = but((":", ":"), ("A", "Z"))
        if ":" in path:
            some = z3.Plus(character) if path.endswith(":") else z3.Star(character)
            return [z3.InRe(text, some)]
        before = z3.Star(character) if path else z3.Plus(character)
        return [z3.InRe(text, z3.Concat(before, z3.Re(literal(":")), z3.Plus(character)))]
    if dimension == RESOURCE and not path:
        return [z3.InRe(text, z3.Plus(z3.AllChar(z3.ReSort(z3.StringSort()))))]
    if dimension == CALLER and not path:
        some = z3.Plus(z3.AllChar(z3.ReSort(z3.StringSort())))
        kinds = [z3.Concat(z3.Re(literal(f"{kind}:")), some) for kind in CALLER_KINDS]
        return [z3.InRe(text, z3.Union(z3.Re(literal(ANONYMOUS)), *kinds))]
    return []


def string_value(model: z3.ModelRef, term: z3.SeqRef) -> str:
    """A string of a model, its escapes read."""
    return unescape(str(model.eval(term, model_completion=True).as_string()))


def unescape(text: str) -> str:
    """Z3's escapes as characters."""
    out: list[str] = []
    position = 0
    while (found := text.find("\\u{", position)) >= 0:
        end = text.index("}", found)
        out.extend((text[position:found], chr(int(text[found + 3 : end], 16))))
        position = end + 1
    out.append(text[position:])
    return "".join(out)
