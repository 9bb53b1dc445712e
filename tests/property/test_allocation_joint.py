"""Services on shared pools: within limits, at the recomputed cost, over a bound that holds, not dearer than apart."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import pytest

from allocation_problems import OD, SPOT, carries, cost_of, random_problem
from medley.allocation.backends.answer import Options
from medley.allocation.joint import JointAllocation, allocate_all
from medley.allocation.problem import Outcome, Problem, Supply, Variant
from medley.model.objects import Offering, Pool
from medley.profiles.latency import Throughput

EXACT = Options(relative_gap=0.0, time_limit_s=20.0)


def shared_world(seed: int, *, services: int, small: bool = False) -> tuple[list[Problem], list[Pool]]:
    """Services that list the same pools, some with limits, committed nodes and nodes of several GPUs."""
    rng = random.Random(seed)
    pools = [
        Pool(
            f"p{number}",
            f"gpu{number}",
            rng.choice([1, 2, 4]),
            (Offering(OD, rng.uniform(1, 20)), *([Offering(SPOT, rng.uniform(0.5, 8))] if rng.random() < 0.3 else [])),
            max_nodes=rng.choice([None, 2, 4, 8]),
            committed_nodes=rng.choice([0, 0, 1]),
        )
        for number in range(2)
    ]
    problems = []
    for number in range(services):
        problem = random_problem(rng, small=small, extended=False)
        variants = []
        for pool in pools:
            size = rng.choice([1, 1, 2]) if pool.gpus_per_node > 1 else 1
            rows = tuple(Throughput(rng.uniform(1, 5) * size) for _ in problem.buckets)
            variants += [
                Variant(
                    f"{pool.name}-{offering.capacity_type}", pool.name, pool.gpu, offering.capacity_type, size, size,
                    0.9, rows,
                )
                for offering in pool.offerings
            ]  # fmt: skip
        supplies = tuple(
            Supply(
                pool.name,
                pool.gpus_per_node,
                tuple((offering.capacity_type, offering.price_per_node_hour) for offering in pool.offerings),
                pool.max_nodes,
                pool.committed_nodes,
                exclusive=False,
            )
            for pool in pools
        )
        problems.append(replace(problem, service=f"ns/{number}", variants=tuple(variants), supplies=supplies))
    return problems, pools


def spent(pools: list[Pool], problems: list[Problem], counts: list[tuple[int, ...]]) -> float | None:
    """$ per hour of all nodes together; None where a limit is broken."""
    total = 0.0
    for pool in pools:
        taken = 0
        for offering in pool.offerings:
            gpus = sum(
                variant.gpus * count
                for problem, mine in zip(problems, counts, strict=True)
                for variant, count in zip(problem.variants, mine, strict=True)
                if (variant.pool, variant.capacity_type) == (pool.name, offering.capacity_type)
            )
            nodes = math.ceil(gpus / pool.gpus_per_node)
            taken += nodes
            committed = pool.committed_nodes if offering.capacity_type is OD else 0
            total += offering.price_per_node_hour * max(0, nodes - committed)
        if pool.max_nodes is not None and taken > pool.max_nodes:
            return None
    return total


def counts_of(problems: list[Problem], made: JointAllocation) -> list[tuple[int, ...]]:
    plans = dict(made.allocations)
    return [tuple(count for _, count in plans[problem.service].replicas) for problem in problems]


def all_served(made: JointAllocation) -> bool:
    bad = (Outcome.BEST_EFFORT, Outcome.IMPOSSIBLE)
    return all(plan.outcome not in bad for _, plan in made.allocations)


@pytest.mark.parametrize("services", [2, 3, 5])
def test_pools_hold_and_the_bound_is_one(services: int) -> None:
    served = 0
    for seed in range(25):
        problems, pools = shared_world(seed, services=services)
        made = allocate_all(problems, pools)
        counts = counts_of(problems, made)
        cost = spent(pools, problems, counts)
        assert cost is not None, f"a pool is over its limit, seed {seed}"
        assert math.isclose(made.total_cost_per_hour, cost, rel_tol=1e-9, abs_tol=1e-9), seed
        assert made.lower_bound_per_hour <= cost + 1e-9, seed
        for problem, mine in zip(problems, counts, strict=True):
            if dict(made.allocations)[problem.service].outcome is Outcome.OPTIMAL and not made_unserved(made, problem):
                assert carries(problem, mine), (seed, problem.service)
        served += all_served(made)
    assert served > 5


def made_unserved(made: JointAllocation, problem: Problem) -> bool:
    return bool(dict(made.allocations)[problem.service].unserved)


def test_two_services_cost_what_enumeration_of_both_finds() -> None:
    compared = 0
    for seed in range(40):
        problems, pools = shared_world(seed, services=2, small=True)
        problems = [replace(problem, variants=problem.variants[:2]) for problem in problems]
        made = allocate_all(problems, pools, options=EXACT)
        if not all_served(made) or any(plan.unserved for _, plan in made.allocations):
            continue
        most = max(max(mine) for mine in counts_of(problems, made)) + 1
        if most > 6:
            continue
        ways = [
            [
                mine
                for mine in itertools.product(range(most + 1), repeat=len(problem.variants))
                if cost_of(problem, mine) is not None and carries(problem, mine)
            ]
            for problem in problems
        ]
        costs = [spent(pools, problems, list(pair)) for pair in itertools.product(*ways)]
        best = min(cost for cost in costs if cost is not None)
        assert math.isclose(made.total_cost_per_hour, best, rel_tol=1e-6, abs_tol=1e-6), seed
        assert made.lower_bound_per_hour <= best + 1e-6, seed
        compared += 1
    assert compared > 15


def test_services_are_not_dearer_together_than_apart() -> None:
    for seed in range(20):
        problems, pools = shared_world(seed, services=3)
        roomy = [replace(pool, max_nodes=None) for pool in pools]
        problems = [
            replace(p, supplies=tuple(replace(supply, nodes_left=None) for supply in p.supplies)) for p in problems
        ]
        together = allocate_all(problems, roomy)
        apart = sum(allocate_all([problem], roomy).total_cost_per_hour for problem in problems)
        # Apart, each would use the committed nodes for itself.
        committed = any(pool.committed_nodes for pool in pools)
        assert committed or together.total_cost_per_hour <= apart * (1 + 1e-2) + 1e-9, seed


def test_the_order_of_the_services_does_not_matter() -> None:
    for seed in range(10):
        problems, pools = shared_world(seed, services=4)
        one, other = allocate_all(problems, pools), allocate_all(problems[::-1], pools[::-1])
        assert one.allocations == other.allocations or math.isclose(
            one.total_cost_per_hour, other.total_cost_per_hour, rel_tol=1e-9
        ), seed


def test_a_service_of_higher_priority_is_served_first() -> None:
    problems, _ = shared_world(3, services=2)
    pool = Pool("p", "gpu", 1, (Offering(OD, 1.0),), max_nodes=4)
    rows = tuple(Throughput(1.0) for _ in problems[0].buckets)
    variant = Variant("p", "p", "gpu", OD, 1, 1, 1.0, rows)
    supply = Supply("p", 1, ((OD, 1.0),), 4, exclusive=False)
    # Each needs about 3 of the 4 nodes.
    rate = 2.9 / len(rows)
    same = replace(
        problems[0], variants=(variant,), supplies=(supply,), demand_factor=1.0,
        buckets=tuple(replace(bucket, rate_rps=rate) for bucket in problems[0].buckets),
    )  # fmt: skip
    for first in ("ns/a", "ns/b"):
        group = [replace(same, service=name, priority=int(name == first)) for name in ("ns/a", "ns/b")]
        made = dict(allocate_all(group, [pool]).allocations)
        assert made[first].outcome is Outcome.OPTIMAL
        assert made[first].count("p") == 3
        assert sum(plan.count("p") for plan in made.values()) <= 4
