"""How to solve, and what a solver says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Backend(StrEnum):
    """Which solver runs."""

    HIGHS = "HiGHS"
    CBC = "CBC"


class SolveStatus(StrEnum):
    """What the solver says."""

    OPTIMAL = "Optimal"
    TIME_LIMIT = "TimeLimit"
    INFEASIBLE = "Infeasible"
    NO_ANSWER = "NoAnswer"


@dataclass(frozen=True, slots=True)
class Options:
    """How to solve: relative gap, seconds, solver."""

    relative_gap: float = 0.004
    time_limit_s: float = 1.0
    backend: Backend = Backend.HIGHS


@dataclass(frozen=True, slots=True)
class Answer:
    """What a solver found.

    Attributes:
        values: of the columns, as many as the program has; empty where there is no point.
        bound: of the objective.
        duals: of the rows; empty for a program with whole numbers.
    """

    status: SolveStatus
    values: tuple[float, ...] = ()
    bound: float = -math.inf
    duals: tuple[float, ...] = ()
