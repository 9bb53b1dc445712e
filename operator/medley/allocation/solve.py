"""Solves one service: counts, their re-check, the best single GPU type, and what to do when a step fails."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from medley.allocation.backends.answer import Options, SolveStatus
from medley.allocation.backends.milp import RawSolution, Shares, solve, solve_most, with_shares
from medley.allocation.bill import Bill, PoolCapacity, replica_price
from medley.allocation.check import (
    cost_per_hour,
    counts_of,
    equal_shares,
    limits_broken,
    losses_not_survived,
    overloaded,
)
from medley.allocation.problem import Allocation, Outcome, Problem
from medley.allocation.routing import Steering, steer
from medley.allocation.single import count_alone, saves_too_little
from medley.model.objects import RoutingMode

SERVED = 1.0 - 1e-6
"""From this fraction on, all of the demand counts as served."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Replicas, shares per variant and line, the fraction of the demand that they serve, and shares after each loss."""

    replicas: dict[str, int]
    shares: Shares
    served: float = 1.0
    contingency: dict[str, Shares] = field(default_factory=dict)


def allocate(problem: Problem, options: Options | None = None) -> Allocation:
    """The cheapest checked allocation of a problem.

    Never raises for an infeasible problem or a failing solver: the outcome and the messages say what happened.
    """
    options = options or Options()
    steering = steer(problem)
    best_gpu, best_single = _best_single(problem, steering, options)
    messages: list[str] = []
    # What is cheapest from nothing gives the bound and the saving; what is done also counts the cost of change.
    anew = replace(problem, change_cost=0.0)
    raw = solve(anew, steering, options)
    candidates = [_checked(anew, steering, raw, messages)]
    solve_ms = raw.solve_ms
    if problem.change_cost > 0 and any(variant.running for variant in problem.variants):
        onward = solve(problem, steering, options)
        solve_ms += onward.solve_ms
        candidates.append(_checked(problem, steering, onward, messages))
    solved = any(plan is not None for plan in candidates)
    single = None
    if best_single is not None:
        cheapest = min((_charged(problem, plan) for plan in candidates if plan is not None), default=math.inf)
        alone = best_single.cost_per_hour
        # Its own cost of change only adds to what it costs: where it is of no use already, the re-check is spared.
        if alone <= cheapest or saves_too_little(problem, cheapest, alone):
            single = _adopted(problem, steering, best_single)
    plans = [plan for plan in (*candidates, single) if plan is not None]
    if plans:
        chosen = min(plans, key=lambda plan: _charged(problem, plan))
        chosen = _prefer_single(problem, chosen, single, messages)
        outcome = Outcome.FALLBACK
        if solved:
            outcome = Outcome.OPTIMAL if raw.status is SolveStatus.OPTIMAL else Outcome.INCUMBENT
        return _allocation(
            problem, steering, outcome, chosen, raw.bound, best_gpu, best_single, messages=messages, solve_ms=solve_ms
        )
    if problem.survive_loss_of is not None:
        return _without_spare(problem, options, messages)
    return _without_full_plan(problem, steering, options, best_gpu, best_single, messages, solve_ms)


def allocation_of(problem: Problem, counts: tuple[int, ...], options: Options, message: str) -> Allocation | None:
    """The checked allocation with counts chosen elsewhere; None if they fail the re-check."""
    steering = steer(problem)
    best_gpu, best_single = _best_single(problem, steering, options)
    messages = [message]
    raw = with_shares(problem, steering, counts)
    plan = _checked(problem, steering, raw, messages)
    if plan is None:
        return None
    return _allocation(
        problem, steering, Outcome.OPTIMAL, plan, 0.0, best_gpu, best_single, messages=messages, solve_ms=raw.solve_ms
    )


def _without_spare(problem: Problem, options: Options, messages: list[str]) -> Allocation:
    """The same without what the loss was to be survived with: traffic of now goes before a loss that may come."""
    kind = problem.survive_loss_of
    result = allocate(replace(problem, survive_loss_of=None), options)
    text = f"scaling.surviveLossOf: no plan within limits survives the loss of a {kind}; planned without"
    return replace(result, messages=(*messages, text, *result.messages))


def _without_full_plan(
    problem: Problem,
    steering: Steering,
    options: Options,
    best_gpu: str | None,
    best_single: Allocation | None,
    messages: list[str],
    solve_ms: float,
) -> Allocation:
    """The most that limits allow, and that as cheaply as can be; if even the bounds cannot be met, nothing."""
    most = solve_most(problem, steering, options)
    solve_ms += most.solve_ms
    plans = [_checked(problem, steering, most, messages)]
    bound = 0.0
    if plans[0] is not None:
        # A hair less than the most, which rounding might not reach again.
        cheaper = solve(problem, steering, options, most.served_fraction * (1 - 1e-6))
        solve_ms += cheaper.solve_ms
        bound = cheaper.bound
        plans.insert(0, _checked(problem, steering, cheaper, messages))
    plan = next((plan for plan in plans if plan is not None), None)
    if plan is None:
        if any(variant.usable for variant in problem.variants):
            text = "no plan meets the bounds: minReplicas, pool limits and maxHourlyCost contradict each other"
        else:
            text = "no variant can serve any size under spec.slo; see what each size would need"
        messages.append(text)
        return Allocation(
            Outcome.IMPOSSIBLE,
            tuple((variant.name, 0) for variant in problem.variants),
            (),
            (),
            (),
            0.0,
            0.0,
            best_gpu,
            None,
            served_fraction=0.0,
            unserved=steering.unserved,
            binding=(),
            messages=tuple(messages),
            solve_ms=solve_ms,
        )
    # A plan that carries everything is one the first solve missed, say by its time limit.
    outcome = Outcome.INCUMBENT if plan.served > SERVED else Outcome.BEST_EFFORT
    result = _allocation(
        problem, steering, outcome, plan, bound, best_gpu, best_single, messages=messages, solve_ms=solve_ms
    )
    if outcome is Outcome.BEST_EFFORT:
        limits = ", ".join(result.binding) or "see limits"
        text = f"limits allow only {plan.served:.0%} of the demand (headroom included): {limits}"
        result = replace(result, messages=(*result.messages, text))
    return result


def _charged(problem: Problem, plan: Plan) -> float:
    """$ per hour of a plan with the cost of getting there."""
    return Bill(problem).charged_per_hour(counts_of(problem, plan.replicas))


def _checked(problem: Problem, steering: Steering, raw: RawSolution, messages: list[str]) -> Plan | None:
    """The solver's answer, trimmed, if it passes the re-check; else None and a message."""
    if not raw.replicas:
        return None
    contingency = {name: dict(shares) for name, shares in raw.contingency}
    plan = Plan(dict(raw.replicas), dict(raw.shares), raw.served_fraction, contingency)
    broken = _broken(problem, steering, plan)
    if broken:
        messages.append(f"the solver's answer failed the re-check and was not used: {'; '.join(broken[:3])}")
        return None
    return _trimmed(problem, steering, plan)


def _broken(problem: Problem, steering: Steering, plan: Plan) -> list[str]:
    broken = limits_broken(problem, plan.replicas)
    # With nothing served at all (a budget of 0), there are no shares to check.
    if plan.served > 1e-9:
        broken += overloaded(problem, steering, plan.replicas, plan.shares, plan.served)
        broken += losses_not_survived(problem, steering, plan.replicas, plan.contingency, plan.served)
    return broken


def _trimmed(problem: Problem, steering: Steering, plan: Plan) -> Plan:
    """Takes away replicas that nothing needs where nobody steers: committed nodes cost nothing, so some may be left.

    A plan with shares comes trimmed; its shares use all that is there.
    """
    if problem.routing is not RoutingMode.SERVICE or problem.survive_loss_of is not None:
        return plan
    for variant in sorted(problem.variants, key=lambda variant: (-variant.gpus, variant.name)):
        while plan.replicas[variant.name] > variant.floor:
            fewer = {**plan.replicas, variant.name: plan.replicas[variant.name] - 1}
            if steering.lines and not any(fewer.values()):
                break
            trial = replace(plan, replicas=fewer, shares=equal_shares(problem, steering, fewer))
            if _broken(problem, steering, trial) or _charged(problem, trial) > _charged(problem, plan):
                break
            plan = trial
    return plan


def _best_single(problem: Problem, whole: Steering, options: Options) -> tuple[str | None, Allocation | None]:
    """The cheapest allocation that uses one GPU type only, free of what runs now and of other types' minimums."""
    best: tuple[float, str, Problem, Steering, Plan, float] | None = None
    for gpu in sorted({variant.gpu for variant in problem.variants}):
        members = [number for number, variant in enumerate(problem.variants) if variant.gpu == gpu]
        # The same demand, line by line, as the mix carries: a type that serves less of it is no alternative.
        if not bool(np.isfinite(whole.matrix[:, members]).any(axis=1).all()):
            continue
        only = replace(
            problem,
            variants=tuple(replace(problem.variants[number], at_least=0, running=0) for number in members),
            change_cost=0.0,
        )
        found = _single_type(only, whole, members, options)
        if found is None:
            continue
        plan, traffic, bound = found
        cost = cost_per_hour(only, plan.replicas)
        if best is None or cost < best[0] - 1e-9:
            best = cost, gpu, only, traffic, plan, bound
    if best is None:
        return None, None
    _, gpu, only, traffic, plan, bound = best
    made = _allocation(only, traffic, Outcome.OPTIMAL, plan, bound, None, None, messages=[], solve_ms=0.0)
    return gpu, made


def _single_type(
    problem: Problem, whole: Steering, members: list[int], options: Options
) -> tuple[Plan, Steering, float] | None:
    """One GPU type, whose variants these are: by arithmetic if it has one, else by a solve. With its bound."""
    if not any(variant.usable for variant in problem.variants):
        return None
    if len(members) > 1 or problem.survive_loss_of is not None:
        traffic = whole.only(members)
        raw = solve(problem, traffic, options)
        checked = _checked(problem, traffic, raw, [])
        return None if checked is None else (checked, traffic, raw.bound)
    variant = problem.variants[0]
    count = count_alone(problem, variant, whole.need(members[0]), served=bool(whole.lines))
    if count is None:
        return None
    plan = Plan({variant.name: count}, {variant.name: (1.0,) * len(whole.lines)} if count else {})
    return None if limits_broken(problem, plan.replicas) else (plan, whole, -math.inf)


def _adopted(problem: Problem, steering: Steering, single: Allocation) -> Plan | None:
    """The single-type plan as a plan of the whole problem, if it serves as much and keeps every bound."""
    replicas = {variant.name: single.count(variant.name) for variant in problem.variants}
    shares = dict(single.shares)
    if problem.routing is RoutingMode.SERVICE:
        shares = equal_shares(problem, steering, replicas)
    plan = Plan(replicas, shares, contingency={name: dict(rows) for name, rows in single.contingency})
    return None if _broken(problem, steering, plan) else plan


def _prefer_single(problem: Problem, chosen: Plan, single: Plan | None, messages: list[str]) -> Plan:
    """One GPU type instead of a mix that saves too little to be worth its moving parts."""
    gpus = {problem.variant(name).gpu for name, count in chosen.replicas.items() if count}
    if single is None or len(gpus) < 2:
        return chosen
    mixed, alone = _charged(problem, chosen), _charged(problem, single)
    if not saves_too_little(problem, mixed, alone):
        return chosen
    messages.append(
        f"one GPU type is used: a mix would save {(alone - mixed) / alone:.1%}, "
        f"not more than minMixSavingPercent {problem.min_mix_saving:.1%}"
    )
    return single


def _allocation(
    problem: Problem,
    steering: Steering,
    outcome: Outcome,
    plan: Plan,
    bound: float,
    best_gpu: str | None,
    best_single: Allocation | None,
    *,
    messages: list[str],
    solve_ms: float,
) -> Allocation:
    replicas = plan.replicas
    bill, counts = Bill(problem), counts_of(problem, replicas)
    cost, nodes = bill.cost_per_hour(counts), bill.nodes(counts)
    return Allocation(
        outcome=outcome,
        replicas=tuple((variant.name, replicas.get(variant.name, 0)) for variant in problem.variants),
        nodes=tuple((pool, capacity_type, count) for (pool, capacity_type), count in sorted(nodes.items()) if count),
        shares=tuple((name, row) for name, row in sorted(plan.shares.items())),
        lines=tuple(line.number for line in steering.lines),
        cost_per_hour=cost,
        # A bound above the cost of a checked plan is a solver's rounding.
        lower_bound_per_hour=min(cost, max(0.0, bound)),
        best_single_gpu=best_gpu,
        best_single_cost_per_hour=None if best_single is None else best_single.cost_per_hour,
        served_fraction=plan.served,
        unserved=steering.unserved,
        binding=_binding(problem, replicas, nodes),
        messages=tuple(messages),
        contingency=tuple((name, tuple(sorted(rows.items()))) for name, rows in plan.contingency.items()),
        solve_ms=solve_ms,
    )


def _binding(problem: Problem, replicas: dict[str, int], nodes: dict[PoolCapacity, int]) -> tuple[str, ...]:
    """Limits that the plan touches."""
    out = []
    for supply in problem.supplies:
        taken = sum(count for (pool, _), count in nodes.items() if pool == supply.pool)
        if supply.nodes_left is not None and taken >= supply.nodes_left:
            out.append(f"pool {supply.pool} limits.nodes")
    for variant in problem.variants:
        if variant.max_replicas is not None and replicas[variant.name] >= variant.max_replicas:
            out.append(f"{variant.name} maxReplicas")
    if problem.max_hourly_cost is not None:
        prices = [replica_price(problem, variant) for variant in problem.variants]
        if (
            Bill(problem).budget_charge(counts_of(problem, replicas)) + min(prices, default=0.0)
            > problem.max_hourly_cost
        ):
            out.append("scaling.maxHourlyCost")
    return tuple(out)
