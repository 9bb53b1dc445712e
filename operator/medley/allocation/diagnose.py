"""Why sizes are not served, variant by variant, and what would change that.

What a variant would need by itself is asked of its profile (remedy.py). A change is proposed only if with it the
routing gives the size to a variant: steering the changed problem decides, not the profile.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from medley.allocation.assemble import (
    assembled_variant,
    chain_refusal,
    latency_target,
    profile_key,
    supply_of,
    variant_name,
)
from medley.allocation.problem import Barrier, Problem, Supply, Unserved, Variant
from medley.allocation.remedy import Asked, Remedy, profile_of, remedies
from medley.allocation.routing import line_of, steer
from medley.model.objects import CapacityType, Mode, Pool, RoutingMode, Service, VariantSpec
from medley.model.workload import Bucket, Knowledge, Workload
from medley.profiles.latency import LatencyTarget, Unservable
from medley.profiles.profile import Profile, ProfileKey

DIAGNOSED = 8
"""Sizes that get a remedy in each cycle, the most frequent first; a question takes some milliseconds."""


class Blocked(StrEnum):
    """Reasons that are no profile's: limits of the plan, not of a replica."""

    LIMIT = "NoRoom"
    COMPANY = "SteeredInCompany"
    LEFT_OUT = "LeftOut"


@dataclass(frozen=True, slots=True)
class VariantDiagnosis:
    """One variant and one size.

    Attributes:
        variant: its name; also of one that is listed and was left out of the plan.
        reason: of a profile (`Unservable`), `NoRoom`: a limit leaves none for a replica, `SteeredInCompany`: it could
            serve the size alone, but not what is steered with it, or `LeftOut` of the plan although it could.
        limits: those that leave no room for a replica.
        needs: what it would need by itself, alternatives; routing aside.
    """

    variant: str
    reason: str
    limits: tuple[Barrier, ...] = ()
    needs: tuple[Remedy, ...] = ()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One size that is not served.

    Attributes:
        share: of the service's request rate, 0 to 1.
        nearest: the variant that needs the least loosening; empty if nothing helps.
        remedies: alternatives with which that variant serves the size.
    """

    unserved: Unserved
    share: float
    variants: tuple[VariantDiagnosis, ...]
    nearest: str = ""
    remedies: tuple[Remedy, ...] = ()

    @property
    def remedy(self) -> str:
        """In words; empty if there is none."""
        if not self.remedies:
            return ""
        return f"{self.nearest} could with {', or with '.join(remedy.text for remedy in self.remedies)}"


def diagnose(
    service: Service,
    problem: Problem,
    pools: Mapping[str, Pool],
    profiles: Mapping[ProfileKey, Profile],
    unserved: Iterable[Unserved],
) -> tuple[Diagnosis, ...]:
    """What keeps each unserved size from being served."""
    asking = _Asking(service, problem, pools, profiles)
    return tuple(asking.diagnosis(item) for item in unserved)


def with_remedies(
    service: Service,
    problem: Problem,
    pools: Mapping[str, Pool],
    profiles: Mapping[ProfileKey, Profile],
    unserved: tuple[Unserved, ...],
) -> tuple[Unserved, ...]:
    """The same sizes, the most frequent of them with what the nearest variant would need."""
    most = sorted(unserved, key=lambda item: -item.bucket.rate_rps)[:DIAGNOSED]
    found = {item.unserved: item.remedy for item in diagnose(service, problem, pools, profiles, most)}
    return tuple(replace(item, remedy=found.get(item, "")) for item in unserved)


@dataclass(frozen=True, slots=True)
class _Listed:
    """A variant as the user listed it, on one offering."""

    name: str
    spec: VariantSpec
    pool: Pool
    capacity_type: CapacityType


class _Asking:
    """One service."""

    def __init__(
        self,
        service: Service,
        problem: Problem,
        pools: Mapping[str, Pool],
        profiles: Mapping[ProfileKey, Profile],
    ) -> None:
        self._service = service
        self._problem = problem
        self._profiles = profiles
        self._target = latency_target(service.slo)
        self._pools = pools
        known = {variant.name for variant in problem.variants}
        self._left_out = [
            _Listed(name, spec, pools[spec.pool], offering.capacity_type)
            for spec in service.variants
            if spec.pool in pools
            for offering in pools[spec.pool].offerings
            if (name := variant_name(spec, offering.capacity_type)) not in known
        ]
        self._kinds = {variant.name: variant.capacity_type for variant in problem.variants}
        self._kinds |= {listed.name: listed.capacity_type for listed in self._left_out}

    def diagnosis(self, unserved: Unserved) -> Diagnosis:
        problem, bucket = self._problem, unserved.bucket
        number = problem.buckets.index(bucket)
        variants = (
            *(self._row(variant, number) for variant in problem.variants),
            *(self._left_out_row(listed, bucket) for listed in self._left_out),
        )
        total = sum(one.rate_rps for one in problem.buckets)
        share = bucket.rate_rps / total if total > 0 else 0.0
        line = self._line(number)
        able = [row for row in variants if row.needs]
        for row in sorted(able, key=lambda row: min(need.loosening(self._target) for need in row.needs)):
            found = [remedy for need in row.needs if (remedy := self._checked(row, need, bucket, line)) is not None]
            if found:
                return Diagnosis(unserved, share, variants, row.variant, tuple(found))
        return Diagnosis(unserved, share, variants)

    def _row(self, variant: Variant, number: int) -> VariantDiagnosis:
        problem, spec = self._problem, variant.spec
        limits = problem.barriers(variant)
        why = variant.throughput[number].reason
        if variant.load(number) is not None:
            reason = Blocked.LIMIT.value if limits else Blocked.COMPANY.value
            return VariantDiagnosis(variant.name, reason, limits, (Remedy(limits=limits),))
        reason = why.value if why is not None else Unservable.NO_PROFILE.value
        if spec is None:
            return VariantDiagnosis(variant.name, reason, limits)
        asked = self._asked(spec, self._pools[variant.pool], problem.buckets[number])
        return VariantDiagnosis(
            variant.name, reason, limits, tuple(_with_limits(need, variant, problem) for need in remedies(asked))
        )

    def _asked(self, spec: VariantSpec, pool: Pool, bucket: Bucket) -> Asked:
        return Asked(self._service, spec, pool, self._profiles, bucket.size, self._target)

    def _left_out_row(self, listed: _Listed, bucket: Bucket) -> VariantDiagnosis:
        asked = self._asked(listed.spec, listed.pool, bucket)
        profile = profile_of(asked.key, self._profiles)
        if chain_refusal(self._service.variants, listed.pool) is not None:
            return VariantDiagnosis(listed.name, Blocked.LEFT_OUT.value)
        if profile is None:
            return VariantDiagnosis(listed.name, Unservable.NO_PROFILE.value)
        why = profile.max_throughput(bucket.size, self._target, self._service.max_model_len).reason
        reason = Blocked.LEFT_OUT.value if why is None else why.value
        variant = assembled_variant(
            self._service, listed.spec, listed.pool, listed.capacity_type, profile, Workload(Knowledge.UNKNOWN)
        )
        supplies = {supply.pool: supply for supply in (supply_of(listed.pool), *self._problem.supplies)}
        beside = replace(self._problem, supplies=tuple(supplies.values()))
        needs = tuple(_with_limits(need, variant, beside) for need in remedies(asked))
        return VariantDiagnosis(listed.name, reason, beside.barriers(variant), needs)

    def _line(self, number: int) -> Problem:
        """The problem with only the sizes that are steered with one; finer modes cut it further, never otherwise."""
        problem = self._problem
        own = line_of(problem, number)
        mates = [one for one in range(len(problem.buckets)) if line_of(problem, one) == own]
        return replace(
            problem,
            buckets=tuple(problem.buckets[one] for one in mates),
            variants=tuple(
                replace(variant, throughput=tuple(variant.throughput[one] for one in mates))
                for variant in problem.variants
            ),
        )

    def _checked(self, row: VariantDiagnosis, need: Remedy, bucket: Bucket, line: Problem) -> Remedy | None:
        """The change, with the coarsest routing under which it gets the size served; None if none does."""
        changed = self._changed(row.variant, need, line)
        before = _left_out_of(line)
        for mode in RoutingMode:
            if mode.fineness < line.routing.fineness:
                continue
            asked = replace(changed, routing=mode)
            # Nor may another size be left out in its place.
            if _left_out_of(asked) <= before - {bucket}:
                limits = tuple(self._enough(limit, row.variant, need, mode) for limit in need.limits)
                return replace(need, limits=limits, routing=None if mode is line.routing else mode)
        return None

    def _enough(self, limit: Barrier, name: str, need: Remedy, mode: RoutingMode) -> Barrier:
        """With as much as is needed: of Spot, the share of all requests that nothing else can serve."""
        if limit.unit != "percent":
            return limit
        return replace(limit, lacking=_spot_percent(replace(self._changed(name, need, self._problem), routing=mode)))

    def _changed(self, name: str, need: Remedy, line: Problem) -> Problem:
        """The line as it would be planned after the change."""
        now = self._service
        slo = replace(now.slo, tpot_ms=need.tpot_ms or now.slo.tpot_ms, ttft_ms=need.ttft_ms or now.slo.ttft_ms)
        service = replace(
            now,
            max_model_len=need.max_model_len or now.max_model_len,
            slo=slo,
            allow_estimated_profiles=now.allow_estimated_profiles or need.estimates,
        )
        target = latency_target(slo)
        variants = [self._asked_again(variant, service, target, line.buckets) for variant in line.variants]
        supplies = {supply.pool: supply for supply in line.supplies}
        for pool, variant in self._joining(name, need, service, target, line):
            variants.append(variant)
            supplies.setdefault(variant.pool, supply_of(pool))
        kind = self._kinds[name]
        for limit in need.limits:
            for pool_name, supply in supplies.items():
                if limit.unit == "node" and limit.limit.startswith(f"pool {pool_name} "):
                    supplies[pool_name] = _with_nodes(supply, kind, limit)
        return replace(
            line,
            variants=tuple(
                replace(variant, max_replicas=1) if variant.max_replicas == 0 and variant.name == name else variant
                for variant in variants
            ),
            supplies=tuple(supplies.values()),
            max_spot_fraction=1.0 if any(limit.unit == "percent" for limit in need.limits) else line.max_spot_fraction,
        )

    def _asked_again(
        self, variant: Variant, service: Service, target: LatencyTarget, buckets: tuple[Bucket, ...]
    ) -> Variant:
        """With what it could not serve before: looser objectives take nothing away from what it could."""
        if variant.spec is None:
            return variant
        profile = profile_of(profile_key(service, variant.spec, variant.gpu), self._profiles)
        if profile is None:
            return variant
        rates = tuple(
            now if now.rate_rps > 0 else profile.max_throughput(bucket.size, target, service.max_model_len)
            for now, bucket in zip(variant.throughput, buckets, strict=True)
        )
        return replace(variant, throughput=rates, usable=variant.usable or any(rate.rate_rps > 0 for rate in rates))

    def _joining(
        self, name: str, need: Remedy, service: Service, target: LatencyTarget, line: Problem
    ) -> Iterator[tuple[Pool, Variant]]:
        """Variants that only the changed plan has: a larger replica, and those that were left out and no longer are."""
        joining = [*self._left_out, *self._larger(name, need)]
        workload = Workload(Knowledge.VALUE, line.buckets, line.input_edges)
        for listed in joining:
            key = profile_key(service, listed.spec, listed.pool.gpu)
            profile = profile_of(key, self._profiles)
            refused = profile is None or profile.refusal(target) is not None
            guessed = key not in self._profiles and service.mode is Mode.AUTO and not service.allow_estimated_profiles
            if profile is None or refused or guessed or chain_refusal(service.variants, listed.pool) is not None:
                continue
            made = assembled_variant(service, listed.spec, listed.pool, listed.capacity_type, profile, workload)
            yield listed.pool, replace(made, name=listed.name)

    def _larger(self, name: str, need: Remedy) -> Iterator[_Listed]:
        """The larger replica of a change; where it needs larger nodes, in a pool of such nodes."""
        gpus = need.tensor_parallel_size or need.node_gpus
        if not gpus:
            return
        spec, pool, kind = self._place(name)
        if need.node_gpus:
            pool = replace(pool, name=f"{pool.name} of {gpus}", gpus_per_node=gpus, max_nodes=None)
        larger = VariantSpec(pool.name, gpus, flags=spec.flags)
        yield _Listed(f"{variant_name(larger, kind)} (larger)", larger, pool, kind)

    def _place(self, name: str) -> tuple[VariantSpec, Pool, CapacityType]:
        for listed in self._left_out:
            if listed.name == name:
                return listed.spec, listed.pool, listed.capacity_type
        variant = self._problem.variant(name)
        assert variant.spec is not None
        return variant.spec, self._pools[variant.pool], variant.capacity_type


def _with_limits(need: Remedy, variant: Variant, problem: Problem) -> Remedy:
    """A larger replica is another variant, without maxReplicas; no limit is known of nodes that are not there."""
    if need.node_gpus:
        supply = replace(problem.supply(variant.pool), gpus_per_node=need.node_gpus, nodes_left=None, available=())
        problem = replace(problem, supplies=(supply,))
    if larger := need.tensor_parallel_size or need.node_gpus:
        variant = replace(variant, gpus=larger, max_replicas=None, min_replicas=0, at_least=0)
    return replace(need, limits=problem.barriers(variant))


def _left_out_of(problem: Problem) -> frozenset[Bucket]:
    return frozenset(item.bucket for item in steer(problem).unserved)


def _with_nodes(supply: Supply, kind: CapacityType, limit: Barrier) -> Supply:
    """With as many more nodes of one limit as are lacking."""
    if limit.limit.endswith("limits.nodes"):
        return replace(supply, nodes_left=(supply.nodes_left or 0) + limit.lacking)
    return replace(supply, available=tuple((k, m + limit.lacking if k is kind else m) for k, m in supply.available))


def _spot_percent(problem: Problem) -> int:
    """The share of the requests, in whole percent, that only Spot can serve; at least one."""
    steering = steer(problem)
    spot = np.array([variant.capacity_type is CapacityType.SPOT for variant in problem.variants])
    others = np.isfinite(steering.matrix)[:, ~spot].any(axis=1)
    only = [line.rate_rps for line, other in zip(steering.lines, others.tolist(), strict=True) if not other]
    total = sum(line.rate_rps for line in steering.lines)
    return max(1, math.ceil(sum(only) / total * 100.0 - 1e-9)) if total > 0 else 1
