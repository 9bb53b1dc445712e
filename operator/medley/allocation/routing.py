"""What each routing mode makes of a workload: lines of traffic that can be steered apart, and the load of each.

`Full`: one line per bucket. `InputRange`: one line per input range, since a router sees the prompt and not the output.
`Weighted` and `Service`: one line; weights may differ per replica in the former and not in the latter. A line goes only
to variants that serve every servable bucket in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from medley.allocation.problem import Problem, Unserved, Variant
from medley.model.objects import RoutingMode
from medley.model.workload import Bucket


@dataclass(frozen=True, slots=True)
class Line:
    """Traffic that can only be steered together.

    `loads`: replicas that each variant would need to carry all of it (demand factor included); None: it must not get
    any. One per `Problem.variants`.
    """

    number: int
    rate_rps: float
    loads: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Steering:
    """The lines of a problem, and the buckets left out of them.

    `matrix`: the loads of the lines as an array, shape (lines, variants), infinite where there must be no traffic.
    """

    lines: tuple[Line, ...]
    unserved: tuple[Unserved, ...]
    matrix: np.ndarray = field(compare=False)

    def only(self, variants: list[int]) -> Steering:
        """The same traffic with a selection of the variants."""
        lines = tuple(Line(line.number, line.rate_rps, tuple(line.loads[j] for j in variants)) for line in self.lines)
        return Steering(lines, self.unserved, self.matrix[:, variants])

    def need(self, variant: int) -> float | None:
        """Replicas that the variant would need to carry every line; None if it cannot."""
        loads = [line.loads[variant] for line in self.lines]
        return None if any(load is None for load in loads) else sum(load for load in loads if load is not None)


def line_of(problem: Problem, bucket: int) -> int:
    """Number of the line that a bucket is steered with: itself, its input range, or 0."""
    match problem.routing:
        case RoutingMode.FULL:
            return bucket
        case RoutingMode.INPUT_RANGE:
            return problem.buckets[bucket].input_range
        case RoutingMode.WEIGHTED | RoutingMode.SERVICE:
            return 0


def steer(problem: Problem) -> Steering:
    """Cut the workload into lines; buckets that no variant serves, or not in company, are named and left out."""
    rates = np.array([bucket.rate_rps for bucket in problem.buckets])
    # Buckets without traffic are skipped below; their infinite loads must not become 0 × ∞.
    loads = problem.load_matrix() * (np.where(rates > 0.0, rates, 1.0) * problem.demand_factor)
    served = set(np.flatnonzero(np.isfinite(loads).any(axis=0)).tolist())
    groups: dict[int, list[int]] = {}
    unserved: list[Unserved] = []
    for number, bucket in enumerate(problem.buckets):
        if bucket.rate_rps <= 0.0:
            continue
        if number not in served:
            unserved.append(Unserved(bucket, _why_unservable(problem, number)))
            continue
        groups.setdefault(line_of(problem, number), []).append(number)
    numbers, rows, totals = sorted(groups), [], []
    for line in numbers:
        kept = _kept_together(rates, loads, groups[line])
        left_out = [number for number in groups[line] if number not in kept] if len(kept) < len(groups[line]) else []
        unserved += [Unserved(problem.buckets[number], _why_separate(problem, number)) for number in left_out]
        rows.append(loads[:, kept].sum(axis=1))
        totals.append(float(rates[kept].sum()))
    matrix = np.array(rows) if rows else np.empty((0, len(problem.variants)))
    lines = tuple(
        Line(number, rate_rps, tuple(None if load == np.inf else load for load in row))
        for number, rate_rps, row in zip(numbers, totals, matrix.tolist(), strict=True)
    )
    return Steering(lines, tuple(unserved), matrix)


def _kept_together(rates: np.ndarray, loads: np.ndarray, numbers: list[int]) -> list[int]:
    """The buckets of a line to serve: all, if some variant serves all; else those of the variant with the most rate."""
    able = np.isfinite(loads[:, numbers])
    if able.all(axis=1).any():
        return numbers
    best = able[int((able * rates[numbers]).sum(axis=1).argmax())]
    return [number for number, kept in zip(numbers, best, strict=True) if kept]


def _why_unservable(problem: Problem, number: int) -> str:
    def why(variant: Variant) -> str:
        reason = variant.throughput[number].reason
        return reason.value if reason is not None else "no node left, or maxReplicas 0"

    reasons = ", ".join(f"{variant.name}: {why(variant)}" for variant in problem.variants)
    return f"no variant serves it ({reasons or 'no variant is usable'})"


def _why_separate(problem: Problem, number: int) -> str:
    able = [variant.name for variant in problem.variants if problem.load(variant, number) is not None]
    return (
        f"{' and '.join(able)} could serve it, but routing {problem.routing.value} cannot keep it apart from sizes "
        "that only other variants serve"
    )


def rate_share(unserved: tuple[Unserved, ...], buckets: tuple[Bucket, ...]) -> float:
    """Share of the total rate that is unserved."""
    total = sum(bucket.rate_rps for bucket in buckets)
    return sum(item.bucket.rate_rps for item in unserved) / total if total > 0 else 0.0
