"""Snapshots and decisions as files: JSON, with the schema version first checked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from medley.cycle.decision import Decision
from medley.cycle.snapshot import SCHEMA_VERSION, Snapshot
from medley.model.errors import UserError


@dataclass(frozen=True, slots=True)
class Record:
    """A cycle: what was seen and what was decided."""

    snapshot: Snapshot
    decision: Decision | None = None

    # Open histogram cells end at +inf; a faulty sample may hold NaN. Both must survive the file.
    __pydantic_config__ = ConfigDict(ser_json_inf_nan="strings")


_ADAPTER = TypeAdapter(Record)


def dump(record: Record) -> str:
    """The record as JSON."""
    return _ADAPTER.dump_json(record, indent=1).decode()


def load(path: Path) -> Record:
    """Read a record.

    Raises:
        UserError: the file is missing, is no record, or is of another schema version.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        version = raw["snapshot"]["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"is no recorded snapshot: {error}", field=str(path)) from None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"has schema version {version}, this Medley reads {SCHEMA_VERSION}",
            field=str(path),
            fix="Replay it with the version that wrote it",
        )
    try:
        return _ADAPTER.validate_python(raw)
    except ValidationError as error:
        raise UserError(
            f"is no valid snapshot: {error.errors()[0]['msg']} at {error.errors()[0]['loc']}", field=str(path)
        ) from None
