"""What each limit costs: the difference of two solved plans, with the limit as it is and loosened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from medley.allocation.coverage import SAME, coverage
from medley.allocation.problem import Allocation, Problem, Supply, Variant

CENT = 1e-3
"""$ per hour below which a difference is none."""

GIVEN_UP = "given up"
"""The unit of a limit that is kept or not."""

Solve = Callable[[Problem], Allocation]
"""The cheapest plan of a problem."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Something the user set that may keep a plan from being cheaper.

    Attributes:
        name: as the user wrote it.
        unit: of one step.
        loosened: the problem with so many steps more of it.
    """

    name: str
    unit: str
    loosened: Callable[[int], Problem]


@dataclass(frozen=True, slots=True)
class LimitValue:
    """What loosening a limit is worth; each pair is with one step more, and with ten.

    Attributes:
        limit: as the user wrote it.
        unit: of one step.
        saves_per_hour: $ saved; negative where the looser plan costs more, as it carries more or may be one GPU type.
        serves_more: part of the whole demand that is served in addition; sizes that are left out count.
        survives: whether only the looser plan survives the loss that is asked for.
    """

    limit: str
    unit: str
    saves_per_hour: tuple[float, float]
    serves_more: tuple[float, float] = (0.0, 0.0)
    survives: tuple[bool, bool] = (False, False)

    @property
    def matters(self) -> bool:
        """Whether loosening it changes anything."""
        return max(map(abs, self.saves_per_hour)) > CENT or max(self.serves_more) > SAME or any(self.survives)


def limit_values(problem: Problem, plan: Allocation, solve: Solve) -> tuple[LimitValue, ...]:
    """Each limit that costs something, given the problem's plan."""
    values = (_value(problem, plan, limit, solve) for limit in limits_of(problem))
    return tuple(value for value in values if value.matters)


def _value(problem: Problem, plan: Allocation, limit: Limit, solve: Solve) -> LimitValue:
    now = coverage(problem, plan)
    looser = [(loosened, solve(loosened)) for loosened in map(limit.loosened, (1, 10))]
    one, ten = (
        (
            plan.cost_per_hour - made.cost_per_hour,
            max(0.0, then.served - now.served),
            # Where the loss itself is given up, there is nothing left to survive.
            then.survives and not now.survives and asked.survive_loss_of is not None,
        )
        for asked, made in looser
        for then in (coverage(asked, made),)
    )
    return LimitValue(limit.name, limit.unit, (one[0], ten[0]), (one[1], ten[1]), (one[2], ten[2]))


def limits_of(problem: Problem) -> Iterator[Limit]:
    """Every limit and floor of the problem."""
    for number, supply in enumerate(problem.supplies):
        yield from _limits_of_pool(problem, number, supply)
    for number, variant in enumerate(problem.variants):
        yield from _limits_of_variant(problem, number, variant)
    least = problem.min_replicas
    if least:
        yield Limit(
            "scaling.minReplicas", "replica less", lambda steps: replace(problem, min_replicas=max(0, least - steps))
        )
    budget = problem.max_hourly_cost
    if budget is not None:
        yield Limit("scaling.maxHourlyCost", "$/h", lambda steps: replace(problem, max_hourly_cost=budget + steps))
    part = problem.max_spot_fraction
    if part is not None and part < 1.0:
        yield Limit(
            "scaling.maxSpotPercent", "percent",
            lambda steps: replace(problem, max_spot_fraction=min(1.0, part + steps / 100)),
        )  # fmt: skip
    if problem.survive_loss_of is not None:
        yield Limit("scaling.surviveLossOf", GIVEN_UP, lambda _: replace(problem, survive_loss_of=None))
    if problem.min_mix_saving > 0.0:
        yield Limit("scaling.minMixSavingPercent", GIVEN_UP, lambda _: replace(problem, min_mix_saving=0.0))


def _limits_of_pool(problem: Problem, number: int, supply: Supply) -> Iterator[Limit]:
    left = supply.nodes_left
    if left is not None:
        yield Limit(
            f"pool {supply.pool} limits.nodes", "node",
            lambda steps: with_supply(problem, number, replace(supply, nodes_left=left + steps)),
        )  # fmt: skip
    for kind, _ in supply.available:
        yield Limit(
            f"pool {supply.pool} offerings {kind} maxNodes", "node",
            lambda steps, kind=kind: with_supply(  # type: ignore[misc]
                problem, number,
                replace(supply, available=tuple((k, m + steps if k is kind else m) for k, m in supply.available)),
            ),
        )  # fmt: skip


def _limits_of_variant(problem: Problem, number: int, variant: Variant) -> Iterator[Limit]:
    most, least = variant.max_replicas, variant.min_replicas
    if most is not None:
        yield Limit(
            f"{variant.name} maxReplicas", "replica",
            lambda steps: with_variant(problem, number, replace(variant, max_replicas=most + steps)),
        )  # fmt: skip
    if least and variant.usable:
        yield Limit(
            f"{variant.name} minReplicas", "replica less",
            lambda steps: with_variant(problem, number, replace(variant, min_replicas=max(0, least - steps))),
        )  # fmt: skip


def with_supply(problem: Problem, number: int, supply: Supply) -> Problem:
    """The problem with another supply in place of one."""
    return replace(problem, supplies=(*problem.supplies[:number], supply, *problem.supplies[number + 1 :]))


def with_variant(problem: Problem, number: int, variant: Variant) -> Problem:
    """The problem with another variant in place of one."""
    return replace(problem, variants=(*problem.variants[:number], variant, *problem.variants[number + 1 :]))
