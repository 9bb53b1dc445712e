"""The roofline: steps computed from what the GPU and the model are, with few calibrated constants.

A decode step of b sequences that hold C tokens together reads every weight it needs once and computes 2 FLOP per active
parameter and token, whichever takes longer; then it reads the KV cache of its sequences:

    decode(b, C) = t_l·layers + t_1·b + max(weights(b)/(e_b·bandwidth), 2·active·b/(e_c·FLOPS))
                   + cache(C)/(e_b·bandwidth) + exchange(b)

Prefill of i tokens computes 2 FLOP per active parameter and token, and 2·i² per layer and attention channel (causal):

    prefill(i) = 2·active·i/(e_p·FLOPS) + 2·layers·width·i²/(e_a·FLOPS) + exchange(i)

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
from medley.profiles.calibration import COMMON, Calibration
from medley.profiles.latency import LatencyTarget, Throughput, Unservable
from medley.profiles.steady import highest_steady_rate

GIB = 1024.0**3


@dataclass(frozen=True, slots=True)
class Roofline:
    """One replica: facts of its GPUs and of the model.

    Attributes:
        gpus: GPUs of the replica.
        memory_gib: of one GPU.
        bandwidth_gb_per_s: of one GPU's memory.
        dense_tflops: of one GPU, without sparsity, in the type that is computed in.
        computes_fp8: whether that type is fp8.
        link_gb_per_s: what one GPU sends in an all-reduce, in one direction: less than the link's peak.
        exchange_ms: latency of one all-reduce.
        weight_gb: all weights of the model (10⁹ bytes).
        expert_weight_gb: the part of `weight_gb` that routed experts hold; 0 for a dense model.
        experts, experts_per_token: of the mixture; 0 for a dense model.
        active_parameters: parameters used for one token.
        kv_bytes_per_token: KV cache of one token, all layers.
        kv_shards: GPUs over which one token's KV cache is split; 1: each GPU holds all of it.
        layers, hidden_size: of the model.
        attention_width: query heads times head size.
        max_context_tokens: longest context of the model; 0: no limit.
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
    exchange_ms: float = 0.007
    computes_fp8: bool = False
    expert_weight_gb: float = 0.0
    experts: int = 0
    experts_per_token: int = 0
    kv_shards: int = 1
    activation_bytes: float = 2.0
    max_context_tokens: int = 0
    max_batch: int = 256
    memory_fraction: float = 0.9
    reserve_gib: float = 2.0
    speculative: SpeculativeDecoding | None = None
    calibration: Calibration = COMMON

    @property
    def kv_capacity_tokens(self) -> int:
        """Tokens that the KV cache holds; below 1: the weights do not fit."""
        left = (self.memory_fraction * self.memory_gib - self.reserve_gib) * GIB - self.weight_gb * 1e9 / self.gpus
        return int(left / (self.kv_bytes_per_token / self.kv_shards))

    def decode_ms(self, size: Size, batch: float) -> float:
        """Time per output token of a step in which `batch` requests of this size decode, half done on average."""
        context = batch * (size.input_tokens + max(size.output_tokens, 1.0) / 2)
        return self._step_ms(batch, context) / self._tokens_per_step

    def held_tokens(self, size: Size) -> float:
        """KV cache that a running request counts for: its full length, as an estimate should not rely on preemption."""
        return size.input_tokens + size.output_tokens

    def prefill_ms(self, input_tokens: float) -> float:
        """What the prefill of one prompt adds to steps."""
        c = self.calibration
        reached = c.prefill_compute * self._precision * (c.expert_prefill if self.experts else 1.0)
        layers = 2 * self.active_parameters * input_tokens / reached
        attention = 2 * self.layers * self.attention_width * input_tokens**2 / c.attention_compute
        return 1e3 * (layers + attention) / (self.gpus * self.dense_tflops * 1e12) + self._exchange_ms(input_tokens)

    def max_throughput(self, size: Size, target: LatencyTarget) -> Throughput:
        """Highest steady rate of requests of this size on one replica that keeps the target."""
        if 0 < self.max_context_tokens < size.input_tokens + size.output_tokens:
            return Throughput(0.0, Unservable.MODEL_LENGTH)
        if self.kv_capacity_tokens < 1:
            return Throughput(0.0, Unservable.WEIGHTS_DO_NOT_FIT)
        return highest_steady_rate(self, size, target)

    @property
    def _tokens_per_step(self) -> float:
        return self.speculative.tokens_per_step if self.speculative else 1.0

    @property
    def _precision(self) -> float:
        return self.calibration.fp8 if self.computes_fp8 else 1.0

    def _step_ms(self, batch: float, context_tokens: float) -> float:
        c = self.calibration
        tokens = batch * (self.speculative.tokens + 1 if self.speculative else 1)
        touched = 1.0 - (1.0 - self.experts_per_token / self.experts) ** max(tokens, 1.0) if self.experts else 0.0
        weights = (self.weight_gb - self.expert_weight_gb * (1.0 - touched)) / self.gpus
        bandwidth = self.bandwidth_gb_per_s * c.bandwidth
        read_s = weights / (bandwidth * self._precision)
        flops = self.gpus * self.dense_tflops * 1e12 * c.decode_compute * self._precision
        compute_s = 2 * self.active_parameters * tokens / flops
        cache_s = self.kv_bytes_per_token / self.kv_shards * context_tokens / (bandwidth * 1e9)
        fixed_ms = c.layer_ms * self.layers + c.per_sequence_ms * batch
        return fixed_ms + 1e3 * (max(read_s, compute_s) + cache_s) + self._exchange_ms(tokens)

    def _exchange_ms(self, tokens: float) -> float:
        """Two all-reduces of the activations per layer."""
        if self.gpus < 2:
            return 0.0
        sent = 2 * (self.gpus - 1) / self.gpus * tokens * self.hidden_size * self.activation_bytes
        return 2 * self.layers * (self.exchange_ms + 1e3 * sent / (self.link_gb_per_s * 1e9))
