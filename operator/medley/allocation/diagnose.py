"""Why sizes are not served, variant by variant, and what would change that: a looser objective, or more GPUs a replica.

Asks the same profiles as the plan does, with other objectives and other tensor-parallel sizes, and believes only what
they then answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from medley.allocation.assemble import latency_target
from medley.allocation.problem import Problem, Unserved, Variant
from medley.model.objects import Pool, Service
from medley.model.workload import Size
from medley.profiles.estimate import estimated_profile
from medley.profiles.latency import LatencyTarget
from medley.profiles.profile import Profile, ProfileKey

LOOSEST_MS = 600_000.0
"""No objective above ten minutes is proposed."""

LARGER_SIZES = (2, 4, 8, 16)
"""Tensor-parallel sizes that are tried."""


DIAGNOSED = 8
"""Sizes that get a remedy in each cycle, the most frequent first; a question takes some milliseconds."""


class Blocked(StrEnum):
    """Reasons that are no profile's: limits of the plan, not of a replica."""

    NO_NODE = "NoNodeLeft"
    COMPANY = "SteeredInCompany"


@dataclass(frozen=True, slots=True)
class VariantDiagnosis:
    """One variant and one size.

    Attributes:
        reason: of a profile (`Unservable`), `NoNodeLeft`, or `SteeredInCompany`: it could serve the size alone, but not
            what is steered with it.
        tpot_ms: the tightest time per output token at which it could serve the size, None: as it is, or none helps.
        ttft_ms: the tightest time to first token, likewise. Where both are given, both are needed.
        tensor_parallel_size: the smallest one above its own that could serve the size as the objectives are.
        by: whose word that is: the profile's name, or "estimate".
    """

    variant: str
    reason: str
    tpot_ms: float | None = None
    ttft_ms: float | None = None
    tensor_parallel_size: int | None = None
    by: str = ""

    @property
    def remedy(self) -> str:
        """In words; empty if there is none."""
        objectives = [
            f"{name} {value:g}"
            for name, value in (("timePerOutputTokenMs", self.tpot_ms), ("timeToFirstTokenMs", self.ttft_ms))
            if value is not None
        ]
        ways = [" and ".join(objectives)] if objectives else []
        if self.tensor_parallel_size is not None:
            ways.append(f"tensorParallelSize {self.tensor_parallel_size}")
        return f"{self.variant} could with {' or '.join(ways)} ({self.by})" if ways else ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One size that is not served.

    Attributes:
        share: of the service's request rate, 0 to 1.
        nearest: the variant that needs the least loosening; None if no objective and no size helps.
    """

    unserved: Unserved
    share: float
    variants: tuple[VariantDiagnosis, ...]
    nearest: VariantDiagnosis | None


def diagnose(
    service: Service,
    problem: Problem,
    pools: Mapping[str, Pool],
    profiles: Mapping[ProfileKey, Profile],
    unserved: Iterable[Unserved],
) -> tuple[Diagnosis, ...]:
    """What keeps each unserved size from being served."""
    target = latency_target(service.slo)
    total = sum(bucket.rate_rps for bucket in problem.buckets)
    found = []
    for item in unserved:
        number = problem.buckets.index(item.bucket)
        rows = tuple(
            _variant(service, problem, variant, number, pools, profiles, target) for variant in problem.variants
        )
        share = item.bucket.rate_rps / total if total > 0 else 0.0
        found.append(Diagnosis(item, share, rows, _nearest(rows, target)))
    return tuple(found)


def with_remedies(
    service: Service,
    problem: Problem,
    pools: Mapping[str, Pool],
    profiles: Mapping[ProfileKey, Profile],
    unserved: tuple[Unserved, ...],
) -> tuple[Unserved, ...]:
    """The same sizes, the most frequent of them with what the nearest variant would need."""
    most = sorted(unserved, key=lambda item: -item.bucket.rate_rps)[:DIAGNOSED]
    found = {item.unserved: item.nearest for item in diagnose(service, problem, pools, profiles, most)}
    return tuple(
        replace(item, remedy=near.remedy) if (near := found.get(item)) is not None else item for item in unserved
    )


def _variant(
    service: Service,
    problem: Problem,
    variant: Variant,
    bucket: int,
    pools: Mapping[str, Pool],
    profiles: Mapping[ProfileKey, Profile],
    target: LatencyTarget,
) -> VariantDiagnosis:
    size = problem.buckets[bucket].size
    if variant.load(bucket) is not None:
        blocked = Blocked.COMPANY if problem.can_be_had(variant) else Blocked.NO_NODE
        return VariantDiagnosis(variant.name, blocked.value)
    why = variant.throughput[bucket].reason
    reason = why.value if why is not None else Blocked.NO_NODE.value
    if variant.spec is None:
        return VariantDiagnosis(variant.name, reason)
    key = ProfileKey(
        service.model_name, pools[variant.pool].gpu, variant.tensor_parallel_size, flags=variant.spec.flags
    )
    profile = _profile(key, profiles)
    tpot_ms, ttft_ms = _loosened(profile, size, target, service.max_model_len) if profile else (None, None)
    larger = _larger(key, profiles, size, target, service.max_model_len)
    by = [found.name if found.key in profiles else "estimate" for found in (profile, larger) if found is not None]
    return VariantDiagnosis(
        variant.name,
        reason,
        tpot_ms,
        ttft_ms,
        larger.key.tensor_parallel_size if larger else None,
        ", ".join(dict.fromkeys(by)) if tpot_ms or ttft_ms or larger else "",
    )


def _profile(key: ProfileKey, profiles: Mapping[ProfileKey, Profile]) -> Profile | None:
    known = profiles.get(key)
    if known is not None:
        return known
    made = estimated_profile(key)
    return None if isinstance(made, str) else made


def _larger(
    key: ProfileKey, profiles: Mapping[ProfileKey, Profile], size: Size, target: LatencyTarget, max_len: int | None
) -> Profile | None:
    """The profile of the smallest larger tensor-parallel size that serves the size."""
    for gpus in LARGER_SIZES:
        if gpus > key.tensor_parallel_size:
            profile = _profile(replace(key, tensor_parallel_size=gpus), profiles)
            if profile is not None and profile.max_throughput(size, target, max_len).rate_rps > 0:
                return profile
    return None


def _loosened(
    profile: Profile, size: Size, target: LatencyTarget, max_len: int | None
) -> tuple[float | None, float | None]:
    """The tightest objectives at which the size is served: one of them if that is enough, else both."""

    def serves(tpot_ms: float | None, ttft_ms: float | None) -> bool:
        asked = replace(target, tpot_ms=tpot_ms, ttft_ms=ttft_ms)
        return profile.max_throughput(size, asked, max_len).rate_rps > 0

    tpot_ms = _tightest(lambda value: serves(value, target.ttft_ms), target.tpot_ms)
    if tpot_ms is not None:
        return tpot_ms, None
    ttft_ms = _tightest(lambda value: serves(target.tpot_ms, value), target.ttft_ms)
    if ttft_ms is not None:
        return None, ttft_ms
    if target.tpot_ms is None or target.ttft_ms is None:
        return None, None
    tpot_ms = _tightest(lambda value: serves(value, LOOSEST_MS), target.tpot_ms)
    if tpot_ms is None:
        return None, None
    return tpot_ms, _tightest(lambda value: serves(tpot_ms, value), target.ttft_ms)


def _tightest(serves: Callable[[float], bool], now: float | None) -> float | None:
    """The least objective in ms, to three digits and above the present one, that is served; None if none is."""
    if now is None or not serves(LOOSEST_MS):
        return None
    low, high = now, LOOSEST_MS
    while high / low > 1.0005:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if serves(middle) else (middle, high)
    unit = 10.0 ** (math.floor(math.log10(high)) - 2)
    rounded = math.ceil(high / unit - 1e-9) * unit
    return rounded if serves(rounded) else high


def _nearest(rows: Iterable[VariantDiagnosis], target: LatencyTarget) -> VariantDiagnosis | None:
    """By how much objectives must be loosened; a larger replica comes after any that needs less than twice."""

    def factor(row: VariantDiagnosis) -> float:
        loosened = [
            value / now
            for value, now in ((row.tpot_ms, target.tpot_ms), (row.ttft_ms, target.ttft_ms))
            if value and now
        ]
        return min(max(loosened, default=math.inf), 2.0 if row.tensor_parallel_size else math.inf)

    best = min(rows, key=factor, default=None)
    return best if best is not None and best.remedy else None
