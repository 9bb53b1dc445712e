"""What is said of a plan, against the enumeration of all counts (tests/allocation_problems.py) on small instances."""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from allocation_problems import carries, cost_of, enumerated_optimum, random_problem
from medley.allocation.backends.answer import Options
from medley.allocation.coverage import coverage
from medley.allocation.explain import Explanation, Unused, explain, variations
from medley.allocation.limit_values import limits_of, with_variant
from medley.allocation.problem import Problem
from medley.allocation.routing import steer
from medley.allocation.solve import allocate
from medley.model.objects import RoutingMode
from thoroughness import scaled

EXACT = Options(relative_gap=0.0, time_limit_s=20.0)
MOST = 5


def enumerable(problem: Problem) -> bool:
    """All sizes are served, and no replica is wanted that the oracle knows no rule for."""
    steering = steer(problem)
    floors = [j for j, variant in enumerate(problem.variants) if variant.min_replicas]
    odd = problem.routing is RoutingMode.SERVICE and any(steering.need(j) is None for j in floors)
    return bool(steering.lines) and not steering.unserved and not odd


def explained(seed: int, **changes: object) -> tuple[Problem, Explanation] | None:
    """A small random instance with its explanation; None if it is too large to enumerate, or has no full plan."""
    problem = replace(random_problem(random.Random(seed), small=True), **changes)  # type: ignore[arg-type]
    if not enumerable(problem):
        return None
    made = explain(problem, EXACT)
    now = coverage(problem, made.exact)
    full = now.survives and now.served > 1 - 1e-6
    return (problem, made) if full and max(count for _, count in made.exact.replicas) <= MOST else None


def agrees(problem: Problem, cost: float | None, asked: Callable[[tuple[int, ...]], bool] = lambda _: True) -> bool:
    """Whether the cheapest of all counts that are asked for costs this, None being none; counts above MOST aside."""
    priced = sorted(
        (price, counts)
        for counts in itertools.product(range(MOST + 1), repeat=len(problem.variants))
        if asked(counts) and (price := cost_of(problem, counts)) is not None
    )
    best = next((price for price, counts in priced if carries(problem, counts)), None)
    if best is None:
        return True
    assert cost is not None, best
    assert cost <= best + 1e-6
    # Where more replicas than were enumerated are cheaper, only the engine knows.
    return math.isclose(cost, best, rel_tol=1e-6, abs_tol=1e-6)


def fewer_of_some(exact: tuple[int, ...], counts: tuple[int, ...]) -> bool:
    return any(count < used for count, used in zip(counts, exact, strict=True))


def test_the_next_best_plan_is_the_cheapest_that_is_not_this_one_with_more_replicas() -> None:
    same = Counter[bool]()
    for seed in range(scaled(80)):
        if (found := explained(seed)) is None:
            continue
        problem, made = found
        exact = tuple(count for _, count in made.exact.replicas)
        best = made.next_best
        if best is not None:
            counts = tuple(dict(best.replicas).get(variant.name, 0) for variant in problem.variants)
            assert fewer_of_some(exact, counts), seed
            assert math.isclose(cost_of(problem, counts) or 0.0, best.cost_per_hour, abs_tol=1e-9), seed
            assert carries(problem, counts), seed
            assert best.cost_per_hour >= made.exact.cost_per_hour - 1e-6, seed
        cost = None if best is None else best.cost_per_hour
        same[agrees(problem, cost, functools.partial(fewer_of_some, exact))] += 1
    assert same[True] > 20
    assert same[False] < same[True] / 4


def test_with_and_without_a_variant_costs_what_enumeration_says() -> None:
    same = Counter[bool]()
    for seed in range(200, 200 + scaled(60)):
        if (found := explained(seed)) is None:
            continue
        problem, made = found
        said = {one.variant: one.costs_more_per_hour for one in (*made.used, *made.unused)}
        why = {one.variant: one.why for one in made.unused}
        assert set(said) == {variant.name for variant in problem.variants}
        for number, variant in enumerate(problem.variants):
            more = said[variant.name]
            if variant.floor or why.get(variant.name) in (Unused.CANNOT_SERVE, Unused.COMPANY, Unused.NO_ROOM):
                continue
            bound = {"min_replicas": 1} if variant.name in why else {"max_replicas": 0}
            asked = with_variant(problem, number, replace(variant, **bound))  # type: ignore[arg-type]
            same[agrees(asked, None if more is None else made.exact.cost_per_hour + more)] += 1
    assert same[True] > 40
    assert same[False] < same[True] / 4


def at_like_prices(seed: int) -> Problem:
    """Types that cost about as much for what they carry, whole nodes aside: mixes save some, and 20 % is asked."""
    rng = random.Random(seed)
    problem = random_problem(rng, small=True, extended=False)
    speeds = {v.pool: v.throughput[0].rate_rps * v.derating for v in problem.variants if v.gpus == 1}
    supplies = tuple(
        replace(s, prices=((s.prices[0][0], s.gpus_per_node * (speeds[s.pool] + 0.1) * rng.uniform(0.9, 1.1)),),
                committed_left=0)
        for s in problem.supplies
    )  # fmt: skip
    return replace(problem, supplies=supplies, min_mix_saving=0.2, routing=RoutingMode.FULL)


def test_a_mix_that_is_turned_down_is_the_optimum_and_saves_less_than_it_has_to() -> None:
    turned_down = 0
    for seed in range(400, 580):
        problem = at_like_prices(seed)
        made = explain(problem, EXACT) if enumerable(problem) else None
        if made is None or made.turned_down is None or max(dict(made.turned_down.replicas).values()) > MOST:
            continue
        turned_down += 1
        best = enumerated_optimum(problem, MOST)
        assert best is not None
        assert math.isclose(made.turned_down.cost_per_hour, best, rel_tol=1e-6, abs_tol=1e-6), seed
        assert best >= made.exact.cost_per_hour * (1 - 0.2) - 1e-6
        assert len({problem.variant(name).gpu for name, count in made.exact.replicas if count}) == 1
        # Each variant of the mix that is left out says that it is the threshold.
        why = {one.variant: one.why for one in made.unused}
        assert {why[name] for name, _ in made.turned_down.replicas if name in why} == {Unused.TURNED_DOWN}, seed
    assert turned_down > 5


def test_margins_and_routing_modes_cost_what_enumeration_says() -> None:
    same = Counter[bool]()
    for seed in range(700, 700 + scaled(40)):
        if (found := explained(seed)) is None:
            continue
        problem, made = found
        for (what, asked), otherwise in zip(variations(problem), made.otherwise, strict=True):
            assert what == otherwise.what
            now = coverage(asked, otherwise.plan)
            if enumerable(asked) and now.served > 1 - 1e-6 and now.survives:
                same[agrees(asked, otherwise.plan.cost_per_hour)] += 1
    assert same[True] > 40
    assert same[False] < same[True] / 4


def test_limits_are_worth_the_difference_of_fresh_plans() -> None:
    worth = 0
    for seed in range(1000, 1000 + scaled(40)):
        problem = replace(random_problem(random.Random(seed)), min_mix_saving=0.03)
        made = explain(problem, EXACT)
        values = {value.limit: value for value in made.limits}
        plain = replace(problem, change_cost=0.0)
        for limit in limits_of(plain):
            for position, steps in enumerate((1, 10)):
                loosened = limit.loosened(steps)
                fresh = allocate(loosened, EXACT)
                saved = made.exact.cost_per_hour - fresh.cost_per_hour
                more = coverage(loosened, fresh).served - coverage(plain, made.exact).served
                if (value := values.get(limit.name)) is not None:
                    worth += 1
                    assert math.isclose(value.saves_per_hour[position], saved, abs_tol=1e-6), (seed, limit.name)
                    assert math.isclose(value.serves_more[position], max(0.0, more), abs_tol=1e-4), (seed, limit.name)
                else:
                    assert abs(saved) <= 1e-3 + 1e-9, (seed, limit.name)
    assert worth > 20


def test_plans_that_the_time_limit_ended_are_said_to_be_uncertain() -> None:
    problems = [random_problem(random.Random(seed)) for seed in range(1100, 1112)]
    hurried = Options(relative_gap=0.0, time_limit_s=1e-9)
    gaps = [(explain(problem, hurried).unsolved_part, explain(problem, EXACT).unsolved_part) for problem in problems]
    assert any(in_a_hurry > 0.0 for in_a_hurry, _ in gaps)
    assert all(in_the_end == 0.0 for _, in_the_end in gaps)
