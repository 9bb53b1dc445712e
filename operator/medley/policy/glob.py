"""Patterns with `*`, `?` and `${variables}`: one parsed form that all three engines read.

A pattern is a sequence of parts. What a wildcard may run over depends on where it stands:

- In text (StringLike, Action) anywhere: over anything.
- In a Resource element: inside its colon-separated segment, except that a `*` that ends a segment may run on past the
  colon, and in the sixth segment, the resource itself, colons are plain characters. Source: IAM User Guide, "IAM JSON
  policy elements: Resource".
- In an Arn operator: inside its segment, always; pattern and value need six segments. Source: IAM User Guide,
  "Condition operators", on ARN operators.

Matching is linear in the length of the text: runs of `*` are one star, and nothing ever backtracks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from medley.policy.iam.request import ascii_lower

ARN_SEGMENTS = 6


@dataclass(frozen=True, slots=True)
class Text:
    """Characters that match themselves; `fold`: A to Z in either case."""

    text: str
    fold: bool = False


@dataclass(frozen=True, slots=True)
class Any:
    """`?`: one character; without `colons`, not a colon."""

    colons: bool = True


@dataclass(frozen=True, slots=True)
class Star:
    """`*`: any characters, or none; without `colons`, none of them a colon."""

    colons: bool = True


@dataclass(frozen=True, slots=True)
class Variable:
    """`${key}` or `${key, 'default'}`: the value of a single-valued key of the request, as text."""

    key: str
    default: str | None = None
    fold: bool = False


Part = Text | Any | Star | Variable


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern. `arn_value`: only values of six segments match."""

    parts: tuple[Part, ...]
    arn_value: bool = False

    @property
    def variables(self) -> frozenset[str]:
        """Keys in lower case whose value the pattern needs."""
        return frozenset(part.key for part in self.parts if isinstance(part, Variable))

    @property
    def literal(self) -> str | None:
        """The one text that matches, if the pattern has neither wildcard nor variable nor folding."""
        if not self.parts:
            return ""
        first = self.parts[0]
        return first.text if len(self.parts) == 1 and isinstance(first, Text) and not first.fold else None


EVERYTHING = Glob((Star(),))

_SPECIAL = re.compile(r"\$\{([^{}]*)\}|\*+|\?", re.DOTALL)
_VARIABLE = re.compile(r"\s*([^,'\s]+)\s*(?:,\s*'([^']*)'\s*)?\Z")


def text_glob(pattern: str, *, wildcards: bool, variables: bool, fold: bool = False) -> Glob:
    """A pattern over plain text: StringEquals (no wildcards), StringLike, and with `fold` the IgnoreCase operators."""
    return Glob(_merge(_parts(pattern, wildcards, variables, fold)))


def action_glob(pattern: str) -> Glob:
    """An Action pattern, in lower case: action names are compared without case."""
    return Glob(_merge(_parts(ascii_lower(pattern), True, False, False)))


def resource_glob(pattern: str, *, variables: bool) -> Glob:
    """A Resource pattern."""
    parts = _merge(_parts(pattern, True, variables, False))
    return Glob(_merge(_segmented(parts, star_ends_segment=True)))


def arn_glob(pattern: str, *, variables: bool) -> Glob | None:
    """A value of an Arn operator; None if it cannot match: it has fewer than six segments."""
    parts = _merge(_parts(pattern, True, variables, False))
    colons = sum(part.text.count(":") for part in parts if isinstance(part, Text))
    if colons < ARN_SEGMENTS - 1 and not any(isinstance(part, Variable) for part in parts):
        return None
    return Glob(_merge(_segmented(parts, star_ends_segment=False)), arn_value=True)


def _parts(pattern: str, wildcards: bool, variables: bool, fold: bool) -> list[Part]:
    out: list[Part] = []
    position = 0
    for match in _SPECIAL.finditer(pattern):
        if match.start() > position:
            out.append(Text(pattern[position : match.start()], fold))
        position = match.end()
        found = match.group()
        if found[0] == "$":
            if variables:
                out.append(_variable(found, match.group(1), fold))
            else:
                out.extend(_parts_of_text(found, wildcards, fold))
        elif not wildcards:
            out.append(Text(found, fold))
        else:
            out.append(Star() if found[0] == "*" else Any())
    if position < len(pattern):
        out.append(Text(pattern[position:], fold))
    return out


def _parts_of_text(text: str, wildcards: bool, fold: bool) -> list[Part]:
    """`${…}` where it is not a variable: its wildcards are wildcards."""
    if not wildcards:
        return [Text(text, fold)]
    pieces = re.split(r"(\*+|\?)", text)
    return [
        (Star() if piece[0] == "*" else Any()) if number % 2 else Text(piece, fold)
        for number, piece in enumerate(pieces)
        if piece
    ]


def _variable(found: str, inner: str, fold: bool) -> Part:
    if inner in ("*", "?", "$"):
        return Text(inner, fold)
    match = _VARIABLE.match(inner)
    return Variable(ascii_lower(match.group(1)), match.group(2), fold) if match else Text(found, fold)


def _segmented(parts: Sequence[Part], *, star_ends_segment: bool) -> list[Part]:
    out: list[Part] = []
    colons = 0
    for number, part in enumerate(parts):
        if isinstance(part, Text):
            colons += part.text.count(":")
        inside = colons < ARN_SEGMENTS - 1
        if isinstance(part, Any):
            out.append(Any(colons=not inside))
        elif isinstance(part, Star):
            following = parts[number + 1] if number + 1 < len(parts) else None
            ends = following is None or (isinstance(following, Text) and following.text.startswith(":"))
            out.append(Star(colons=not inside or (star_ends_segment and ends)))
        else:
            out.append(part)
    return out


def _merge(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Joins neighbouring texts and stars."""
    out: list[Part] = []
    for part in parts:
        last = out[-1] if out else None
        if isinstance(part, Text) and isinstance(last, Text) and part.fold == last.fold:
            out[-1] = Text(last.text + part.text, part.fold)
        elif isinstance(part, Star) and isinstance(last, Star):
            out[-1] = Star(part.colons or last.colons)
        elif not (isinstance(part, Text) and not part.text):
            out.append(part)
    return tuple(out)


def substitute(glob: Glob, values: Mapping[str, str | None]) -> Glob | None:
    """The pattern with each variable replaced by its value, as text; None if a value is missing without a default."""
    parts: list[Part] = []
    for part in glob.parts:
        if not isinstance(part, Variable):
            parts.append(part)
            continue
        value = values.get(part.key)
        if value is None:
            value = part.default
        if value is None:
            return None
        parts.append(Text(value, part.fold))
    return replace(glob, parts=_merge(parts))


def is_arn_value(text: str) -> bool:
    """Whether a value has the six segments that Arn operators need."""
    return text.count(":") >= ARN_SEGMENTS - 1


Matcher = Callable[[str], bool]


def matcher(globs: Sequence[Glob]) -> Matcher:
    """A function that says whether any of the patterns, all without variables, matches a text."""
    exact: set[str] = set()
    folded: set[str] = set()
    prefixes: list[str] = []
    others: list[Matcher] = []
    for glob in globs:
        parts = glob.parts
        if glob.arn_value:
            others.append(_arn_value(_sequence(parts)))
        elif glob.literal is not None:
            exact.add(glob.literal)
        elif len(parts) == 1 and isinstance(parts[0], Text):
            folded.add(ascii_lower(parts[0].text))
        elif parts == (Star(),):
            return lambda text: True
        elif len(parts) == 2 and parts[1] == Star() and isinstance(parts[0], Text) and not parts[0].fold:
            prefixes.append(parts[0].text)
        else:
            others.append(_sequence(parts))
    starts = tuple(prefixes)
    if exact and not (folded or starts or others):
        return frozenset(exact).__contains__
    if starts and not (exact or folded or others):
        return lambda text: text.startswith(starts)
    if len(others) == 1 and not (exact or folded or starts):
        return others[0]
    same, without_case, rest = frozenset(exact), frozenset(folded), tuple(others)

    def match(text: str) -> bool:
        if text in same or text.startswith(starts):
            return True
        if without_case and ascii_lower(text) in without_case:
            return True
        return any(other(text) for other in rest)

    return match


def _arn_value(inner: Matcher) -> Matcher:
    return lambda text: is_arn_value(text) and inner(text)


def _sequence(parts: tuple[Part, ...]) -> Matcher:
    if all(isinstance(part, Text) or part == Star() for part in parts) and not any(
        isinstance(part, Text) and part.fold for part in parts
    ):
        return _find_in_order(parts)
    return Automaton(Glob(parts)).matches


def _find_in_order(parts: tuple[Part, ...]) -> Matcher:
    """Texts between stars: each is found as early as possible, which is never worse than later."""
    if len(parts) == 1 and isinstance(parts[0], Text):
        return frozenset((parts[0].text,)).__contains__
    if not parts:
        return frozenset(("",)).__contains__
    head = parts[0].text if isinstance(parts[0], Text) else ""
    tail = parts[-1].text if isinstance(parts[-1], Text) else ""
    middle = tuple(part.text for part in parts[1 if head else 0 : -1 if tail else None] if isinstance(part, Text))
    shortest = len(head) + len(tail) + sum(map(len, middle))

    def match(text: str) -> bool:
        if len(text) < shortest or not text.startswith(head) or not text.endswith(tail):
            return False
        position, end = len(head), len(text) - len(tail)
        for piece in middle:
            found = text.find(piece, position, end)
            if found < 0:
                return False
            position = found + len(piece)
        return True

    return match


class Automaton:
    """A pattern as bits of an integer: bit i is set where i one-character steps have been matched.

    `step(state, character)` moves on all steps that take the character and stays where a star does.
    """

    def __init__(self, glob: Glob) -> None:
        self.steps: list[Text | Any] = []
        self.loops = 0
        self.colon_loops = 0
        for part in glob.parts:
            if isinstance(part, Star):
                self.loops |= 1 << len(self.steps)
                self.colon_loops |= part.colons << len(self.steps)
            elif isinstance(part, Text):
                self.steps.extend(Text(character, part.fold) for character in part.text)
            elif isinstance(part, Any):
                self.steps.append(part)
            else:
                raise ValueError("a pattern with variables has no automaton")
        self.accept = 1 << len(self.steps)
        self._masks: dict[str, int] = {}

    def takes(self, character: str) -> int:
        """Bits of the steps that take this character."""
        mask = self._masks.get(character)
        if mask is None:
            mask = 0
            for number, step in enumerate(self.steps):
                if isinstance(step, Any):
                    taken = step.colons or character != ":"
                else:
                    taken = step.text == character or (step.fold and ascii_lower(step.text) == ascii_lower(character))
                mask |= taken << number
            self._masks[character] = mask
        return mask

    def step(self, state: int, character: str) -> int:
        """The state after one more character."""
        loops = self.colon_loops if character == ":" else self.loops
        return ((state & self.takes(character)) << 1) | (state & loops)

    def matches(self, text: str) -> bool:
        """Whether the whole text matches."""
        state = 1
        for character in text:
            state = self.step(state, character)
            if not state:
                return False
        return bool(state & self.accept)
