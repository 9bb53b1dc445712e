"""Facts about a model that its Hugging Face config.json states: sizes, attention, KV cache, weight bytes.

Parameters are counted, not looked up: attention, MLP or experts, norms, embeddings, as the architecture lays them out.
The layout is read from the fields that are there (kv_lora_rank: MLA; an expert count: mixture of experts), and
`model_type` only adds what fields do not say (biases, norms, tied embeddings). Counts are within 2 % of the published
ones (tests/unit/test_model_facts.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib import resources
from types import MappingProxyType

from medley.model.errors import UserError


class Attention(StrEnum):
    """What the KV cache holds per token: each head's K and V, each group's, or one latent vector."""

    MHA = "MHA"
    GQA = "GQA"
    MLA = "MLA"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model.

    Attributes:
        name: as in the serving engine, usually the Hugging Face name.
        model_type: the config's.
        parameters: all of them; of a multimodal model, those of the text model.
        active_parameters: those of one token's path: all but the experts that it is not routed to. The input embedding
            is included, as Mistral, Qwen and DeepSeek count it; OpenAI does not (see `multiplied_parameters`).
        embedding_parameters: an input embedding of its own, of which a token reads one row; 0 where it is also the
            output head.
        layers: decoder layers.
        hidden_size: width of the residual stream.
        attention_heads: query heads.
        kv_heads: heads of K and V as declared. With MLA the cache does not depend on it, and is not split among
            tensor-parallel GPUs but copied.
        head_dim: width of a query head.
        attention: see `Attention`.
        kv_elements_per_token: numbers in the KV cache for one token, in all layers.
        weight_dtype: as declared: torch_dtype, or the quantisation method.
        weight_bytes: bytes of all weights, quantised ones with their scales.
        max_position_embeddings: longest context declared, tokens.
        vocab_size: tokens of the vocabulary.
        sliding_window: tokens that sliding layers look back on; None without such layers. A fact only: the KV cache is
            counted as if every layer kept every token, which is exact up to the window and an upper estimate beyond.
        sliding_layers: layers to which the window applies.
        experts: routed experts per layer; 0 in a dense model.
        experts_per_token: routed experts that one token uses.
        notes: what had to be assumed or was left out.
    """

    name: str
    model_type: str
    parameters: int
    active_parameters: int
    embedding_parameters: int
    layers: int
    hidden_size: int
    attention_heads: int
    kv_heads: int
    head_dim: int
    attention: Attention
    kv_elements_per_token: int
    weight_dtype: str
    weight_bytes: float
    max_position_embeddings: int
    vocab_size: int
    sliding_window: int | None = None
    sliding_layers: int = 0
    experts: int = 0
    experts_per_token: int = 0
    notes: tuple[str, ...] = ()

    @property
    def bytes_per_parameter(self) -> float:
        """Mean over all weights: quantised models keep some in 16 bits."""
        return self.weight_bytes / self.parameters

    @property
    def multiplied_parameters(self) -> int:
        """Weights that one token is multiplied with: twice this many operations, attention scores not counted."""
        return self.active_parameters - self.embedding_parameters

    def kv_bytes_per_token(self, kv_bytes: float) -> float:
        """KV cache of one token in all layers, with so many bytes per number (2 for 16 bits, 1 for fp8)."""
        return self.kv_elements_per_token * kv_bytes


@dataclass(frozen=True, slots=True)
class _Family:
    """What the fields of a config do not say.

    Attributes:
        qkv_bias: Q, K and V have biases; None: where attention_bias says so.
        output_bias: so has the output projection; None: where attention_bias says so.
        qk_norm: Q and K heads are normalised.
        norms: RMS norms of the hidden size per layer.
        tied: the output head is the input embedding, where the config is silent.
        sinks: one learnt number per head (gpt-oss).
        expert_bias: experts and router have biases.
        window_used: sliding_window applies where use_sliding_window is silent.
        sliding_every: of so many layers in a row one is global, where the config lists no layer_types.
        defaults: fields that published configs leave out.
    """

    qkv_bias: bool | None = None
    output_bias: bool | None = None
    qk_norm: bool = False
    norms: int = 2
    tied: bool = False
    sinks: bool = False
    expert_bias: bool = False
    window_used: bool = True
    sliding_every: int | None = None
    defaults: Mapping[str, int] = field(default_factory=dict)


_LLAMA = _Family()
_GEMMA3 = _Family(
    qk_norm=True,
    norms=4,
    tied=True,
    sliding_every=6,
    defaults={
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262_208,
        "max_position_embeddings": 131_072,
    },
)
_QWEN2 = _Family(qkv_bias=True, output_bias=False, window_used=False)
_QWEN3 = _Family(qk_norm=True, window_used=False)
_FAMILIES: Mapping[str, _Family] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": _LLAMA,
    "phi3": _LLAMA,
    "qwen2": _QWEN2,
    "qwen2_moe": _QWEN2,
    "qwen3": _QWEN3,
    "qwen3_moe": _QWEN3,
    "gemma2": _Family(norms=4, tied=True, sliding_every=2),
    "gemma3": _GEMMA3,
    "gemma3_text": _GEMMA3,
    "deepseek_v2": _LLAMA,
    "deepseek_v3": _LLAMA,
    "gpt_oss": _Family(qkv_bias=True, output_bias=True, sinks=True, expert_bias=True, sliding_every=2),
}

_DTYPE_BYTES = {"bfloat16": 2.0, "float16": 2.0, "float32": 4.0, "float8_e4m3fn": 1.0}

# Each maker has its own name for the same fields.
_EXPERTS = ("num_local_experts", "n_routed_experts", "num_experts")
_EXPERTS_PER_TOKEN = ("num_experts_per_tok", "experts_per_token")

# Layers of these kinds keep a state instead of a KV cache: counting them as attention would be silently wrong.
_NOT_ATTENTION = ("mamba_", "linear_num_", "linear_attn", "ssm_", "block_configs", "hybrid_override_pattern")


@dataclass(frozen=True, slots=True)
class _Config:
    """A config's fields, with complaints that name file and field."""

    name: str
    fields: Mapping[str, object]

    def wrong(self, key: str, why: str, fix: str = "") -> UserError:
        return UserError(why, field=f"{self.name}: config.json: {key}", fix=fix)

    def count(self, *keys: str) -> int:
        """The first of these fields that is there; whole and 1 or more."""
        value = self.optional_count(*keys)
        if value is None:
            raise self.wrong(keys[0], "is missing")
        return value

    def optional_count(self, *keys: str) -> int | None:
        for key in keys:
            value = self.fields.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise self.wrong(key, f"{value!r} must be a whole number, 1 or more")
            return value
        return None

    def number(self, key: str, default: int) -> int:
        """A whole number that may be 0."""
        value = self.fields.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.wrong(key, f"{value!r} must be a whole number, 0 or more")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.fields.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(key, f"{value!r} must be true or false")
        return value

    def listed(self, key: str) -> Sequence[object]:
        value = self.fields.get(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self.wrong(key, "must be a list")
        return value


@dataclass(frozen=True, slots=True)
class _Counts:
    """Parameters by how they are quantised and by how many of them a token meets."""

    embedding: int
    head: int
    linear: int
    experts: int
    active_experts: int
    other: int


def model_facts(config: Mapping[str, object], name: str = "") -> ModelFacts:
    """The facts in a parsed config.json.

    Args:
        config: the parsed file.
        name: how to call the model; otherwise the config's own `_name_or_path`.

    Raises:
        UserError: a field is missing or makes no sense, or the architecture is one that cannot be counted.
    """
    notes: list[str] = []
    name = name or str(config.get("_name_or_path") or "model")
    fields = dict(config)
    text = config.get("text_config")
    if text is not None:
        if not isinstance(text, Mapping):
            raise UserError("must be an object", field=f"{name}: config.json: text_config")
        # The text model's own fields win; dtype and quantisation often stand outside only.
        fields = {**fields, **text}
        notes.append("multimodal: only the text model is counted")
    model_type = str(fields.get("model_type") or "")
    family = _FAMILIES.get(model_type)
    if family is None:
        _refuse_other_architectures(_Config(name, fields))
        family = _LLAMA
        notes.append(f"model_type {model_type!r} is not known: counted as llama from its fields")
    read = _Config(name, {**family.defaults, **{key: value for key, value in fields.items() if value is not None}})
    layers, hidden = read.count("num_hidden_layers"), read.count("hidden_size")
    heads = read.count("num_attention_heads")
    latent = read.optional_count("kv_lora_rank")
    kv_heads = read.optional_count("num_key_value_heads") or heads
    if heads % kv_heads:
        raise read.wrong("num_key_value_heads", f"{kv_heads} does not divide num_attention_heads {heads}")
    if latent is not None:
        rope = read.count("qk_rope_head_dim")
        head_dim, attention = read.count("qk_nope_head_dim") + rope, Attention.MLA
        kv_elements = layers * (latent + rope)
    else:
        head_dim = _head_dim(read, hidden, heads)
        attention = Attention.MHA if kv_heads == heads else Attention.GQA
        kv_elements = 2 * layers * kv_heads * head_dim
    experts = read.optional_count(*_EXPERTS) or 0
    experts_per_token = read.count(*_EXPERTS_PER_TOKEN) if experts else 0
    if experts_per_token > experts:
        raise read.wrong(_EXPERTS_PER_TOKEN[0], f"{experts_per_token} is more than the {experts} experts")
    if read.number("num_nextn_predict_layers", 0):
        notes.append("layers that predict further tokens (num_nextn_predict_layers) are not counted")
    counts = _count(read, family, head_dim, kv_heads)
    parameters = counts.embedding + counts.head + counts.linear + counts.experts + counts.other
    weight_dtype, weight_bytes = _weights(read, counts, notes)
    window, sliding_layers = _sliding(read, family, layers)
    return ModelFacts(
        name=name,
        model_type=model_type,
        parameters=parameters,
        active_parameters=parameters - counts.experts + counts.active_experts,
        embedding_parameters=counts.embedding if counts.head else 0,
        layers=layers,
        hidden_size=hidden,
        attention_heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        attention=attention,
        kv_elements_per_token=kv_elements,
        weight_dtype=weight_dtype,
        weight_bytes=weight_bytes,
        max_position_embeddings=read.count("max_position_embeddings"),
        vocab_size=read.count("vocab_size"),
        sliding_window=window,
        sliding_layers=sliding_layers,
        experts=experts,
        experts_per_token=experts_per_token,
        notes=tuple(notes),
    )


def _refuse_other_architectures(read: _Config) -> None:
    """An unknown model type may be counted as llama, unless its fields say that it is something else."""
    fix = f"Known model types: {', '.join(_FAMILIES)}"
    if read.flag("is_encoder_decoder"):
        raise read.wrong("is_encoder_decoder", "encoder-decoder models are not supported", fix)
    for key, value in read.fields.items():
        if value is not None and key.startswith(_NOT_ATTENTION):
            raise read.wrong(key, "layers other than attention are not supported", fix)
    for kind in read.listed("layer_types"):
        if kind not in ("full_attention", "sliding_attention"):
            raise read.wrong("layer_types", f"layers of kind {kind!r} are not supported", fix)


def _head_dim(read: _Config, hidden: int, heads: int) -> int:
    declared = read.optional_count("head_dim")
    if declared is not None:
        return declared
    if hidden % heads:
        raise read.wrong("head_dim", f"is missing, and num_attention_heads {heads} does not divide {hidden}")
    return hidden // heads


def _attention(read: _Config, family: _Family, head_dim: int, kv_heads: int) -> tuple[int, int]:
    """(linear, other) parameters of one layer's attention."""
    hidden, heads = read.count("hidden_size"), read.count("num_attention_heads")
    declared_bias = read.flag("attention_bias")
    latent = read.optional_count("kv_lora_rank")
    if latent is not None:
        rope, value = read.count("qk_rope_head_dim"), read.count("v_head_dim")
        query_rank = read.optional_count("q_lora_rank")
        query = hidden * heads * head_dim if query_rank is None else query_rank * (hidden + heads * head_dim)
        keys = hidden * (latent + rope) + latent * heads * (head_dim - rope + value)
        return query + keys + heads * value * hidden, latent + (query_rank or 0)
    wide, narrow = heads * head_dim, kv_heads * head_dim
    other = 0
    if declared_bias if family.qkv_bias is None else family.qkv_bias:
        other += wide + 2 * narrow
    if declared_bias if family.output_bias is None else family.output_bias:
        other += hidden
    if family.qk_norm:
        other += 2 * head_dim
    if family.sinks:
        other += heads
    return hidden * (2 * wide + 2 * narrow), other


def _expert_layers(read: _Config, layers: int) -> int:
    """How many layers have experts: some leave the first ones dense, some every other one."""
    first_dense, every = read.number("first_k_dense_replace", 0), read.optional_count("moe_layer_freq") or 1
    step, dense = read.optional_count("decoder_sparse_step") or 1, read.listed("mlp_only_layers")
    return sum(
        layer >= first_dense and layer % every == 0 and (layer + 1) % step == 0 and layer not in dense
        for layer in range(layers)
    )


def _count(read: _Config, family: _Family, head_dim: int, kv_heads: int) -> _Counts:
    hidden, layers = read.count("hidden_size"), read.count("num_hidden_layers")
    embedding = read.count("vocab_size") * hidden
    attention, other = _attention(read, family, head_dim, kv_heads)
    other = layers * (other + family.norms * hidden) + hidden
    linear = layers * attention
    experts = read.optional_count(*_EXPERTS)
    total = active = sparse = 0
    if experts is not None:
        sparse = _expert_layers(read, layers)
        # One expert's width has a field of its own only where dense layers stand beside it.
        width = read.count("moe_intermediate_size", "intermediate_size")
        one = 3 * hidden * width + (2 * width + hidden if family.expert_bias else 0)
        total, active = sparse * experts * one, sparse * read.count(*_EXPERTS_PER_TOKEN) * one
        other += sparse * experts * (hidden + family.expert_bias)
        shared = read.number("shared_expert_intermediate_size", 0)
        if shared:
            other += sparse * hidden  # its gate
        linear += sparse * 3 * hidden * (shared or read.number("n_shared_experts", 0) * width)
    if sparse < layers:
        wide = read.count("intermediate_size")
        linear += (layers - sparse) * 3 * hidden * wide
        if read.flag("mlp_bias"):
            other += (layers - sparse) * (2 * wide + hidden)
    head = 0 if read.flag("tie_word_embeddings", default=family.tied) else embedding
    return _Counts(embedding, head, linear, total, active, other)


def _sliding(read: _Config, family: _Family, layers: int) -> tuple[int | None, int]:
    """(window, layers it applies to); (None, 0) without."""
    window = read.optional_count("sliding_window")
    if window is None or not read.flag("use_sliding_window", default=family.window_used):
        return None, 0
    kinds = read.listed("layer_types")
    every = read.optional_count("sliding_window_pattern") or family.sliding_every
    if kinds:
        number = sum(kind == "sliding_attention" for kind in kinds)
    elif every is not None:
        number = layers - layers // every
    else:
        number = max(layers - read.number("max_window_layers", 0), 0)
    return (window, number) if number else (None, 0)


def _weights(read: _Config, counts: _Counts, notes: list[str]) -> tuple[str, float]:
    """(declared type, bytes of all weights).

    Quantisation leaves embeddings, output head, norms and routers in 16 bits; mxfp4 checkpoints (gpt-oss) quantise the
    experts only.
    """
    dtype = read.fields.get("torch_dtype") or read.fields.get("dtype")
    quantisation = read.fields.get("quantization_config")
    if dtype is None:
        dtype = "bfloat16"
        if quantisation is None:
            notes.append("no torch_dtype: bfloat16 assumed")
    dtype = str(dtype).removeprefix("torch.")
    if dtype not in _DTYPE_BYTES:
        raise read.wrong("torch_dtype", f"{dtype!r} is not one of {', '.join(_DTYPE_BYTES)}")
    if dtype == "float32":
        notes.append("float32 weights: engines commonly serve them in 16 bits")
    plain = _DTYPE_BYTES[dtype]
    everything = counts.embedding + counts.head + counts.linear + counts.experts + counts.other
    if quantisation is None:
        return dtype, everything * plain
    if not isinstance(quantisation, Mapping):
        raise read.wrong("quantization_config", "must be an object")
    label, size = _quantised(read, quantisation)
    quantised = counts.experts if label == "mxfp4" else counts.linear + counts.experts
    return label, (everything - quantised) * plain + quantised * size


def _quantised(read: _Config, settings: Mapping[str, object]) -> tuple[str, float]:
    """(label, bytes per quantised weight with its scales)."""
    method = str(settings.get("quant_method") or "").lower()
    inner = _Config(read.name, settings)
    if method == "compressed-tensors":
        return _compressed_tensors(read, settings)
    if method == "modelopt":
        method = {"FP8": "fp8", "NVFP4": "nvfp4"}.get(str(settings.get("quant_algo") or ""), "modelopt")
    if method in ("fp8", "fbgemm_fp8"):
        return "fp8", 1.0
    if method == "mxfp4":
        return "mxfp4", 0.5 + 1 / 32  # an 8-bit scale per 32 weights
    if method == "nvfp4":
        return "nvfp4", 0.5 + 1 / 16  # an fp8 scale per 16 weights
    if method in ("awq", "gptq"):
        bits, group = inner.optional_count("bits", "w_bit") or 4, _group(settings, 128)
        # A 16-bit scale and a zero point per group.
        return f"{method} {bits}-bit", bits / 8 + ((2 + bits / 8) / group if group else 0.0)
    if method == "bitsandbytes":
        if inner.flag("load_in_4bit"):
            # A 32-bit scale per 64 weights, or an 8-bit one with double quantisation.
            return "bitsandbytes 4-bit", 0.5 + (1 if inner.flag("bnb_4bit_use_double_quant") else 4) / 64
        return "bitsandbytes 8-bit", 1.0
    raise read.wrong(
        "quantization_config.quant_method",
        f"{method!r} is not known",
        "Known: fp8, fbgemm_fp8, mxfp4, awq, gptq, bitsandbytes, compressed-tensors, modelopt (FP8, NVFP4)",
    )


def _compressed_tensors(read: _Config, settings: Mapping[str, object]) -> tuple[str, float]:
    """The first group's weights: checkpoints with several groups are rare."""
    groups = settings.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, Mapping) else None
    weights = first.get("weights") if isinstance(first, Mapping) else None
    if not isinstance(weights, Mapping):
        raise read.wrong("quantization_config.config_groups", "has no group with weights")
    bits, group = _Config(read.name, weights).count("num_bits"), _group(weights, 0)
    if weights.get("type") == "float":
        # Four bits with float scales are nvfp4, whose scales are fp8.
        return f"fp{bits}", bits / 8 + (1 / group if group else 0.0)
    return f"int{bits}", bits / 8 + (2 / group if group else 0.0)


def _group(settings: Mapping[str, object], default: int) -> int:
    """Weights that share a scale; 0 (written as -1 or null): a whole row does."""
    value = settings.get("group_size", default)
    return value if isinstance(value, int) and value > 0 else 0


@cache
def known_models() -> Mapping[str, ModelFacts]:
    """The packaged models by their Hugging Face name."""
    made: dict[str, ModelFacts] = {}
    folder = resources.files("medley.profiles").joinpath("models")
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".json"):
            facts = model_facts(json.loads(entry.read_text(encoding="utf-8")))
            made[facts.name] = facts
    return MappingProxyType(made)
