"""What all services of a snapshot get together, once what must stay is counted in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from medley.allocation.assemble import variant_name, with_floor
from medley.allocation.backends.answer import Options
from medley.allocation.check import limits_broken
from medley.allocation.joint import JointAllocation, allocate_all
from medley.allocation.ledger import Ledger, Usage, usage_of
from medley.allocation.problem import Allocation, Outcome, Problem
from medley.cycle.case import Case, cases_of
from medley.cycle.snapshot import Snapshot
from medley.model.objects import CapacityType, Pool, ServiceKey
from medley.planning.stabilisation import larger
from medley.profiles.profile import Profile, ProfileKey

PoolPrices = tuple[tuple[str, CapacityType, float], ...]
Floors = Mapping[ServiceKey, Mapping[str, int]]
"""Replicas by service and variant that are not to be taken away."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """All services, their problems and plans.

    Attributes:
        cases: every service, by key.
        problems: of those that can be planned, with floors under what stays.
        wanted: replicas by variant that each would be asked for if nothing had to stay.
        kept: replicas by variant that stay for the stabilisation window.
        joint: the plans of those that act.
        fixed: what the others use.
        beside_plans: what stays of those that act, and their plans do not count on.
    """

    snapshot: Snapshot
    pools: Mapping[str, Pool]
    profiles: Mapping[ProfileKey, Profile]
    cases: tuple[Case, ...]
    problems: Mapping[ServiceKey, Problem]
    wanted: Mapping[ServiceKey, Mapping[str, int]]
    kept: Floors
    joint: JointAllocation
    fixed: Mapping[ServiceKey, Usage]
    beside_plans: tuple[Usage, ...]
    options: Options

    def others(self, case: Case) -> list[Usage]:
        """What all services but one use: those that act, by plan; the others, by what runs."""
        plans = dict(self.joint.allocations)
        others = [
            usage_of(self.problems[other.key], dict(plans[str(other.key)].replicas))
            for other in self.cases
            if other.acts and other.key != case.key
        ]
        return [*others, *(usage for key, usage in self.fixed.items() if key != case.key), *self.beside_plans]

    def beside(self, case: Case) -> JointAllocation:
        """What Medley would do for a watched service, given what all the others use."""
        return allocate_all([self.problems[case.key]], self.snapshot.pools, self.others(case), self.options)

    def left_for(self, case: Case) -> Problem:
        """A service's problem with what all the others leave of the pools."""
        ledger = Ledger(self.snapshot.pools)
        for usage in self.others(case):
            ledger.take(usage)
        return ledger.rest(self.problems[case.key])


def agree(snapshot: Snapshot) -> Agreement:
    """Plan all services that act, together.

    First as if any replica could be taken away: that is what is wanted now, and what later cycles keep for a while.
    Then, where the plan would take away what must stay, again with that as a floor. Where growth is needed even so,
    what is wanted grows: a variant that is best only beside what stays would be of no use once that goes.

    A floor can call for growth in vain: with equal shares, small replicas that stay need more of their kind where a few
    large ones would do without any. Then what is kept for calm yields, as it does where it leaves a service short. What
    must stay because the demand is not known well stays beside the plan, which does not count on it.
    """
    pools = {pool.name: pool for pool in snapshot.pools}
    profiles = {profile.key: profile for profile in snapshot.profiles}
    options = Options(snapshot.settings.relative_gap, snapshot.settings.solve_time_limit_s)
    cases = cases_of(snapshot, pools, profiles)
    acting = [case for case in cases if case.acts]
    problems = {case.key: case.assembled.problem for case in cases if case.assembled}
    fixed = {case.key: _running_usage(case, pools) for case in cases if not case.acts}

    def together(floors: Floors, beside: Sequence[Usage], prices: PoolPrices) -> JointAllocation:
        return allocate_all(
            [with_floor(problems[case.key], floors.get(case.key, {})) for case in acting],
            snapshot.pools,
            [*fixed.values(), *beside],
            options,
            {(pool, kind): price for pool, kind, price in prices},
        )

    joint = free = together({}, (), snapshot.pool_prices)
    wanted = {case.key: case.target(plan) for case, plan in _plans(acting, free)}
    # Where the demand is not known well enough, all that runs stays; else what was needed lately. Of all services, once
    # one needs it: what another keeps may move this one's plan away from what it runs.
    stay = {case.key: case.running if case.held else case.kept for case in acting}
    floors: dict[ServiceKey, Mapping[str, int]] = {}
    beside: list[Usage] = []
    if any(_cut(wanted[key], floor) for key, floor in stay.items()):
        floors = dict(stay)
        joint = together(floors, (), free.pool_prices)
        growing = [
            case
            for case, plan in _plans(acting, joint)
            if _cut(wanted[case.key], floors[case.key]) and _cut(case.running, case.target(plan))
        ]
        if growing:
            floors |= {case.key: larger(wanted[case.key], floors[case.key]) for case in growing}
            joint = together(floors, (), free.pool_prices)
        best = dict(free.allocations)
        short = [case for case, plan in _plans(acting, joint) if _worse(plan, best[str(case.key)])]
        vain = {case.key for case, plan in _plans(growing, joint) if _cut(floors[case.key], case.target(plan))}
        before = dict(floors)
        for case in acting:
            if not case.held:
                if case.key in vain or (_cut(wanted[case.key], case.kept) and _meets(problems, case, short)):
                    del floors[case.key]
            elif _broken(problems[case.key], floors[case.key]) or case in short:
                # No room for both: then whatever grows best beside what stays.
                floors[case.key] = case.running
            elif case.key in vain:
                del floors[case.key]
                beside.append(_idle_usage(problems[case.key], case.running, wanted[case.key]))
        if floors != before:
            joint = together(floors, beside, free.pool_prices)
        if beside and not _fits(acting, joint, problems, snapshot, fixed.values()):
            floors, beside = {**floors, **{case.key: case.running for case in acting if case.held}}, []
            joint = together(floors, (), free.pool_prices)
    problems |= {key: with_floor(problems[key], floor) for key, floor in floors.items()}
    kept = {case.key: case.kept for case in acting if case.key in floors and not case.held}
    return Agreement(snapshot, pools, profiles, cases, problems, wanted, kept, joint, fixed, tuple(beside), options)


def _plans(cases: Iterable[Case], joint: JointAllocation) -> list[tuple[Case, Allocation]]:
    """Cases with their plans."""
    plans = dict(joint.allocations)
    return [(case, plans[str(case.key)]) for case in cases]


def _cut(counts: Mapping[str, int], floor: Mapping[str, int]) -> bool:
    """Whether there is less of something than a floor says."""
    return any(counts.get(name, 0) < count for name, count in floor.items())


def _broken(problem: Problem, counts: Mapping[str, int]) -> bool:
    """Whether replicas of the listed variants are beyond limits."""
    return bool(limits_broken(problem, {v.name: counts.get(v.name, 0) for v in problem.variants}))


def _idle_usage(problem: Problem, running: Mapping[str, int], wanted: Mapping[str, int]) -> Usage:
    """GPUs of the replicas that run beyond what is wanted."""
    idle = {name: max(0, count - wanted.get(name, 0)) for name, count in running.items()}
    return replace(usage_of(problem, idle), service=f"{problem.service}: beside its plan")


def _fits(
    acting: Sequence[Case],
    joint: JointAllocation,
    problems: Mapping[ServiceKey, Problem],
    snapshot: Snapshot,
    fixed: Iterable[Usage],
) -> bool:
    """Whether plans keep all limits with what must stay beside them."""
    ledger = Ledger(snapshot.pools)
    for usage in fixed:
        ledger.take(usage)
    for case, plan in _plans(acting, joint):
        target = case.target(plan)
        counts = larger(target, case.running) if case.held else target
        if _cut(target, counts) and _broken(problems[case.key], counts):
            return False
        ledger.take(usage_of(problems[case.key], counts))
    return not ledger.exceeded()


def _worse(now: Allocation, before: Allocation) -> bool:
    """Whether less of the demand is served."""
    if now.outcome is Outcome.IMPOSSIBLE:
        return before.outcome is not Outcome.IMPOSSIBLE
    return now.served_fraction < before.served_fraction - 1e-6


def _meets(problems: Mapping[ServiceKey, Problem], case: Case, others: list[Case]) -> bool:
    """Whether a service is one of others, or uses a pool that one of them may use."""
    mine = {supply.pool for supply in problems[case.key].supplies}
    return any(mine & {supply.pool for supply in problems[other.key].supplies} for other in others)


def _running_usage(case: Case, pools: Mapping[str, Pool]) -> Usage:
    """GPUs that a service's replicas use now."""
    gpus: dict[tuple[str, CapacityType], int] = {}
    offered = {}
    for spec in case.service.variants:
        pool = pools.get(spec.pool)
        for offering in pool.offerings if pool else ():
            offered[variant_name(spec, offering.capacity_type)] = (spec, offering.capacity_type)
    for name, count in case.running.items():
        if name in offered:
            spec, capacity_type = offered[name]
            key = (spec.pool, capacity_type)
            gpus[key] = gpus.get(key, 0) + count * spec.tensor_parallel_size
    return Usage(str(case.key), tuple((pool, kind, count) for (pool, kind), count in sorted(gpus.items())))
