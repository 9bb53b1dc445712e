"""Settings of the inference engine that change how fast a replica is: part of what a profile is of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum


class ChunkedPrefill(StrEnum):
    """Whether long prompts are prefilled in pieces between decodes. Default: what the engine does by itself."""

    DEFAULT = "Default"
    ENABLED = "Enabled"
    DISABLED = "Disabled"


@dataclass(frozen=True, slots=True)
class SpeculativeDecoding:
    """A draft of `tokens` tokens a step, of which each is accepted with `acceptance_rate` (0..1)."""

    tokens: int
    acceptance_rate: float
    method: str = "ngram"
    draft_model: str = ""

    @property
    def short(self) -> str:
        """For names: spec3, with the method unless it is n-grams, and a digest of the drafting model's name."""
        draft = hashlib.sha256(self.draft_model.encode()).hexdigest()[:4] if self.draft_model else ""
        return "-".join(part for part in (f"spec{self.tokens}", self.method.removeprefix("ngram"), draft) if part)

    @property
    def tokens_per_step(self) -> float:
        """Expected tokens of one step: the accepted prefix and one more.

        (1 − aᵏ⁺¹)/(1 − a) for independent acceptance (Leviathan et al. 2023, arXiv 2211.17192, eq. 1).
        """
        a, k = self.acceptance_rate, self.tokens
        return k + 1.0 if a >= 1.0 else (1.0 - a ** (k + 1)) / (1.0 - a)


@dataclass(frozen=True, slots=True)
class EngineFlags:
    """Flags of the engine; the defaults are what it does by itself.

    Attributes:
        quantization: how weights are held, as vLLM names it ("fp8", "awq", ...); empty: as in the checkpoint.
        kv_cache_dtype: how the KV cache is held ("fp8", ...); empty: as the model's activations.
        speculative: None: off.
        chunked_prefill: see `ChunkedPrefill`.
    """

    quantization: str = ""
    kv_cache_dtype: str = ""
    speculative: SpeculativeDecoding | None = None
    chunked_prefill: ChunkedPrefill = ChunkedPrefill.DEFAULT

    def __str__(self) -> str:
        """A short form for names, a DNS label: fp8-kvfp8-spec3; empty without flags."""
        parts = [
            self.quantization,
            f"kv{self.kv_cache_dtype}" if self.kv_cache_dtype else "",
            self.speculative.short if self.speculative else "",
            {"Default": "", "Enabled": "chunked", "Disabled": "unchunked"}[self.chunked_prefill.value],
        ]
        return "-".join(part for part in parts if part).replace("_", "-").lower()


NO_FLAGS = EngineFlags()
