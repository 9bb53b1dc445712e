"""The engine against two others on small instances at gap 0: CBC on the whole program, and enumeration of all counts.

CBC solves the program with a column for each share, through PuLP. The enumeration (tests/allocation_problems.py) counts
cost and limits by itself and looks for a split in plain units.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from allocation_problems import carries, cost_of, enumerated_optimum, random_problem
from medley.allocation.backends.answer import Backend, Options, SolveStatus
from medley.allocation.backends.milp import solve
from medley.allocation.bill import Bill
from medley.allocation.problem import Outcome, Problem
from medley.allocation.routing import steer
from medley.allocation.solve import allocate
from medley.model.objects import RoutingMode

EXACT = Options(relative_gap=0.0, time_limit_s=20.0)
SECOND = Options(relative_gap=0.0, time_limit_s=20.0, backend=Backend.CBC)
MOST = 6


def compared_with_cbc(seed: int) -> bool:
    """One random instance; whether it was feasible."""
    problem = random_problem(random.Random(seed))
    steering = steer(problem)
    ours, theirs = solve(problem, steering, EXACT), solve(problem, steering, SECOND)
    assert (ours.status is SolveStatus.INFEASIBLE) == (theirs.status is SolveStatus.INFEASIBLE), seed
    if ours.status is SolveStatus.INFEASIBLE:
        return False
    assert ours.status is SolveStatus.OPTIMAL, seed
    costs = [cost_of(problem, tuple(count for _, count in answer.replicas)) for answer in (ours, theirs)]
    assert costs[0] is not None, seed
    assert costs[1] is not None, seed
    assert math.isclose(costs[0], costs[1], rel_tol=1e-5, abs_tol=1e-5), (seed, costs)
    assert ours.bound <= costs[1] + 1e-5 * max(1.0, costs[1]), seed
    return True


def compared_with_enumeration(seed: int) -> bool | None:
    """One small instance; whether it was feasible, None if it was too large to enumerate or leaves sizes out."""
    problem = random_problem(random.Random(seed), small=True)
    steering = steer(problem)
    if steering.unserved or not steering.lines:
        return None
    floors = [j for j, variant in enumerate(problem.variants) if variant.min_replicas]
    if problem.routing is RoutingMode.SERVICE and any(steering.need(j) is None for j in floors):
        return None  # users may want a replica that cannot serve every size; the oracle knows no such exception
    made = allocate(problem, EXACT)
    if max((count for _, count in made.replicas), default=0) > MOST:
        return None
    best = enumerated_optimum(problem, MOST)
    full = made.outcome is Outcome.OPTIMAL and not any("surviveLossOf" in text for text in made.messages)
    if not full:
        # A plan may still exist with more replicas than were enumerated.
        assert best is None, (seed, made.outcome, best)
        return False
    counts = tuple(count for _, count in made.replicas)
    assert carries(problem, counts), seed
    assert best is not None, seed
    assert math.isclose(made.cost_per_hour, best, rel_tol=1e-6, abs_tol=1e-6), (seed, made.cost_per_hour, best)
    return True


def test_the_bill_breaks_and_costs_what_the_design_says() -> None:
    ruled_out = broken = 0
    for seed in range(300):
        rng = random.Random(seed)
        problem = random_problem(rng)
        bill = Bill(problem)
        for _ in range(8):
            counts = tuple(rng.choice([0, 0, 1, 2, 5, 9]) for _ in problem.variants)
            judged, cost = bill.judged(counts), cost_of(problem, counts)
            assert (judged is None) == (cost is None) == bool(bill.broken(counts)), (seed, counts)
            broken += judged is None
            ruled_out += any("maxSpotPercent" in text for text in bill.broken(counts))
            if cost is not None:
                assert math.isclose(bill.cost_per_hour(counts), cost, rel_tol=1e-9, abs_tol=1e-9)
    assert ruled_out > 20
    assert 300 < broken < 2100


def test_highs_and_cbc_find_the_same_cost() -> None:
    feasible = sum(compared_with_cbc(seed) for seed in range(150))
    assert 50 < feasible < 150, "the instances must be of both kinds"


def test_the_optimum_is_the_one_of_enumeration() -> None:
    verdicts = [compared_with_enumeration(seed) for seed in range(150)]
    assert verdicts.count(True) > 40
    assert verdicts.count(False) > 2


def test_spot_that_gets_no_traffic_is_not_bought_to_fall_back_on() -> None:
    # maxSpotPercent 0, a Spot variant with minReplicas 1, a pool's loss to survive: the long run found it.
    assert compared_with_cbc(1381)


def test_a_lost_zone_leaves_a_replica_that_is_counted_on_even_for_next_to_no_demand() -> None:
    # 1e-8 requests a second; the long run found that the enumeration took a replica that may stay for enough.
    assert compared_with_enumeration(2667)


@pytest.mark.long
def test_2000_instances_by_three_ways(record_property: Callable[[str, object], None]) -> None:
    feasible = sum(compared_with_cbc(seed) for seed in range(1000, 3000))
    verdicts = [compared_with_enumeration(seed) for seed in range(1000, 3000)]
    record_property("feasible, by CBC", feasible)
    record_property("equal, by enumeration", verdicts.count(True))
    record_property("none, by enumeration", verdicts.count(False))
    assert feasible > 700
    assert verdicts.count(True) > 500


def test_a_plan_found_is_one_that_the_oracle_accepts() -> None:
    for seed in range(300, 500):
        problem: Problem = random_problem(random.Random(seed))
        made = allocate(problem, EXACT)
        counts = tuple(count for _, count in made.replicas)
        survives = not any("surviveLossOf" in text for text in made.messages)
        if made.outcome is Outcome.OPTIMAL and survives and not made.unserved and made.lines:
            assert carries(problem, counts), seed
            cost = cost_of(problem, counts)
            assert cost is not None, seed
            assert math.isclose(cost, made.cost_per_hour, rel_tol=1e-9, abs_tol=1e-9), seed
