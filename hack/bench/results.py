"""The CSV of results: one row per instance and solver, appended as it comes, so that a run can be resumed."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

COLUMNS = (
    "instance",
    "inputs",
    "kind",
    "grid",
    "buckets",
    "variants",
    "rate_rps",
    "solver",
    "engine",
    "limit_s",
    "status",
    "cost_per_hour",
    "bound_per_hour",
    "cpu_ms",
    "wall_ms",
    "valid",
    "note",
)
ENGINE = "medley"


@dataclass(frozen=True, slots=True)
class Row:
    """One solve.

    Attributes:
        inputs: digest of the problem's numbers.
        engine: fingerprint of Medley's code for its own rows; empty for the others.
        status: optimal, limit (censored: the time limit came first), none or infeasible.
        valid: the plan passed the re-check. True where there is no plan.
    """

    instance: str
    inputs: str
    kind: str
    grid: str
    buckets: int
    variants: int
    rate_rps: float
    solver: str
    engine: str
    limit_s: float
    status: str
    cost_per_hour: float
    bound_per_hour: float
    cpu_ms: float
    wall_ms: float
    valid: bool
    note: str = ""

    @property
    def has_plan(self) -> bool:
        """Whether it says how to carry all of the demand."""
        return self.status in ("optimal", "limit")

    def cells(self) -> list[str]:
        """As written."""
        return [
            self.instance,
            self.inputs,
            self.kind,
            self.grid,
            str(self.buckets),
            str(self.variants),
            f"{self.rate_rps:.6g}",
            self.solver,
            self.engine,
            f"{self.limit_s:g}",
            self.status,
            f"{self.cost_per_hour:.8g}",
            f"{self.bound_per_hour:.8g}",
            f"{self.cpu_ms:.4g}",
            f"{self.wall_ms:.4g}",
            "yes" if self.valid else "no",
            self.note,
        ]


class Results:
    """Rows in memory and on disk. Those of another engine, other inputs or another time limit are measured again."""

    def __init__(self, path: Path, engine: str) -> None:
        self._path = path
        self._engine = engine
        self.rows: dict[tuple[str, str], Row] = {}
        self.reused = 0
        if path.exists():
            for row in read_rows(path):
                if row.solver != ENGINE or row.engine == engine:
                    self.rows[row.instance, row.solver] = row
            self.reused = len(self.rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(row.cells() for row in self.rows.values())

    def finished(self, instance: str, solver: str, limit_s: float, inputs: str) -> bool:
        """Whether the solve need not be run again."""
        row = self.rows.get((instance, solver))
        return row is not None and row.inputs == inputs and (row.limit_s == limit_s or row.status == "optimal")

    def add(self, row: Row) -> None:
        """Keep a row, at once on disk."""
        self.rows[row.instance, row.solver] = row
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(row.cells())

    def by_instance(self) -> dict[str, dict[str, Row]]:
        """Rows by instance, then solver; beside Medley's row only those for the same inputs."""
        out: dict[str, dict[str, Row]] = {}
        for row in self.rows.values():
            ours = self.rows.get((row.instance, ENGINE), row)
            if row.inputs == ours.inputs:
                out.setdefault(row.instance, {})[row.solver] = row
        return out


def read_rows(path: Path) -> list[Row]:
    """The rows of a file; of two for the same solve the later counts, and a half-written last line is dropped."""
    made = []
    with path.open(newline="", encoding="utf-8") as file:
        for cells in csv.DictReader(file):
            if any(cells.get(column) is None for column in COLUMNS):
                continue
            made.append(
                Row(
                    cells["instance"],
                    cells["inputs"],
                    cells["kind"],
                    cells["grid"],
                    int(cells["buckets"]),
                    int(cells["variants"]),
                    float(cells["rate_rps"]),
                    cells["solver"],
                    cells["engine"],
                    float(cells["limit_s"]),
                    cells["status"],
                    float(cells["cost_per_hour"]),
                    float(cells["bound_per_hour"]),
                    float(cells["cpu_ms"]),
                    float(cells["wall_ms"]),
                    cells["valid"] == "yes",
                    cells["note"],
                )
            )
    return made
