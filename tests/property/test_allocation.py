"""Invariants of the allocation on random problems, checked without the room's own re-check where that matters."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from medley.allocation.backends.answer import Backend, Options, SolveStatus
from medley.allocation.backends.milp import solve
from medley.allocation.check import equal_shares, overloaded
from medley.allocation.joint import allocate_all
from medley.allocation.problem import Outcome, Problem, Supply, Variant
from medley.allocation.routing import line_of, steer
from medley.allocation.solve import allocate
from medley.model.objects import CapacityType, Offering, Pool, RoutingMode
from medley.model.workload import Bucket, Size
from medley.profiles.latency import Throughput, Unservable
from thoroughness import scaled

EXACT = Options(relative_gap=0.0, time_limit_s=20.0)
OD = CapacityType.ON_DEMAND


@st.composite
def problems(draw: st.DrawFn, routing: RoutingMode | None = None, limited: bool = True) -> Problem:
    ranges = draw(st.integers(1, 3))
    outputs = draw(st.integers(1, 2))
    buckets = tuple(
        Bucket(Size(100.0 * (r + 1), 50.0 * (o + 1)), draw(st.floats(0.01, 8)), r)
        for r in range(ranges)
        for o in range(outputs)
    )
    variants, supplies = [], []
    for number in range(draw(st.integers(1, 3))):
        speed = draw(st.floats(0.3, 6))
        throughput = tuple(
            Throughput(0.0, Unservable.TTFT) if draw(st.integers(0, 9)) == 0 else Throughput(speed / (1 + index))
            for index in range(len(buckets))
        )
        variants.append(Variant(f"v{number}", f"p{number}", f"gpu{number}", OD, 1, 1, 0.9, throughput))
        limit = draw(st.none() | st.integers(1, 30)) if limited else None
        supplies.append(
            Supply(
                f"p{number}",
                draw(st.sampled_from([1, 2, 4])),
                ((OD, draw(st.floats(0.2, 9))),),
                limit,
                committed_left=draw(st.integers(0, 2)),
            )
        )
    return Problem(
        "ns/s",
        buckets,
        tuple(100.0 * (r + 1) for r in range(ranges - 1)),
        draw(st.sampled_from([1.0, 1.1, 1.5])),
        tuple(variants),
        tuple(supplies),
        routing or draw(st.sampled_from(list(RoutingMode))),
        min_replicas=draw(st.integers(0, 2)),
        min_mix_saving=0.0,
    )


@given(problems())
@settings(max_examples=scaled(150), deadline=None)
def test_every_bucket_is_covered_within_capacity_and_limits_at_the_recomputed_cost(problem: Problem) -> None:
    result = allocate(problem)
    replicas = dict(result.replicas)
    cost = 0.0
    for supply in problem.supplies:
        gpus = sum(v.gpus * replicas[v.name] for v in problem.variants if v.pool == supply.pool)
        nodes = math.ceil(gpus / supply.gpus_per_node)
        assert supply.nodes_left is None or nodes <= supply.nodes_left
        cost += supply.prices[0][1] * max(0, nodes - supply.committed_left)
    assert math.isclose(result.cost_per_hour, cost, rel_tol=1e-9, abs_tol=1e-9)
    if result.outcome in (Outcome.BEST_EFFORT, Outcome.IMPOSSIBLE):
        return
    assert sum(replicas.values()) >= problem.min_replicas
    assert result.lower_bound_per_hour <= result.cost_per_hour + 1e-9
    unserved = {item.bucket for item in result.unserved}
    shares = dict(result.shares)
    used = dict.fromkeys(replicas, 0.0)
    for number, bucket in enumerate(problem.buckets):
        if bucket in unserved:
            continue
        line = result.lines.index(line_of(problem, number))
        given_shares = {v.name: shares[v.name][line] for v in problem.variants if v.name in shares}
        assert math.isclose(sum(given_shares.values()), 1.0, rel_tol=1e-6)
        for variant in problem.variants:
            share = given_shares.get(variant.name, 0.0)
            if share > 1e-6:
                rate = variant.throughput[number].rate_rps * variant.derating
                assert rate > 0, "traffic that it cannot serve"
                used[variant.name] += bucket.rate_rps * problem.demand_factor * share / rate
    for name, count in replicas.items():
        assert used[name] <= count * (1 + 1e-5) + 1e-5
    if problem.routing is RoutingMode.SERVICE and result.lines and sum(replicas.values()):
        total = sum(replicas.values())
        for name, row in shares.items():
            assert math.isclose(row[0], replicas[name] / total, rel_tol=1e-9)


@given(problems(limited=False))
@settings(max_examples=scaled(80), deadline=None)
def test_the_finer_the_steering_the_cheaper(problem: Problem) -> None:
    plans = [allocate(replace(problem, routing=mode), EXACT) for mode in RoutingMode]
    # Coarser steering may have to leave sizes out; what is left costs less.
    if len({len(plan.unserved) for plan in plans}) == 1:
        for coarser, finer in pairwise(plans):
            assert finer.cost_per_hour <= coarser.cost_per_hour + 1e-6


@given(problems(limited=False), st.sampled_from([RoutingMode.WEIGHTED, RoutingMode.INPUT_RANGE, RoutingMode.FULL]))
@settings(max_examples=scaled(80), deadline=None)
def test_a_plan_holds_under_its_own_steering_and_not_where_nobody_steers(problem: Problem, mode: RoutingMode) -> None:
    steered, blind = replace(problem, routing=mode), replace(problem, routing=RoutingMode.SERVICE)
    plan, honest = allocate(steered, EXACT), allocate(blind, EXACT)
    if plan.unserved or honest.unserved:
        return
    replicas = dict(plan.replicas)
    assert not overloaded(steered, steer(steered), replicas, dict(plan.shares))
    # What saves money by steering cannot do without it, or the plan for Service would have been as cheap.
    if plan.cost_per_hour < honest.cost_per_hour - 1e-6:
        assert overloaded(blind, steer(blind), replicas, equal_shares(blind, steer(blind), replicas))


@given(problems())
@settings(max_examples=scaled(60), deadline=None)
def test_highs_and_cbc_agree(problem: Problem) -> None:
    steering = steer(problem)
    highs = solve(problem, steering, EXACT)
    cbc = solve(problem, steering, replace(EXACT, backend=Backend.CBC))
    assert (highs.status is SolveStatus.INFEASIBLE) == (cbc.status is SolveStatus.INFEASIBLE)
    if highs.status is SolveStatus.OPTIMAL:
        assert math.isclose(_cost(problem, highs.replicas), _cost(problem, cbc.replicas), rel_tol=1e-5, abs_tol=1e-5)


@given(problems(routing=RoutingMode.SERVICE, limited=False))
@settings(max_examples=scaled(60), deadline=None)
def test_service_mode_is_optimal_by_brute_force(problem: Problem) -> None:
    steering = steer(problem)
    needs = [steering.need(j) for j in range(len(problem.variants))]
    if not steering.lines or all(need is None for need in needs) or max(need or 0 for need in needs) > 14:
        return
    most = max(math.ceil(max(need or 0 for need in needs)), problem.min_replicas, 1)
    best = math.inf
    for counts in itertools.product(range(most + 1), repeat=len(problem.variants)):
        used = [j for j, count in enumerate(counts) if count]
        if sum(counts) < max(problem.min_replicas, 1) or any(needs[j] is None for j in used):
            continue
        if all(sum(counts) >= (needs[j] or 0) - 1e-9 for j in used):
            best = min(best, _cost(problem, tuple((v.name, c) for v, c in zip(problem.variants, counts, strict=True))))
    result = allocate(problem, EXACT)
    assert math.isclose(result.cost_per_hour, best, rel_tol=1e-6, abs_tol=1e-6)


@given(problems())
@settings(max_examples=scaled(40), deadline=None)
def test_as_much_as_limits_allow_is_served_when_not_all_can_be(problem: Problem) -> None:
    tight = replace(problem, supplies=tuple(replace(supply, nodes_left=1) for supply in problem.supplies))
    result = allocate(tight)
    if result.outcome is Outcome.BEST_EFFORT:
        full = solve(tight, steer(tight), EXACT)
        assert full.status is SolveStatus.INFEASIBLE
        assert result.served_fraction < 1.0
        assert result.messages


@given(st.lists(problems(), min_size=2, max_size=3))
@settings(max_examples=scaled(40), deadline=None)
def test_services_that_share_pools_stay_within_them_together(parts: list[Problem]) -> None:
    first = parts[0]
    pools = [
        Pool(s.pool, s.pool, s.gpus_per_node, (Offering(OD, s.prices[0][1]),), s.nodes_left, s.committed_left)
        for s in first.supplies
    ]
    same = [replace(first, service=f"ns/{number}") for number in range(len(parts))]
    joint = allocate_all(same, pools)
    for pool in pools:
        nodes = sum(count for name, _, count in joint.nodes if name == pool.name)
        gpus = sum(
            allocation.count(v.name) * v.gpus
            for _, allocation in joint.allocations
            for v in first.variants
            if v.pool == pool.name
        )
        assert nodes == math.ceil(gpus / pool.gpus_per_node)
        assert pool.max_nodes is None or nodes <= pool.max_nodes
    spent = sum(
        pool.offerings[0].price_per_node_hour
        * max(0, sum(count for name, _, count in joint.nodes if name == pool.name) - pool.committed_nodes)
        for pool in pools
    )
    assert math.isclose(joint.total_cost_per_hour, spent, rel_tol=1e-9, abs_tol=1e-9)


def _cost(problem: Problem, replicas: tuple[tuple[str, int], ...]) -> float:
    counts = dict(replicas)
    total = 0.0
    for supply in problem.supplies:
        gpus = sum(v.gpus * counts[v.name] for v in problem.variants if v.pool == supply.pool)
        total += supply.prices[0][1] * max(0, math.ceil(gpus / supply.gpus_per_node) - supply.committed_left)
    return total
