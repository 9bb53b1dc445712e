from __future__ import annotations

import pytest

from medley.model.errors import UserError
from medley.profiles.model_facts import Attention, known_models, model_facts

LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
QWEN_MOE = {
    "model_type": "qwen2_moe",  # Qwen1.5-MoE-A2.7B
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "moe_intermediate_size": 1408,
    "shared_expert_intermediate_size": 5632,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "num_experts": 60,
    "num_experts_per_tok": 4,
    "decoder_sparse_step": 1,
    "vocab_size": 151936,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
DEEPSEEK_V2_LITE = {
    "model_type": "deepseek_v2",
    "hidden_size": 2048,
    "intermediate_size": 10944,
    "moe_intermediate_size": 1408,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "kv_lora_rank": 512,
    "q_lora_rank": None,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "vocab_size": 102400,
    "max_position_embeddings": 163840,
    "torch_dtype": "bfloat16",
}
GEMMA3_4B = {
    "model_type": "gemma3",
    "torch_dtype": "bfloat16",
    "text_config": {
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "sliding_window": 1024,
    },
    "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27},
}
PHI3_MINI = {
    "model_type": "phi3",
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32064,
    "max_position_embeddings": 4096,
    "sliding_window": 2047,
    "torch_dtype": "bfloat16",
}


# Billions, as the model cards state them.
@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 8.03, 8.03),
        ("meta-llama/Llama-3.3-70B-Instruct", 70.6, 70.6),
        ("meta-llama/Llama-3.2-1B-Instruct", 1.24, 1.24),
        ("meta-llama/Llama-3.2-3B-Instruct", 3.21, 3.21),
        ("Qwen/Qwen2.5-7B-Instruct", 7.62, 7.62),
        ("Qwen/Qwen2.5-14B-Instruct", 14.8, 14.8),
        ("Qwen/Qwen2.5-32B-Instruct", 32.8, 32.8),
        ("Qwen/Qwen2.5-72B-Instruct", 72.7, 72.7),
        ("Qwen/Qwen3-8B", 8.19, 8.19),
        ("Qwen/Qwen3-32B", 32.8, 32.8),
        ("Qwen/Qwen3-30B-A3B", 30.5, 3.3),
        ("mistralai/Mistral-7B-Instruct-v0.3", 7.25, 7.25),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 46.7, 12.9),
        ("deepseek-ai/DeepSeek-V3", 671, 37),
        ("google/gemma-2-9b-it", 9.24, 9.24),
    ],
)
def test_counts_are_the_published_ones(name: str, total: float, active: float) -> None:
    facts = known_models()[name]
    assert facts.parameters == pytest.approx(total * 1e9, rel=0.02)
    assert facts.active_parameters == pytest.approx(active * 1e9, rel=0.02)


@pytest.mark.parametrize(
    ("name", "total", "active"), [("openai/gpt-oss-20b", 20.9, 3.6), ("openai/gpt-oss-120b", 116.8, 5.1)]
)
def test_openai_does_not_count_the_input_embedding_as_active(name: str, total: float, active: float) -> None:
    facts = known_models()[name]
    assert facts.parameters == pytest.approx(total * 1e9, rel=0.02)
    assert facts.multiplied_parameters == pytest.approx(active * 1e9, rel=0.02)


def test_exact_counts_where_they_are_published() -> None:
    # model.safetensors.index.json: total_size / 2 bytes.
    assert known_models()["meta-llama/Llama-3.1-8B-Instruct"].parameters == 8_030_261_248
    assert known_models()["Qwen/Qwen2.5-7B-Instruct"].parameters == 7_615_616_512
    assert known_models()["google/gemma-2-9b-it"].parameters == 9_241_705_984


@pytest.mark.parametrize(
    ("config", "total", "active"),
    [
        (QWEN_MOE, 14.3, 2.7),
        (DEEPSEEK_V2_LITE, 15.7, 2.66),
        (GEMMA3_4B, 3.88, 3.88),
        (PHI3_MINI, 3.82, 3.82),
    ],
)
def test_other_layouts(config: dict[str, object], total: float, active: float) -> None:
    facts = model_facts(config, "m")
    assert facts.parameters == pytest.approx(total * 1e9, rel=0.02)
    assert facts.active_parameters == pytest.approx(active * 1e9, rel=0.02)


@pytest.mark.parametrize(
    ("name", "bytes_per_token"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 131_072),
        ("meta-llama/Llama-3.3-70B-Instruct", 327_680),
        ("Qwen/Qwen2.5-7B-Instruct", 57_344),
        ("deepseek-ai/DeepSeek-V3", 61 * 576 * 2),
    ],
)
def test_kv_cache_per_token_in_16_bits(name: str, bytes_per_token: int) -> None:
    facts = known_models()[name]
    assert facts.kv_bytes_per_token(2) == bytes_per_token
    assert facts.kv_bytes_per_token(1) == bytes_per_token / 2


def test_attention_kinds() -> None:
    assert model_facts(LLAMA).attention is Attention.GQA
    assert model_facts({**LLAMA, "num_key_value_heads": None}).attention is Attention.MHA
    mla = known_models()["deepseek-ai/DeepSeek-V3"]
    assert (mla.attention, mla.head_dim, mla.experts, mla.experts_per_token) == (Attention.MLA, 192, 256, 8)


def test_head_dim_is_declared_or_follows() -> None:
    assert model_facts(LLAMA).head_dim == 128
    assert known_models()["Qwen/Qwen3-30B-A3B"].head_dim == 128


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 16.06),
        ("openai/gpt-oss-20b", 13.76),  # published checkpoints: 12.8 and 60.8 GiB
        ("openai/gpt-oss-120b", 65.28),
    ],
)
def test_weight_bytes_are_the_checkpoints(name: str, gigabytes: float) -> None:
    assert known_models()[name].weight_bytes == pytest.approx(gigabytes * 1e9, rel=0.01)


@pytest.mark.parametrize(
    ("quantisation", "label", "linear_bytes"),
    [
        ({"quant_method": "fp8"}, "fp8", 1.0),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8", 1.0),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4", 0.5625),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq 4-bit", 0.5 + 2.5 / 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "gptq 8-bit", 1.0),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes 4-bit", 0.5625),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes 8-bit", 1.0),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 128}}},
            },
            "int4",
            0.5 + 2 / 128,
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float", "group_size": None}}},
            },
            "fp8",
            1.0,
        ),
    ],
)
def test_quantised_weights(quantisation: dict[str, object], label: str, linear_bytes: float) -> None:
    facts = model_facts({**LLAMA, "quantization_config": quantisation})
    kept = 2 * 128256 * 4096 + 65 * 4096  # embedding, output head and norms stay in 16 bits
    assert facts.weight_dtype == label
    assert facts.weight_bytes == pytest.approx(2 * kept + linear_bytes * (facts.parameters - kept))
    assert facts.bytes_per_parameter < 1.2


def test_declared_types() -> None:
    assert model_facts({**LLAMA, "torch_dtype": "float16"}).bytes_per_parameter == 2
    assert model_facts({**LLAMA, "torch_dtype": None, "dtype": "bfloat16"}).weight_dtype == "bfloat16"
    wide = model_facts({**LLAMA, "torch_dtype": "float32"})
    assert wide.bytes_per_parameter == 4
    assert "16 bits" in wide.notes[0]
    assert "assumed" in model_facts({**LLAMA, "torch_dtype": None}).notes[0]


def test_sliding_windows_are_facts_and_do_not_shrink_the_kv_cache() -> None:
    gemma = known_models()["google/gemma-2-9b-it"]
    assert (gemma.sliding_window, gemma.sliding_layers) == (4096, 21)
    assert gemma.kv_bytes_per_token(2) == 2 * 42 * 8 * 256 * 2
    assert known_models()["openai/gpt-oss-20b"].sliding_layers == 12
    assert model_facts(GEMMA3_4B).sliding_layers == 29
    assert model_facts({**LLAMA, "model_type": "mistral", "sliding_window": 4096}).sliding_layers == 32
    kinds = ["sliding_attention", "full_attention"] * 16
    assert model_facts({**LLAMA, "sliding_window": 4096, "layer_types": kinds}).sliding_layers == 16


def test_a_window_that_is_switched_off_is_none() -> None:
    qwen = known_models()["Qwen/Qwen2.5-7B-Instruct"]
    assert (qwen.sliding_window, qwen.sliding_layers) == (None, 0)


def test_tied_embeddings_count_once_and_are_multiplied() -> None:
    tied = model_facts({**LLAMA, "tie_word_embeddings": True})
    assert tied.parameters == model_facts(LLAMA).parameters - 128256 * 4096
    assert tied.multiplied_parameters == tied.parameters


def test_multimodal_configs_count_the_text_model_and_say_so() -> None:
    facts = model_facts({"model_type": "llava", "text_config": LLAMA, "torch_dtype": "float16"}, "l")
    assert facts.parameters == model_facts(LLAMA).parameters
    assert "only the text model" in facts.notes[0]


def test_an_unknown_type_with_llamas_fields_is_counted_with_a_note() -> None:
    facts = model_facts({**LLAMA, "model_type": "new"})
    assert facts.parameters == model_facts(LLAMA).parameters
    assert facts.notes == ("model_type 'new' is not known: counted as llama from its fields",)
    moe = model_facts({**DEEPSEEK_V2_LITE, "model_type": "new"})
    assert moe.parameters == model_facts(DEEPSEEK_V2_LITE).parameters


def test_the_name_is_given_or_the_configs_own() -> None:
    assert model_facts({**LLAMA, "_name_or_path": "a/b"}).name == "a/b"
    assert model_facts({**LLAMA, "_name_or_path": "a/b"}, "mine").name == "mine"
    assert all(name == facts.name for name, facts in known_models().items())
    assert all(not facts.notes or facts.name.startswith("deepseek") for facts in known_models().values())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_hidden_layers": None}, "num_hidden_layers: is missing"),
        ({"vocab_size": None}, "vocab_size: is missing"),
        ({"intermediate_size": None}, "intermediate_size: is missing"),
        ({"max_position_embeddings": None}, "max_position_embeddings: is missing"),
        ({"hidden_size": "4096"}, "hidden_size: '4096' must be a whole number"),
        ({"hidden_size": True}, "hidden_size"),
        ({"hidden_size": 4096.0}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: 0 must be"),
        ({"num_key_value_heads": 5}, "num_key_value_heads: 5 does not divide num_attention_heads 32"),
        ({"num_attention_heads": 24, "num_key_value_heads": 8}, "head_dim: is missing"),
        ({"num_local_experts": 8}, "num_experts_per_tok: is missing"),
        ({"num_local_experts": 8, "num_experts_per_tok": 9}, "9 is more than the 8 experts"),
        ({"first_k_dense_replace": -1, "num_experts": 8, "num_experts_per_tok": 2}, "first_k_dense_replace"),
        ({"kv_lora_rank": 512}, "qk_rope_head_dim: is missing"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings"),
        ({"torch_dtype": "int3"}, "torch_dtype: 'int3' is not one of"),
        ({"quantization_config": "fp8"}, "quantization_config: must be an object"),
        ({"quantization_config": {"quant_method": "exl2"}}, "quantization_config.quant_method: 'exl2' is not known"),
        ({"quantization_config": {"quant_method": "compressed-tensors"}}, "config_groups: has no group"),
        ({"text_config": []}, "text_config: must be an object"),
        ({"layer_types": "sliding", "sliding_window": 128}, "layer_types: must be a list"),
        ({"model_type": "jamba", "mamba_d_state": 16}, "mamba_d_state: layers other than attention"),
        ({"model_type": "qwen3_next", "linear_num_key_heads": 16}, "linear_num_key_heads"),
        ({"model_type": "hybrid", "layer_types": ["linear_attention"]}, "layer_types: layers of kind"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "is_encoder_decoder"),
    ],
)
def test_bad_configs_are_refused_with_file_and_field(change: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=r"^mine: config.json: ") as caught:
        model_facts({**LLAMA, **change}, "mine")
    assert says in str(caught.value)
    assert caught.value.field.startswith("mine: config.json: ")
