"""What an import gives."""

from __future__ import annotations

from dataclasses import dataclass

from medley.profiles.grid import Grid
from medley.profiles.measured import Measured


@dataclass(frozen=True, slots=True)
class Imported:
    """A source of speed, and what its user should know about it.

    Attributes:
        source: in Medley's units, orientation and definitions.
        notes: what was converted, assumed or not checked; a sentence each.
        tool: what made the numbers, as far as the source says.
        made_on: when, as YYYY-MM-DD; None: the source does not say.
        model: the model's name in the source; None: the source does not say.
    """

    source: Grid | Measured
    notes: tuple[str, ...]
    tool: str
    made_on: str | None = None
    model: str | None = None
