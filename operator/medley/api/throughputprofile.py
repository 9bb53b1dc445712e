"""ThroughputProfile: how fast one replica is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.alias_generators import to_snake

from medley.api.fields import ApiModel, LongText, Milliseconds, Text, Tokens, cel
from medley.profiles.calibration import COMMON

SOURCES = ("measured", "maxThroughput", "linear", "roofline")
ONE_OF = "measured, maxThroughput, linear and roofline"

Rate = Annotated[float, Field(ge=0, le=1_000_000)]
FlagName = Annotated[str, Field(min_length=1, max_length=20, pattern=r"^[a-z0-9]+([-_][a-z0-9]+)*$")]
Positive = Annotated[float, Field(gt=0, le=1e15)]
Share = Annotated[float, Field(gt=0, le=1)]
Cost = Annotated[float, Field(ge=0, le=1_000_000)]


class SpeculativeSpec(ApiModel):
    """Speculative decoding."""

    tokens: int = Field(ge=1, le=64, description="Draft tokens per step.")
    acceptance_rate: Annotated[float, Field(ge=0, le=1)] = Field(description="Share of draft tokens accepted, 0 to 1.")
    method: Annotated[str, Field(min_length=1, max_length=63)] = Field("ngram", description="As vLLM names it.")
    draft_model: Text | None = Field(None, description="The drafting model, where the method has one.")


class FlagsSpec(ApiModel):
    """Engine flags that change speed: part of what a profile is of, and set on the replicas of a variant."""

    quantization: FlagName | None = Field(None, description="As vLLM names it, e.g. fp8. Unset: as in the checkpoint.")
    kv_cache_dtype: FlagName | None = Field(None, description="As vLLM names it, e.g. fp8. Unset: the model's.")
    speculative: SpeculativeSpec | None = Field(None, description="Speculative decoding. Unset: off.")
    chunked_prefill: Literal["Default", "Enabled", "Disabled"] = Field(
        "Default", description="Chunked prefill. Default: what the engine does by itself."
    )


class KeySpec(ApiModel):
    """What the profile is of."""

    model: Text = Field(description="Model name, as in LLMService spec.model.name.")
    gpu: Text = Field(description="GPU type, as in GPUPool spec.gpu or the catalogue.")
    tensor_parallel_size: int = Field(1, ge=1, le=64, description="GPUs one replica runs on.")
    engine: Text = Field("vllm", description="Inference engine.")
    flags: FlagsSpec = Field(default_factory=FlagsSpec, description="Engine flags that change speed.")


class GridSloSpec(ApiModel):
    """The SLO that a grid was made for."""

    time_per_output_token_ms: Milliseconds | None = Field(None, description="TPOT objective in ms; unset: not stated.")
    time_to_first_token_ms: Milliseconds | None = Field(None, description="TTFT objective in ms; unset: not stated.")


class MaxThroughputSpec(ApiModel):
    """A grid of highest rates."""

    slo: GridSloSpec = Field(default_factory=GridSloSpec, description="The SLO the grid holds for.")
    input_tokens: list[Tokens] = Field(min_length=1, max_length=64, description="Grid points, ascending.")
    output_tokens: list[Tokens] = Field(min_length=1, max_length=64, description="Grid points, ascending.")
    requests_per_second: list[Annotated[list[Rate], Field(min_length=1, max_length=64)]] = Field(
        min_length=1, max_length=64, description="Highest rate in req/s, [input][output]; 0: cannot serve."
    )

    @model_validator(mode="after")
    def _shape(self) -> MaxThroughputSpec:
        for name, points in (("inputTokens", self.input_tokens), ("outputTokens", self.output_tokens)):
            if sorted(set(points)) != points:
                raise ValueError(f"{name}: points must ascend strictly")
        if len(self.requests_per_second) != len(self.input_tokens):
            raise ValueError(
                f"requestsPerSecond: {len(self.requests_per_second)} rows for {len(self.input_tokens)} inputTokens; "
                "one row per input point, as [input][output]"
            )
        for number, row in enumerate(self.requests_per_second):
            if len(row) != len(self.output_tokens):
                raise ValueError(
                    f"requestsPerSecond[{number}]: {len(row)} values for {len(self.output_tokens)} outputTokens; "
                    "one value per output point, as [input][output]"
                )
        return self


class LinearSpec(ApiModel):
    """Step model: ms of a step = base + perSequence·batch + perContextToken·context + prefillPerToken·prompt tokens."""

    base_ms: Annotated[float, Field(gt=0, le=100_000)] = Field(description="ms of a step, whatever it does.")
    per_sequence_ms: Cost = Field(description="ms per sequence that decodes in the step.")
    per_context_token_ms: Cost = Field(description="ms per token of KV cache held by the running sequences.")
    prefill_ms_per_token: Cost = Field(description="ms per prompt token that is prefilled.")
    kv_capacity_tokens: Tokens = Field(description="Tokens that the KV cache holds.")
    max_batch: int = Field(256, ge=1, le=65_536, description="Most sequences at once (vLLM: max-num-seqs).")


class LatencySpec(ApiModel):
    """A latency's mean and percentiles in ms; unset: not measured."""

    mean: Milliseconds | None = Field(None, description="Mean in ms.")
    p50: Milliseconds | None = Field(None, description="Median in ms.")
    p90: Milliseconds | None = Field(None, description="90th percentile in ms.")
    p95: Milliseconds | None = Field(None, description="95th percentile in ms.")
    p99: Milliseconds | None = Field(None, description="99th percentile in ms.")


class LoadPointSpec(ApiModel):
    """One replica under steady load of one size."""

    input_tokens: Tokens = Field(description="Prompt tokens of every request.")
    output_tokens: Tokens = Field(description="Generated tokens of every request.")
    requests_per_second: Annotated[float, Field(gt=0, le=1_000_000)] = Field(description="Completed requests, req/s.")
    concurrency: Annotated[float, Field(ge=0, le=1_000_000)] | None = Field(
        None, description="Mean number of requests in flight."
    )
    requests: Annotated[int, Field(ge=0, le=2_000_000_000)] | None = Field(
        None, description="How many requests the point rests on."
    )
    tpot_ms: LatencySpec = Field(
        default_factory=LatencySpec, description="Time per output token after the first (decode only), in ms."
    )
    ttft_ms: LatencySpec = Field(default_factory=LatencySpec, description="Time to first token in ms.")


class MeasuredSpec(ApiModel):
    """Raw measurements; the highest rate per size is derived for each service's SLO."""

    points: list[LoadPointSpec] = Field(
        min_length=1, max_length=2000, description="Several rates for each size; sizes on a grid interpolate best."
    )


class CalibrationSpec(ApiModel):
    """What kernels reach of the data sheet; defaults are fitted to measured kernels."""

    bandwidth: Share = Field(COMMON.bandwidth, description="Share of peak memory bandwidth.")
    decode_compute: Share = Field(COMMON.decode_compute, description="Share of peak FLOPS in decode steps.")
    prefill_compute: Share = Field(COMMON.prefill_compute, description="Share of peak FLOPS in prefill.")
    attention_compute: Share = Field(COMMON.attention_compute, description="The same in its attention.")
    expert_prefill: Share = Field(COMMON.expert_prefill, description="How much less routed experts reach.")
    fp8: Share = Field(COMMON.fp8, description="How much less fp8 reaches of its peak than 16 bits do.")
    layer_ms: Cost = Field(COMMON.layer_ms, description="ms of every step for each layer.")
    per_sequence_ms: Cost = Field(COMMON.per_sequence_ms, description="ms per sequence in a step.")


class RooflineSpec(ApiModel):
    """Facts of the GPUs and the model from which steps are computed; rates are derived for each service's SLO."""

    memory_gi_b: Positive = Field(alias="memoryGiB", description="GiB of one GPU.")
    bandwidth_gb_per_second: Positive = Field(alias="bandwidthGBPerSecond", description="GB/s of one GPU's memory.")
    dense_tflops: Positive = Field(description="TFLOPS of one GPU, without sparsity, in the type computed in.")
    link_gb_per_second: Positive = Field(
        alias="linkGBPerSecond", description="GB/s that one GPU sends in an all-reduce; less than the link's peak."
    )
    exchange_ms: Cost = Field(0.007, description="ms of latency of one all-reduce.")
    computes_fp8: bool = Field(False, description="Whether denseTflops is the fp8 peak.")
    weight_gb: Positive = Field(alias="weightGB", description="GB of all weights (10^9 bytes).")
    expert_weight_gb: Cost = Field(0, alias="expertWeightGB", description="GB of them that routed experts hold.")
    experts: int = Field(0, ge=0, le=65_536, description="Routed experts per layer; 0: dense.")
    experts_per_token: int = Field(0, ge=0, le=65_536, description="Routed experts that a token uses.")
    active_parameters: Positive = Field(description="Parameters that a token is multiplied with.")
    kv_bytes_per_token: Positive = Field(description="Bytes of KV cache of a token, all layers.")
    kv_shards: int = Field(1, ge=1, le=64, description="GPUs over which a token's KV cache is split.")
    layers: int = Field(ge=1, le=10_000, description="Layers.")
    hidden_size: int = Field(ge=1, le=1_000_000, description="Width of the model.")
    attention_width: int = Field(ge=1, le=10_000_000, description="Query heads times head size.")
    max_context_tokens: int = Field(0, ge=0, le=100_000_000, description="Longest context of the model; 0: no limit.")
    max_batch: int = Field(256, ge=1, le=65_536, description="Most sequences at once (vLLM: max-num-seqs).")
    memory_fraction: Share = Field(0.9, description="Share of memory the engine takes (vLLM: gpu-memory-utilization).")
    reserve_gi_b: Cost = Field(2.0, alias="reserveGiB", description="GiB per GPU for activations and the rest.")
    calibration: CalibrationSpec = Field(
        default_factory=CalibrationSpec, description="What kernels reach of the data sheet."
    )


class RoleRatesSpec(ApiModel):
    """Rates of replicas that do one phase only. Kept for disaggregated serving; no allocation uses them yet."""

    prefill_tokens_per_second: Positive | None = Field(None, description="Prompt tokens prefilled, tokens/s.")
    decode_tokens_per_second: Positive | None = Field(None, description="Tokens generated, tokens/s.")
    encode_items_per_second: Positive | None = Field(None, description="Images or other items encoded, items/s.")


class ProvenanceSpec(ApiModel):
    """Where the numbers come from."""

    kind: Literal["Measured", "Imported", "Estimated"] = Field(
        description="Sets the default derating: Measured 0.9, Imported 0.85, Estimated 0.7."
    )
    tool: LongText | None = Field(None, description="What made the numbers.")
    date: Annotated[str, Field(max_length=32)] | None = Field(None, description="When, as YYYY-MM-DD.")


class ThroughputProfileSpec(ApiModel):
    """How fast one replica of (model, GPU, tensor-parallel size, engine) is. No price: that belongs to the pool."""

    key: KeySpec = Field(description="What the profile is of.")
    measured: MeasuredSpec | None = Field(None, description="Raw measurements; rates are derived for each SLO.")
    max_throughput: MaxThroughputSpec | None = Field(None, description="Highest rates on a grid of sizes, for one SLO.")
    linear: LinearSpec | None = Field(None, description="Step model; rates are derived for each service's SLO.")
    roofline: RooflineSpec | None = Field(None, description="Facts to compute steps from; an estimate.")
    role_rates: RoleRatesSpec | None = Field(
        None, description="Rates of replicas that only prefill, decode or encode. Informative: not used yet."
    )
    derating: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="Share of the rate that is planned for. Unset: by provenance."
    )
    provenance: ProvenanceSpec | None = Field(None, description="Where the numbers come from. Unset: Estimated.")

    @model_validator(mode="after")
    def _exactly_one(self) -> ThroughputProfileSpec:
        given = [name for name in SOURCES if getattr(self, to_snake(name)) is not None]
        if len(given) != 1:
            raise ValueError(f"set exactly one of {ONE_OF}; {' and '.join(given) or 'none'} is set")
        return self


PROFILE_RULES = cel(
    (
        f"[{', '.join(f'has(self.{name})' for name in SOURCES)}].filter(x, x).size() == 1",
        f"set exactly one of {ONE_OF}",
    ),
    (
        "!has(self.maxThroughput) || "
        "size(self.maxThroughput.requestsPerSecond) == size(self.maxThroughput.inputTokens)",
        "maxThroughput.requestsPerSecond: one row per inputTokens, as [input][output]",
    ),
    (
        "!has(self.maxThroughput) || self.maxThroughput.requestsPerSecond.all(r, "
        "size(r) == size(self.maxThroughput.outputTokens))",
        "maxThroughput.requestsPerSecond: each row has one value per outputTokens",
    ),
)
