"""Patterns as constraints on a Z3 string.

Without variables a pattern is a regular expression. With variables it relates two strings: what lies between stars is
found at the first place after what came before, which is exact, and no new string is introduced, so the constraint may
also be negated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import z3

from medley.policy.answers import TooLarge
from medley.policy.glob import ARN_SEGMENTS, Any, Glob, Part, Star, Text, Variable
from medley.policy.iam.request import ascii_lower

_STRINGS = z3.ReSort(z3.StringSort())
_ANY = z3.AllChar(_STRINGS)
_ALL = z3.Full(_STRINGS)
LAST = chr(0x2FFFF)
"""The last character that Z3 knows."""


def literal(text: str) -> z3.SeqRef:
    """A string constant; backslashes and what is not printable are escaped, since Z3 reads escapes."""
    return z3.StringVal("".join(c if 32 <= ord(c) < 127 and c != "\\" else f"\\u{{{ord(c):x}}}" for c in text))


def _but_colon() -> z3.ReRef:
    return z3.Union(z3.Range(literal("\0"), literal("9")), z3.Range(literal(";"), literal(LAST)))


def but(*ranges: tuple[str, str]) -> z3.ReRef:
    """One character out of every range, which are given in order."""
    pieces = []
    low = 0
    for first, last in ranges:
        if ord(first) > low:
            pieces.append(z3.Range(literal(chr(low)), literal(chr(ord(first) - 1))))
        low = ord(last) + 1
    pieces.append(z3.Range(literal(chr(low)), literal(LAST)))
    return pieces[0] if len(pieces) == 1 else z3.Union(*pieces)


Value = Callable[[str], tuple[z3.BoolRef, z3.SeqRef]]
"""Of a key: whether it has exactly one value, and that value."""


def matches(glob: Glob, subject: z3.SeqRef, value_of: Value) -> z3.BoolRef:
    """The constraint that the subject matches a pattern with variables.

    Raises:
        TooLarge: a pattern with variables beyond what can be written without new strings.
    """
    found = _related(glob, subject, value_of)
    return z3.And(found, _is_arn(subject)) if glob.arn_value else found


def _is_arn(subject: z3.SeqRef) -> z3.BoolRef:
    colons: list[z3.ReRef] = []
    for _ in range(ARN_SEGMENTS - 1):
        colons.extend((_ALL, z3.Re(literal(":"))))
    return z3.InRe(subject, z3.Concat(*colons, _ALL))


def regular_expression(parts: Sequence[Part]) -> z3.ReRef:
    """The texts that parts without variables match."""
    pieces = [_piece(part) for part in parts]
    if not pieces:
        return z3.Re(literal(""))
    return pieces[0] if len(pieces) == 1 else z3.Concat(*pieces)


def _piece(part: Part) -> z3.ReRef:
    if isinstance(part, Star):
        return _ALL if part.colons else z3.Star(_but_colon())
    if isinstance(part, Any):
        return _ANY if part.colons else _but_colon()
    assert isinstance(part, Text)
    if not part.fold:
        return z3.Re(literal(part.text))
    letters = []
    for character in part.text:
        lower = ascii_lower(character)
        upper = lower.upper() if lower.isascii() else lower
        letters.append(
            z3.Re(literal(lower)) if lower == upper else z3.Union(z3.Re(literal(lower)), z3.Re(literal(upper)))
        )
    return letters[0] if len(letters) == 1 else z3.Concat(*letters)


def _related(glob: Glob, subject: z3.SeqRef, value_of: Value) -> z3.BoolRef:
    known: list[z3.BoolRef] = []
    segments: list[list[z3.SeqRef | Any]] = [[]]
    stars: list[Star] = []
    for part in glob.parts:
        if isinstance(part, Star):
            stars.append(part)
            segments.append([])
        elif isinstance(part, Any):
            segments[-1].append(part)
        elif isinstance(part, Text):
            segments[-1].append(literal(part.text))
        else:
            segments[-1].append(_value(part, value_of, known))
        if isinstance(part, Text | Variable) and part.fold:
            raise TooLarge("a variable in a comparison without case")
    if len(stars) > 1 and not all(star.colons for star in stars):
        raise TooLarge("a variable beside two wildcards of which one stays inside its ARN segment")
    out = list(known)
    length = z3.Length(subject)
    start = _anchored(segments[0], subject, z3.IntVal(0), out)
    if not stars:
        return z3.And(*out, start == length)
    end = length - _length(segments[-1])
    _anchored(segments[-1], subject, end, out)
    position = start
    for segment in segments[1:-1]:
        if any(isinstance(item, Any) for item in segment):
            raise TooLarge("a variable and `?` between two stars")
        text = _joined([item for item in segment if not isinstance(item, Any)])
        found = z3.IndexOf(subject, text, position)
        out.append(found >= 0)
        position = found + z3.Length(text)
    out.append(position <= end)
    if not stars[0].colons:
        out.append(z3.Not(z3.Contains(z3.SubString(subject, start, end - start), literal(":"))))
    return z3.And(*out)


def _value(part: Variable, value_of: Value, known: list[z3.BoolRef]) -> z3.SeqRef:
    single, value = value_of(part.key)
    if part.default is None:
        known.append(single)
        return value
    return z3.If(single, value, literal(part.default))


def _length(segment: Sequence[z3.SeqRef | Any]) -> z3.ArithRef:
    return z3.Sum([z3.IntVal(1) if isinstance(item, Any) else z3.Length(item) for item in segment] or [z3.IntVal(0)])


def _joined(segment: Sequence[z3.SeqRef]) -> z3.SeqRef:
    return segment[0] if len(segment) == 1 else z3.Concat(*segment)


def _anchored(
    segment: Sequence[z3.SeqRef | Any], subject: z3.SeqRef, start: z3.ArithRef, out: list[z3.BoolRef]
) -> z3.ArithRef:
    """The segment stands at `start`; returns where it ends."""
    position = start
    out.append(start >= 0)
    for item in segment:
        size = z3.IntVal(1) if isinstance(item, Any) else z3.Length(item)
        piece = z3.SubString(subject, position, size)
        if not isinstance(item, Any):
            out.append(piece == item)
        else:
            out.append(z3.Length(piece) == 1)
            if not item.colons:
                out.append(piece != literal(":"))
        position = position + size
    return position
