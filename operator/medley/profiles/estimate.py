"""Estimates from facts alone: a roofline from what is known of the model and of the GPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from medley.model.engine import EngineFlags
from medley.model.errors import UserError
from medley.model.workload import Size
from medley.profiles.calibration import BY_GPU, COMMON
from medley.profiles.gpu import Dtype, Gpu, find_gpu
from medley.profiles.latency import LatencyTarget, Throughput
from medley.profiles.link import exchange
from medley.profiles.model_facts import Attention, ModelFacts, known_models
from medley.profiles.profile import Profile, ProfileKey, Provenance
from medley.profiles.roofline import Roofline

ERROR_BAND = (0.7, 1.4)
"""An estimate times these covers the measured rate in at least 9 of 10 cases (tests/unit/test_estimate_errors.py)."""

MLA_ERROR_BAND = (0.1, 1.1)
"""The same for latent attention with a mixture of experts: kernels are far from the roofline there."""


def error_band(facts: ModelFacts) -> tuple[float, float]:
    """Factors below and above an estimate between which the measured rate lies in at least 9 of 10 cases."""
    return MLA_ERROR_BAND if facts.attention is Attention.MLA else ERROR_BAND


DEFAULT_INPUTS = (128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0)
DEFAULT_OUTPUTS = (32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)

BYTES_PER_WEIGHT = {"fp8": 1.0, "int8": 1.0, "awq": 0.53, "gptq": 0.53, "int4": 0.53, "mxfp4": 0.53}
"""Bytes a weight takes by quantisation; four bits with scales of groups of 128 and what stays in 16 bits."""

BYTES_PER_KV = {"": 2.0, "auto": 2.0, "bfloat16": 2.0, "float16": 2.0, "fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0}
"""Bytes of one number in the KV cache, as vLLM names its types."""


@dataclass(frozen=True, slots=True)
class EstimateRow:
    """The estimate for one size on one replica, before derating. `low` and `high` bound it by the error band."""

    gpu: str
    tensor_parallel_size: int
    size: Size
    throughput: Throughput
    band: tuple[float, float] = ERROR_BAND

    @property
    def low_rps(self) -> float:
        """Lower end of the error band."""
        return self.throughput.rate_rps * self.band[0]

    @property
    def high_rps(self) -> float:
        """Upper end of the error band."""
        return self.throughput.rate_rps * self.band[1]


def roofline_of(facts: ModelFacts, gpu: Gpu, tensor_parallel_size: int, flags: EngineFlags) -> Roofline:
    """The roofline of one replica.

    Raises:
        UserError: the model cannot be split that way, or a flag is one whose speed nobody can estimate.
    """
    if facts.attention_heads % tensor_parallel_size:
        raise UserError(
            f"{facts.attention_heads} attention heads cannot be split over {tensor_parallel_size} GPUs",
            field="tensorParallelSize", fix="Use a divisor of the number of heads",
        )  # fmt: skip
    weight_bytes, compute = facts.weight_bytes, Dtype.BF16
    if flags.quantization:
        if flags.quantization not in BYTES_PER_WEIGHT:
            known = ", ".join(sorted(BYTES_PER_WEIGHT))
            raise UserError(
                f"the speed of {flags.quantization!r} cannot be estimated", field="quantization",
                fix=f"Measure it, or use one of: {known}",
            )  # fmt: skip
        # The embeddings stay in 16 bits.
        rest = facts.embedding_parameters
        weight_bytes = (facts.parameters - rest) * BYTES_PER_WEIGHT[flags.quantization] + rest * 2.0
    bytes_per_weight = weight_bytes / facts.parameters
    if flags.quantization == "fp8" or facts.weight_dtype.startswith("fp8"):
        compute = Dtype.FP8
    # Without matrix units for the type, weights are widened on the fly: less to read, nothing won in computing.
    tflops = gpu.dense_tflops(compute) or gpu.dense_tflops(Dtype.BF16) or gpu.fp16_tflops
    computes_fp8 = compute is Dtype.FP8 and gpu.dense_tflops(Dtype.FP8) is not None
    joined = exchange(gpu, tensor_parallel_size)
    share = facts.experts_per_token / facts.experts if facts.experts else 1.0
    routed = (facts.parameters - facts.active_parameters) / (1.0 - share) if share < 1.0 else 0.0
    if flags.kv_cache_dtype not in BYTES_PER_KV:
        known = ", ".join(sorted(name for name in BYTES_PER_KV if name))
        raise UserError(
            f"the size of {flags.kv_cache_dtype!r} is not known", field="kv-cache-dtype", fix=f"Use one of: {known}"
        )
    kv_bytes = BYTES_PER_KV[flags.kv_cache_dtype]
    shards = 1 if facts.attention is Attention.MLA else min(tensor_parallel_size, facts.kv_heads)
    return Roofline(
        gpus=tensor_parallel_size,
        memory_gib=gpu.memory_gib,
        bandwidth_gb_per_s=gpu.bandwidth_gb_per_s,
        dense_tflops=tflops,
        computes_fp8=computes_fp8,
        link_gb_per_s=joined.gb_per_s,
        exchange_ms=joined.latency_ms,
        weight_gb=weight_bytes / 1e9,
        expert_weight_gb=routed * bytes_per_weight / 1e9,
        experts=facts.experts,
        experts_per_token=facts.experts_per_token,
        active_parameters=facts.multiplied_parameters,
        kv_bytes_per_token=facts.kv_bytes_per_token(kv_bytes),
        kv_shards=shards,
        layers=facts.layers,
        hidden_size=facts.hidden_size,
        attention_width=facts.attention_heads * facts.head_dim,
        max_context_tokens=facts.max_position_embeddings,
        speculative=flags.speculative,
        calibration=BY_GPU.get(gpu.name, COMMON),
    )


def estimated_profile(key: ProfileKey) -> Profile | str:
    """The estimate for a key, or why there is none."""
    facts = known_models().get(key.model)
    if facts is None:
        return f"nothing is known of model {key.model!r}"
    try:
        roofline = roofline_of(facts, find_gpu(key.gpu), key.tensor_parallel_size, key.flags)
    except UserError as error:
        return str(error)
    name = f"estimate of {key.model} on {key.gpu}"
    return Profile(name, key, Provenance.ESTIMATED, Provenance.ESTIMATED.default_derating, roofline)


def estimate(
    facts: ModelFacts,
    gpus: Iterable[Gpu],
    tensor_parallel_sizes: Iterable[int],
    target: LatencyTarget,
    sizes: Iterable[Size],
    flags: EngineFlags,
) -> Iterator[EstimateRow]:
    """Rates of every size on every GPU and tensor-parallel size; combinations that cannot be split are left out."""
    sizes, parallel = tuple(sizes), tuple(tensor_parallel_sizes)
    for gpu in gpus:
        for count in parallel:
            if facts.attention_heads % count:
                continue
            roofline = roofline_of(facts, gpu, count, flags)
            for size in sizes:
                found = roofline.max_throughput(size, target)
                yield EstimateRow(gpu.name, count, size, found, error_band(facts))
