"""What each routing mode makes of a workload: lines of traffic that can be steered apart, and the load of each.

`Full`: one line per bucket. `InputRange`: one line per input range, since a router sees the prompt and not the output.
`Weighted` and `Service`: one line; weights may differ per replica in the former and not in the latter. A line goes only
to variants that serve every servable bucket in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """The lines of a problem, and the buckets left out of them."""

    lines: tuple[Line, ...]
    unserved: tuple[Unserved, ...]

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
    loads = problem.loads()
    groups: dict[int, list[int]] = {}
    unserved: list[Unserved] = []
    for number, bucket in enumerate(problem.buckets):
        if bucket.rate_rps <= 0.0:
            continue
        if all(row[number] is None for row in loads):
            unserved.append(Unserved(bucket, _why_unservable(problem, number)))
            continue
        groups.setdefault(line_of(problem, number), []).append(number)
    lines = []
    for line in sorted(groups):
        kept = _kept_together(problem, loads, groups[line])
        if len(kept) < len(groups[line]):
            unserved += [
                Unserved(problem.buckets[number], _why_separate(problem, number))
                for number in groups[line]
                if number not in kept
            ]
        lines.append(
            Line(
                number=line,
                rate_rps=sum(problem.buckets[number].rate_rps for number in kept),
                loads=tuple(_load(row, problem, kept) for row in loads),
            )
        )
    return Steering(tuple(lines), tuple(unserved))


Loads = Sequence[Sequence[float | None]]
"""Of `Problem.loads`: per variant and bucket."""


def _kept_together(problem: Problem, loads: Loads, numbers: list[int]) -> list[int]:
    """The buckets of a line to serve: all, if some variant serves all; else those of the variant with the most rate."""
    best: list[int] = []
    best_rate = -1.0
    for row in loads:
        served = [number for number in numbers if row[number] is not None]
        if len(served) == len(numbers):
            return served
        rate = sum(problem.buckets[number].rate_rps for number in served)
        if rate > best_rate:
            best, best_rate = served, rate
    return best


def _load(row: Sequence[float | None], problem: Problem, kept: list[int]) -> float | None:
    total = 0.0
    for number in kept:
        load = row[number]
        if load is None:
            return None
        total += problem.buckets[number].rate_rps * problem.demand_factor * load
    return total


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
