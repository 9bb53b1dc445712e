"""LLMService: one model served under one SLO."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from medley.api.fields import ApiModel, K8s, LongText, Milliseconds, Name, ObjectName, Price, Text, Tokens, cel
from medley.api.serviceaccess import ACCESS_RULES, AccessSpec
from medley.api.throughputprofile import FlagsSpec


class ModelSpec(ApiModel):
    """The model."""

    name: Text = Field(description="Model name, as in ThroughputProfile spec.key.model.")
    max_model_len: Tokens | None = Field(
        None, description="Longest context in tokens (prompt + output). Unset: no limit."
    )


class SloSpec(ApiModel):
    """Latency objectives."""

    time_per_output_token_ms: Milliseconds = Field(
        description="Mean time per output token after the first, in ms (decode only, as vLLM exports it)."
    )
    time_to_first_token_ms: Milliseconds | None = Field(None, description="Time to first token in ms. Unset: none.")
    percentile: Annotated[float, Field(ge=1, le=99.99)] = Field(
        95, description="Share of requests that must meet it, in %."
    )


class VariantItem(ApiModel):
    """One way to run a replica."""

    pool: ObjectName = Field(description="Name of a GPUPool.")
    tensor_parallel_size: int = Field(1, ge=1, le=64, description="GPUs one replica runs on.")
    min_replicas: int = Field(0, ge=0, le=10_000, description="Fewest replicas of this variant.")
    max_replicas: int | None = Field(
        None, ge=0, le=10_000, description="Most replicas of this variant. Unset: no limit."
    )
    flags: FlagsSpec = Field(
        default_factory=FlagsSpec,
        description="Engine flags that change speed; a profile with the same flags is used.",
    )


class ScalingSpec(ApiModel):
    """Bounds and margins."""

    min_replicas: int = Field(
        1, ge=0, le=10_000, description="Fewest replicas over all variants, also without traffic."
    )
    max_hourly_cost: Price | None = Field(None, description="Budget in $ per hour, as a string. Unset: none.")
    headroom_percent: Annotated[float, Field(ge=0, le=500)] = Field(
        10, description="Capacity kept above the demand, in %."
    )
    min_mix_saving_percent: Annotated[float, Field(ge=0, le=100)] = Field(
        3, description="A mix of GPU types is used only when it saves more than this over one type, in %."
    )
    max_spot_percent: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None, description="Most of the requests that may go to Spot capacity, in %. 0: no Spot at all. Unset: no limit."
    )
    survive_loss_of: Literal["Replica", "Pool", "Zone"] | None = Field(
        None,
        description="After each single loss of this kind the rest still carries the demand without headroom. "
        "Unset: nothing is kept for it.",
    )
    priority: int = Field(
        0,
        ge=-1_000_000,
        le=1_000_000,
        description="When shared pools are short, services of a higher priority are served first.",
    )


class RoutingSpec(ApiModel):
    """How finely traffic is steered."""

    mode: Literal["Service", "Weighted", "InputRange", "Full"] = Field(
        "Service",
        description="Service: every replica gets the same share. Weighted: fixed weights per variant. InputRange: a "
        "router splits by prompt length. Full: by output class as well. Planned for as far as a router acknowledges.",
    )


class PointSpec(ApiModel):
    """A known demand."""

    input_tokens: Tokens = Field(description="Prompt tokens of a request.")
    output_tokens: Tokens = Field(description="Generated tokens of a request.")
    requests_per_second: Annotated[float, Field(ge=0, le=1_000_000)] = Field(description="Rate in req/s.")


class StaticSpec(ApiModel):
    """Known points, each its own bucket."""

    points: list[PointSpec] = Field(
        min_length=1, max_length=1000, description="Known demand; input ranges are the distinct inputTokens."
    )


class WorkloadSpec(ApiModel):
    """Where the demand comes from."""

    static: StaticSpec | None = Field(None, description="Known demand. Unset: read from Prometheus.")


class EngineSpec(ApiModel):
    """The inference engine's container."""

    image: Text = Field("vllm/vllm-openai:v0.11.2", description="Container image.")
    args: list[LongText] | None = Field(None, max_length=64, description="Arguments added to the ones Medley sets.")
    port: int = Field(8000, ge=1, le=65535, description="Port of the API and of /metrics.")


class LLMServiceSpec(ApiModel):
    """What a user declares about one service."""

    model: ModelSpec = Field(description="The model.")
    slo: SloSpec = Field(description="Latency objectives.")
    pools: list[ObjectName] | None = Field(
        None,
        min_length=1,
        max_length=32,
        description="GPUPools the service may use, one GPU per replica. Or set variants.",
        json_schema_extra=K8s(**{"x-kubernetes-list-type": "set"}),
    )
    variants: list[VariantItem] | None = Field(
        None, min_length=1, max_length=32, description="Ways to run a replica, in full. Or set pools."
    )
    mode: Literal["Observe", "Auto"] = Field(
        "Observe", description="Observe: plan and report only. Auto: act on the plan."
    )
    scaling: ScalingSpec = Field(default_factory=ScalingSpec, description="Bounds and margins.")
    allow_estimated_profiles: bool = Field(
        False, description="Auto may act on a built-in estimate where no ThroughputProfile exists."
    )
    routing: RoutingSpec = Field(default_factory=RoutingSpec, description="How finely traffic is steered.")
    workload: WorkloadSpec = Field(default_factory=WorkloadSpec, description="Where the demand comes from.")
    engine: EngineSpec = Field(default_factory=EngineSpec, description="The inference engine's container.")
    access: AccessSpec | None = Field(
        None, description="What the engine's pods may reach, and as whom. Unset: nothing is generated for them."
    )

    @model_validator(mode="after")
    def _variants(self) -> LLMServiceSpec:
        if (self.pools is None) == (self.variants is None):
            raise ValueError("set exactly one of pools and variants")
        if self.pools is not None and len(set(self.pools)) != len(self.pools):
            raise ValueError("pools: a pool is listed twice")
        seen = [(item.pool, item.tensor_parallel_size, item.flags) for item in self.variants or []]
        if any(item in seen[:number] for number, item in enumerate(seen)):
            raise ValueError("variants: the same pool, tensorParallelSize and flags twice")
        for number, item in enumerate(self.variants or []):
            if item.max_replicas is not None and item.max_replicas < item.min_replicas:
                raise ValueError(f"variants[{number}].maxReplicas: below minReplicas")
        return self


LLMSERVICE_RULES = (
    cel(
        ("has(self.pools) != has(self.variants)", "set exactly one of pools and variants"),
        (
            "!has(self.variants) || self.variants.all(v, !has(v.maxReplicas) || !has(v.minReplicas) || "
            "v.minReplicas <= v.maxReplicas)",
            "variants: maxReplicas is below minReplicas",
        ),
        (
            "!has(self.variants) || self.variants.all(v, self.variants.exists_one(w, w.pool == v.pool && "
            "w.tensorParallelSize == v.tensorParallelSize && has(w.flags) == has(v.flags) && "
            "(!has(v.flags) || w.flags == v.flags)))",
            "variants: the same pool, tensorParallelSize and flags twice",
        ),
    )
    + ACCESS_RULES
)


class ConditionStatus(ApiModel):
    """A standard condition."""

    type: Annotated[str, Field(min_length=1, max_length=64)] = Field(description="What the condition is about.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Annotated[str, Field(max_length=64)] = Field(description="One CamelCase word why.")
    message: Annotated[str, Field(max_length=2048)] = Field("", description="What to know and what to do.")
    observed_generation: int | None = Field(None, description="Generation of the spec it was made from.")
    last_transition_time: Annotated[str, Field(max_length=40)] = Field(
        description="When status last changed, RFC 3339."
    )


class VariantStatus(ApiModel):
    """Replicas of one variant."""

    name: Name = Field(description="Variant: the pool, with -tpN above one GPU and -spot for Spot.")
    gpu: Text = Field(description="GPU type.")
    desired: int = Field(description="Replicas that Medley asks for now.")
    planned: int = Field(description="Replicas of the plan.")
    ready: int = Field(description="Ready replicas.")


class UnservedStatus(ApiModel):
    """A size that is not served."""

    size: Annotated[str, Field(max_length=32)] = Field(description="input/output tokens.")
    requests_per_second: float = Field(description="Its rate.")
    reason: LongText = Field(description="Why, and which variant is nearest.")


class WorkloadStatus(ApiModel):
    """The demand as Medley sees it."""

    knowledge: Literal["Value", "Zero", "Unknown"] = Field(description="Known, confirmed zero, or unknown.")
    requests_per_second: float | None = Field(None, description="Total rate; unset when unknown.")
    mean_input_tokens: float | None = Field(None, description="Mean prompt length.")
    mean_output_tokens: float | None = Field(None, description="Mean output length.")
    demand_factor: float | None = Field(None, description="Factor that covers headroom and uncertainty.")
    coverage_percent: float | None = Field(None, description="Share of Ready replicas that the samples cover.")


class ResolvedStatus(ApiModel):
    """What the short form was completed to."""

    mode: Annotated[str, Field(max_length=16)] = Field(description="Mode in force.")
    routing: Annotated[str, Field(max_length=16)] = Field(description="Routing that is planned for now.")
    percentile: float = Field(description="SLO percentile.")
    headroom_percent: float = Field(description="Headroom.")
    variants: list[Name] = Field(max_length=128, description="Variants that were considered.")


class LLMServiceStatus(ApiModel):
    """What Medley reports."""

    observed_generation: int | None = Field(None, description="Generation of the spec that was planned for.")
    conditions: list[ConditionStatus] | None = Field(
        None,
        max_length=16,
        description="Standard conditions.",
        json_schema_extra=K8s(**{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    )
    resolved: ResolvedStatus | None = Field(None, description="The spec with every default filled in.")
    workload: WorkloadStatus | None = Field(None, description="The demand as Medley sees it.")
    variants: list[VariantStatus] | None = Field(
        None,
        max_length=128,
        description="Replicas per variant.",
        json_schema_extra=K8s(**{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    )
    unserved: list[UnservedStatus] | None = Field(None, max_length=64, description="Sizes that no variant serves.")
    cost_per_hour: Annotated[str, Field(max_length=20)] | None = Field(None, description="Cost of the plan, $/h.")
    best_single_cost_per_hour: Annotated[str, Field(max_length=20)] | None = Field(
        None, description="Cheapest plan with one GPU type for the same demand, $/h."
    )
    lower_bound_per_hour: Annotated[str, Field(max_length=20)] | None = Field(
        None, description="Proved lower bound, $/h."
    )
    saved_percent: Annotated[str, Field(max_length=16)] | None = Field(
        None, description="Saving against the best single type."
    )
    gpus: int | None = Field(None, description="GPUs that the desired replicas use.")
    ready: Annotated[str, Field(max_length=24)] | None = Field(None, description="Ready/desired replicas.")
    rate: Annotated[str, Field(max_length=24)] | None = Field(None, description="Request rate, req/s.")
    slo: Annotated[str, Field(max_length=48)] | None = Field(None, description="The objectives, short.")
    messages: list[LongText] | None = Field(None, max_length=32, description="What else to know about the plan.")
