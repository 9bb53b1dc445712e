"""The journal of a run: JSON lines, the first says what is measured, each further one is a finished probe.

A line is written whole and flushed to the disk before the next probe begins. A last line that was cut off is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medley.measurement.probe import Ending, Loop, Probe, ProbeResult
from medley.model.errors import UserError
from medley.model.workload import Size
from medley.profiles.measured import Latency, LoadPoint

_FORMAT = 1


class Journal:
    """A journal file. `path` None keeps nothing.

    Args:
        path: the file; made if it is not there.
        about: what is measured; a journal about something else is refused.

    Raises:
        UserError: the file is no journal, or is about something else.
    """

    def __init__(self, path: Path | None, about: Mapping[str, Any]) -> None:
        self._path = path
        self.results: list[ProbeResult] = []
        if path is None:
            return
        header = {"medleyJournal": _FORMAT, **about}
        whole = _whole_lines(path)
        if whole:
            self._take_over(path, whole, header)
        # What was cut off is removed, or the next line would be joined to it.
        text = "".join(line + "\n" for line in whole)
        try:
            if not whole or path.read_text() != text:
                path.write_text(text or json.dumps(header) + "\n")
        except OSError as error:
            raise UserError(f"cannot be written: {error.strerror}", field=str(path)) from None

    def add(self, result: ProbeResult) -> None:
        """Keeps a finished probe."""
        self.results.append(result)
        if self._path is None:
            return
        with self._path.open("a") as file:
            file.write(json.dumps(_as_json(result)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _take_over(self, path: Path, lines: list[str], header: Mapping[str, Any]) -> None:
        try:
            before = json.loads(lines[0])
            if not isinstance(before, dict) or before.get("medleyJournal") != _FORMAT:
                raise ValueError
            self.results = [_from_json(json.loads(line)) for line in lines[1:]]
        except (ValueError, KeyError, TypeError):
            raise _no_journal(path) from None
        differs = [
            f"{name} is {before.get(name)!r} there and {header.get(name)!r} now"
            for name in sorted({*before, *header})
            if before.get(name) != header.get(name)
        ]
        if differs:
            raise UserError(
                f"is of another measurement: {'; '.join(differs)}",
                field=str(path),
                fix="ask for the same, or name another file for --journal",
            )


def model_of(path: Path) -> str:
    """The model that a journal is about.

    Raises:
        UserError: there is no such journal.
    """
    try:
        return str(json.loads(_whole_lines(path)[0])["model"])
    except (IndexError, ValueError, KeyError, TypeError):
        raise _no_journal(path) from None


def _whole_lines(path: Path) -> list[str]:
    try:
        text = path.read_text() if path.exists() else ""
    except (OSError, UnicodeDecodeError):
        raise UserError("cannot be read", field=str(path), fix="name another file for --journal") from None
    whole = text.split("\n")[:-1]
    if text and not whole:
        raise _no_journal(path)
    return whole


def _no_journal(path: Path) -> UserError:
    return UserError("is no journal of medley profile run", field=str(path), fix="name another file for --journal")


def _as_json(result: ProbeResult) -> dict[str, Any]:
    return asdict(result)


def _from_json(document: dict[str, Any]) -> ProbeResult:
    probe, point = document.pop("probe"), document.pop("point")
    return ProbeResult(
        probe=Probe(Size(**probe["size"]), Loop(probe["loop"]), probe["level"], probe["requests"]),
        ending=Ending(document.pop("ending")),
        point=None if point is None else _point(point),
        **document,
    )


def _point(document: dict[str, Any]) -> LoadPoint:
    return LoadPoint(
        size=Size(**document["size"]),
        rate_rps=document["rate_rps"],
        tpot=Latency(**document["tpot"]),
        ttft=Latency(**document["ttft"]),
        concurrency=document["concurrency"],
        requests=document["requests"],
    )
