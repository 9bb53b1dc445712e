"""What an engine answers: a request, the proof that there is none, or neither."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

Values = Mapping[str, tuple[str, ...]]
"""A request as the engines see it: the text of each dimension, the values of each key that is present."""
V = TypeVar("V")
W = TypeVar("W")


class Engine(Enum):
    """The engines that answer questions about all requests."""

    ATOMS = "B"
    SMT = "C"


@dataclass(frozen=True, slots=True)
class Found(Generic[W]):
    """A request for which the formula holds."""

    witness: W


@dataclass(frozen=True, slots=True)
class Empty:
    """There is no such request."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The engine cannot say; never to be read as safe."""

    reason: str


Answer = Found[W] | Empty | Unknown


def read_as(answer: Answer[V], reading: Callable[[V], W]) -> Answer[W]:
    """The answer with its witness read as a request of one kind of policy."""
    return Found(reading(answer.witness)) if isinstance(answer, Found) else answer


class TooLarge(Exception):  # noqa: N818  (control flow inside an engine, never shown)
    """The question passes a bound of the engine."""
