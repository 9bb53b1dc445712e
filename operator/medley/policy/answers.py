"""What an engine answers: a request, the proof that there is none, or neither."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from medley.policy.iam.request import Request


class Engine(Enum):
    """The engines that answer questions about all requests."""

    ATOMS = "B"
    SMT = "C"


@dataclass(frozen=True, slots=True)
class Found:
    """A request for which the formula holds."""

    witness: Request


@dataclass(frozen=True, slots=True)
class Empty:
    """There is no such request."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The engine cannot say; never to be read as safe."""

    reason: str


Answer = Found | Empty | Unknown


class TooLarge(Exception):  # noqa: N818  (control flow inside an engine, never shown)
    """The question passes a bound of the engine."""
