"""A policy as it is in force somewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LivePolicy:
    """What was read.

    Attributes:
        document: the text that may be changed; empty: there is none yet.
        beside: texts that decide with it, and are never changed.
        boundary: text of the permissions boundary; empty: none.
        marks: of each object that was read, which state of it: a write is for that state alone.
        consent: which AccessPolicy (`namespace/name`) the owner of the object lets write it; empty: none is named.
    """

    document: str
    beside: tuple[str, ...] = ()
    boundary: str = ""
    marks: Mapping[str, str] = field(default_factory=dict)
    consent: str = ""
