"""The CSV of the policy benchmark: one row a task, appended as it comes, so that a run can be resumed."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One task: an engine on a pair of documents, a request list made true, or a fault repaired.

    Attributes:
        kind: engines (A, B and C on a document and its mutant), complete (a CloudFix-style request list), held-out.
        fault_set: single, several or mutants; empty for complete.
        origin: set of documents: forum or aws.
        item: name of the document and number of its mutant or fault; `faults` names the kinds.
        requests: that the repair is given, or that A decides.
        seed: of requests, faults and mutants.
        engine: fingerprint of Medley's code.
        limit_ms: of a question to C.
        outcome: of the repair, or of B and C on the pair; "none" where no such case could be made.
        right, total: requests decided rightly: the given ones (complete) or the held-out ones.
        given_right: of the given requests, how many the repaired document decides rightly (held-out).
        inside_right, inside: held-out requests that the faulty document decides wrongly.
        same: repaired document and the one that was meant allow the same, by B: yes, no, unknown.
        wider: the repaired document allows something that the one that was meant does not, by B.
        characters: size of the repaired document without white space.
        a_us: engine A, microseconds a request, mean over the requests of the row.
        b_ms, c_ms: milliseconds of CPU time, proof included: repair with B alone and with B and C; for a pair both
            directions of B, and C on the first direction.
    """

    kind: str
    fault_set: str
    origin: str
    item: str
    requests: int
    seed: int
    engine: str
    limit_ms: int
    outcome: str
    right: int = 0
    total: int = 0
    given_right: int = 0
    inside_right: int = 0
    inside: int = 0
    same: str = ""
    wider: str = ""
    characters: int = 0
    a_us: float = 0.0
    b_ms: float = 0.0
    c_ms: float = 0.0
    faults: str = ""
    note: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two rows the same task."""
        return (self.kind, self.fault_set, self.origin, self.item, self.requests, self.seed, self.limit_ms)


COLUMNS = tuple(field.name for field in fields(Row))
_NUMBERS = {
    field.name: int if field.type == "int" else float for field in fields(Row) if field.type in ("int", "float")
}


class Results:
    """Rows in memory and on disk. Those of another version of Medley's policy engine are measured again."""

    def __init__(self, path: Path, engine: str) -> None:
        self._path = path
        self.rows: dict[tuple[object, ...], Row] = {}
        if path.exists():
            self.rows = {row.key: row for row in read_rows(path) if row.engine == engine}
        self.reused = len(self.rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(_cells(row) for row in self.rows.values())

    def add(self, row: Row) -> None:
        """Keep a row, at once on disk."""
        self.rows[row.key] = row
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(_cells(row))


def _cells(row: Row) -> dict[str, object]:
    return {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in asdict(row).items()}


def read_rows(path: Path) -> list[Row]:
    """The rows of a file; a half-written last line is dropped."""
    made = []
    with path.open(newline="", encoding="utf-8") as file:
        for cells in csv.DictReader(file):
            if any(cells.get(column) is None for column in COLUMNS):
                continue
            made.append(Row(**{name: _NUMBERS.get(name, str)(cells[name]) for name in COLUMNS}))
    return made
