"""Matrices of highest rates: shape, orientation and every cell are checked before they become a Grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from medley.model.errors import UserError
from medley.profiles.imports.document import kind, real

Rows = tuple[tuple[float, ...], ...]

RISE = 1.02
"""Rates of a larger request may be this much higher before it is worth a note: measurements scatter."""

LISTED = 8
"""Cells that a note names before it only counts."""


@dataclass(frozen=True, slots=True)
class Axis:
    """What one direction of a matrix stands for: `name` is input or output."""

    name: str
    tokens: tuple[int, ...]


def axis(name: str, values: object, where: str) -> Axis:
    """An axis from the numbers of a file or of the command line.

    Raises:
        UserError: they are not whole numbers of tokens, ascending.
    """
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise UserError(f"is {kind(values)}, not a list of {name} sizes", field=where, fix="List sizes in tokens")
    tokens: list[int] = []
    for place, value in enumerate(values, 1):
        size = real(value)
        if size is None or not math.isfinite(size):
            raise UserError(f"{name} size {place} is {kind(value)}", field=where, fix="List sizes in tokens")
        if size < 1 or size != int(size):
            raise UserError(
                f"{name} size {place} is {size:g}", field=where, fix="Sizes are whole numbers of tokens, 1 or more"
            )
        if tokens and size <= tokens[-1]:
            raise UserError(
                f"{name} size {place} is {size:g}, after {tokens[-1]}",
                field=where,
                fix="Sizes must ascend: sort them, and the matrix with them",
            )
        tokens.append(int(size))
    return Axis(name, tuple(tokens))


def read_matrix(raw: object, where: str, rows: Axis, columns: Axis) -> Rows:
    """The rates of a matrix, in the file's own orientation.

    Raises:
        UserError: the matrix is not rectangular, has another shape than its axes, or holds what is no rate.
    """
    order = f"one row per {rows.name} size, one value per {columns.name} size"
    if not isinstance(raw, list) or not raw:
        raise UserError(
            f"is {'empty' if raw == [] else kind(raw)}", field=where, fix=f"Give a matrix in req/s: {order}"
        )
    for number, row in enumerate(raw, 1):
        if not isinstance(row, list) or not row:
            raise UserError(
                f"is {'empty' if row == [] else kind(row)}", field=f"{where} row {number}", fix=f"A matrix has {order}"
            )
        if len(row) != len(raw[0]):
            raise UserError(
                f"has {len(row)} values, row 1 has {len(raw[0])}",
                field=f"{where} row {number}",
                fix="Fill every cell; 0 means that the size cannot be served",
            )
    found, wanted = (len(raw), len(raw[0])), (len(rows.tokens), len(columns.tokens))
    if found != wanted:
        raise UserError(_shape(found, rows, columns), field=where, fix=_shape_fix(found, rows, columns))
    matrix = tuple(
        tuple(
            _rate(value, f"{where} row {r} ({rows.name} {rows.tokens[r - 1]}), column {c} "
                         f"({columns.name} {columns.tokens[c - 1]})")
            for c, value in enumerate(row, 1)
        )
        for r, row in enumerate(raw, 1)
    )  # fmt: skip
    if not any(any(row) for row in matrix):
        raise UserError(
            "holds only zeros: nothing could be served",
            field=where,
            fix="Profile again with a looser SLO or more GPUs per replica, or leave this GPU out",
        )
    return matrix


def _shape(found: tuple[int, int], rows: Axis, columns: Axis) -> str:
    text = (
        f"is {found[0]} × {found[1]}, but there are {len(rows.tokens)} {rows.name} and "
        f"{len(columns.tokens)} {columns.name} sizes"
    )
    if found == (len(columns.tokens), len(rows.tokens)):
        return f"{text}: it is the other way round, with one row per {columns.name} size"
    return text


def _shape_fix(found: tuple[int, int], rows: Axis, columns: Axis) -> str:
    if found == (len(columns.tokens), len(rows.tokens)):
        return "Transpose the matrix, or check that the sizes are not swapped"
    for count, direction in zip(found, (rows, columns), strict=True):
        if len(direction.tokens) == count + 1:
            return (
                f"{count + 1} {direction.name} sizes look like the borders of {count} ranges: give the {count} sizes "
                "that were profiled, or the upper borders"
            )
    return f"Give {found[0]} {rows.name} and {found[1]} {columns.name} sizes"


def _rate(value: object, where: str) -> float:
    rate_rps = real(value)
    if rate_rps is None:
        raise UserError(f"is {kind(value)}, not a rate", field=where, fix="Give req/s; 0 if it cannot be served")
    if not math.isfinite(rate_rps):
        raise UserError(f"is {rate_rps}", field=where, fix="Profile this size again; write 0 if it cannot be served")
    if rate_rps < 0:
        raise UserError(f"is {rate_rps:g}", field=where, fix="A rate is 0 or more: profile this size again")
    return rate_rps


def transposed(rows: Rows) -> Rows:
    """Rows as columns."""
    return tuple(zip(*rows, strict=True))


def remarks(inputs: Axis, outputs: Axis, rates: Rows) -> tuple[str, ...]:
    """Notes on cells of a matrix [input][output] that deserve a look: zeros, and rates that rise with the size."""
    cells = {
        (i, o): rates[row][column] for row, i in enumerate(inputs.tokens) for column, o in enumerate(outputs.tokens)
    }
    notes = []
    zeros = [f"{i}/{o}" for (i, o), rate in cells.items() if rate == 0.0]
    if zeros:
        notes.append(f"{_list(zeros)} (input/output tokens): the rate is 0, taken as: cannot be served within the SLO.")
    rising = []
    for column, o in enumerate(outputs.tokens):
        for row, (small, large) in enumerate(zip(inputs.tokens, inputs.tokens[1:], strict=False)):
            if rates[row + 1][column] > RISE * rates[row][column]:
                rising.append(f"{small}/{o} to {large}/{o}")
    for row, i in enumerate(inputs.tokens):
        for column, (small, large) in enumerate(zip(outputs.tokens, outputs.tokens[1:], strict=False)):
            if rates[row][column + 1] > RISE * rates[row][column]:
                rising.append(f"{i}/{small} to {i}/{large}")
    if rising:
        notes.append(
            f"The rate rises with the size from {_list(rising)} (input/output tokens). A larger request is not faster: "
            "check the orientation of the matrix and those cells."
        )
    return tuple(notes)


def _list(items: Sequence[str]) -> str:
    if len(items) <= LISTED:
        return ", ".join(items)
    return f"{', '.join(items[:LISTED])} and {len(items) - LISTED} more"
