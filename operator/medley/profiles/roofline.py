"""The roofline: steps computed from what the GPU and the model are, with few calibrated constants.

A decode step of b sequences that hold C tokens together reads every weight it needs once, and the KV cache of its
sequences; it computes 2 FLOP per active parameter and token. Whichever takes longer sets its time:

    decode(b, C) = t₀ + t₁·b + max(bytes(b, C) / (e_b·bandwidth), 2·active·b / (e_c·FLOPS)) + exchange(b)

Prefill of i tokens computes 2 FLOP per active parameter and token and 2·i² per layer and attention channel (causal):

    prefill(i) = (2·active·i + 2·layers·width·i²) / (e_p·FLOPS) + exchange(i)

All per GPU: a replica on n GPUs splits weights and heads n ways and sums activations twice per layer over the link
(ring all-reduce: 2·(n−1)/n of the data leaves each GPU). In a mixture of experts a step of b tokens touches
E·(1 − (1 − k/E)ᵇ) of E experts, if each token's k are drawn evenly.

Speculative decoding computes k + 1 tokens a step for each sequence and keeps `tokens_per_step` of them; what the
drafter itself costs is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from medley.model.engine import SpeculativeDecoding
from medley.model.workload import Size
from medley.profiles.latency import LatencyTarget, Throughput, Unservable
from medley.profiles.steady import highest_steady_rate

GIB = 1024.0**3


@dataclass(frozen=True, slots=True)
class Calibration:
    """What kernels reach of the datasheet, fitted to measured kernels (docs/explanation/profiles.md).

    Attributes:
        bandwidth: share of peak memory bandwidth, e_b.
        decode_compute: share of peak dense FLOPS in decode steps, e_c.
        prefill_compute: share of peak dense FLOPS in prefill, e_p.
        link: share of the link's bandwidth.
        step_ms: t₀, of every step.
        per_sequence_ms: t₁.
        exchange_ms: latency of one all-reduce.
    """

    bandwidth: float = 0.77
    decode_compute: float = 0.81
    prefill_compute: float = 0.81
    link: float = 0.7
    step_ms: float = 1.75
    per_sequence_ms: float = 0.003
    exchange_ms: float = 0.01


CALIBRATED = Calibration()


@dataclass(frozen=True, slots=True)
class Roofline:
    """One replica: facts of its GPUs and of the model.

    Attributes:
        gpus: GPUs of the replica.
        memory_gib: of one GPU.
        bandwidth_gb_per_s: of one GPU's memory.
        dense_tflops: of one GPU, without sparsity, in the type that is computed in.
        link_gb_per_s: from one GPU to the others, one direction.
        weight_gb: all weights of the model (10⁹ bytes).
        expert_weight_gb: the part of `weight_gb` that routed experts hold; 0 for a dense model.
        experts, experts_per_token: of the mixture; 0 for a dense model.
        active_parameters: parameters used for one token.
        kv_bytes_per_token: KV cache of one token, all layers.
        kv_shards: GPUs over which one token's KV cache is split; 1: each GPU holds all of it.
        layers, hidden_size: of the model.
        attention_width: query heads times head size.
        max_batch: most sequences at once (vLLM: max_num_seqs).
        memory_fraction: share of memory that the engine takes (vLLM: gpu_memory_utilization).
        reserve_gib: activations and the rest, per GPU.
        speculative: draft and acceptance; None: off.
    """

    gpus: int
    memory_gib: float
    bandwidth_gb_per_s: float
    dense_tflops: float
    link_gb_per_s: float
    weight_gb: float
    active_parameters: float
    kv_bytes_per_token: float
    layers: int
    hidden_size: int
    attention_width: int
    expert_weight_gb: float = 0.0
    experts: int = 0
    experts_per_token: int = 0
    kv_shards: int = 1
    activation_bytes: float = 2.0
    max_batch: int = 256
    memory_fraction: float = 0.9
    reserve_gib: float = 1.5
    speculative: SpeculativeDecoding | None = None
    calibration: Calibration = CALIBRATED

    @property
    def kv_capacity_tokens(self) -> int:
        """Tokens that the KV cache holds; below 1: the weights do not fit."""
        left = (self.memory_fraction * self.memory_gib - self.reserve_gib) * GIB - self.weight_gb * 1e9 / self.gpus
        return int(left / (self.kv_bytes_per_token / self.kv_shards))

    def mean_step_ms(self, size: Size, batch: float) -> float:
        """Mean time per output token of a steady state with `batch` running requests of this size."""
        i, o = size.input_tokens, max(size.output_tokens, 1.0)
        decode = self._decode_ms(batch, batch * (i + o / 2)) / self._tokens_per_step
        return decode + batch * self.prefill_ms(i) / o

    def prefill_ms(self, input_tokens: float) -> float:
        """What the prefill of one prompt adds to steps."""
        c = self.calibration
        flop = 2 * self.active_parameters * input_tokens + 2 * self.layers * self.attention_width * input_tokens**2
        return 1e3 * flop / (self.gpus * self.dense_tflops * 1e12 * c.prefill_compute) + self._moved_ms(input_tokens)

    def max_throughput(self, size: Size, target: LatencyTarget) -> Throughput:
        """Highest steady rate of requests of this size on one replica that keeps the target."""
        if self.kv_capacity_tokens < 1:
            return Throughput(0.0, Unservable.WEIGHTS_DO_NOT_FIT)
        return highest_steady_rate(self, size, target)

    @property
    def _tokens_per_step(self) -> float:
        return self.speculative.tokens_per_step if self.speculative else 1.0

    def _decode_ms(self, batch: float, context_tokens: float) -> float:
        c = self.calibration
        tokens = batch * (self.speculative.tokens + 1 if self.speculative else 1)
        touched = 1.0 - (1.0 - self.experts_per_token / self.experts) ** max(tokens, 1.0) if self.experts else 0.0
        weights = (self.weight_gb - self.expert_weight_gb * (1.0 - touched)) * 1e9 / self.gpus
        cache = self.kv_bytes_per_token / self.kv_shards * context_tokens
        read_ms = 1e3 * (weights + cache) / (self.bandwidth_gb_per_s * 1e9 * c.bandwidth)
        compute_ms = (
            1e3 * 2 * self.active_parameters * tokens / (self.gpus * self.dense_tflops * 1e12 * c.decode_compute)
        )
        exchange = 2 * self.layers * c.exchange_ms if self.gpus > 1 else 0.0
        return c.step_ms + c.per_sequence_ms * batch + max(read_ms, compute_ms) + exchange + self._moved_ms(tokens)

    def _moved_ms(self, tokens: float) -> float:
        """Two all-reduces of the activations per layer."""
        if self.gpus < 2:
            return 0.0
        sent = 2 * self.layers * 2 * (self.gpus - 1) / self.gpus * tokens * self.hidden_size * self.activation_bytes
        return 1e3 * sent / (self.link_gb_per_s * 1e9 * self.calibration.link)
