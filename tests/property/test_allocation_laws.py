"""Laws of optimal allocations, at gap 0: dearer prices, more demand and tighter limits never make a plan cheaper;
names, order and the unit of money do not matter; the same problem has the same answer."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocation_problems import random_problem
from medley.allocation.backends import milp
from medley.allocation.backends.answer import Options, SolveStatus
from medley.allocation.backends.decomposition import Found
from medley.allocation.problem import Allocation, Outcome, Problem
from medley.allocation.solve import allocate
from thoroughness import scaled

EXACT = Options(relative_gap=0.0, time_limit_s=20.0)
seeds = st.integers(0, 10**6)


def problem_of(seed: int) -> Problem:
    return random_problem(random.Random(seed))


def comparable(plan: Allocation) -> bool:
    """All of the demand is carried, and nothing that was asked for was given up."""
    return plan.outcome is Outcome.OPTIMAL and not any("surviveLossOf" in text for text in plan.messages)


def close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-6)


@given(seeds, st.floats(1.0, 3.0), st.integers(0, 2))
@settings(max_examples=scaled(60), deadline=None)
def test_a_dearer_pool_makes_no_plan_cheaper(seed: int, factor: float, which: int) -> None:
    problem = replace(problem_of(seed), max_hourly_cost=None)
    number = which % len(problem.supplies)
    supplies = list(problem.supplies)
    prices = tuple((kind, price * factor) for kind, price in supplies[number].prices)
    supplies[number] = replace(supplies[number], prices=prices)
    before, after = allocate(problem, EXACT), allocate(replace(problem, supplies=tuple(supplies)), EXACT)
    if comparable(before) and comparable(after):
        assert after.cost_per_hour >= before.cost_per_hour * (1 - 1e-6) - 1e-6
        assert after.cost_per_hour <= before.cost_per_hour * factor * (1 + 1e-6) + 1e-6


@given(seeds, st.floats(1.0, 3.0))
@settings(max_examples=scaled(60), deadline=None)
def test_more_demand_makes_no_plan_cheaper(seed: int, factor: float) -> None:
    problem = problem_of(seed)
    more = replace(problem, buckets=tuple(replace(b, rate_rps=b.rate_rps * factor) for b in problem.buckets))
    before, after = allocate(problem, EXACT), allocate(more, EXACT)
    if comparable(before) and comparable(after):
        assert after.cost_per_hour >= before.cost_per_hour * (1 - 1e-6) - 1e-6


@given(seeds, st.integers(1, 20))
@settings(max_examples=scaled(60), deadline=None)
def test_looser_limits_make_no_plan_dearer(seed: int, more: int) -> None:
    problem = problem_of(seed)
    looser = replace(
        problem,
        supplies=tuple(
            replace(s, nodes_left=None if s.nodes_left is None else s.nodes_left + more) for s in problem.supplies
        ),
        max_hourly_cost=None if problem.max_hourly_cost is None else problem.max_hourly_cost + more,
        max_spot_fraction=None,
        survive_loss_of=None,
    )
    before, after = allocate(problem, EXACT), allocate(looser, EXACT)
    if comparable(before):
        assert comparable(after)
        # Sizes that only a looser problem serves cost something.
        if len(after.unserved) == len(before.unserved):
            assert after.cost_per_hour <= before.cost_per_hour * (1 + 1e-6) + 1e-6


@given(seeds, st.randoms(use_true_random=False))
@settings(max_examples=scaled(60), deadline=None)
def test_the_order_of_variants_pools_and_buckets_does_not_matter(seed: int, rng: random.Random) -> None:
    problem = problem_of(seed)
    order = rng.sample(range(len(problem.buckets)), len(problem.buckets))
    variants = [
        replace(variant, throughput=tuple(variant.throughput[number] for number in order))
        for variant in rng.sample(problem.variants, len(problem.variants))
    ]
    other = replace(
        problem,
        buckets=tuple(problem.buckets[number] for number in order),
        variants=tuple(variants),
        supplies=tuple(rng.sample(problem.supplies, len(problem.supplies))),
    )
    one, two = allocate(problem, EXACT), allocate(other, EXACT)
    assert one.outcome is two.outcome
    if comparable(one):
        assert close(one.cost_per_hour, two.cost_per_hour)
        assert close(one.lower_bound_per_hour, two.lower_bound_per_hour)


@given(seeds, st.sampled_from([0.01, 7.0, 1000.0]))
@settings(max_examples=scaled(60), deadline=None)
def test_the_unit_of_money_does_not_matter(seed: int, unit: float) -> None:
    problem = problem_of(seed)
    other = replace(
        problem,
        supplies=tuple(
            replace(s, prices=tuple((kind, price * unit) for kind, price in s.prices)) for s in problem.supplies
        ),
        max_hourly_cost=None if problem.max_hourly_cost is None else problem.max_hourly_cost * unit,
    )
    one, two = allocate(problem, EXACT), allocate(other, EXACT)
    if comparable(one) and comparable(two):
        assert close(one.cost_per_hour * unit, two.cost_per_hour)


@given(seeds, st.sampled_from([0.1, 3.0, 100.0]))
@settings(max_examples=scaled(60), deadline=None)
def test_the_unit_of_time_does_not_matter(seed: int, unit: float) -> None:
    problem = problem_of(seed)
    other = replace(
        problem,
        buckets=tuple(replace(b, rate_rps=b.rate_rps * unit) for b in problem.buckets),
        variants=tuple(
            replace(v, throughput=tuple(replace(t, rate_rps=t.rate_rps * unit) for t in v.throughput))
            for v in problem.variants
        ),
    )
    one, two = allocate(problem, EXACT), allocate(other, EXACT)
    if comparable(one) and comparable(two):
        assert close(one.cost_per_hour, two.cost_per_hour)


@given(seeds)
@settings(max_examples=scaled(40), deadline=None)
def test_the_same_problem_has_the_same_answer(seed: int) -> None:
    one, two = (replace(allocate(problem_of(seed)), solve_ms=0.0) for _ in range(2))
    assert one == two


@pytest.mark.parametrize("lie", ["too few", "too cheap", "none"])
def test_a_solver_that_lies_is_caught_and_replaced_by_the_best_checked_plan(
    monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    problem = replace(random_problem(random.Random(4), extended=False), min_mix_saving=0.0)
    honest = allocate(problem, EXACT)
    assert honest.outcome is Outcome.OPTIMAL

    def lying(*_: object, **__: object) -> Found:
        counts = tuple(0 for _ in problem.variants) if lie == "too few" else tuple(1 for _ in problem.variants)
        status = SolveStatus.NO_ANSWER if lie == "none" else SolveStatus.OPTIMAL
        return Found(status, None if lie == "none" else counts, bound=0.01)

    monkeypatch.setattr(milp, "cheapest", lying)
    # Make sure that the lie does not happen to carry the traffic.
    buckets = tuple(replace(bucket, rate_rps=bucket.rate_rps + 5.0) for bucket in problem.buckets)
    made = allocate(replace(problem, buckets=buckets), EXACT)
    assert made.outcome is Outcome.FALLBACK
    assert made.best_single_cost_per_hour == pytest.approx(made.cost_per_hour)
    assert any("failed the re-check" in text for text in made.messages) == (lie != "none")
