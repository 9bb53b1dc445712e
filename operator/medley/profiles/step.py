"""The linear step model: how long one engine step takes.

An engine with continuous batching works in steps. A step in which b sequences decode, holding C tokens of KV cache
together, while P prompt tokens are prefilled, takes

    step(b, C, P) = α + β·b + γ·C + π·P        [ms]

(the form llm-d's autoscaler and Splitwise fit to measurements: iteration = alpha + batch·(beta + gamma·context)), so
that the mean step of a steady state with b running requests of size (i, o) is

    s(b) = α + b·(β + γ·(i + o/2) + π·i/o).
"""

from __future__ import annotations

from dataclasses import dataclass

from medley.model.workload import Size
from medley.profiles.latency import LatencyTarget, Throughput
from medley.profiles.steady import highest_steady_rate, mean_step_ms


@dataclass(frozen=True, slots=True)
class StepModel:
    """Constants of `step(b, C, P)`; see the module's text.

    Attributes:
        base_ms: α, ms of a step whatever it does.
        per_sequence_ms: β, ms per sequence that decodes in the step.
        per_context_token_ms: γ, ms per token of KV cache read in the step.
        prefill_ms_per_token: π, ms per prompt token prefilled in the step.
        kv_capacity_tokens: tokens that the KV cache holds.
        max_batch: most sequences running at once (vLLM: max_num_seqs).
    """

    base_ms: float
    per_sequence_ms: float
    per_context_token_ms: float
    prefill_ms_per_token: float
    kv_capacity_tokens: int
    max_batch: int = 256

    def step_ms(self, *, sequences: float, context_tokens: float, prefill_tokens: float = 0.0) -> float:
        """Milliseconds of one step with this load."""
        return (
            self.base_ms
            + self.per_sequence_ms * sequences
            + self.per_context_token_ms * context_tokens
            + self.prefill_ms_per_token * prefill_tokens
        )

    def decode_ms(self, size: Size, batch: float) -> float:
        """A step in which `batch` requests of this size decode, half done on average."""
        context = batch * (size.input_tokens + max(size.output_tokens, 1.0) / 2)
        return self.step_ms(sequences=batch, context_tokens=context)

    def mean_step_ms(self, size: Size, batch: float) -> float:
        """Mean step of a steady state with `batch` running requests of this size: s(b)."""
        return mean_step_ms(self, size, batch)

    def held_tokens(self, size: Size) -> float:
        """KV cache that a running request counts for: what it holds on average."""
        return size.input_tokens + size.output_tokens / 2

    def prefill_ms(self, input_tokens: float) -> float:
        """What the prefill of one prompt adds to steps."""
        return self.prefill_ms_per_token * input_tokens

    def max_throughput(self, size: Size, target: LatencyTarget) -> Throughput:
        """Highest steady rate of requests of this size on one replica that keeps the target."""
        return highest_steady_rate(self, size, target)
