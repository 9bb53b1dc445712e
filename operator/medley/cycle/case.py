"""One service on its way through the cycle: what is known of its demand, and the problem that follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medley.allocation.assemble import Assembled, assemble
from medley.allocation.bill import replica_price
from medley.allocation.check import limits_broken
from medley.allocation.problem import Allocation, Outcome
from medley.cycle.snapshot import ServiceState, Snapshot
from medley.model.errors import UserError
from medley.model.objects import Mode, Pool, RoutingMode, Service, ServiceKey
from medley.model.samples import ServiceSamples
from medley.model.workload import Knowledge, Workload
from medley.planning.demand import demand_factor
from medley.planning.stabilisation import best_single_lately, kept, larger, seen_long_enough
from medley.profiles.profile import Profile, ProfileKey
from medley.workload.estimate import COMPLETE, estimate
from medley.workload.known import from_points

DEFAULT_MAX_TOKENS = 32768.0
"""Where open histogram cells end if the service states no maxModelLen."""


@dataclass(frozen=True, slots=True)
class Case:
    """A service, its demand, and its problem.

    Attributes:
        held: why nothing may shrink now; empty if it may.
        kept: replicas that stay because a plan of the stabilisation window asked for them.
        best_single_lately: the most that the cheapest single GPU type cost in that window, $ per hour.
        assembled: the problem, from which any replica may be taken away; None if the service cannot be planned.
        error: why it cannot.
    """

    service: Service
    state: ServiceState
    samples: ServiceSamples | None
    workload: Workload
    factor: float
    routing: RoutingMode
    held: str
    kept: Mapping[str, int]
    best_single_lately: float
    assembled: Assembled | None
    error: UserError | None

    @property
    def key(self) -> ServiceKey:
        """Of the service."""
        return self.service.key

    @property
    def running(self) -> dict[str, int]:
        """Replicas asked for now, by variant."""
        return {variant.name: variant.desired for variant in self.state.variants}

    @property
    def acts(self) -> bool:
        """Whether what is decided of it is done."""
        return self.service.mode is Mode.AUTO and self.assembled is not None

    def target(self, allocation: Allocation) -> dict[str, int]:
        """Replicas by variant that an allocation asks for. Without a plan nothing shrinks."""
        running = self.running
        if allocation.outcome is Outcome.IMPOSSIBLE:
            return running
        target = dict(allocation.replicas)
        if allocation.outcome is Outcome.BEST_EFFORT and self.assembled is not None:
            # Demand that cannot be met is no reason to take away what serves a part of it, if limits allow that.
            both = larger(target, running)
            if not limits_broken(self.assembled.problem, both):
                target = both
        return {**dict.fromkeys(running, 0), **target}


def cases_of(snapshot: Snapshot, pools: Mapping[str, Pool], profiles: Mapping[ProfileKey, Profile]) -> tuple[Case, ...]:
    """All services of a snapshot, by key."""
    states = {state.key: state for state in snapshot.states}
    samples = {item.service: item for item in snapshot.samples}
    users: dict[str, int] = {}
    for service in snapshot.services:
        for name in {spec.pool for spec in service.variants}:
            users[name] = users.get(name, 0) + 1
    exclusive = frozenset(name for name, count in users.items() if count == 1)
    return tuple(
        _case(
            service,
            states.get(service.key, ServiceState(service.key)),
            samples.get(service.key),
            snapshot,
            pools,
            profiles,
            exclusive,
        )
        for service in sorted(snapshot.services, key=lambda service: service.key)
    )


def _case(
    service: Service,
    state: ServiceState,
    samples: ServiceSamples | None,
    snapshot: Snapshot,
    pools: Mapping[str, Pool],
    profiles: Mapping[ProfileKey, Profile],
    exclusive: frozenset[str],
) -> Case:
    now_s, settings = snapshot.taken_at_s, snapshot.settings
    running = {variant.name: variant.desired for variant in state.variants}
    held = ""
    if service.static_points is not None:
        workload = from_points(service.static_points)
    else:
        workload = estimate(
            samples,
            state.ready_replicas,
            max_tokens=service.max_model_len or DEFAULT_MAX_TOKENS,
            max_age_s=settings.max_sample_age_s,
            past=state.last_known,
        )
        held = _held(workload, state, now_s, settings.stabilisation_s)
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
            exclusive_pools=exclusive,
            running=running,
            change_cost=settings.change_cost if service.mode is Mode.AUTO else 0.0,
        )
    except UserError as problem:
        error = problem
    stay: dict[str, int] = {}
    single = 0.0
    if assembled is not None and service.static_points is None:
        # Static points are no measurement: an edit of them is followed at once. So is one of a variant's limit, and
        # what is no longer listed has no price here and goes.
        variants = assembled.problem.variants
        most = {v.name: v.max_replicas for v in variants if v.max_replicas is not None}
        prices = {variant.name: replica_price(assembled.problem, variant) for variant in variants}
        single = best_single_lately(state.past, now_s, settings.stabilisation_s)
        stay = kept(state.past, running, prices, now_s, settings.stabilisation_s)
        stay = {name: min(count, most.get(name, count)) for name, count in stay.items()}
    return Case(service, state, samples, workload, factor, routing, held, stay, single, assembled, error)


def _held(workload: Workload, state: ServiceState, now_s: float, window_s: float) -> str:
    """Why nothing may shrink now; empty if it may."""
    if workload.knowledge is Knowledge.UNKNOWN:
        return f"the demand is unknown: {workload.reason}"
    if workload.coverage < COMPLETE:
        return workload.reason or f"samples cover {workload.coverage:.0%} of the Ready replicas"
    if not seen_long_enough(state.past, now_s, window_s):
        return f"the demand has not been known for the last {window_s:.0f} s without a break"
    return ""
