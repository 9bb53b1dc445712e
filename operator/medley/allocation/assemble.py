"""Builds the problem of one service from what users declared: service, pools, profiles, demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from medley.allocation.problem import Problem, Supply, Variant
from medley.model.errors import UserError
from medley.model.objects import CapacityType, Mode, Pool, RoutingMode, Service, Slo, VariantSpec
from medley.model.workload import Size, Workload
from medley.profiles.estimate import estimated_profile
from medley.profiles.latency import LatencyTarget, Throughput
from medley.profiles.profile import Profile, ProfileKey

NOMINAL_SIZES = (Size(32, 32), Size(128, 128), Size(512, 256))
"""Sizes by which a variant is judged usable when no demand is known."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """The problem, and what is to be said of it.

    Attributes:
        problem: of one service.
        warnings: what was wrong with parts of the input that could be left out.
        estimates: where an estimate stands in for a missing profile.
        doubts: profiles that are used as given although they look wrong.
    """

    problem: Problem
    warnings: tuple[UserError, ...]
    estimates: tuple[UserError, ...] = ()
    doubts: tuple[UserError, ...] = ()


def variant_name(spec: VariantSpec, capacity_type: CapacityType) -> str:
    """The pool, with -tpN above one GPU, the engine's flags, and -spot for Spot."""
    size = f"-tp{spec.tensor_parallel_size}" if spec.tensor_parallel_size > 1 else ""
    flags = f"-{spec.flags}" if str(spec.flags) else ""
    return f"{spec.pool}{size}{flags}{'-spot' if capacity_type is CapacityType.SPOT else ''}"


def profile_key(service: Service, spec: VariantSpec, gpu: str) -> ProfileKey:
    """What the profile of a variant is of."""
    return ProfileKey(service.model_name, gpu, spec.tensor_parallel_size, flags=spec.flags)


def latency_target(slo: Slo) -> LatencyTarget:
    """The objectives as profiles take them."""
    return LatencyTarget(slo.tpot_ms, slo.ttft_ms, slo.percentile)


def assemble(
    service: Service,
    pools: Mapping[str, Pool],
    profiles: Mapping[ProfileKey, Profile],
    workload: Workload,
    *,
    demand_factor: float,
    routing: RoutingMode,
    exclusive_pools: frozenset[str] = frozenset(),
    at_least: Mapping[str, int] | None = None,
    running: Mapping[str, int] | None = None,
    change_cost: float = 0.0,
) -> Assembled:
    """The allocation problem of a service.

    Raises:
        UserError: no variant at all can be used; the message names the field and the fix.
    """
    warnings: list[UserError] = []
    estimates: list[UserError] = []
    doubts: list[UserError] = []
    variants: list[Variant] = []
    supplies: dict[str, Supply] = {}
    for number, spec in enumerate(service.variants):
        field = f"spec.variants[{number}]"
        pool = pools.get(spec.pool)
        if pool is None:
            known = ", ".join(sorted(pools)) or "none"
            warnings.append(
                UserError(
                    f"GPUPool {spec.pool!r} does not exist or is not valid",
                    field=f"{field}.pool",
                    fix=f"Create it, or use one of: {known}",
                )
            )
            continue
        refusal = chain_refusal(service.variants, pool)
        if refusal is not None:
            warnings.append(
                UserError(
                    refusal, field=f"{field}.tensorParallelSize", fix="Use sizes that divide each other and gpusPerNode"
                )
            )
            continue
        key = profile_key(service, spec, pool.gpu)
        profile = profiles.get(key)
        if profile is None:
            profile, said = _estimated(service, key, profiles, field)
            (warnings if profile is None else estimates).append(said)
            if profile is None:
                continue
        refusal = profile.refusal(latency_target(service.slo))
        if refusal is not None:
            warnings.append(
                UserError(
                    f"ThroughputProfile {profile.name!r} cannot be used: {refusal}",
                    field="spec.slo",
                    fix="Add a profile made for this SLO, or loosen the SLO",
                )
            )
            continue
        doubts += _doubts(profile, latency_target(service.slo))
        supplies[pool.name] = supply_of(pool, exclusive=pool.name in exclusive_pools)
        for offering in pool.offerings:
            name = variant_name(spec, offering.capacity_type)
            variants.append(
                assembled_variant(
                    service,
                    spec,
                    pool,
                    offering.capacity_type,
                    profile,
                    workload,
                    (at_least or {}).get(name, 0),
                    (running or {}).get(name, 0),
                )
            )
    if not variants:
        raise UserError(
            "no variant can be used: " + "; ".join(str(warning) for warning in warnings),
            field="spec.pools",
            fix="Give each pool a GPUPool and a ThroughputProfile for the model",
        )
    problem = Problem(
        service=str(service.key),
        buckets=workload.buckets,
        input_edges=workload.input_edges,
        demand_factor=demand_factor,
        variants=tuple(variants),
        supplies=tuple(supplies.values()),
        routing=routing,
        min_replicas=service.scaling.min_replicas,
        max_hourly_cost=service.scaling.max_hourly_cost,
        min_mix_saving=service.scaling.min_mix_saving,
        change_cost=change_cost,
        max_spot_fraction=service.scaling.max_spot_fraction,
        survive_loss_of=service.scaling.survive_loss_of,
        priority=service.scaling.priority,
    )
    return Assembled(problem, tuple(warnings), tuple(estimates), tuple(doubts))


def with_floor(problem: Problem, at_least: Mapping[str, int]) -> Problem:
    """The same problem where what runs now must stay."""
    return replace(problem, variants=tuple(replace(v, at_least=at_least.get(v.name, 0)) for v in problem.variants))


def assembled_variant(
    service: Service,
    spec: VariantSpec,
    pool: Pool,
    capacity_type: CapacityType,
    profile: Profile,
    workload: Workload,
    at_least: int = 0,
    running: int = 0,
) -> Variant:
    """One variant as the problem knows it, with its rates for the sizes of the workload."""
    target = latency_target(service.slo)

    def rate(size: Size) -> Throughput:
        return profile.max_throughput(size, target, service.max_model_len)

    throughput = tuple(rate(bucket.size) for bucket in workload.buckets)
    usable = any(item.rate_rps > 0 for item in throughput) or any(rate(size).rate_rps > 0 for size in NOMINAL_SIZES)
    return Variant(
        name=variant_name(spec, capacity_type),
        pool=pool.name,
        gpu=pool.gpu,
        capacity_type=capacity_type,
        tensor_parallel_size=spec.tensor_parallel_size,
        gpus=spec.tensor_parallel_size,
        derating=profile.derating,
        throughput=throughput,
        # With two offerings the bounds hold for each; a row over both would need a group, which no one has asked for.
        min_replicas=spec.min_replicas if capacity_type is pool.offerings[0].capacity_type else 0,
        max_replicas=spec.max_replicas,
        at_least=at_least,
        running=running,
        usable=usable,
        spec=spec,
    )


def supply_of(pool: Pool, *, exclusive: bool = False) -> Supply:
    """All that a pool has; `exclusive`: no other service lists it."""
    return Supply(
        pool=pool.name,
        gpus_per_node=pool.gpus_per_node,
        prices=tuple((offering.capacity_type, offering.price_per_node_hour) for offering in pool.offerings),
        nodes_left=pool.max_nodes,
        committed_left=pool.committed_nodes,
        exclusive=exclusive,
        zones=tuple((offering.capacity_type, offering.zones) for offering in pool.offerings if offering.zones),
        available=tuple(
            (offering.capacity_type, offering.max_nodes)
            for offering in pool.offerings
            if offering.max_nodes is not None
        ),
    )


def chain_refusal(variants: tuple[VariantSpec, ...], pool: Pool) -> str | None:
    """Why the tensor-parallel sizes on a pool cannot be packed by counting GPUs; None if they can.

    Sizes up to a node must form a divisor chain that ends at gpusPerNode: then replicas fit whenever their GPUs add
    up. Larger ones must be whole nodes.
    """
    sizes = sorted({spec.tensor_parallel_size for spec in variants if spec.pool == pool.name})
    chain = [size for size in sizes if size <= pool.gpus_per_node]
    for small, large in pairwise([*chain, pool.gpus_per_node]):
        if large % small:
            return f"tensor-parallel size {small} does not divide {large} on pool {pool.name}"
    for size in sizes:
        if size > pool.gpus_per_node and size % pool.gpus_per_node:
            return (
                f"tensor-parallel size {size} is not a multiple of the {pool.gpus_per_node} GPUs of a {pool.name} node"
            )
    return None


def _estimated(
    service: Service, key: ProfileKey, profiles: Mapping[ProfileKey, Profile], field: str
) -> tuple[Profile | None, UserError]:
    """What stands in for a profile that is missing, and what is said of it (DESIGN §4)."""
    other = sorted({known.model for known in profiles if known.gpu == key.gpu and known.model != key.model})
    hint = f"; the ones for {key.gpu} are for another model: {', '.join(other)}" if other else ""
    missing = f"no ThroughputProfile for {key}{hint}"
    create = "Create a ThroughputProfile with this key (medley profile estimate, import or run)"
    estimate = estimated_profile(key)
    if isinstance(estimate, str):
        return None, UserError(f"{missing}; none can be estimated: {estimate}", field=field, fix=create)
    if service.mode is Mode.AUTO and not service.allow_estimated_profiles:
        return None, UserError(
            f"{missing}; an estimate is not acted on in Auto", field=field,
            fix=f"{create}, or set spec.allowEstimatedProfiles: true",
        )  # fmt: skip
    return estimate, UserError(f"{missing}; a roofline estimate is used", field=field, fix=create)


def _doubts(profile: Profile, target: LatencyTarget) -> list[UserError]:
    """A rate that rises with size is no property of an engine: something went wrong when it was measured."""
    rising = profile.rising(target)
    if not rising:
        return []
    more = f" and {len(rising) - 1} more" if len(rising) > 1 else ""
    return [
        UserError(
            f"the rate rises with size at {rising[0]}{more}; it is used as given",
            field=f"ThroughputProfile/{profile.name}",
            fix="Measure these sizes again",
        )
    ]
