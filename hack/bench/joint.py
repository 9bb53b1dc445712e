"""Services that share pools with limits: Medley's joint solve, the direct MILP (e), and WVA's greedy.

Limits are 60 % of what the services would take without any, except on two types left open so that a plan exists. Gaps
are against the best bound known: of the direct model, its linear relaxation, or Lagrangian, computed here.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medley.allocation.joint import allocate_all

from .baselines.direct import direct
from .baselines.wva import wva_shared
from .highs import minimise
from .instances import EIGHT, pools_with_limits, service_problems
from .optimum import model_of
from .recheck import faults
from .table import Table, cpu_s, table_of

OPEN = ("A100-80", "H100")
LIMIT_SHARE = 0.6
SIZES = (10, 100, 1000)
DIRECT_LIMIT_S = 60.0
COLUMNS = ("services", "seed", "solver", "engine", "status", "cost_per_hour", "bound_per_hour", "cpu_s", "wall_s",
           "unplaced", "wrong")  # fmt: skip


@dataclass(frozen=True, slots=True)
class JointRow:
    """One solver on one set."""

    services: int
    seed: int
    solver: str
    engine: str
    status: str
    cost_per_hour: float
    bound_per_hour: float
    cpu_s: float
    wall_s: float
    unplaced: int = 0
    wrong: int = 0

    def cells(self) -> list[str]:
        """As written."""
        return [
            str(self.services), str(self.seed), self.solver, self.engine, self.status, f"{self.cost_per_hour:.8g}",
            f"{self.bound_per_hour:.8g}", f"{self.cpu_s:.4g}", f"{self.wall_s:.4g}", str(self.unplaced),
            str(self.wrong),
        ]  # fmt: skip


def limits_of(tables: Sequence[Table]) -> list[float]:
    """Most nodes by type."""
    used = [0] * len(EIGHT)
    for table in tables:
        answer = minimise(model_of(table), time_limit_s=60.0, relative_gap=0.005)
        assert answer.point is not None
        for j in range(table.types):
            used[j] += round(float(answer.point[j]))
    return [
        math.inf if gpu in OPEN else float(math.floor(LIMIT_SHARE * count))
        for gpu, count in zip(EIGHT, used, strict=True)
    ]


def lagrangian(
    tables: Sequence[Table], left: Sequence[float], prices: Sequence[float], target: float, time_limit_s: float
) -> float:
    """A lower bound on all services together: each solved alone at prices for the pools, the best of some prices.

    Subgradient steps of Polyak's length towards `target`, the cost of a plan; each step's bound holds by itself.
    """
    limited = np.isfinite(np.array(left))
    most = np.where(limited, np.array(left), 0.0)
    extra = np.where(limited, np.array(prices), 0.0)
    best, length, began = 0.0, 1.0, time.monotonic()
    while time.monotonic() - began < time_limit_s:
        total, used = -float(extra @ most), np.zeros(len(left))
        for table in tables:
            dearer = replace(table, prices=table.prices + extra)
            answer = minimise(model_of(dearer), time_limit_s=5.0, relative_gap=1e-3)
            total += max(0.0, answer.bound)
            if answer.point is not None:
                used += np.round(answer.point[: table.types])
        length = length if total > best else length / 2
        best = max(best, total)
        slope = np.where(limited, used - most, 0.0)
        slope = np.where((extra <= 0) & (slope < 0), 0.0, slope)
        if not slope.any() or total >= target * (1 - 1e-4) or length < 0.05:
            break
        extra = np.maximum(0.0, extra + length * (target - total) / float(slope @ slope) * slope)
    return best


def judge(tables: Sequence[Table], left: Sequence[float], counts: Sequence[tuple[int, ...] | None]) -> tuple[int, int]:
    """Services without a plan, and faults: plans that do not carry their demand, pools over their limit."""
    unplaced = sum(1 for row in counts if row is None)
    wrong = sum(1 for table, row in zip(tables, counts, strict=True) if row is not None and faults(table, row))
    for j, limit in enumerate(left):
        wrong += sum(row[j] for row in counts if row is not None) > limit
    return unplaced, wrong


def compare(seed: int, services: int, engine: str, direct_limit_s: float) -> list[JointRow]:
    """All solvers on one set of services."""
    problems = service_problems(seed, services)
    tables = [table_of(problem) for problem in problems]
    left = limits_of(tables)
    pools = pools_with_limits(
        {gpu: None if math.isinf(limit) else int(limit) for gpu, limit in zip(EIGHT, left, strict=True)}
    )
    rows = []

    def add(
        solver: str, status: str, counts: Sequence[tuple[int, ...] | None] | None, bound: float, cpu: float, wall: float
    ) -> None:
        unplaced, wrong, cost = 0, 0, math.inf
        if counts is not None:
            unplaced, wrong = judge(tables, left, counts)
            cost = sum(table.cost(row) for table, row in zip(tables, counts, strict=True) if row is not None)
        tag = engine if solver == "medley" else ""
        rows.append(JointRow(services, seed, solver, tag, status, cost, bound, cpu, wall, unplaced, wrong))

    cpu, wall = cpu_s(), time.perf_counter()
    made = allocate_all(problems, pools)
    cpu, wall = cpu_s() - cpu, time.perf_counter() - wall
    by_service = dict(made.allocations)
    ours = []
    for problem in problems:
        plan = by_service[problem.service]
        full = plan.served_fraction > 1 - 1e-6 and not plan.unserved
        ours.append(tuple(plan.count(variant.name) for variant in problem.variants) if full else None)
    add("medley", "optimal", ours, float(getattr(made, "lower_bound_per_hour", 0.0) or 0.0), cpu, wall)

    cpu, wall = cpu_s(), time.perf_counter()
    greedy = wva_shared(tables, left)
    add("wva", "optimal", greedy, 0.0, cpu_s() - cpu, time.perf_counter() - wall)

    cpu, wall = cpu_s(), time.perf_counter()
    # For more than 100 services the relaxation of a sample, with its part of the limits: good prices, but no bound.
    part = max(1, services // 100)
    relaxed = direct(tables[::part], [limit / part for limit in left], direct_limit_s, relax=True)
    if part == 1:
        add("relaxation", relaxed.status, None, relaxed.bound, cpu_s() - cpu, time.perf_counter() - wall)

    cpu, wall = cpu_s(), time.perf_counter()
    placed = [row.cost_per_hour for row in rows if row.unplaced == 0 and math.isfinite(row.cost_per_hour)]
    target = min(placed, default=relaxed.bound * part * 1.1)
    bound = lagrangian(tables, left, relaxed.prices or [0.0] * len(left), target, direct_limit_s * 2)
    add("lagrangian", "optimal", None, bound, cpu_s() - cpu, time.perf_counter() - wall)

    if services <= 100:
        cpu, wall = cpu_s(), time.perf_counter()
        whole = direct(tables, left, direct_limit_s)
        add("direct", whole.status, whole.counts or None, whole.bound, cpu_s() - cpu, time.perf_counter() - wall)
    return rows


def joint_figures(seed: int, path: Path, engine: str, left_s: float | None) -> dict[str, object] | None:
    """Figures by number of services; a full run does all sizes, a quick one ten services if time is left."""
    if left_s is not None and left_s < 4.0:
        return None
    sizes = SIZES if left_s is None else SIZES[:1]
    known = _read(path)
    out: dict[str, object] = {}
    for services in sizes:
        mine = {key for key in known if key[:2] == (services, seed)}
        if not any(key[2] == "medley" and known[key].engine == engine for key in mine):
            limit = DIRECT_LIMIT_S if left_s is None else min(DIRECT_LIMIT_S, left_s / 4)
            print(f"{services} services on shared pools", flush=True)
            for row in compare(seed, services, engine, limit):
                known[services, seed, row.solver] = row
            _write(path, known.values())
        rows = {solver: row for (size, at, solver), row in known.items() if (size, at) == (services, seed)}
        ours = rows["medley"]
        bound = max(row.bound_per_hour for row in rows.values() if math.isfinite(row.bound_per_hour))
        out[str(services)] = {
            "cost": round(ours.cost_per_hour, 3),
            "unplaced": ours.unplaced,
            "wrong": ours.wrong,
            "gap_to_best_bound": round(ours.cost_per_hour / bound - 1, 5) if not ours.unplaced and bound > 0 else None,
            "cpu_s": round(ours.cpu_s, 3),
            "wall_s": round(ours.wall_s, 3),
            "best_bound": round(bound, 3),
            **{
                solver: {"cost": round(row.cost_per_hour, 3), "unplaced": row.unplaced, "cpu_s": round(row.cpu_s, 2)}
                for solver, row in rows.items()
                if solver in ("direct", "wva") and math.isfinite(row.cost_per_hour)
            },
        }
    return out


def _read(path: Path) -> dict[tuple[int, int, str], JointRow]:
    if not path.exists():
        return {}
    made = {}
    with path.open(newline="", encoding="utf-8") as file:
        for cells in csv.DictReader(file):
            row = JointRow(
                int(cells["services"]), int(cells["seed"]), cells["solver"], cells["engine"], cells["status"],
                float(cells["cost_per_hour"]), float(cells["bound_per_hour"]), float(cells["cpu_s"]),
                float(cells["wall_s"]), int(cells["unplaced"]), int(cells["wrong"]),
            )  # fmt: skip
            made[row.services, row.seed, row.solver] = row
    return made


def _write(path: Path, rows: Iterable[JointRow]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(row.cells() for row in rows)
