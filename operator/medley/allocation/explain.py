"""Why a plan is as it is: what each limit costs, why each unused variant is unused, and what the next best plan is.

Every figure is the difference of two solved plans, not a dual value: one more node is a whole one. That takes a solve
of some milliseconds per question, so it is done on demand and never in the operator's cycle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from medley.allocation.backends.answer import Options
from medley.allocation.problem import Allocation, Outcome, Problem, Supply, Variant
from medley.allocation.solve import allocate

EXACT = Options(relative_gap=0.0, time_limit_s=5.0)

CENT = 1e-3
"""$ per hour below which a difference is none."""


class Unused(StrEnum):
    """Why a variant has no replica.

    CANNOT_SERVE: no size of the demand. NO_NODE: limits leave none. DEARER: using it costs more. NO_USE: it costs no
    more, and gains nothing. IMPOSSIBLE: with it, no plan keeps the limits.
    """

    CANNOT_SERVE = "CannotServe"
    NO_NODE = "NoNode"
    DEARER = "Dearer"
    NO_USE = "NoUse"
    IMPOSSIBLE = "Impossible"


@dataclass(frozen=True, slots=True)
class LimitValue:
    """What loosening a limit is worth.

    Attributes:
        limit: as the user wrote it.
        unit: of one step.
        saves_per_hour: $ saved with one step more, and with ten.
        serves_more: part of the demand that is served in addition, with one step more, and with ten.
    """

    limit: str
    unit: str
    saves_per_hour: tuple[float, float]
    serves_more: tuple[float, float] = (0.0, 0.0)

    @property
    def matters(self) -> bool:
        """Whether loosening it changes anything."""
        return max(self.saves_per_hour) > CENT or max(self.serves_more) > 1e-4


@dataclass(frozen=True, slots=True)
class UnusedVariant:
    """A variant without replicas. `costs_more_per_hour`: $ by which a plan with at least one of it is dearer."""

    variant: str
    why: Unused
    detail: str
    costs_more_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Alternative:
    """The cheapest plan that uses other variants."""

    replicas: tuple[tuple[str, int], ...]
    cost_per_hour: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Of one service's plan; `exact` is the plan at gap 0 that the differences are taken from."""

    exact: Allocation
    limits: tuple[LimitValue, ...]
    unused: tuple[UnusedVariant, ...]
    next_best: Alternative | None


def explain(problem: Problem, options: Options = EXACT) -> Explanation:
    """Explain the plan of a problem; the cost of change is left out, so that figures are of the plans themselves."""
    problem = replace(problem, change_cost=0.0)
    exact = allocate(problem, options)
    return Explanation(
        exact,
        tuple(value for value in _limits(problem, exact, options) if value.matters),
        tuple(
            _unused(problem, variant, exact, options) for variant in problem.variants if not exact.count(variant.name)
        ),
        _next_best(problem, exact, options),
    )


def _served(allocation: Allocation) -> float:
    return 0.0 if allocation.outcome is Outcome.IMPOSSIBLE else allocation.served_fraction


def _limits(problem: Problem, exact: Allocation, options: Options) -> list[LimitValue]:
    values = []

    def value(limit: str, unit: str, loosened: Callable[[int], Problem]) -> None:
        plans = [allocate(loosened(steps), options) for steps in (1, 10)]
        values.append(
            LimitValue(
                limit,
                unit,
                tuple(  # type: ignore[arg-type]
                    max(0.0, exact.cost_per_hour - plan.cost_per_hour)
                    if abs(_served(plan) - _served(exact)) < 1e-6
                    else 0.0
                    for plan in plans
                ),
                tuple(max(0.0, _served(plan) - _served(exact)) for plan in plans),  # type: ignore[arg-type]
            )
        )

    for number, supply in enumerate(problem.supplies):
        if supply.nodes_left is not None:
            value(
                f"pool {supply.pool} limits.nodes", "node",
                lambda steps, number=number, left=supply.nodes_left: _with_supply(  # type: ignore[misc]
                    problem, number, nodes_left=left + steps
                ),
            )  # fmt: skip
        for kind, most in supply.available:
            value(
                f"pool {supply.pool} offerings {kind} maxNodes", "node",
                lambda steps, number=number, kind=kind, most=most: _with_supply(  # type: ignore[misc]
                    problem, number,
                    available=tuple(
                        (k, m + steps if k is kind else m) for k, m in problem.supplies[number].available
                    ),
                ),
            )  # fmt: skip
    for number, variant in enumerate(problem.variants):
        if variant.max_replicas is not None:
            value(
                f"{variant.name} maxReplicas", "replica",
                lambda steps, number=number, most=variant.max_replicas: _with_variant(  # type: ignore[misc]
                    problem, number, max_replicas=most + steps
                ),
            )  # fmt: skip
        if variant.min_replicas and variant.usable:
            value(
                f"{variant.name} minReplicas", "replica less",
                lambda steps, number=number, least=variant.min_replicas: _with_variant(  # type: ignore[misc]
                    problem, number, min_replicas=max(0, least - steps)
                ),
            )  # fmt: skip
    budget = problem.max_hourly_cost
    if budget is not None:
        value("scaling.maxHourlyCost", "$/h", lambda steps: replace(problem, max_hourly_cost=budget + steps))
    part = problem.max_spot_fraction
    if part is not None and part < 1.0:
        value(
            "scaling.maxSpotPercent", "percent",
            lambda steps: replace(problem, max_spot_fraction=min(1.0, part + steps / 100)),
        )  # fmt: skip
    if problem.survive_loss_of is not None:
        value("scaling.surviveLossOf", "given up", lambda _: replace(problem, survive_loss_of=None))
    return values


def _with_supply(problem: Problem, number: int, **changes: object) -> Problem:
    supplies = list(problem.supplies)
    changed: Supply = replace(supplies[number], **changes)  # type: ignore[arg-type]
    supplies[number] = changed
    return replace(problem, supplies=tuple(supplies))


def _with_variant(problem: Problem, number: int, **changes: object) -> Problem:
    variants = list(problem.variants)
    changed: Variant = replace(variants[number], **changes)  # type: ignore[arg-type]
    variants[number] = changed
    return replace(problem, variants=tuple(variants))


def _unused(problem: Problem, variant: Variant, exact: Allocation, options: Options) -> UnusedVariant:
    if not problem.can_be_had(variant):
        return UnusedVariant(variant.name, Unused.NO_NODE, "limits leave no node for it")
    loads = [variant.load(number) for number in range(len(problem.buckets))]
    if problem.buckets and all(load is None for load in loads):
        reasons = dict.fromkeys(item.reason.value for item in variant.throughput if item.reason is not None)
        return UnusedVariant(variant.name, Unused.CANNOT_SERVE, ", ".join(reasons) or "no size can be served")
    number = problem.variants.index(variant)
    forced = allocate(_with_variant(problem, number, min_replicas=1), options)
    if _served(forced) < _served(exact) - 1e-6 or forced.outcome is Outcome.IMPOSSIBLE:
        return UnusedVariant(variant.name, Unused.IMPOSSIBLE, "no plan with it keeps the limits")
    more = forced.cost_per_hour - exact.cost_per_hour
    if more <= CENT:
        return UnusedVariant(variant.name, Unused.NO_USE, "it would cost no more, and gain nothing", 0.0)
    some = sum(load is None for load in loads)
    partly = f"; it cannot serve {some} of {len(loads)} sizes" if some else ""
    return UnusedVariant(
        variant.name, Unused.DEARER, f"a plan with at least one costs {more:.4f} $/h more{partly}", more
    )


def _next_best(problem: Problem, exact: Allocation, options: Options) -> Alternative | None:
    """The cheapest plan without one of the variants in use; as good a service, or it is no alternative."""
    best: Alternative | None = None
    for number, variant in enumerate(problem.variants):
        if not exact.count(variant.name) or variant.floor:
            continue
        plan = allocate(_with_variant(problem, number, max_replicas=0), options)
        worse = _served(plan) < _served(exact) - 1e-6 or len(plan.unserved) > len(exact.unserved)
        if not worse and (best is None or plan.cost_per_hour < best.cost_per_hour):
            best = Alternative(tuple((name, count) for name, count in plan.replicas if count), plan.cost_per_hour)
    return best
