"""Re-checks an allocation in plain Python, independent of any solver, and recomputes what it costs.

A solver's "optimal" is not proof: with tiny coefficients HiGHS has returned wrong optima (reference: solver.md §3).
Nothing leaves this room that does not pass here.
"""

from __future__ import annotations

from collections.abc import Mapping

from medley.allocation.bill import Bill
from medley.allocation.problem import Problem
from medley.allocation.routing import Steering
from medley.allocation.stages import Spare, stages_of
from medley.model.objects import CapacityType, RoutingMode

TOLERANCE = 1e-6
"""Relative slack for rows with continuous shares: above solver tolerance (1e-7), far below a request in a thousand."""


def counts_of(problem: Problem, replicas: Mapping[str, int]) -> list[int]:
    """Replicas in the order of the problem's variants."""
    return [replicas.get(variant.name, 0) for variant in problem.variants]


def cost_per_hour(problem: Problem, replicas: Mapping[str, int]) -> float:
    """$ per hour of the nodes bought beyond the committed ones."""
    return Bill(problem).cost_per_hour(counts_of(problem, replicas))


def limits_broken(problem: Problem, replicas: Mapping[str, int]) -> list[str]:
    """Limits and bounds that the counts break, in words; empty if none."""
    return Bill(problem).broken(counts_of(problem, replicas))


def overloaded(
    problem: Problem,
    steering: Steering,
    replicas: Mapping[str, int],
    shares: Mapping[str, tuple[float, ...]],
    served_fraction: float = 1.0,
) -> list[str]:
    """Ways in which the replicas do not carry the demand under the routing, in words; empty if they do."""
    broken = []
    rows = [(index, variant) for index, variant in enumerate(problem.variants) if variant.name in shares]
    given = zip(*(shares[variant.name] for _, variant in rows), strict=True) if rows else ((),) * len(steering.lines)
    for line, parts in zip(steering.lines, given, strict=True):
        if abs(sum(parts) - 1.0) > TOLERANCE:
            broken.append(f"line {line.number}: shares add up to {sum(parts):.6f}")
        for (index, variant), share in zip(rows, parts, strict=True):
            # In mode Service whatever runs gets traffic; a held replica that cannot serve all sizes is reported apart.
            barred = line.loads[index] is None and not (problem.routing is RoutingMode.SERVICE and variant.floor)
            if barred and share > TOLERANCE:
                broken.append(f"line {line.number}: {variant.name} gets traffic it cannot serve")
    rounding = TOLERANCE * (1 + len(steering.lines))
    stage = stages_of(problem)[0]
    counts = counts_of(problem, replicas)
    for index, (variant, capacity) in enumerate(zip(problem.variants, stage.capacity(counts), strict=True)):
        if not counts[index] and any(share > TOLERANCE for share in shares.get(variant.name, ())):
            broken.append(f"{variant.name}: gets traffic and has no replica")
        used = _used(steering, shares.get(variant.name), index) * served_fraction
        if used > capacity * (1 + TOLERANCE) + rounding:
            spare = f" ({capacity:.4f} with one to spare)" if capacity < counts[index] else ""
            broken.append(f"{variant.name}: needs {used:.4f} replicas, has {counts[index]}{spare}")
        # Where nobody steers, all replicas together take over what one of them carried.
        if stage.spare is Spare.TOGETHER and used * sum(counts) / stage.factor > (sum(counts) - 1) * (
            counts[index] * (1 + TOLERANCE)
        ):
            broken.append(f"{variant.name}: would be overloaded without one of the {sum(counts)} replicas")
    if problem.max_spot_fraction is not None:
        spot, total = _spot_rps(problem, steering, shares), sum(line.rate_rps for line in steering.lines)
        if spot > problem.max_spot_fraction * total * (1 + TOLERANCE) + TOLERANCE * total:
            broken.append(f"scaling.maxSpotPercent: {spot / total:.1%} of the requests go to Spot")
    return broken


def losses_not_survived(
    problem: Problem,
    steering: Steering,
    replicas: Mapping[str, int],
    contingency: Mapping[str, Mapping[str, tuple[float, ...]]],
    served_fraction: float = 1.0,
) -> list[str]:
    """Losses of a pool or a zone after which the rest does not carry the mean demand, in words; empty if none."""
    broken = []
    counts = counts_of(problem, replicas)
    rounding = TOLERANCE * (1 + len(steering.lines))
    for stage in stages_of(problem)[1:]:
        shares = contingency.get(stage.name)
        if shares is None:
            if steering.lines:
                broken.append(f"{stage.name}: nothing is known to carry the traffic without it")
            continue
        for index, (variant, left) in enumerate(zip(problem.variants, stage.left(counts), strict=True)):
            used = _used(steering, shares.get(variant.name), index) * stage.share * served_fraction
            if used > left * (1 + TOLERANCE) + rounding:
                broken.append(f"{stage.name} lost: {variant.name} needs {used:.4f} replicas, has {left}")
        for position, line in enumerate(steering.lines):
            total = sum(row[position] for row in shares.values())
            if abs(total - 1.0) > TOLERANCE:
                broken.append(f"{stage.name} lost: shares of line {line.number} add up to {total:.6f}")
    return broken


def _used(steering: Steering, row: tuple[float, ...] | None, variant: int) -> float:
    """Replicas that a variant needs for its shares of the lines."""
    if row is None:
        return 0.0
    return sum(share * (line.loads[variant] or 0.0) for share, line in zip(row, steering.lines, strict=True))


def _spot_rps(problem: Problem, steering: Steering, shares: Mapping[str, tuple[float, ...]]) -> float:
    return sum(
        share * line.rate_rps
        for variant in problem.variants
        if variant.capacity_type is CapacityType.SPOT and variant.name in shares
        for share, line in zip(shares[variant.name], steering.lines, strict=True)
    )


def equal_shares(problem: Problem, steering: Steering, replicas: Mapping[str, int]) -> dict[str, tuple[float, ...]]:
    """Shares in mode Service: every replica gets the same."""
    total = sum(replicas.values())
    if not total:
        return {}
    return {
        variant.name: (replicas[variant.name] / total,) * len(steering.lines)
        for variant in problem.variants
        if replicas.get(variant.name, 0)
    }
