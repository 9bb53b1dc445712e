"""Writes reference throughput grids computed by NVIDIA's aiconfigurator, to hold Medley's own estimate against.

Not run by the build, and not with the project's environment: aiconfigurator pulls in pandas, pyarrow, bokeh and more.

    uv venv /tmp/aic && uv pip install --python /tmp/aic aiconfigurator==0.12.0
    /tmp/aic/bin/python hack/aiconfigurator_grids.py --out tests/data/aiconfigurator_grids.csv

For each model, GPU, tensor-parallel size, TPOT objective and request size it looks for the largest batch that fits
memory with a mean TPOT inside the objective, and writes what aiconfigurator says about that batch. What the columns
mean, and how the figures were made, is in tests/data/README-aiconfigurator.md. `--facts FILE` writes the facts on
models and databases that the README holds.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import json
import logging
import math
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import aiconfigurator_core
from aiconfigurator.sdk.inference_session import InferenceSession
from aiconfigurator_core.sdk.backends.factory import get_backend
from aiconfigurator_core.sdk.common import FMHAQuantMode, GEMMQuantMode, KVCacheQuantMode, MoEQuantMode
from aiconfigurator_core.sdk.config import ModelConfig, RuntimeConfig
from aiconfigurator_core.sdk.models import get_model, resolve_context_fmha_by_data
from aiconfigurator_core.sdk.perf_database import get_database_view, get_latest_database_version

BACKEND = "vllm"
GPUS = {  # our catalogue's name: aiconfigurator's system
    "A100-80": "a100_sxm",
    "L40S": "l40s",
    "H100": "h100_sxm",
    "H200": "h200_sxm",
    "B200": "b200_sxm",
    "B300": "b300_sxm",
    "RTX-PRO-6000": "rtx_pro_6000_server",
}
FAST = {"H100", "H200", "B200", "B300"}  # also held to the tightest objective
INPUTS = (128, 512, 1024, 2048, 4096, 8192)
OUTPUTS = (64, 128, 256, 512, 1024)
TPOT_OBJECTIVES_MS = (120.0, 40.0)
FAST_TPOT_OBJECTIVE_MS = 15.0
MAX_BATCH = 256  # vLLM's max_num_seqs in an ordinary deployment
MAX_STEP_TOKENS = 8192  # vLLM's max_num_batched_tokens on a large GPU
COLUMNS = (
    "model",
    "gpu",
    "tensor_parallel_size",
    "weights_dtype",
    "kv_dtype",
    "tpot_objective_ms",
    "input_tokens",
    "output_tokens",
    "batch",
    "tpot_ms",
    "ttft_ms",
    "requests_per_second",
    "limit",
)


@dataclass(frozen=True)
class Model:
    """One model in one precision, and the deployments asked for.

    Attributes:
        name: what the rows call it.
        path: the id aiconfigurator knows it by; a file of its package where it no longer lists the id; or empty.
        deployments: GPU name -> tensor-parallel sizes.
        weights: bf16, fp8, or fp8-block (as DeepSeek-V3 is published).
        kv: bf16 or fp8.
        config: the published config.json in short, for a model that aiconfigurator's package has no file of.
    """

    name: str
    path: str
    deployments: dict[str, tuple[int, ...]]
    weights: str = "bf16"
    kv: str = "bf16"
    config: dict[str, Any] | None = None


def _qwen25(layers: int, hidden: int, heads: int, kv_heads: int, intermediate: int) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "torch_dtype": "bfloat16",
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": intermediate,
        "vocab_size": 152064,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
    }


SMALL = dict.fromkeys(GPUS, (1,))
SMALL_BOTH = dict.fromkeys(GPUS, (1, 2))
# Tensor-parallel sizes are the smallest that hold the weights with room for a batch, and here and there the next one.
MODELS = (
    Model("Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-8B", SMALL_BOTH),
    Model("Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-8B", {"H100": (1,), "L40S": (1,)}, weights="fp8", kv="fp8"),
    Model("Qwen2.5-7B", "", SMALL, config=_qwen25(28, 3584, 28, 4, 18944)),
    Model("Qwen3-8B", "Qwen/Qwen3-8B", {"A100-80": (1,), "L40S": (1,), "H100": (1,), "B200": (1,)}),
    Model(
        "Qwen2.5-32B",
        "",
        {"A100-80": (1, 2), "L40S": (2, 4), "H100": (1, 2), "H200": (1,), "B200": (1,), "RTX-PRO-6000": (1, 2)},
        config=_qwen25(64, 5120, 40, 8, 27648),
    ),
    Model(
        "Llama-3.1-70B",
        "meta-llama/Meta-Llama-3.1-70B",
        {
            "A100-80": (4,),
            "L40S": (4, 8),
            "H100": (4, 8),
            "H200": (2, 4),
            "B200": (1, 2),
            "B300": (1,),
            "RTX-PRO-6000": (2, 4),
        },
    ),
    Model("Qwen3-30B-A3B", "Qwen/Qwen3-30B-A3B", {**SMALL, "L40S": (2,), "H100": (1, 2)}),
    Model(
        "Mixtral-8x7B",
        "mistralai--Mixtral-8x7B-v0.1_config.json",
        {"A100-80": (2,), "L40S": (4,), "H100": (2,), "H200": (1,), "B200": (1,), "RTX-PRO-6000": (2,)},
    ),
    Model("DeepSeek-V3", "deepseek-ai/DeepSeek-V3", {"H200": (8,), "B200": (8,), "B300": (4,)}, weights="fp8-block"),
)
PRECISIONS = {
    "bf16": (GEMMQuantMode.bfloat16, MoEQuantMode.bfloat16),
    "fp8": (GEMMQuantMode.fp8, MoEQuantMode.fp8),
    "fp8-block": (GEMMQuantMode.fp8_block, MoEQuantMode.fp8_block),
}
KV_PRECISIONS = {"bf16": KVCacheQuantMode.bfloat16, "fp8": KVCacheQuantMode.fp8}


@dataclass(frozen=True)
class Point:
    """What aiconfigurator says about one batch."""

    batch: int
    tpot_ms: float
    ttft_ms: float
    requests_per_second: float
    fits: bool


class Deployment:
    """One model on one GPU type with one tensor-parallel size: a session of aiconfigurator's, kept open."""

    def __init__(self, model: Model, path: str, gpu: str, tensor_parallel_size: int):
        system = GPUS[gpu]
        self.version = get_latest_database_version(system, BACKEND)
        database = get_database_view(system, BACKEND, self.version, database_mode="SILICON")
        gemm, moe = PRECISIONS[model.weights]
        config = ModelConfig(
            tp_size=tensor_parallel_size,
            moe_tp_size=tensor_parallel_size,
            moe_ep_size=1,
            gemm_quant_mode=gemm,
            moe_quant_mode=moe,
            kvcache_quant_mode=KV_PRECISIONS[model.kv],
            fmha_quant_mode=FMHAQuantMode.bfloat16,
        )
        resolve_context_fmha_by_data(config, path, database, BACKEND, is_context_role=True)
        self.model = get_model(path, config, BACKEND)
        self.session = InferenceSession(self.model, database, get_backend(BACKEND))

    def summary(self, input_tokens: int, output_tokens: int, batch: int) -> Any:
        """What aiconfigurator says about one batch: its summary object.

        Its aggregated mode wants the prompt tokens of a step that prefills. A steady state of b requests admits b/o
        per step, so ceil(b/o) whole prompts, as far as the engine's token budget goes. (One prompt, its default, would
        starve a batch larger than the output.)
        """
        prompts = max(1, min(math.ceil(batch / output_tokens), MAX_STEP_TOKENS // input_tokens))
        runtime = RuntimeConfig(isl=input_tokens, osl=output_tokens, batch_size=batch)
        return self.session.run_agg(runtime, ctx_tokens=prompts * input_tokens)

    def point(self, input_tokens: int, output_tokens: int, batch: int) -> Point:
        """The figures of one batch that the rows are made of."""
        summary = self.summary(input_tokens, output_tokens, batch)
        figures = summary.get_result_dict()
        return Point(
            batch=batch,
            tpot_ms=float(figures["tpot"]),
            ttft_ms=float(figures["ttft"]),
            requests_per_second=float(figures["seq/s"]),
            fits=not summary.check_oom() and not summary.check_kv_cache_oom(),
        )

    def best(self, input_tokens: int, output_tokens: int, objective_ms: float) -> tuple[Point | None, str]:
        """The largest batch within memory and the objective (None if not even one request is), and what bounds it."""

        def ask(batch: int) -> tuple[Point, str]:
            point = self.point(input_tokens, output_tokens, batch)
            return point, "memory" if not point.fits else "tpot" if point.tpot_ms > objective_ms else ""

        found: Point | None = None
        low, high, limit = 0, 1, "batch"
        while high <= MAX_BATCH:
            point, why = ask(high)
            if why:
                limit = why
                break
            found, low, high = point, high, high * 2
        while limit != "batch" and high - low > 1:
            middle = (low + high) // 2
            point, why = ask(middle)
            if why:
                high, limit = middle, why
            else:
                found, low = point, middle
        return found, limit


def objectives(gpu: str) -> tuple[float, ...]:
    return (*TPOT_OBJECTIVES_MS, FAST_TPOT_OBJECTIVE_MS) if gpu in FAST else TPOT_OBJECTIVES_MS


def model_path(model: Model, folder: pathlib.Path) -> str:
    """What aiconfigurator is given: an id it knows, or a folder with a config.json."""
    if "/" in model.path:
        return model.path
    target = folder / model.name
    target.mkdir(exist_ok=True)
    if model.config:
        (target / "config.json").write_text(json.dumps(model.config))
    else:
        package = pathlib.Path(aiconfigurator_core.__file__).parent
        shutil.copy(package / "model_configs" / model.path, target / "config.json")
    return str(target)


def deployments(folder: pathlib.Path) -> Iterator[tuple[Model, str, int, Deployment]]:
    """Every deployment that aiconfigurator can price; the others are reported on stderr."""
    for model in MODELS:
        for gpu, sizes in model.deployments.items():
            for tensor_parallel_size in sizes:
                label = f"{model.name} {model.weights} {gpu} x{tensor_parallel_size}"
                try:
                    deployment = Deployment(model, model_path(model, folder), gpu, tensor_parallel_size)
                    smallest = deployment.point(INPUTS[0], OUTPUTS[0], 1)
                except Exception as error:  # aiconfigurator raises its own kinds and bare ones
                    print(f"{label}: skipped, {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
                    continue
                if not smallest.fits:
                    print(f"{label}: skipped, does not fit", file=sys.stderr)
                    continue
                yield model, gpu, tensor_parallel_size, deployment


def rows(model: Model, gpu: str, tensor_parallel_size: int, deployment: Deployment) -> Iterator[list[object]]:
    for objective_ms in objectives(gpu):
        for input_tokens in INPUTS:
            for output_tokens in OUTPUTS:
                point, limit = deployment.best(input_tokens, output_tokens, objective_ms)
                figures = (
                    [point.batch, f"{point.tpot_ms:.4g}", f"{point.ttft_ms:.4g}", f"{point.requests_per_second:.4g}"]
                    if point
                    else [0, "", "", 0]
                )
                yield [
                    *(model.name, gpu, tensor_parallel_size, model.weights, model.kv),
                    *(f"{objective_ms:g}", input_tokens, output_tokens),
                    *(*figures, limit),
                ]


def model_facts(deployment: Deployment, tensor_parallel_size: int) -> dict[str, object]:
    model = deployment.model
    memory = deployment.session._backend._get_memory_usage(
        model, deployment.session._database, 1, 1, INPUTS[0], OUTPUTS[0], num_tokens=INPUTS[0]
    )
    return {
        "layers": model._num_layers,
        "hidden": model._hidden_size,
        "heads": model._num_heads,
        "kv_heads": model._num_kv_heads,
        "head_dim": model._head_size,
        "intermediate": model._inter_size,
        "vocabulary": model._vocab_size,
        "experts": getattr(model, "_num_experts", 0) or 0,
        "experts_per_token": getattr(model, "_topk", 0) or 0,
        "moe_intermediate": getattr(model, "_moe_inter_size", 0) or 0,
        "weights_gib_per_gpu": round(float(memory["weights"]), 3),
        "kv_bytes_per_token_per_gpu": round(float(model.get_kvcache_bytes_per_sequence(1000)) / 1000, 1),
        "tensor_parallel_size": tensor_parallel_size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the CSV to write")
    parser.add_argument("--facts", type=pathlib.Path, help="a JSON file for facts on the models and databases")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    facts: dict[str, Any] = {
        "aiconfigurator": importlib.metadata.version("aiconfigurator"),
        "databases": {},
        "models": {},
    }
    count = 0
    with tempfile.TemporaryDirectory() as folder, arguments.out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for model, gpu, tensor_parallel_size, deployment in deployments(pathlib.Path(folder)):
            facts["databases"][gpu] = f"{GPUS[gpu]} {BACKEND} {deployment.version}"
            facts["models"].setdefault(f"{model.name} {model.weights}", model_facts(deployment, tensor_parallel_size))
            for row in rows(model, gpu, tensor_parallel_size, deployment):
                writer.writerow(row)
                count += 1
    if arguments.facts:
        arguments.facts.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"{count} rows, {arguments.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
