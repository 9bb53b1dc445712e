"""The figures of a run, from its rows, and the goals they are held against."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from .results import ENGINE, Row

BASELINES = ("melange-8", "melange-4", "melange-1", "aibrix", "wva", "single")
TIMED_BUCKETS = range(60, 101)
"""The goals on CPU time are set for this many buckets."""
GAP_GOAL = 0.005
MS_GOALS = {"4": 10.0, "8": 40.0, "16": 150.0}
CPU_RATIO_GOAL = 60.0
UNBOUNDED = 1e9
"""Stands for an infinite gap, which JSON has no word for."""

ByInstance = dict[str, dict[str, Row]]


def figures(by_instance: ByInstance) -> dict[str, object]:
    """What the last line of the output says; None where nothing was measured."""
    ours = {name: rows[ENGINE] for name, rows in by_instance.items() if ENGINE in rows}
    ratios, wrong, bound_wrong, reference_wrong, proved = [], 0, 0, 0, 0
    for name, row in ours.items():
        wrong += not row.valid
        best = by_instance[name].get("optimum")
        if best is None:
            continue
        if best.status == "optimal":
            proved += 1
            if not row.has_plan:
                wrong += 1  # it calls a problem infeasible for which there is a plan
                continue
            ratios.append(row.cost_per_hour / best.cost_per_hour)
            bound_wrong += row.bound_per_hour > best.cost_per_hour * (1 + 1e-6)
            reference_wrong += row.valid and row.cost_per_hour < best.cost_per_hour * (1 - 1e-6)
        elif best.status == "infeasible":
            reference_wrong += row.has_plan and row.valid
    timed = [row for row in ours.values() if row.kind in ("grid", "random")]
    pairs = melange_pairs(by_instance, 4, "melange-8")
    against = [
        (row, by_instance[name][solver])
        for name, row in ours.items()
        for solver in BASELINES[:3]
        if solver in by_instance[name] and by_instance[name][solver].has_plan and by_instance[name][solver].valid
    ]
    gaps = [gap_of(row) for row in ours.values() if row.has_plan]
    return {
        "cost_ratio_max": _rounded(max(ratios, default=None), 6),
        "cpu_ratio_p50": _rounded(_median([other.cpu_ms / row.cpu_ms for row, other in pairs]), 2),
        "ms_p95": _p95s(timed, lambda row: row.buckets in TIMED_BUCKETS),
        "gap_max": _rounded(max(gaps, default=None), 6),
        "infeasible_wrong": wrong,
        "bound_wrong": bound_wrong,
        "reference_wrong": reference_wrong,
        "cost_ratio_mean": _rounded(statistics.fmean(ratios) if ratios else None, 6),
        "cost_vs_melange_max": _rounded(max((a.cost_per_hour / b.cost_per_hour for a, b in against), default=None), 6),
        "bound_vs_melange_max": _rounded(
            max((a.bound_per_hour / b.cost_per_hour for a, b in against), default=None), 6
        ),
        "melange_invalid": sum(
            1 for rows in by_instance.values() for s in BASELINES[:3] if s in rows and not rows[s].valid
        ),
        "cpu_ratio_pairs": len(pairs),
        "cpu_ratio_censored": sum(1 for _, other in pairs if other.status != "optimal"),
        "ms_p95_all_sizes": _p95s(timed, lambda _row: True),
        "instances": len(ours),
        "proved": proved,
    }


def gap_of(row: Row) -> float:
    """(cost − bound) / bound as the engine certifies it."""
    if row.bound_per_hour <= 0:
        return 0.0 if row.cost_per_hour <= 1e-9 else UNBOUNDED
    return min(UNBOUNDED, max(0.0, row.cost_per_hour / row.bound_per_hour - 1.0))


def melange_pairs(by_instance: ByInstance, variants: int, solver: str) -> list[tuple[Row, Row]]:
    """Our row and Mélange's on the same instances; a censored one counts with the time it had."""
    return [
        (rows[ENGINE], rows[solver])
        for rows in by_instance.values()
        if ENGINE in rows and solver in rows and rows[ENGINE].variants == variants
    ]


def goal_lines(made: dict[str, object]) -> list[str]:
    """Each goal with what was reached."""
    lines = []

    def goal(text: str, value: object, reached: Callable[[float], bool]) -> None:
        if isinstance(value, (int, float)):
            lines.append(f"  {'met   ' if reached(float(value)) else 'MISSED'}  {text}: {value:g}")
        else:
            lines.append(f"  none    {text}: not measured")

    goal("cost / optimum <= 1.005", made["cost_ratio_max"], lambda v: v <= 1 + GAP_GOAL)
    goal("gap <= 0.005", made["gap_max"], lambda v: v <= GAP_GOAL)
    goal("wrong plans or wrong 'infeasible' = 0", made["infeasible_wrong"], lambda v: v == 0)
    goal("cost / Mélange <= 1.005", made["cost_vs_melange_max"], lambda v: v <= 1 + GAP_GOAL)
    goal("bound / Mélange <= 1", made["bound_vs_melange_max"], lambda v: v <= 1 + 1e-6)
    goal("CPU of Mélange / ours >= 60 (4 variants, slice factor 8, median)", made["cpu_ratio_p50"],
         lambda v: v >= CPU_RATIO_GOAL)  # fmt: skip
    p95 = made["ms_p95"]
    assert isinstance(p95, dict)
    for variants, most in MS_GOALS.items():
        text = f"p95 <= {most:g} ms, {variants} variants, 60-100 buckets"
        goal(text, p95.get(variants), lambda value, most=most: value <= most)  # type: ignore[misc]
    return lines


def baseline_lines(by_instance: ByInstance) -> list[str]:
    """Each baseline's cost over the optimum by rate, and its CPU time over ours."""
    lines = ["| solver | instances | cost / optimum p50 | p95 | max | CPU ms p50 | p95 | censored | invalid |",
             "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for solver in (ENGINE, "optimum", *BASELINES):
        rows = [
            (found[solver], found["optimum"])
            for found in by_instance.values()
            if solver in found and "optimum" in found and found[solver].kind != "limited"
        ]
        if not rows:
            continue
        ratios = [a.cost_per_hour / b.cost_per_hour for a, b in rows if a.has_plan and b.status == "optimal"]
        cpu = [a.cpu_ms for a, _ in rows]
        lines.append(
            f"| {solver} | {len(rows)} | {_quantiles(ratios, '.4f')} | {max(ratios, default=math.nan):.4f} "
            f"| {_quantiles(cpu, '.3g')} | {sum(a.status in ('limit', 'none') for a, _ in rows)} "
            f"| {sum(not a.valid for a, _ in rows)} |"
        )
    return lines


def time_lines(by_instance: ByInstance) -> list[str]:
    """Our CPU time by grid and variants, beside Mélange at slice factor 8."""
    lines = ["| buckets | variants | instances | ours p50 ms | p95 ms | Mélange sf 8 p50 ms | Mélange / ours p50 |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    groups: dict[tuple[int, int, str], list[dict[str, Row]]] = {}
    for rows in by_instance.values():
        if ENGINE in rows and rows[ENGINE].kind in ("grid", "random"):
            row = rows[ENGINE]
            label = row.grid if row.kind == "grid" else "random 60-100"
            order = int(row.grid.split("x")[0]) if row.kind == "grid" else 99
            groups.setdefault((order, row.variants, label), []).append(rows)
    for (_, variants, label), members in sorted(groups.items()):
        ours = [rows[ENGINE].cpu_ms for rows in members]
        other = [rows["melange-8"].cpu_ms for rows in members if "melange-8" in rows]
        ratio = [rows["melange-8"].cpu_ms / rows[ENGINE].cpu_ms for rows in members if "melange-8" in rows]
        tail = f"{statistics.median(other):.3g} | {statistics.median(ratio):.0f}" if other else "- | -"
        lines.append(f"| {label} | {variants} | {len(members)} | {_quantiles(ours, '.3g')} | {tail} |")
    return lines


def _p95s(rows: Iterable[Row], keep: Callable[[Row], bool]) -> dict[str, float | None]:
    by_variants: dict[str, list[float]] = {"4": [], "8": [], "16": []}
    for row in rows:
        if str(row.variants) in by_variants and keep(row):
            by_variants[str(row.variants)].append(row.cpu_ms)
    return {
        variants: _rounded(float(np.percentile(values, 95)), 3) if values else None
        for variants, values in by_variants.items()
    }


def _quantiles(values: Sequence[float], form: str) -> str:
    if not values:
        return "- | -"
    return f"{np.percentile(values, 50):{form}} | {np.percentile(values, 95):{form}}"


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)
