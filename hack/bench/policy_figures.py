"""The figures of a policy run, from its rows, and the goals they are held against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .policy_results import Row

Figure = dict[str, object]
FAULT_SETS = ("single", "several", "mutants")
LLM = "not run"
"""The column of language models: nothing is measured without a real endpoint."""


def figures(rows: Sequence[Row]) -> Figure:
    """What the last line of the output says: first the figures of the forum policies, then all of them by set."""
    found = {origin: _figures([row for row in rows if row.origin == origin]) for origin in _origins(rows)}
    first = found.get("forum", {})
    complete, held_out = first.get("complete", {}), first.get("held_out", {})
    assert isinstance(complete, dict)
    assert isinstance(held_out, dict)
    return {
        "complete_share": {size: of["share"] for size, of in complete.items()},
        "contradictory_share": {size: of["contradictory_share"] for size, of in complete.items()},
        "held_out_share": {
            fault_set: {size: of["share"] for size, of in sizes.items()} for fault_set, sizes in held_out.items()
        },
        "a_us": first.get("a_us"),
        "b_both_directions_ms": first.get("b_both_directions_ms"),
        "c_ms": first.get("c_ms"),
        "repair_b_ms": first.get("repair_b_ms"),
        "repair_b_and_c_ms": first.get("repair_b_and_c_ms"),
        "llm": LLM,
        "disagreements": sum(bool(row.note) for row in rows if row.kind == "engines"),
        "sets": SETS,
        "by_set": found,
    }


SETS = {
    "forum": "data/policies: 21 IAM policies from forums (tests/data/policies)",
    "aws": "AWS managed policies: 160 of those in moto (tests/data/policy/aws_managed.jsonl)",
    "mutants": "of both, by Quacky's three mutation operators, drawn by the seed",
}


def _figures(rows: Sequence[Row]) -> Figure:
    """Of one set of documents; None where nothing was measured."""
    engines = [row for row in rows if row.kind == "engines" and row.outcome != "none"]
    complete = [row for row in rows if row.kind == "complete"]
    held_out = [row for row in rows if row.kind == "held-out"]
    by_fault_set = {name: [row for row in held_out if row.fault_set == name] for name in FAULT_SETS}
    unknown = sum(row.outcome.endswith("/Unknown") for row in engines)
    return {
        "complete": {str(size): complete_share(_of(complete, size)) for size in _sizes(complete)},
        "held_out": {
            fault_set: {str(size): held_out_share(_of(of_set, size)) for size in _sizes(of_set)}
            for fault_set, of_set in by_fault_set.items()
        },
        "a_us": quantiles([row.a_us for row in engines]),
        "b_both_directions_ms": quantiles([row.b_ms for row in engines]),
        "c_ms": quantiles([row.c_ms for row in engines]) | {"unknown": unknown},
        "repair_b_ms": {str(size): quantiles([row.b_ms for row in _of(complete, size)]) for size in _sizes(complete)},
        "repair_b_and_c_ms": {
            str(size): quantiles([row.c_ms for row in _of(complete, size)]) for size in _sizes(complete)
        },
        "repair_of_faults_b_ms": {
            str(size): quantiles([row.b_ms for row in _of(held_out, size) if row.outcome != "none"])
            for size in _sizes(held_out)
        },
    }


def complete_share(rows: Sequence[Row]) -> Figure:
    """Share of request lists made true among those that C does not prove contradictory."""
    counted = [row for row in rows if row.outcome != "Contradiction"]
    repaired = sum(row.outcome in ("Repaired", "Unchanged") and row.right == row.total for row in counted)
    return {
        "share": share(repaired, len(counted)),
        "specs": len(rows),
        "contradictory_share": share(len(rows) - len(counted), len(rows)),
    }


def held_out_share(rows: Sequence[Row]) -> Figure:
    """Share of held-out requests decided as the document that was meant decides them; every case counts the same.

    `inside` are those that the faulty document decides wrongly; `same`: the repaired document equals the one meant.
    """
    cases = [row for row in rows if row.outcome not in ("none", "Contradiction")]
    return {
        "share": _mean([row.right / row.total for row in cases]),
        "inside": _mean([row.inside_right / row.inside for row in cases if row.inside]),
        "given": _mean([row.given_right / _given(row) for row in cases]),
        "same": share(sum(row.same == "yes" for row in cases), len(cases)),
        "wider": share(sum(row.wider == "yes" for row in cases), len(cases)),
        "cases": len(cases),
        "contradictory": sum(row.outcome == "Contradiction" for row in rows),
        "no_case": sum(row.outcome == "none" for row in rows),
    }


def _given(row: Row) -> int:
    return int(row.note.partition(" ")[0]) if row.note else row.requests


def quantiles(values: Sequence[float]) -> Figure:
    """p50, p95, largest, and how many."""
    if not values:
        return {"p50": None, "p95": None, "max": None, "n": 0}
    p50, p95 = (float(f"{np.percentile(values, q):.4g}") for q in (50, 95))
    return {"p50": p50, "p95": p95, "max": float(f"{max(values):.4g}"), "n": len(values)}


def share(part: int, whole: int) -> float | None:
    """A share; None of nothing."""
    return round(part / whole, 4) if whole else None


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def _of(rows: Iterable[Row], size: int) -> list[Row]:
    return [row for row in rows if row.requests == size]


def _origins(rows: Iterable[Row]) -> list[str]:
    return sorted({row.origin for row in rows}, reverse=True)


def _sizes(rows: Iterable[Row]) -> list[int]:
    return sorted({row.requests for row in rows})


def goal_lines(made: Figure) -> list[str]:
    """Each goal of the project with what was reached, set by set."""
    lines: list[str] = []

    def goal(text: str, bound: float, *path: str, least: bool = False) -> None:
        value: object = made["by_set"]
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, int | float):
            met = value >= bound if least else value <= bound
            lines.append(f"  {'met   ' if met else 'MISSED'}  {path[0]}: {text} {bound:g}: {value:g}")

    for origin in ("forum", "aws"):
        goal("A, us a request, p95 <=", 10, origin, "a_us", "p95")
        goal("B, both directions, ms, p95 <=", 5, origin, "b_both_directions_ms", "p95")
        goal("C, ms, p95 <=", 100, origin, "c_ms", "p95")
        goal("repair with B at 30 requests, ms, p95 <=", 100, origin, "repair_b_ms", "30", "p95")
        goal("repair with B and C at 30 requests, ms, p95 <=", 1000, origin, "repair_b_and_c_ms", "30", "p95")
        for size in ("10", "20", "30", "50", "100"):
            goal(f"complete at {size} requests >=", 0.99, origin, "complete", size, "share", least=True)
        goal("held-out at 20 requests, 1 fault >=", 0.97, origin, "held_out", "single", "20", "share", least=True)
        goal("held-out at 20 requests, 2-3 faults >=", 0.92, origin, "held_out", "several", "20", "share", least=True)
    return lines


def table_lines(rows: Sequence[Row]) -> list[str]:
    """The tables of docs/benchmarks/policy.md."""
    found = {origin: _figures([row for row in rows if row.origin == origin]) for origin in _origins(rows)}
    lines = [
        "| set | requests | lists | contradictory | complete | repair, B: ms p50 | p95 | B + C: ms p50 | p95 | LLM |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for origin, of in found.items():
        for size, shares in _dict(of["complete"]).items():
            b, c = _dict(of["repair_b_ms"])[size], _dict(of["repair_b_and_c_ms"])[size]
            lines.append(
                f"| {origin} | {size} | {shares['specs']} | {_percent(shares['contradictory_share'])} | "
                f"{_percent(shares['share'])} | {b['p50']} | {b['p95']} | {c['p50']} | {c['p95']} | {LLM} |"
            )
    lines += [
        "",
        "| set | faults | requests | cases | held-out right | in the faulty region | given right | as meant | wider |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for origin, of in found.items():
        for fault_set, sizes in _dict(of["held_out"]).items():
            for size, shares in sizes.items():
                cells = (_percent(shares[name]) for name in ("share", "inside", "given", "same", "wider"))
                lines.append(f"| {origin} | {fault_set} | {size} | {shares['cases']} | {' | '.join(cells)} |")
    lines += ["", "| set | what | n | p50 | p95 | max |", "|---|---|---|---|---|---|"]
    names = {
        "a_us": "A, us a request",
        "b_both_directions_ms": "B, both directions, ms",
        "c_ms": "C, one direction, ms",
    }
    for name, text in names.items():
        for origin, of in found.items():
            one = _dict(of[name])
            lines.append(f"| {origin} | {text} | {one['n']} | {one['p50']} | {one['p95']} | {one['max']} |")
    return lines


def _dict(value: object) -> dict[str, Any]:
    assert isinstance(value, dict)
    return value


def _percent(value: object) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, int | float) else "-"
