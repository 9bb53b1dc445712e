"""Quantities on the command line: always with their unit, so that 15 never means seconds to one and ms to another."""

from __future__ import annotations

import math
import re

from medley.model.errors import UserError
from medley.profiles.latency import LatencyTarget

_OBJECTIVE = re.compile(r"\s*([A-Za-z_]+)\s*=\s*([0-9.eE+-]+)\s*([A-Za-zµ]*)\s*")

_EXAMPLE = "Write it as in tpot=15ms,ttft=2s"


def parse_slo(text: str, *, field: str = "--slo", percentile: float = 95.0) -> LatencyTarget:
    """Objectives such as "tpot=15ms,ttft=2s"; one of them may be left out.

    Raises:
        UserError: an objective is unknown, given twice, not a number above 0, or has no unit.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        match = _OBJECTIVE.fullmatch(part)
        if match is None:
            raise UserError(f"{part.strip()!r} is not an objective", field=field, fix=_EXAMPLE)
        name = match[1].lower()
        if name not in ("tpot", "ttft"):
            raise UserError(f"{match[1]!r} is not an objective", field=field, fix="Use tpot, ttft or both")
        if name in found:
            raise UserError(f"{name} is given twice", field=field, fix="Keep one of the two")
        found[name] = parse_milliseconds(f"{match[2]}{match[3]}", field=field, example=f"{name}=")
    return LatencyTarget(found.get("tpot"), found.get("ttft"), percentile)


def parse_milliseconds(text: str, *, field: str, example: str = "") -> float:
    """A duration such as "15ms" or "2s", in ms.

    Raises:
        UserError: it is not a number above 0 with one of these units.
    """
    match = re.fullmatch(r"\s*([0-9.eE+-]+)\s*([A-Za-zµ]*)\s*", text)
    try:
        value = float(match[1]) if match else math.nan
    except ValueError:
        value = math.nan
    if match is None or not math.isfinite(value) or value <= 0:
        raise UserError(f"{text!r} is not a duration above 0", field=field, fix=f"Write it as in {example}15ms")
    unit = match[2]
    if not unit:
        fix = f"Write {example}{match[1]}ms for milliseconds, {example}{match[1]}s for seconds"
        raise UserError(f"{match[1]} has no unit", field=field, fix=fix)
    if unit not in ("ms", "s"):
        raise UserError(f"{unit!r} is not a unit of time here", field=field, fix="Use ms or s")
    return value * (1000.0 if unit == "s" else 1.0)


def parse_sizes(
    text: str, *, field: str, what: str = "number of tokens", example: str = "128,512,2048"
) -> tuple[int, ...]:
    """Whole numbers such as "128,512,2048", ascending.

    Raises:
        UserError: one is not a whole number above 0, or they do not ascend.
    """
    sizes: list[int] = []
    for part in text.split(","):
        if not part.strip().isascii() or not part.strip().isdigit() or int(part) < 1:
            raise UserError(f"{part.strip()!r} is not a {what}", field=field, fix=f"Write it as in {field} {example}")
        if sizes and int(part) <= sizes[-1]:
            raise UserError(f"{int(part)} comes after {sizes[-1]}", field=field, fix="List sizes in ascending order")
        sizes.append(int(part))
    return tuple(sizes)
