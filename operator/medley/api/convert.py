"""From manifests (dicts, as YAML or the apiserver give them) to values of the domain, with every default filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from medley.allocation.assemble import variant_name
from medley.api.fields import ApiModel
from medley.api.gpupool import GPUPoolSpec
from medley.api.llmservice import EngineSpec, LLMServiceSpec
from medley.api.serviceaccess import AccessSpec
from medley.api.throughputprofile import FlagsSpec, LatencySpec, LoadPointSpec, ThroughputProfileSpec
from medley.model.engine import ChunkedPrefill, EngineFlags, SpeculativeDecoding
from medley.model.errors import UserError
from medley.model.objects import (
    API_VERSION,
    CapacityType,
    LossKind,
    Mode,
    Offering,
    Pool,
    RoutingMode,
    ScaleTarget,
    Scaling,
    Service,
    ServiceKey,
    Slo,
    StaticPoint,
    VariantSpec,
)
from medley.model.workload import Size
from medley.profiles.calibration import Calibration
from medley.profiles.catalogue import instance_types
from medley.profiles.grid import Grid
from medley.profiles.measured import Latency, LoadPoint, Measured
from medley.profiles.profile import Profile, ProfileKey, Provenance, Speed
from medley.profiles.roofline import Roofline
from medley.profiles.step import StepModel

Manifest = Mapping[str, Any]
SpecT = TypeVar("SpecT", bound=ApiModel)


@dataclass(frozen=True, slots=True)
class Resources:
    """Every valid object, and what was wrong with the others."""

    services: tuple[Service, ...]
    pools: tuple[Pool, ...]
    profiles: tuple[Profile, ...]
    engines: tuple[tuple[ServiceKey, EngineSpec], ...]
    errors: tuple[tuple[str, UserError], ...]
    """(kind/namespace/name or kind/name, error)."""
    access: tuple[tuple[ServiceKey, AccessSpec], ...] = ()
    """What services may reach, of those that say so."""


def parse(manifests: Sequence[Manifest]) -> Resources:
    """Convert all manifests of our API; an invalid one becomes an error and does not stop the others."""
    services: list[Service] = []
    pools: list[Pool] = []
    profiles: dict[ProfileKey, Profile] = {}
    engines: list[tuple[ServiceKey, EngineSpec]] = []
    errors: list[tuple[str, UserError]] = []
    access: list[tuple[ServiceKey, AccessSpec]] = []
    seen: set[str] = set()
    for manifest in manifests:
        name = identity(manifest)
        try:
            if name in seen:
                raise UserError("there are two objects of this name", field="metadata.name", fix="Keep one of the two")
            match manifest.get("kind"):
                case "LLMService":
                    service, engine = to_service(manifest)
                    services.append(service)
                    engines.append((service.key, engine))
                    if manifest["spec"].get("access") is not None:
                        access.append((service.key, AccessSpec.model_validate(manifest["spec"]["access"])))
                case "GPUPool":
                    pools.append(to_pool(manifest))
                case "ThroughputProfile":
                    profile = to_profile(manifest)
                    if profile.key in profiles:
                        raise UserError(
                            f"has the same key as ThroughputProfile {profiles[profile.key].name!r}",
                            field="spec.key",
                            fix="Keep one of the two",
                        )
                    profiles[profile.key] = profile
                case other:
                    raise UserError(
                        f"kind {other!r} is not of {API_VERSION}",
                        field="kind",
                        fix="Use LLMService, GPUPool or ThroughputProfile",
                    )
            seen.add(name)
        except UserError as error:
            errors.append((name, error))
    return Resources(
        tuple(services), tuple(pools), tuple(profiles.values()), tuple(engines), tuple(errors), tuple(access)
    )


def identity(manifest: Manifest) -> str:
    """Kind/namespace/name, or Kind/name for what has no namespace."""
    metadata = manifest.get("metadata")
    if not isinstance(metadata, Mapping):
        metadata = {}
    parts = [manifest.get("kind") or "?"]
    if manifest.get("kind") == "LLMService":
        parts.append(metadata.get("namespace") or "default")
    parts.append(metadata.get("name") or "?")
    return "/".join(str(part) for part in parts)


def to_service(manifest: Manifest) -> tuple[Service, EngineSpec]:
    """An LLMService and its engine settings.

    Raises:
        UserError: the spec is wrong; names the field and the fix.
    """
    spec = _spec(manifest, LLMServiceSpec)
    metadata = manifest["metadata"]
    variants: tuple[VariantSpec, ...]
    if spec.pools is not None:
        variants = tuple(VariantSpec(pool) for pool in spec.pools)
    else:
        variants = tuple(
            VariantSpec(
                item.pool, item.tensor_parallel_size, item.min_replicas, item.max_replicas, to_flags(item.flags)
            )
            for item in spec.variants or []
        )
    names = [variant_name(variant, CapacityType.ON_DEMAND) for variant in variants]
    for number, variant in enumerate(names):
        if variant in names[:number]:
            raise UserError(
                f"has the same name, {variant}, as another: they would be one Deployment",
                field=f"spec.variants[{number}]",
                fix="Let pool, tensorParallelSize or flags differ in more than the acceptance rate",
            )
    scaling = spec.scaling
    static = spec.workload.static
    service = Service(
        key=ServiceKey(metadata.get("namespace") or "default", metadata["name"]),
        uid=str(metadata.get("uid") or ""),
        generation=int(metadata.get("generation") or 1),
        model_name=spec.model.name,
        slo=Slo(spec.slo.time_per_output_token_ms, spec.slo.time_to_first_token_ms, spec.slo.percentile),
        variants=variants,
        max_model_len=spec.model.max_model_len,
        mode=Mode.OBSERVE if _paused(metadata) else Mode(spec.mode),
        scaling=Scaling(
            scaling.min_replicas,
            None if scaling.max_hourly_cost is None else float(scaling.max_hourly_cost),
            scaling.headroom_percent / 100.0,
            scaling.min_mix_saving_percent / 100.0,
            None if scaling.max_spot_percent is None else scaling.max_spot_percent / 100.0,
            None if scaling.survive_loss_of is None else LossKind(scaling.survive_loss_of),
            scaling.priority,
        ),
        routing=RoutingMode(spec.routing.mode),
        static_points=None
        if static is None
        else tuple(
            StaticPoint(Size(point.input_tokens, point.output_tokens), point.requests_per_second)
            for point in static.points
        ),
        allow_estimated_profiles=spec.allow_estimated_profiles,
    )
    return service, spec.engine


def _paused(metadata: Manifest) -> bool:
    """Whether somebody asked Medley to keep its hands off for a while."""
    return str((metadata.get("annotations") or {}).get("medley.dev/paused", "")).lower() == "true"


def to_pool(manifest: Manifest) -> Pool:
    """A GPUPool, completed from the catalogue.

    Raises:
        UserError: the spec is wrong, or the catalogue does not know what was left out.
    """
    spec = _spec(manifest, GPUPoolSpec)
    name = manifest["metadata"]["name"]
    row = instance_types().get(spec.instance_type or "")
    gpu = spec.gpu or (row.gpu if row else None)
    gpus_per_node = spec.gpus_per_node or (row.gpus_per_node if row else None)
    if gpu is None or gpus_per_node is None:
        missing = "spec.gpu" if gpu is None else "spec.gpusPerNode"
        raise UserError(
            f"instance type {spec.instance_type!r} is not in the catalogue",
            field=missing,
            fix="Set spec.gpu and spec.gpusPerNode, and pricePerNodeHour in an offering",
        )
    offerings = []
    for number, offering in enumerate(spec.offerings or [None]):
        kind = CapacityType(offering.capacity_type) if offering else CapacityType.ON_DEMAND
        field = f"spec.offerings[{number}].pricePerNodeHour"
        if offering is not None and offering.price_per_node_hour is not None:
            price = float(offering.price_per_node_hour)
        elif row is not None and kind is CapacityType.ON_DEMAND:
            price = row.price_per_hour
        else:
            raise UserError(
                "no price: the catalogue has on-demand list prices of known instance types only",
                field=field,
                fix='Set it, for example "0.8048"',
            )
        if price <= 0:
            raise UserError(
                f"a price of {price:g} would make the pool free",
                field=field,
                fix="Use committedNodes for nodes that are already paid for",
            )
        zones = tuple(offering.zones or ()) if offering else ()
        offerings.append(Offering(kind, price, zones, offering.max_nodes if offering else None))
    scale = spec.provider.scale
    if spec.node_selector is not None:
        selector = dict(spec.node_selector)
    elif spec.instance_type is not None:
        selector = {"node.kubernetes.io/instance-type": spec.instance_type}
    else:
        selector = {"medley.dev/pool": name}
    return Pool(
        name=name,
        gpu=gpu,
        gpus_per_node=gpus_per_node,
        offerings=tuple(offerings),
        max_nodes=spec.limits.nodes if spec.limits else None,
        committed_nodes=spec.committed_nodes,
        scale=None if scale is None else ScaleTarget(scale.api_version, scale.kind, scale.name, scale.namespace),
        node_selector=tuple(sorted(selector.items())),
    )


def to_profile(manifest: Manifest) -> Profile:
    """A ThroughputProfile.

    Raises:
        UserError: the spec is wrong; names the field and the fix.
    """
    spec = _spec(manifest, ThroughputProfileSpec)
    provenance = Provenance(spec.provenance.kind) if spec.provenance else Provenance.ESTIMATED
    return Profile(
        name=manifest["metadata"]["name"],
        key=ProfileKey(
            spec.key.model, spec.key.gpu, spec.key.tensor_parallel_size, spec.key.engine, to_flags(spec.key.flags)
        ),
        provenance=provenance,
        derating=spec.derating if spec.derating is not None else provenance.default_derating,
        speed=_speed(spec),
    )


def to_flags(spec: FlagsSpec) -> EngineFlags:
    """Engine flags as the domain has them."""
    draft = spec.speculative
    return EngineFlags(
        quantization=spec.quantization or "",
        kv_cache_dtype=spec.kv_cache_dtype or "",
        speculative=None
        if draft is None
        else SpeculativeDecoding(draft.tokens, draft.acceptance_rate, draft.method, draft.draft_model or ""),
        chunked_prefill=ChunkedPrefill(spec.chunked_prefill),
    )


def _speed(spec: ThroughputProfileSpec) -> Speed:
    if spec.measured is not None:
        return Measured(tuple(_load_point(point) for point in spec.measured.points))
    if spec.max_throughput is not None:
        made = spec.max_throughput
        return Grid(
            made.slo.time_per_output_token_ms,
            made.slo.time_to_first_token_ms,
            tuple(map(float, made.input_tokens)),
            tuple(map(float, made.output_tokens)),
            tuple(tuple(row) for row in made.requests_per_second),
        )
    if spec.linear is not None:
        return StepModel(**spec.linear.model_dump())
    assert spec.roofline is not None
    facts = spec.roofline
    return Roofline(
        gpus=spec.key.tensor_parallel_size,
        memory_gib=facts.memory_gi_b,
        bandwidth_gb_per_s=facts.bandwidth_gb_per_second,
        dense_tflops=facts.dense_tflops,
        link_gb_per_s=facts.link_gb_per_second,
        exchange_ms=facts.exchange_ms,
        computes_fp8=facts.computes_fp8,
        weight_gb=facts.weight_gb,
        expert_weight_gb=facts.expert_weight_gb,
        experts=facts.experts,
        experts_per_token=facts.experts_per_token,
        active_parameters=facts.active_parameters,
        kv_bytes_per_token=facts.kv_bytes_per_token,
        kv_shards=facts.kv_shards,
        layers=facts.layers,
        hidden_size=facts.hidden_size,
        attention_width=facts.attention_width,
        max_context_tokens=facts.max_context_tokens,
        max_batch=facts.max_batch,
        memory_fraction=facts.memory_fraction,
        reserve_gib=facts.reserve_gi_b,
        speculative=to_flags(spec.key.flags).speculative,
        calibration=Calibration(**facts.calibration.model_dump()),
    )


def _load_point(point: LoadPointSpec) -> LoadPoint:
    def latency(spec: LatencySpec) -> Latency:
        return Latency(spec.mean, spec.p50, spec.p90, spec.p95, spec.p99)

    return LoadPoint(
        Size(point.input_tokens, point.output_tokens),
        point.requests_per_second,
        latency(point.tpot_ms),
        latency(point.ttft_ms),
        point.concurrency,
        point.requests or 0,
    )


def _spec(manifest: Manifest, model: type[SpecT]) -> SpecT:
    metadata = manifest.get("metadata")
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise UserError("missing or not a string", field="metadata.name", fix="Give the object a name")
    if manifest.get("apiVersion") != API_VERSION:
        raise UserError(f"is {manifest.get('apiVersion')!r}", field="apiVersion", fix=f"Use {API_VERSION}")
    try:
        return model.model_validate(manifest.get("spec"))
    except ValidationError as error:
        raise user_error(error) from None


_FIXES = {
    "extra_forbidden": "Remove it, or check its spelling and place",
    "missing": "Add it",
    "model_type": "Give an object with its fields",
    "finite_number": "Give a finite number",
    "string_type": 'Put it in quotes, as in "0.8048"',
}


def user_error(error: ValidationError) -> UserError:
    """The first problem with its path; how many more there are."""
    details = error.errors(include_url=False, include_input=False)
    first = details[0]
    path = "spec"
    for part in first["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "unknown field"
    return UserError(message + more, field=path, fix=_FIXES.get(first["type"], ""))
