"""A mixed-integer linear program as rows and columns, for whichever solver."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

INFINITY = math.inf

Terms = list[tuple[int, float]]
"""(column, coefficient) of one row."""


@dataclass(slots=True)
class Program:
    """To be minimised; rows in compressed form.

    Column j costs `cost[j]`, lies in `lower[j]`..`upper[j]` and is whole if `whole[j]`. Row r has the columns
    `columns[starts[r]:starts[r + 1]]` with `values` there, and lies in `row_lower[r]`..`row_upper[r]`.
    """

    cost: list[float] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    row_lower: list[float] = field(default_factory=list)
    row_upper: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    columns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def column(self, lower: float, upper: float, *, cost: float = 0.0, whole: bool = False) -> int:
        """Add a variable; returns its number."""
        self.cost.append(cost)
        self.lower.append(lower)
        self.upper.append(upper)
        self.whole.append(whole)
        return len(self.cost) - 1

    def row(self, lower: float, terms: Terms, upper: float) -> None:
        """Add lower ≤ Σ terms ≤ upper."""
        for column, value in terms:
            self.columns.append(column)
            self.values.append(value)
        self.starts.append(len(self.columns))
        self.row_lower.append(lower)
        self.row_upper.append(upper)
