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
        total = float(self.matrix[:, variant].sum())
        return total if np.isfinite(total) else None


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
    # Buckets without traffic are left out below; their infinite loads must not become 0 × ∞.
    loads = problem.load_matrix() * (np.where(rates > 0.0, rates, 1.0) * problem.demand_factor)
    servable = np.isfinite(loads).any(axis=0)
    dead = np.flatnonzero((rates > 0.0) & ~servable).tolist()
    unserved = [Unserved(problem.buckets[number], _why_unservable(problem, number)) for number in dead]
    live = np.flatnonzero((rates > 0.0) & servable)
    line_numbers = np.array([line_of(problem, number) for number in live.tolist()], dtype=int)
    numbers, position = np.unique(line_numbers, return_inverse=True)
    matrix = np.zeros((len(numbers), len(problem.variants)))
    np.add.at(matrix, position, loads[:, live].T)
    totals = np.bincount(position, weights=rates[live], minlength=len(numbers))
    for line in np.flatnonzero(~np.isfinite(matrix).any(axis=1)).tolist():
        # No variant serves all of it: some of its buckets are left out.
        group = live[position == line]
        able = np.isfinite(loads[:, group])
        kept = able[int((able * rates[group]).sum(axis=1).argmax())]
        unserved += [Unserved(problem.buckets[n], _why_separate(problem, n)) for n in group[~kept].tolist()]
        matrix[line] = loads[:, group[kept]].sum(axis=1)
        totals[line] = rates[group[kept]].sum()
    lines = tuple(
        Line(number, rate_rps, tuple(None if load == np.inf else load for load in row))
        for number, rate_rps, row in zip(numbers.tolist(), totals.tolist(), matrix.tolist(), strict=True)
    )
    return Steering(lines, tuple(unserved), matrix)


def _why_unservable(problem: Problem, number: int) -> str:
    def why(variant: Variant) -> str:
        reason = variant.throughput[number].reason
        if reason is not None:
            return reason.value
        return f"{' and '.join(barrier.limit for barrier in problem.barriers(variant))} leaves none"

    reasons = ", ".join(f"{variant.name}: {why(variant)}" for variant in problem.variants)
    return f"no variant serves it ({reasons or 'no variant is usable'})"


def _why_separate(problem: Problem, number: int) -> str:
    able = [variant.name for variant in problem.variants if problem.load(variant, number) is not None]
    return (
        f"{' and '.join(able)} could serve it, but routing {problem.routing.value} cannot keep it apart from sizes "
        "that only other variants serve"
    )
