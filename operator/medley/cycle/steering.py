"""What a router is to steer by."""

from __future__ import annotations

from medley.allocation.problem import Allocation, Problem
from medley.model.objects import RoutingMode


def routing_shares(problem: Problem, allocation: Allocation) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """What a router should steer by: per variant, its share of each input range.

    Before a router acknowledges, the plan is for `Service`; the table it is offered then is equal shares per replica,
    so that taking it up changes nothing.
    """
    ranges = len(problem.input_edges) + 1
    if problem.routing is RoutingMode.SERVICE or not allocation.shares:
        total = sum(count for _, count in allocation.replicas)
        return tuple((name, (count / total,) * ranges) for name, count in allocation.replicas if count) if total else ()

    if problem.routing is RoutingMode.FULL:
        return _by_range(problem, allocation, ranges)

    # A range that had no traffic is steered as the next longer one that had, or else as the longest.
    def position(number: int) -> int:
        return next((k for k, line in enumerate(allocation.lines) if line >= number), len(allocation.lines) - 1)

    return tuple((name, tuple(row[position(number)] for number in range(ranges))) for name, row in allocation.shares)


def _by_range(problem: Problem, allocation: Allocation, ranges: int) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """Shares per bucket, added up per input range by rate: what a table without output classes can say of them."""
    rates = [problem.buckets[line].rate_rps for line in allocation.lines]
    range_of = [problem.buckets[line].input_range for line in allocation.lines]
    totals = [sum(rate for rate, at in zip(rates, range_of, strict=True) if at == number) for number in range(ranges)]
    return tuple(
        (
            name,
            tuple(
                sum(r * share for r, share, at in zip(rates, row, range_of, strict=True) if at == number) / total
                if (total := totals[number]) > 0
                else 0.0
                for number in range(ranges)
            ),
        )
        for name, row in allocation.shares
    )
