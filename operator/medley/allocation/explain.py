"""Why a plan is as it is: what limits, headroom and routing cost, why variants are unused, what the next best plan is.

Every figure is the difference of two solved plans, not a dual value: one more node is a whole one. That takes a solve
of some milliseconds per question, so it is done on demand and never in the operator's cycle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from medley.allocation.backends.answer import Options
from medley.allocation.coverage import coverage
from medley.allocation.limit_values import CENT, LimitValue, Solve, limit_values, limits_of, with_variant
from medley.allocation.problem import Allocation, Outcome, Problem, Variant
from medley.allocation.routing import steer
from medley.allocation.solve import allocate
from medley.model.objects import RoutingMode

EXACT = Options(relative_gap=0.0, time_limit_s=2.0)
"""Some dozen plans are asked for: on the hardest problems, more time each would keep people waiting for minutes."""

FAR = 1_000_000
"""Steps by which a limit is loosened to see whether it is the one that keeps a plan from existing."""


class Unused(StrEnum):
    """Why a variant has no replica.

    CANNOT_SERVE: no size of the demand. COMPANY: some, but the routing cannot keep them apart from sizes it cannot
    serve. NO_ROOM: a limit leaves no room for one. TURNED_DOWN: with it a mix would be cheaper, by less than is asked
    of a mix. DEARER: using it costs more. NO_USE: it costs no more, and gains nothing. IMPOSSIBLE: with it, no plan
    keeps the limits.
    """

    CANNOT_SERVE = "CannotServe"
    COMPANY = "SteeredInCompany"
    NO_ROOM = "NoRoom"
    TURNED_DOWN = "TurnedDown"
    DEARER = "Dearer"
    NO_USE = "NoUse"
    IMPOSSIBLE = "Impossible"


@dataclass(frozen=True, slots=True)
class UnusedVariant:
    """A variant without replicas.

    `costs_more_per_hour`: $ by which the cheapest plan with at least one of it is dearer; negative where a mix with it
    was turned down; None where there is no such plan.
    """

    variant: str
    why: Unused
    detail: str
    costs_more_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class UsedVariant:
    """A variant with replicas.

    Attributes:
        floor: replicas that there must be, or must be for now.
        costs_more_per_hour: $ by which the cheapest plan without it is dearer; None: no plan without it carries as
            much, or its floor keeps it.
    """

    variant: str
    floor: int
    costs_more_per_hour: float | None


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another plan: variant and replicas, without zeros, and $ per hour."""

    replicas: tuple[tuple[str, int], ...]
    cost_per_hour: float


@dataclass(frozen=True, slots=True)
class Otherwise:
    """The plan if one thing were otherwise; `what`: WithoutHeadroom, FullRates, or Routing and the mode."""

    what: str
    plan: Allocation


@dataclass(frozen=True, slots=True)
class Explanation:
    """Of one service's plan.

    Attributes:
        exact: the plan at gap 0 that all differences are taken from.
        limits: those that cost something.
        used: per variant with replicas, what a plan without it costs.
        unused: per variant without, why.
        next_best: the cheapest plan with other counts that carries as much, and is not this one with more replicas.
        turned_down: the cheaper mix that does not save enough.
        otherwise: without headroom, at the profiles' full rates, and under each routing mode.
        unsolved_part: of its cost, what a plan that the time limit ended might at most be cheaper by; differences below
            it are not certain. 0: every plan was solved to the end.
    """

    exact: Allocation
    limits: tuple[LimitValue, ...]
    used: tuple[UsedVariant, ...]
    unused: tuple[UnusedVariant, ...]
    next_best: Alternative | None
    turned_down: Alternative | None
    otherwise: tuple[Otherwise, ...]
    unsolved_part: float = 0.0


def explain(problem: Problem, options: Options = EXACT) -> Explanation:
    """Explain the plan of a problem; the cost of change is left out, so that figures are of the plans themselves."""
    problem = replace(problem, change_cost=0.0)
    plans: dict[Problem, Allocation] = {}

    def solve(asked: Problem) -> Allocation:
        if asked not in plans:
            plans[asked] = allocate(asked, options)
        return plans[asked]

    exact = solve(problem)
    asking = _Asking(problem, exact, solve)
    in_use = {name for name, count in exact.replicas if count}
    made = Explanation(
        exact,
        limit_values(problem, exact, solve),
        tuple(asking.used(number) for number, v in enumerate(problem.variants) if v.name in in_use),
        tuple(asking.unused(number) for number, v in enumerate(problem.variants) if v.name not in in_use),
        asking.next_best(),
        asking.turned_down(),
        tuple(Otherwise(what, solve(asked)) for what, asked in variations(problem)),
    )
    unsolved = [
        1.0 - plan.lower_bound_per_hour / plan.cost_per_hour
        for plan in plans.values()
        if plan.outcome in (Outcome.INCUMBENT, Outcome.FALLBACK) and plan.cost_per_hour > 0.0
    ]
    return replace(made, unsolved_part=max(unsolved, default=0.0))


def variations(problem: Problem) -> Iterator[tuple[str, Problem]]:
    """The problem with one margin left out, and under each routing mode, with what that is called."""
    yield "WithoutHeadroom", replace(problem, demand_factor=1.0)
    yield "FullRates", replace(problem, variants=tuple(replace(v, derating=1.0) for v in problem.variants))
    for mode in RoutingMode:
        yield f"Routing{mode}", replace(problem, routing=mode)


class _Asking:
    """Plans of one problem under another bound of one variant.

    They are compared by cost alone, so what a mix must save is left aside: `explain` says itself where that decided.
    """

    def __init__(self, problem: Problem, exact: Allocation, solve: Solve) -> None:
        self._problem = replace(problem, min_mix_saving=0.0)
        self._least_saving = problem.min_mix_saving
        self._exact = exact
        self._solve = solve
        self._covered = coverage(problem, exact)

    def used(self, number: int) -> UsedVariant:
        variant = self._problem.variants[number]
        plan = None if variant.floor else self._with(number, replace(variant, max_replicas=0))
        more = None if plan is None else plan.cost_per_hour - self._exact.cost_per_hour
        return UsedVariant(variant.name, variant.floor, more)

    def next_best(self) -> Alternative | None:
        """Any plan that is not this one with more replicas has fewer of some variant; so each is given one fewer."""
        plans = [
            plan
            for number, variant in enumerate(self._problem.variants)
            if (count := self._exact.count(variant.name)) > variant.floor
            and (plan := self._with(number, replace(variant, max_replicas=count - 1))) is not None
        ]
        return _alternative(min(plans, key=lambda plan: plan.cost_per_hour, default=None))

    def turned_down(self) -> Alternative | None:
        mixed = self._solve(self._problem)
        saves = self._exact.cost_per_hour - mixed.cost_per_hour > CENT
        return _alternative(mixed) if saves and not self._worse(self._problem, mixed) else None

    def unused(self, number: int) -> UnusedVariant:
        problem, variant = self._problem, self._problem.variants[number]
        sizes = len(problem.buckets)
        able = [variant.load(bucket) is not None for bucket in range(sizes)]
        if sizes and not any(able):
            reasons = dict.fromkeys(item.reason.value for item in variant.throughput if item.reason is not None)
            return UnusedVariant(variant.name, Unused.CANNOT_SERVE, ", ".join(reasons) or "no size can be served")
        barriers = problem.barriers(variant)
        if barriers:
            limits = " and ".join(
                f"{barrier.limit} (lacks {_steps(barrier.lacking, barrier.unit)})" for barrier in barriers
            )
            return UnusedVariant(variant.name, Unused.NO_ROOM, f"no room for one: {limits}")
        steering = steer(problem)
        if steering.lines and not np.isfinite(steering.matrix[:, number]).any():
            text = (
                f"it can serve {sum(able)} of {sizes} sizes, and routing {problem.routing} cannot keep them apart from "
                "the others"
            )
            return UnusedVariant(variant.name, Unused.COMPANY, text)
        plan = self._with(number, replace(variant, min_replicas=1))
        if plan is None:
            return UnusedVariant(variant.name, Unused.IMPOSSIBLE, f"no plan with it keeps {self._in_the_way(number)}")
        more = plan.cost_per_hour - self._exact.cost_per_hour
        if more < -CENT:
            part = -more / self._exact.cost_per_hour
            text = (
                f"a mix with it would save {-more:.4f} $/h ({part:.1%}), not more than scaling.minMixSavingPercent "
                f"{self._least_saving * 100:g}"
            )
            return UnusedVariant(variant.name, Unused.TURNED_DOWN, text, more)
        if more <= CENT:
            return UnusedVariant(variant.name, Unused.NO_USE, "it would cost no more, and gain nothing", more)
        lacking = able.count(False)
        partly = f"; it cannot serve {lacking} of {sizes} sizes" if lacking else ""
        return UnusedVariant(
            variant.name, Unused.DEARER, f"a plan with at least one costs {more:.4f} $/h more{partly}", more
        )

    def _with(self, number: int, variant: Variant) -> Allocation | None:
        """The cheapest plan with a variant so bounded; None if it carries less than the plan that is explained."""
        asked = with_variant(self._problem, number, variant)
        plan = self._solve(asked)
        return None if self._worse(asked, plan) else plan

    def _worse(self, asked: Problem, plan: Allocation) -> bool:
        return coverage(asked, plan).less_than(self._covered)

    def _in_the_way(self, number: int) -> str:
        """The limits of which each alone keeps a plan with the variant from existing."""
        variant = self._problem.variants[number]
        forced = with_variant(self._problem, number, replace(variant, min_replicas=1))
        found = [
            limit.name
            for limit in limits_of(forced)
            if limit.name != f"{variant.name} minReplicas"
            and not self._worse(loosened := limit.loosened(FAR), self._solve(loosened))
        ]
        return " or ".join(found) or "the limits"


def _steps(count: int, unit: str) -> str:
    return f"{count} {unit}{'s' if count > 1 and unit != 'percent' else ''}"


def _alternative(plan: Allocation | None) -> Alternative | None:
    if plan is None:
        return None
    return Alternative(tuple((name, count) for name, count in plan.replicas if count), plan.cost_per_hour)
