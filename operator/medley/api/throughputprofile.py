"""ThroughputProfile: how fast one replica is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from medley.api.fields import ApiModel, LongText, Milliseconds, Text, Tokens, cel

Rate = Annotated[float, Field(ge=0, le=1_000_000)]
Cost = Annotated[float, Field(ge=0, le=1_000_000)]


class KeySpec(ApiModel):
    """What the profile is of."""

    model: Text = Field(description="Model name, as in LLMService spec.model.name.")
    gpu: Text = Field(description="GPU type, as in GPUPool spec.gpu or the catalogue.")
    tensor_parallel_size: int = Field(1, ge=1, le=64, description="GPUs one replica runs on.")
    engine: Text = Field("vllm", description="Inference engine.")


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
    max_throughput: MaxThroughputSpec | None = Field(None, description="Highest rates on a grid of sizes, for one SLO.")
    linear: LinearSpec | None = Field(None, description="Step model; rates are derived for each service's SLO.")
    derating: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="Share of the rate that is planned for. Unset: by provenance."
    )
    provenance: ProvenanceSpec | None = Field(None, description="Where the numbers come from. Unset: Estimated.")

    @model_validator(mode="after")
    def _exactly_one(self) -> ThroughputProfileSpec:
        if (self.max_throughput is None) == (self.linear is None):
            raise ValueError("set exactly one of maxThroughput and linear")
        return self


PROFILE_RULES = cel(
    ("has(self.maxThroughput) != has(self.linear)", "set exactly one of maxThroughput and linear"),
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
