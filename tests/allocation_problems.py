"""Random allocation problems with everything the engine knows, and an oracle that enumerates counts."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import highspy
import numpy as np

from medley.allocation.problem import Problem, Supply, Variant
from medley.model.objects import CapacityType, LossKind, RoutingMode
from medley.model.workload import Bucket, Size
from medley.profiles.latency import Throughput, Unservable

OD, SPOT = CapacityType.ON_DEMAND, CapacityType.SPOT
ZONES = ("a", "b", "c")


def random_problem(rng: random.Random, *, small: bool = False, extended: bool = True) -> Problem:
    """Up to four variants on up to three pools; `small`: few enough replicas to enumerate."""
    ranges, outputs = rng.randint(1, 3), rng.randint(1, 2)
    top = 2.0 if small else 8.0
    buckets = tuple(
        Bucket(Size(100.0 * (r + 1), 50.0 * (o + 1)), rng.uniform(0.01, top) * rng.choice([1, 1, 1, 1e-7]), r)
        for r in range(ranges)
        for o in range(outputs)
    )
    variants: list[Variant] = []
    supplies: list[Supply] = []
    for number in range(rng.randint(1, 3)):
        pool = f"p{number}"
        per_node = rng.choice([1, 1, 2, 4])
        price = rng.uniform(0.2, 9.0)
        types = [(OD, price)]
        if extended and rng.random() < 0.4:
            types.append((SPOT, price * rng.uniform(0.2, 0.6)))
        sizes = [1] if per_node == 1 or rng.random() < 0.6 else [1, 2]
        for size, (capacity_type, _) in itertools.product(sizes, types):
            if len(variants) == 4:
                break
            speed = rng.uniform(0.5, 5.0) * size ** rng.uniform(0.6, 1.1)
            rows = tuple(
                Throughput(0.0, Unservable.TTFT) if rng.random() < 0.1 else Throughput(speed / (1 + b * rng.random()))
                for b in range(len(buckets))
            )
            name = f"{pool}-tp{size}" + ("-spot" if capacity_type is SPOT else "")
            variants.append(
                Variant(
                    name, pool, f"gpu{number}", capacity_type, size, size, rng.choice([0.7, 0.9, 1.0]), rows,
                    min_replicas=int(extended and rng.random() < 0.08 and rows[0].rate_rps > 0),
                    max_replicas=rng.randint(1, 6) if extended and rng.random() < 0.15 else None,
                    running=rng.randint(0, 3),
                )
            )  # fmt: skip
        used = {variant.capacity_type for variant in variants if variant.pool == pool}
        supplies.append(
            Supply(
                pool,
                per_node,
                tuple((kind, cost) for kind, cost in types if kind in used),
                nodes_left=rng.randint(1, 12) if extended and rng.random() < 0.3 else None,
                committed_left=rng.choice([0, 0, 1, 2]),
                spare_gpus=((OD, rng.randint(0, 2)),) if extended and rng.random() < 0.2 else (),
                exclusive=rng.random() < 0.5,
                zones=tuple((kind, tuple(sorted(rng.sample(ZONES, rng.randint(1, 3))))) for kind in sorted(used)),
                available=((SPOT, rng.randint(0, 3)),) if SPOT in used and rng.random() < 0.3 else (),
            )
        )
    return Problem(
        "ns/s",
        buckets,
        tuple(100.0 * (r + 1) for r in range(ranges - 1)),
        rng.choice([1.0, 1.1, 1.5]),
        tuple(variants),
        tuple(supply for supply in supplies if supply.prices),
        rng.choice(list(RoutingMode)),
        min_replicas=rng.randint(0, 2),
        max_hourly_cost=rng.uniform(2.0, 40.0) if extended and rng.random() < 0.2 else None,
        min_mix_saving=0.0,
        max_spot_fraction=rng.choice([0.0, 0.3, 0.5, 1.0]) if extended and rng.random() < 0.4 else None,
        survive_loss_of=rng.choice([None, None, None, *LossKind]) if extended else None,
    )


def cost_of(problem: Problem, counts: tuple[int, ...]) -> float | None:
    """$ per hour, or None where a bound or a limit is broken; written from DESIGN §5, not from the engine."""
    for variant, count in zip(problem.variants, counts, strict=True):
        if count < variant.min_replicas or (variant.max_replicas is not None and count > variant.max_replicas):
            return None
        if not variant.usable and count:
            return None
        # A limit of 0 on Spot means none at all, not even to fall back on.
        if problem.max_spot_fraction == 0.0 and variant.capacity_type is SPOT and count > variant.min_replicas:
            return None
    if sum(counts) < problem.min_replicas:
        return None
    total = charge = 0.0
    for supply in problem.supplies:
        taken = 0
        for kind, price in supply.prices:
            gpus = sum(
                v.gpus * n
                for v, n in zip(problem.variants, counts, strict=True)
                if (v.pool, v.capacity_type) == (supply.pool, kind)
            )
            spare = sum(n for k, n in supply.spare_gpus if k is kind)
            nodes = math.ceil(max(0, gpus - spare) / supply.gpus_per_node)
            if any(k is kind and nodes > most for k, most in supply.available):
                return None
            taken += nodes
            bought = price * max(0, nodes - (supply.committed_left if kind is OD else 0))
            total += bought
            charge += bought if supply.exclusive else price / supply.gpus_per_node * gpus
        if supply.nodes_left is not None and taken > supply.nodes_left:
            return None
    if problem.max_hourly_cost is not None and charge > problem.max_hourly_cost + 1e-6:
        return None
    return total


def carries(problem: Problem, counts: tuple[int, ...]) -> bool:
    """Whether some split under the routing carries the demand, also after each loss to be survived; from DESIGN §5."""
    return all(_carries_after(problem, left) for left in _losses(problem, counts))


@dataclass(frozen=True)
class _Left:
    """What is there after a loss, or with nothing lost.

    Attributes:
        capacity: replicas of each variant that carry traffic.
        share: of the planned demand that they must carry.
        spot_limited: whether the limit on Spot holds.
        may_stay: variants of which a replica may be left. None is counted on; one that is left gets an equal share.
    """

    capacity: list[float]
    share: float = 1.0
    spot_limited: bool = True
    may_stay: frozenset[int] = frozenset()


def _losses(problem: Problem, counts: tuple[int, ...]) -> Iterator[_Left]:
    now = [float(count) for count in counts]
    mean = 1.0 / problem.demand_factor
    together = problem.routing is RoutingMode.SERVICE
    kind = problem.survive_loss_of
    if kind is LossKind.REPLICA and not together:
        # The others of a variant take over what one of them carried, at the mean demand.
        yield _Left([min(n, max(0.0, n - 1) * problem.demand_factor) for n in now])
        return
    yield _Left(now)
    if kind is LossKind.REPLICA:
        for j, count in enumerate(counts):
            if count:
                yield _Left([n - (k == j) for k, n in enumerate(now)], mean, spot_limited=False)
    if kind is LossKind.POOL:
        for pool in {variant.pool for variant in problem.variants}:
            left = [0.0 if v.pool == pool else n for v, n in zip(problem.variants, now, strict=True)]
            yield _Left(left, mean, spot_limited=False)
    if kind is LossKind.ZONE:
        offered = [_zones(problem, variant) for variant in problem.variants]
        for zone in {zone for supply in problem.supplies for _, zones in supply.zones for zone in zones}:
            left = [n - math.ceil(n / len(own)) if zone in own else n for n, own in zip(now, offered, strict=True)]
            elsewhere = frozenset(j for j, own in enumerate(offered) if counts[j] and own != (zone,))
            yield _Left(left, mean, spot_limited=False, may_stay=elsewhere)


def _zones(problem: Problem, variant: Variant) -> tuple[str, ...]:
    supply = next(supply for supply in problem.supplies if supply.pool == variant.pool)
    return next(zones for kind, zones in supply.zones if kind is variant.capacity_type)


def _carries_after(problem: Problem, left: _Left) -> bool:
    capacity = left.capacity
    groups: dict[int, list[int]] = {}
    for number, bucket in enumerate(problem.buckets):
        line = {RoutingMode.FULL: number, RoutingMode.INPUT_RANGE: bucket.input_range}.get(problem.routing, 0)
        groups.setdefault(line, []).append(number)
    needs = [
        [left.share * sum(_load(problem, v, b) for b in members) for v in problem.variants]
        for members in groups.values()
    ]
    rates = [sum(problem.buckets[b].rate_rps for b in members) for members in groups.values()]
    if problem.routing is RoutingMode.SERVICE:
        total = sum(capacity)
        used = [j for j, n in enumerate(capacity) if n > 0 or j in left.may_stay]
        if total == 0 or any(needs[0][j] > total + 1e-6 for j in used):
            return False
        spot = sum(n for n, v in zip(capacity, problem.variants, strict=True) if v.capacity_type is SPOT)
        most = problem.max_spot_fraction
        return not (left.spot_limited and most is not None and spot > most * total + 1e-9)
    return _split_exists(problem, needs, rates, capacity, left.spot_limited)


def _load(problem: Problem, variant: Variant, bucket: int) -> float:
    rate = variant.throughput[bucket].rate_rps * variant.derating
    return problem.buckets[bucket].rate_rps * problem.demand_factor / rate if rate > 0 else math.inf


def _split_exists(
    problem: Problem, needs: list[list[float]], rates: list[float], capacity: list[float], spot_limited: bool
) -> bool:
    """Shares per line and variant, in plain units: Σ share = 1, Σ need · share ≤ capacity, Spot within its part."""
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("presolve", "off")
    lines, variants = len(needs), len(capacity)
    free = [[math.isfinite(needs[i][j]) and capacity[j] > 0 for j in range(variants)] for i in range(lines)]
    if not all(any(row) for row in free):
        return False
    empty = (np.empty(0, dtype=np.int32), np.empty(0))
    for i, j in itertools.product(range(lines), range(variants)):
        highs.addCol(0.0, 0.0, 1.0 if free[i][j] else 0.0, 0, *empty)

    def row(lower: float, upper: float, terms: dict[int, float]) -> None:
        columns = np.array(list(terms), dtype=np.int32)
        highs.addRow(lower, upper, len(columns), columns, np.array(list(terms.values())))

    for i in range(lines):
        row(1.0, 1.0, {i * variants + j: 1.0 for j in range(variants)})
    for j in range(variants):
        terms = {i * variants + j: needs[i][j] for i in range(lines) if free[i][j] and needs[i][j] > 1e-6}
        row(-highspy.kHighsInf, capacity[j] + 1e-6, terms)
    if spot_limited and problem.max_spot_fraction is not None:
        spot = [j for j, v in enumerate(problem.variants) if v.capacity_type is SPOT]
        terms = {i * variants + j: rates[i] for i in range(lines) for j in spot}
        row(-highspy.kHighsInf, problem.max_spot_fraction * sum(rates) + 1e-9, terms)
    highs.run()
    return bool(highs.getModelStatus() == highspy.HighsModelStatus.kOptimal)


def enumerated_optimum(problem: Problem, most: int) -> float | None:
    """The least cost over all counts up to `most` of each variant; None if none is feasible."""
    ordered = sorted(
        (cost, counts)
        for counts in itertools.product(range(most + 1), repeat=len(problem.variants))
        if (cost := cost_of(problem, counts)) is not None
    )
    return next((cost for cost, counts in ordered if carries(problem, counts)), None)


def without_changes(problem: Problem) -> Problem:
    """The same with nothing running."""
    return replace(problem, variants=tuple(replace(variant, running=0) for variant in problem.variants))
