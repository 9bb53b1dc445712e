"""Medley's own engine, called as any user of it would, and what its public re-check says of its plan."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medley.allocation.check import limits_broken, overloaded
from medley.allocation.problem import Allocation, Outcome, Problem
from medley.allocation.routing import steer
from medley.allocation.solve import allocate

from .recheck import faults, split_faults
from .table import Table, cpu_s

REPEATS = 3
STARVED_RETRIES = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """One allocation.

    Attributes:
        cpu_ms: median over the repeats, model building and re-check included.
        claims_full: it says that all of the demand is carried.
        wrong: what the re-checks found.
        starved: solves repeated because the time limit (wall) struck while others had the cores.
    """

    allocation: Allocation
    counts: tuple[int, ...]
    cpu_ms: float
    wall_ms: float
    claims_full: bool
    wrong: tuple[str, ...]
    starved: int = 0


def run_engine(problem: Problem, table: Table, repeats: int = REPEATS) -> Answer:
    """Solve `repeats` times and judge the first answer."""
    cpu: list[float] = []
    wall: list[float] = []
    starved = 0
    first: Allocation | None = None
    while len(cpu) < repeats:
        cpu_before, wall_before = cpu_s(), time.perf_counter()
        made = allocate(problem)
        cpu_used, wall_used = cpu_s() - cpu_before, time.perf_counter() - wall_before
        # On a crowded machine the limit can strike a solve that had hardly begun; that says nothing of the engine.
        if made.outcome is Outcome.INCUMBENT and wall_used > 2 * cpu_used and starved < STARVED_RETRIES:
            starved += 1
            continue
        first = first or made
        cpu.append(cpu_used)
        wall.append(wall_used)
    assert first is not None
    counts = tuple(first.count(variant.name) for variant in problem.variants)
    full = first.outcome not in (Outcome.BEST_EFFORT, Outcome.IMPOSSIBLE) and first.served_fraction > 1 - 1e-6
    wrong = _wrong(problem, table, first, counts) if full else []
    return Answer(
        first, counts, 1e3 * statistics.median(cpu), 1e3 * statistics.median(wall), full, tuple(wrong), starved
    )


def _wrong(problem: Problem, table: Table, made: Allocation, counts: tuple[int, ...]) -> list[str]:
    wrong = faults(table, counts)
    cost = table.cost(counts)
    if abs(cost - made.cost_per_hour) > 1e-6 * max(1.0, cost):
        wrong.append(f"costs {cost:.4f} $/h, says {made.cost_per_hour:.4f}")
    if made.unserved:
        wrong.append(f"{len(made.unserved)} buckets left out that some type serves")
    if made.lines == tuple(range(table.buckets)):
        wrong += split_faults(table, counts, _shares(problem, table, made))
    return wrong + _engine_check(problem, made)


def _shares(problem: Problem, table: Table, made: Allocation) -> np.ndarray:
    by_name = dict(made.shares)
    nothing = (0.0,) * table.buckets
    return np.array([by_name.get(variant.name, nothing) for variant in problem.variants]).T


def _engine_check(problem: Problem, made: Allocation) -> list[str]:
    """The verdict of medley.allocation.check."""
    replicas: Mapping[str, int] = dict(made.replicas)
    return limits_broken(problem, replicas) + overloaded(problem, steer(problem), replicas, dict(made.shares))
