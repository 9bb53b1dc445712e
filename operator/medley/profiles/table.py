"""Packaged tables of facts: CSV text read row by row, where every complaint names file, row and field.

A table that came with Medley and does not parse is a mistake in Medley, so the error is a ValueError; the first column
is the row's name and must be unique.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

Choice = TypeVar("Choice", bound=StrEnum)

# A source without an exact day still has a year.
_DATE = re.compile(r"20\d\d(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")


@dataclass(frozen=True, slots=True)
class Row:
    """One row; `line` counts as an editor does, with the header on line 1."""

    file: str
    line: int
    name: str
    cells: Mapping[str, str]

    def wrong(self, field: str, why: str) -> ValueError:
        """The error to raise for a field of this row."""
        return ValueError(f"{self.file}: line {self.line} ({self.name}): {field}: {why}")

    def text(self, field: str) -> str:
        """A cell that must not be empty."""
        value = self.cells[field]
        if not value:
            raise self.wrong(field, "is empty")
        return value

    def number(self, field: str) -> float:
        """A cell that must be a finite number above 0."""
        value = self.optional_number(field)
        if value is None:
            raise self.wrong(field, "is empty")
        return value

    def optional_number(self, field: str) -> float | None:
        """A finite number above 0, or None where the cell is empty."""
        cell = self.cells[field]
        if not cell:
            return None
        try:
            value = float(cell)
        except ValueError:
            raise self.wrong(field, f"{cell!r} is not a number") from None
        if not math.isfinite(value) or value <= 0:
            raise self.wrong(field, f"{cell} must be a finite number above 0")
        return value

    def count(self, field: str) -> int:
        """A whole number, 1 or more."""
        cell = self.text(field)
        if not cell.isdecimal() or int(cell) < 1:
            raise self.wrong(field, f"{cell!r} must be a whole number, 1 or more")
        return int(cell)

    def choice(self, field: str, kind: type[Choice]) -> Choice:
        """A member of an enumeration, by its value."""
        cell = self.text(field)
        try:
            return kind(cell)
        except ValueError:
            raise self.wrong(field, f"{cell!r} is not one of {', '.join(kind)}") from None

    def date(self, field: str) -> str:
        """YYYY, YYYY-MM or YYYY-MM-DD: as exact as the source is."""
        cell = self.text(field)
        if not _DATE.fullmatch(cell):
            raise self.wrong(field, f"{cell!r} is not a date YYYY[-MM[-DD]]")
        return cell


def read_rows(text: str, *, file: str, columns: Sequence[str]) -> list[Row]:
    """The rows of a CSV table with exactly these columns, the first of which names the row.

    Raises:
        ValueError: the header differs, a row has too few or too many cells, or a name is empty or used twice.
    """
    reader = csv.reader(text.splitlines())
    header = next(reader, [])
    if header != list(columns):
        raise ValueError(f"{file}: line 1: the columns must be {','.join(columns)}, not {','.join(header)}")
    rows: list[Row] = []
    seen: dict[str, int] = {}
    for cells in reader:
        line, name = reader.line_num, cells[0].strip() if cells else ""
        if len(cells) != len(header):
            raise ValueError(f"{file}: line {line} ({name}): {len(cells)} cells, {len(header)} columns")
        row = Row(file, line, name, {field: cell.strip() for field, cell in zip(header, cells, strict=True)})
        row.text(header[0])
        if name in seen:
            raise row.wrong(header[0], f"is already on line {seen[name]}")
        seen[name] = line
        rows.append(row)
    return rows
