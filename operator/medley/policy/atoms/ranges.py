"""Cuts numbers, instants and addresses into atoms at the bounds that the tests name."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from medley.policy.clauses import Addresses, Numbers
from medley.policy.iam.values import address_text, instant_text, number_text

_LAST = {4: 2**32 - 1, 6: 2**128 - 1}


@dataclass(frozen=True, slots=True)
class RangeAtom:
    """Values that exactly the sets of `accepts` (bit i is set i) hold. `size`: how many; None: not countable."""

    accepts: int
    witness: str
    size: int | None


def number_atoms(sets: Sequence[Numbers]) -> list[RangeAtom]:
    """The atoms of the line of numbers: every bound, and every gap between two."""
    bounds = sorted(
        {bound for found in sets for i in found.intervals for bound in (i.low, i.high) if bound is not None}
    )
    points: list[Fraction] = []
    if not bounds:
        points = [Fraction(0)]
    else:
        points.append(bounds[0] - 1)
        for low, high in itertools.pairwise(bounds):
            points.extend((low, _between(low, high)))
        points.extend((bounds[-1], bounds[-1] + 1))
    instants = any(found.instants for found in sets)
    out: dict[int, RangeAtom] = {}
    # Whole, positive numbers make the better witnesses: they come first.
    for point in sorted(points, key=lambda p: (p.denominator != 1, p < 0, points.index(p))):
        accepts = _mask(sets, point)
        if accepts not in out:
            out[accepts] = RangeAtom(accepts, instant_text(point) if instants else number_text(point), None)
    return list(out.values())


def _between(low: Fraction, high: Fraction) -> Fraction:
    whole = Fraction(low.numerator // low.denominator + 1)
    return whole if whole < high else (low + high) / 2


def _mask(sets: Sequence[Numbers], point: Fraction) -> int:
    return sum(1 << number for number, found in enumerate(sets) if any(i.contains(point) for i in found.intervals))


def address_atoms(sets: Sequence[Addresses]) -> list[RangeAtom]:
    """The atoms of all IPv4 and IPv6 addresses; addresses of the documentation ranges are preferred as witnesses."""
    out: dict[int, RangeAtom] = {}
    for version, last in _LAST.items():
        cuts = {0, last + 1}
        for found in sets:
            for kind, low, high in found.ranges:
                if kind == version:
                    cuts.update((low, high + 1))
        ordered = sorted(cuts)
        for low, after in itertools.pairwise(ordered):
            accepts = sum(
                1 << number
                for number, found in enumerate(sets)
                if any(kind == version and first <= low <= end for kind, first, end in found.ranges)
            )
            known = out.get(accepts)
            size = after - low + (known.size or 0 if known else 0)
            witness = known.witness if known else address_text(version, _nice(version, low, after))
            out[accepts] = RangeAtom(accepts, witness, size)
    return list(out.values())


def _nice(version: int, low: int, after: int) -> int:
    preferred = 0xCB007109 if version == 4 else 0x20010DB8 << 96 | 1  # 203.0.113.9, 2001:db8::1
    if low <= preferred < after:
        return preferred
    return low + 1 if low + 1 < after else low
