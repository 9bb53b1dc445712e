"""Decides: estimate → demand → solve → next safe step, for all services of a snapshot together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from medley.allocation.assemble import Assembled, assemble, variant_name, with_floor
from medley.allocation.backends.answer import Options
from medley.allocation.check import limits_broken
from medley.allocation.diagnose import with_remedies
from medley.allocation.joint import JointAllocation, allocate_all
from medley.allocation.ledger import Ledger, Usage, usage_of
from medley.allocation.problem import Allocation, Outcome, Problem, Variant
from medley.cycle.decision import Claim, Decision, PoolDecision, ServiceDecision, VariantTarget
from medley.cycle.findings import findings, unusable
from medley.cycle.snapshot import ServiceState, Snapshot
from medley.model.errors import UserError
from medley.model.objects import CapacityType, Mode, Pool, RoutingMode, Service, ServiceKey
from medley.model.samples import ServiceSamples
from medley.model.workload import Knowledge, Workload
from medley.planning.demand import demand_factor, seen_long_enough, stabilised
from medley.planning.steps import Step, VariantState, next_step
from medley.profiles.profile import Profile, ProfileKey
from medley.workload.estimate import COMPLETE, estimate
from medley.workload.known import from_points

DEFAULT_MAX_TOKENS = 32768.0
"""Where open histogram cells end if the service states no maxModelLen."""


@dataclass(frozen=True, slots=True)
class _Case:
    """One service on its way through the cycle."""

    service: Service
    state: ServiceState
    samples: ServiceSamples | None
    workload: Workload
    observed: Workload
    factor: float
    routing: RoutingMode
    held: str
    assembled: Assembled | None
    error: UserError | None

    @property
    def key(self) -> ServiceKey:
        return self.service.key

    @property
    def running(self) -> dict[str, int]:
        return {variant.name: variant.desired for variant in self.state.variants}


def decide(snapshot: Snapshot) -> Decision:
    """The decision of one cycle. Never raises for what users or metrics got wrong: that becomes findings."""
    world = _world(snapshot)
    decisions = []
    for case in world.cases:
        if case.assembled is None:
            decisions.append(_unusable_decision(case, world.pools))
        elif case in world.acting:
            decisions.append(_decided(case, case.assembled.problem, world.joint, world))
        else:
            decisions.append(_decided(case, case.assembled.problem, _beside(case, world), world))
    return Decision(
        tuple(decisions),
        tuple(_pool_decisions(decisions, world.cases, world.pools, snapshot)),
        sum(d.cost_per_hour or 0.0 for d in decisions if d.act),
        world.joint.pool_prices,
    )


def problems_left(snapshot: Snapshot) -> dict[ServiceKey, tuple[Service, Problem]]:
    """Each service's problem with what all the others leave of the pools, for explaining a decision afterwards."""
    world = _world(snapshot)
    found = {}
    for case in world.cases:
        if case.assembled is not None:
            ledger = Ledger(snapshot.pools)
            for usage in _others(case, world):
                ledger.take(usage)
            found[case.key] = (case.service, ledger.rest(case.assembled.problem))
    return found


@dataclass(frozen=True, slots=True)
class _World:
    """All services on their way, and what those that act get."""

    snapshot: Snapshot
    pools: Mapping[str, Pool]
    profiles: Mapping[ProfileKey, Profile]
    cases: tuple[_Case, ...]
    acting: tuple[_Case, ...]
    fixed: Mapping[ServiceKey, Usage]
    joint: JointAllocation
    options: Options


def _world(snapshot: Snapshot) -> _World:
    pools = {pool.name: pool for pool in snapshot.pools}
    profiles = {profile.key: profile for profile in snapshot.profiles}
    states = {state.key: state for state in snapshot.states}
    samples = {item.service: item for item in snapshot.samples}
    listed = _pools_by_use(snapshot.services)
    cases = tuple(
        _case(
            service,
            states.get(service.key, ServiceState(service.key)),
            samples.get(service.key),
            snapshot,
            pools,
            profiles,
            listed,
        )
        for service in sorted(snapshot.services, key=lambda service: service.key)
    )
    options = Options(snapshot.settings.relative_gap, snapshot.settings.solve_time_limit_s)
    acting = tuple(case for case in cases if case.service.mode is Mode.AUTO and case.assembled is not None)
    fixed = {case.key: _running_usage(case, pools) for case in cases if case not in acting}
    joint = allocate_all(
        [case.assembled.problem for case in acting if case.assembled],
        snapshot.pools,
        fixed.values(),
        options,
        {(pool, kind): price for pool, kind, price in snapshot.pool_prices},
    )
    return _World(snapshot, pools, profiles, cases, acting, fixed, joint, options)


def _case(
    service: Service,
    state: ServiceState,
    samples: ServiceSamples | None,
    snapshot: Snapshot,
    pools: Mapping[str, Pool],
    profiles: Mapping[ProfileKey, Profile],
    listed: Mapping[str, int],
) -> _Case:
    now_s, settings = snapshot.taken_at_s, snapshot.settings
    if service.static_points is not None:
        observed = workload = from_points(service.static_points)
        held = ""
    else:
        observed = estimate(
            samples,
            state.ready_replicas,
            max_tokens=service.max_model_len or DEFAULT_MAX_TOKENS,
            max_age_s=settings.max_sample_age_s,
            past=state.last_known,
        )
        held = _held(observed, state, now_s, settings.stabilisation_s)
        workload = stabilised(observed, state.peak)
    factor = demand_factor(service.scaling, workload)
    # A plan is never made for more steering than is in place (DESIGN §5).
    routing = service.routing.at_most(state.acknowledged)
    assembled, error = None, None
    try:
        assembled = assemble(
            service,
            pools,
            profiles,
            workload,
            demand_factor=factor,
            routing=routing,
            exclusive_pools=frozenset(name for name, users in listed.items() if users == 1),
            running={variant.name: variant.desired for variant in state.variants},
            change_cost=settings.change_cost if service.mode is Mode.AUTO else 0.0,
        )
        if held and service.mode is Mode.AUTO:
            floor = {variant.name: variant.desired for variant in state.variants}
            assembled = replace(assembled, problem=with_floor(assembled.problem, floor))
    except UserError as problem:
        error = problem
    return _Case(service, state, samples, workload, observed, factor, routing, held, assembled, error)


def _held(workload: Workload, state: ServiceState, now_s: float, window_s: float) -> str:
    """Why nothing may shrink now; empty if it may."""
    if workload.knowledge is Knowledge.UNKNOWN:
        return f"the demand is unknown: {workload.reason}"
    if workload.coverage < COMPLETE:
        return workload.reason or f"samples cover {workload.coverage:.0%} of the Ready replicas"
    if not seen_long_enough(state.past, now_s, window_s):
        return f"the demand has not been known for the last {window_s:.0f} s without a break"
    return ""


def _decided(case: _Case, problem: Problem, joint: JointAllocation, world: _World) -> ServiceDecision:
    pools = world.pools
    allocation = dict(joint.allocations)[str(case.key)]
    if allocation.unserved:
        remedied = with_remedies(case.service, problem, pools, world.profiles, allocation.unserved)
        allocation = replace(allocation, unserved=remedied)
    current = {variant.name: variant for variant in case.state.variants}
    target = _target(case, allocation)
    # A watched service is reported as it is; its plan stands beside.
    step = next_step(problem, target, current) if case.service.mode is Mode.AUTO else Step(tuple(case.running.items()))
    desired = dict(step.replicas)
    names = list(dict.fromkeys([*(v.name for v in problem.variants), *(n for n, count in desired.items() if count)]))
    known = {variant.name: variant for variant in problem.variants}
    variants = tuple(_variant_target(name, known, current.get(name), pools, desired, allocation) for name in names)
    planned = allocation.outcome is not Outcome.IMPOSSIBLE
    return ServiceDecision(
        key=case.key,
        mode=case.service.mode,
        act=case.service.mode is Mode.AUTO,
        workload=case.workload,
        demand_factor=case.factor,
        routing=case.routing,
        variants=variants,
        shares=routing_shares(problem, allocation) if planned else (),
        allocation=allocation,
        cost_per_hour=dict(joint.cost_shares).get(str(case.key), 0.0) if planned else None,
        findings=findings(
            case.service,
            case.state,
            case.samples,
            case.workload,
            allocation,
            case.held,
            step.waiting_for,
            case.assembled.warnings if case.assembled else (),
            case.assembled.estimates if case.assembled else (),
            case.assembled.doubts if case.assembled else (),
            variants,
            case.routing,
        ),
        input_edges=problem.input_edges,
        observed=case.observed,
        held=case.held,
    )


def _variant_target(
    name: str,
    known: Mapping[str, Variant],
    state: VariantState | None,
    pools: Mapping[str, Pool],
    desired: Mapping[str, int],
    allocation: Allocation,
) -> VariantTarget:
    """A variant of the problem, or one that runs although it is no longer listed."""
    counts = desired.get(name, 0), allocation.count(name)
    if name in known:
        variant = known[name]
        return VariantTarget(
            name, variant.gpu, variant.pool, variant.gpus, *counts, spec=variant.spec,
            capacity_type=variant.capacity_type,
        )  # fmt: skip
    assert state is not None
    return _unlisted(state, pools, *counts)


def _unlisted(state: VariantState, pools: Mapping[str, Pool], desired: int, planned: int) -> VariantTarget:
    """A variant that runs and is not of the problem: its labels say where."""
    pool = state.pool if state.pool in pools else ""
    return VariantTarget(state.name, pools[pool].gpu if pool else "?", pool, state.gpus, desired, planned)


def _target(case: _Case, allocation: Allocation) -> dict[str, int]:
    """Replicas wanted. Without a plan, or held, nothing shrinks."""
    running = case.running
    if allocation.outcome is Outcome.IMPOSSIBLE:
        return running
    target = dict(allocation.replicas)
    if allocation.outcome is Outcome.BEST_EFFORT and case.assembled is not None:
        # Demand that cannot be met is no reason to take away what serves a part of it, as long as limits allow that.
        both = {name: max(target.get(name, 0), running.get(name, 0)) for name in {*target, *running}}
        if not limits_broken(case.assembled.problem, both):
            target = both
    if case.held:
        return {name: max(target.get(name, 0), running.get(name, 0)) for name in {*target, *running}}
    return {**dict.fromkeys(running, 0), **target}


def routing_shares(problem: Problem, allocation: Allocation) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """What a router should steer by: per variant, its share of each input range.

    Before a router acknowledges, the plan is for `Service`; the table it is offered then is equal shares per replica,
    so that taking it up changes nothing.
    """
    ranges = len(problem.input_edges) + 1
    if problem.routing is RoutingMode.SERVICE or not allocation.shares:
        total = sum(count for _, count in allocation.replicas)
        return tuple((name, (count / total,) * ranges) for name, count in allocation.replicas if count) if total else ()

    if problem.routing is RoutingMode.FULL:
        return _by_range(problem, allocation, ranges)

    # A range that had no traffic is steered as the next longer one that had, or else as the longest.
    def position(number: int) -> int:
        return next((k for k, line in enumerate(allocation.lines) if line >= number), len(allocation.lines) - 1)

    return tuple((name, tuple(row[position(number)] for number in range(ranges))) for name, row in allocation.shares)


def _by_range(problem: Problem, allocation: Allocation, ranges: int) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """Shares per bucket, added up per input range by rate: what a table without output classes can say of them."""
    rates = [problem.buckets[line].rate_rps for line in allocation.lines]
    range_of = [problem.buckets[line].input_range for line in allocation.lines]
    totals = [sum(rate for rate, at in zip(rates, range_of, strict=True) if at == number) for number in range(ranges)]
    return tuple(
        (
            name,
            tuple(
                sum(r * share for r, share, at in zip(rates, row, range_of, strict=True) if at == number) / total
                if (total := totals[number]) > 0
                else 0.0
                for number in range(ranges)
            ),
        )
        for name, row in allocation.shares
    )


def _beside(case: _Case, world: _World) -> JointAllocation:
    """What Medley would do for a watched service, given what all the others use."""
    assert case.assembled is not None
    return allocate_all([case.assembled.problem], world.snapshot.pools, _others(case, world), world.options)


def _others(case: _Case, world: _World) -> list[Usage]:
    """What all services but one use: those that act, by plan; the others, by what runs."""
    plans = dict(world.joint.allocations)
    others = [
        usage_of(other.assembled.problem, dict(plans[str(other.key)].replicas))
        for other in world.acting
        if other.assembled and other.key != case.key
    ]
    return others + [usage for key, usage in world.fixed.items() if key != case.key]


def _running_usage(case: _Case, pools: Mapping[str, Pool]) -> Usage:
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


def _unusable_decision(case: _Case, pools: Mapping[str, Pool]) -> ServiceDecision:
    """A service that cannot be planned: what runs stays as it is."""
    assert case.error is not None
    variants = [_unlisted(state, pools, state.desired, state.desired) for state in case.state.variants]
    return ServiceDecision(
        case.key,
        case.service.mode,
        False,
        case.workload,
        case.observed,
        case.factor,
        case.routing,
        tuple(variants),
        (),
        None,
        None,
        unusable(case.error, case.workload),
        held=str(case.error),
    )


def _pool_decisions(
    decisions: Iterable[ServiceDecision], cases: Iterable[_Case], pools: Mapping[str, Pool], snapshot: Snapshot
) -> Iterable[PoolDecision]:
    """Nodes per scalable pool: enough for what is asked for now and for what is still there.

    Only pools that an acting service uses, or that nobody lists any more: watching changes nothing.
    """
    gpus: dict[str, int] = {}
    acting: set[str] = set()
    listed = {spec.pool for case in cases for spec in case.service.variants}
    running = {case.key: {v.name: v for v in case.state.variants} for case in cases}
    for decision in decisions:
        for variant in decision.variants:
            state = running[decision.key].get(variant.name)
            count = max(variant.desired, state.present if state else 0)
            gpus[variant.pool] = gpus.get(variant.pool, 0) + count * variant.gpus
            if decision.act:
                acting.add(variant.pool)
    known = {case.key for case in cases}
    for orphan in (state for state in snapshot.states if state.key not in known):
        # Of a service that is being deleted, or that can no longer be read: its pods still run somewhere.
        for left in orphan.variants:
            name = left.pool if left.pool in pools else ""
            gpus[name] = gpus.get(name, 0) + max(left.desired, left.present) * left.gpus
    unreadable = any(error.object.startswith("LLMService/") for error in snapshot.errors)
    if gpus.get(""):
        # Replicas of which nobody knows where they run: no pool may lose a node.
        return
    for pool in sorted(pools.values(), key=lambda pool: pool.name):
        if pool.scale is None or (pool.name in listed and pool.name not in acting):
            continue
        nodes = math.ceil(gpus.get(pool.name, 0) / pool.gpus_per_node)
        claim = Claim.ACTING if pool.name in acting else Claim.IF_OURS
        if claim is Claim.IF_OURS and unreadable:
            continue  # a service that cannot be read may list the pool
        yield PoolDecision(pool.name, nodes if pool.max_nodes is None else min(nodes, pool.max_nodes), claim)


def _pools_by_use(services: Iterable[Service]) -> dict[str, int]:
    """How many services list each pool."""
    count: dict[str, int] = {}
    for service in services:
        for name in {spec.pool for spec in service.variants}:
            count[name] = count.get(name, 0) + 1
    return count
