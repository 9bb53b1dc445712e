"""What would let a variant serve a size: a looser objective, a longer maxModelLen, or more GPUs a replica.

Asks the same profiles as the plan does, with other objectives and other tensor-parallel sizes. Whether routing and
limits allow it then is for diagnose.py to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from medley.allocation.assemble import chain_refusal, profile_key
from medley.allocation.problem import Barrier
from medley.model.objects import Mode, Pool, RoutingMode, Service, VariantSpec
from medley.model.workload import Size
from medley.profiles.estimate import estimated_profile
from medley.profiles.latency import LatencyTarget
from medley.profiles.profile import Profile, ProfileKey

LOOSEST_MS = 600_000.0
"""No objective above ten minutes is proposed."""

USEFUL = 0.05
"""Part of what a replica carries without objectives that a proposal must leave: at the very edge of an objective, its
rate goes to 0, and a size would be served by thousands of replicas."""

LARGER_SIZES = (2, 4, 8, 16)
"""Tensor-parallel sizes that are tried, beside those that a node of the pool can be cut into."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """Changes that are needed together; what is None, empty or false stays as it is.

    Attributes:
        max_model_len: in tokens, the least.
        tpot_ms: time per output token, the tightest.
        ttft_ms: time to first token, the tightest.
        tensor_parallel_size: of another variant in the same pool, the smallest above its own; fits one node.
        gpus_per_node: of the nodes for it: the pool's, or `node_gpus`.
        node_gpus: GPUs a node that a pool of the same GPU type must have for a replica of as many; 0: the pool will do.
        estimates: estimated profiles must be allowed.
        limits: limits that leave no room for a replica, with how much more of each is needed.
        routing: the coarsest mode that can keep the size apart from those which the variant cannot serve.
        by: whose word it is: the profile's name, or "estimate"; empty where no profile had to be asked.
    """

    max_model_len: int | None = None
    tpot_ms: float | None = None
    ttft_ms: float | None = None
    tensor_parallel_size: int | None = None
    gpus_per_node: int = 0
    node_gpus: int = 0
    estimates: bool = False
    limits: tuple[Barrier, ...] = ()
    routing: RoutingMode | None = None
    by: str = ""

    def loosening(self, target: LatencyTarget) -> float:
        """By which factor objectives are loosened; a larger replica comes after any that needs less than twice."""
        loosened = [now and new / now for new, now in self._objectives(target) if new is not None and now]
        larger = 2.0 if self.tensor_parallel_size or self.node_gpus else 1.0
        # Of two that are alike, the one with fewer changes, and nodes that are there before others.
        return max(loosened, default=1.0) * larger + 1e-3 * self._changes + 1e-2 * bool(self.node_gpus)

    def _objectives(self, target: LatencyTarget) -> tuple[tuple[float | None, float | None], ...]:
        return (self.tpot_ms, target.tpot_ms), (self.ttft_ms, target.ttft_ms)

    @property
    def _changes(self) -> int:
        given = (self.max_model_len, self.tpot_ms, self.ttft_ms, self.estimates, self.routing)
        return sum(map(bool, given)) + len(self.limits)

    @property
    def text(self) -> str:
        """In words, as in "timePerOutputTokenMs 69.3 and routing Full (estimate)"."""
        parts = [
            f"{name} {value:g}"
            for name, value in (
                ("maxModelLen", self.max_model_len),
                ("timePerOutputTokenMs", self.tpot_ms),
                ("timeToFirstTokenMs", self.ttft_ms),
            )
            if value is not None
        ]
        if self.node_gpus:
            parts.append(f"nodes of {self.node_gpus} GPUs in another pool and tensorParallelSize {self.node_gpus}")
        elif self.tensor_parallel_size is not None:
            gpus = self.gpus_per_node
            node = (
                "a whole node" if gpus == self.tensor_parallel_size else f"{self.tensor_parallel_size} of {gpus} GPUs"
            )
            parts.append(f"tensorParallelSize {self.tensor_parallel_size} ({node} a replica)")
        parts += [_limit_text(limit) for limit in self.limits]
        parts += ["allowEstimatedProfiles"] if self.estimates else []
        parts += [f"routing {self.routing}"] if self.routing is not None else []
        return " and ".join(parts) + (f" ({self.by})" if self.by else "")


def _limit_text(limit: Barrier) -> str:
    """Nodes are named by how many more, as others may use some; the other two are 0 now."""
    if limit.unit == "node":
        return f"{limit.lacking} more {'node' if limit.lacking == 1 else 'nodes'} ({limit.limit})"
    return f"{limit.limit} {limit.lacking}"


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is asked: a variant of a service, and what for."""

    service: Service
    spec: VariantSpec
    pool: Pool
    profiles: Mapping[ProfileKey, Profile]
    size: Size
    target: LatencyTarget

    @property
    def key(self) -> ProfileKey:
        """Of the variant's profile."""
        return profile_key(self.service, self.spec, self.pool.gpu)


def profile_of(key: ProfileKey, profiles: Mapping[ProfileKey, Profile]) -> Profile | None:
    """The profile, or an estimate where there is none; None if nothing can be estimated."""
    known = profiles.get(key)
    if known is not None:
        return known
    made = estimated_profile(key)
    return None if isinstance(made, str) else made


def remedies(asked: Asked) -> Iterator[Remedy]:
    """What the variant itself would need to serve the size, limits and routing aside; nothing where none helps.

    The first is the variant as it is, with as much looser objectives as it needs; the second, where it needs any, is a
    larger replica under the objectives as they are.
    """
    now = asked.service.max_model_len
    tokens = math.ceil(asked.size.input_tokens + asked.size.output_tokens)
    longer = tokens if now is not None and tokens > now else None
    plain = Remedy(max_model_len=longer)
    profile = profile_of(asked.key, asked.profiles)
    if profile is not None:
        if _serves(profile, asked, longer)(asked.target):
            yield _by(plain, profile, asked)
            return
        tpot_ms, ttft_ms = _loosened(profile, asked, longer)
        if tpot_ms or ttft_ms:
            yield _by(replace(plain, tpot_ms=tpot_ms, ttft_ms=ttft_ms), profile, asked)
    yield from _larger(asked, plain)


def _by(remedy: Remedy, profile: Profile, asked: Asked) -> Remedy:
    """With whose word it is; an estimate is acted on in Auto only where that is allowed."""
    known = profile.key in asked.profiles
    needs = not known and asked.service.mode is Mode.AUTO and not asked.service.allow_estimated_profiles
    return replace(remedy, estimates=needs, by=profile.name if known else "estimate")


def _serves(profile: Profile, asked: Asked, longer: int | None) -> Callable[[LatencyTarget], bool]:
    """Whether a replica serves the size under an objective, at a useful rate."""

    def rate_rps(target: LatencyTarget) -> float:
        return profile.max_throughput(asked.size, target, longer or asked.service.max_model_len).rate_rps

    ttft_ms = None if asked.target.ttft_ms is None else LOOSEST_MS
    least = USEFUL * rate_rps(replace(asked.target, tpot_ms=LOOSEST_MS, ttft_ms=ttft_ms))
    return lambda target: rate_rps(target) >= least > 0.0


def _larger(asked: Asked, plain: Remedy) -> Iterator[Remedy]:
    """The smallest larger tensor-parallel size that serves the size: on a node of the pool, or else on larger nodes."""
    own, node = asked.spec.tensor_parallel_size, asked.pool.gpus_per_node
    listed = {
        spec.tensor_parallel_size
        for spec in asked.service.variants
        if (spec.pool, spec.flags) == (asked.spec.pool, asked.spec.flags)
    }
    for gpus in sorted({*LARGER_SIZES, *(part for part in range(1, node + 1) if node % part == 0)}):
        if gpus <= own or gpus in listed:
            continue
        spec = replace(asked.spec, tensor_parallel_size=gpus)
        if gpus <= node and chain_refusal((*asked.service.variants, spec), asked.pool) is not None:
            continue
        profile = profile_of(replace(asked.key, tensor_parallel_size=gpus), asked.profiles)
        if profile is not None and _serves(profile, asked, plain.max_model_len)(asked.target):
            size = {"tensor_parallel_size": gpus, "gpus_per_node": node} if gpus <= node else {"node_gpus": gpus}
            yield _by(replace(plain, **size), profile, asked)  # type: ignore[arg-type]
            return


def _loosened(profile: Profile, asked: Asked, longer: int | None) -> tuple[float | None, float | None]:
    """The tightest objectives at which the size is served: one of them if that is enough, else both."""
    target, under = asked.target, _serves(profile, asked, longer)

    def serves(tpot_ms: float | None, ttft_ms: float | None) -> bool:
        return under(replace(target, tpot_ms=tpot_ms, ttft_ms=ttft_ms))

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
    for digits in (round(high / unit), math.ceil(high / unit)):
        if digits * unit > now and serves(digits * unit):
            return digits * unit
    return high
