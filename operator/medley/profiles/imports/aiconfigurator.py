"""Grids computed by NVIDIA's aiconfigurator from kernel times that were measured once per GPU type: no GPU is needed.

The package is an optional extra, and never part of the operator's image: it is large, and 0.12 is its last version
under this name. It is imported when asked for. Its TPOT is decode only (a request takes TTFT + TPOT·(o - 1)), its
figures are means of a steady state with a fixed batch, and it answers for a batch, not for a rate: for each size the
largest batch that fits memory and keeps the objectives is looked for.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import math
from dataclasses import dataclass
from typing import Any

from medley.model.errors import UserError
from medley.profiles.grid import Grid
from medley.profiles.imports.matrix import Axis, remarks
from medley.profiles.imports.result import Imported
from medley.profiles.latency import LatencyTarget

EXTRA = "Install the extra on a workstation (Linux x86-64): pip install 'medley[aiconfigurator]'"

SYSTEMS = {
    "A100-80": "a100_sxm",
    "L40S": "l40s",
    "H100": "h100_sxm",
    "H200": "h200_sxm",
    "B200": "b200_sxm",
    "B300": "b300_sxm",
    "RTX-PRO-6000": "rtx_pro_6000_server",
}
"""GPUs of the catalogue that it has measured kernel times of with vLLM, and what it calls them."""

WEIGHTS = {"bf16": ("bfloat16", "bfloat16"), "fp8": ("fp8", "fp8"), "fp8-block": ("fp8_block", "fp8_block")}
"""Precision of the weights: its names for dense and for expert layers."""

KV_CACHES = {"bf16": "bfloat16", "fp8": "fp8"}

INPUTS = (128, 512, 1024, 2048, 4096, 8192)
OUTPUTS = (64, 128, 256, 512, 1024)


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a grid is computed for.

    Attributes:
        model: id that aiconfigurator knows, or a folder with the model's config.json.
        system: aiconfigurator's name of the GPU system.
        tensor_parallel_size: GPUs of one replica.
        weights: bf16, fp8 or fp8-block.
        kv_cache: bf16 or fp8.
        max_batch: vLLM's max_num_seqs.
        max_step_tokens: vLLM's max_num_batched_tokens.
    """

    model: str
    system: str
    tensor_parallel_size: int = 1
    weights: str = "bf16"
    kv_cache: str = "bf16"
    max_batch: int = 256
    max_step_tokens: int = 8192


def estimate(
    deployment: Deployment,
    slo: LatencyTarget,
    inputs: tuple[int, ...] = INPUTS,
    outputs: tuple[int, ...] = OUTPUTS,
) -> Imported:
    """The grid of highest rates that aiconfigurator computes under an SLO.

    Raises:
        UserError: the package is not installed, or it has no answer for this deployment.
    """
    if slo.tpot_ms is None and slo.ttft_ms is None:
        raise UserError("a grid is made for an SLO", field="--slo", fix="Give one, as in --slo tpot=40ms,ttft=2s")
    engine = _Engine(deployment)
    rates = tuple(tuple(engine.highest_rate(i, o, slo) for o in outputs) for i in inputs)
    if not any(any(row) for row in rates):
        raise UserError(
            "no size can be served within memory and the SLO",
            field=f"{deployment.model} on {deployment.system} × {deployment.tensor_parallel_size}",
            fix="Loosen --slo, or use more GPUs per replica with --tp",
        )
    rows, columns = Axis("input", inputs), Axis("output", outputs)
    notes = (
        f"Computed, not measured: aiconfigurator {engine.package_version}, {deployment.system}, kernel times of vLLM "
        f"{engine.database_version}, weights {deployment.weights}, KV cache {deployment.kv_cache}.",
        "The objectives hold for means in a steady state: it knows no percentiles. Its TPOT is decode only already.",
        f"At most {deployment.max_batch} sequences and {deployment.max_step_tokens} tokens a step are assumed, as of "
        "vLLM's max-num-seqs and max-num-batched-tokens.",
        *remarks(rows, columns, rates),
    )
    grid = Grid(slo.tpot_ms, slo.ttft_ms, tuple(map(float, inputs)), tuple(map(float, outputs)), rates)
    return Imported(grid, notes, f"aiconfigurator {engine.package_version}", None, deployment.model)


class _Engine:
    """An open session: building it takes seconds, a question to it less than a millisecond."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        try:
            session = importlib.import_module("aiconfigurator.sdk.inference_session")
            common, config, models, database, factory = (
                importlib.import_module(f"aiconfigurator_core.sdk.{name}")
                for name in ("common", "config", "models", "perf_database", "backends.factory")
            )
        except ModuleNotFoundError as error:
            raise UserError(
                f"the Python package {error.name} is not installed", field="aiconfigurator", fix=EXTRA
            ) from None
        self.package_version = _version()
        try:
            gemm, experts = WEIGHTS[deployment.weights]
            kv_cache = KV_CACHES[deployment.kv_cache]
        except KeyError as error:
            fix = f"Weights: {', '.join(WEIGHTS)}; KV cache: {', '.join(KV_CACHES)}"
            raise UserError(
                f"{error.args[0]!r} is not a precision", field="--weights, --kv-cache-dtype", fix=fix
            ) from None
        self._runtime_config = config.RuntimeConfig
        # It raises its own kinds and bare ones, so all of them mean: no answer for this deployment.
        try:
            self.database_version = str(database.get_latest_database_version(deployment.system, "vllm"))
            view = database.get_database_view(deployment.system, "vllm", self.database_version, database_mode="SILICON")
            size = deployment.tensor_parallel_size
            model_config = config.ModelConfig(
                tp_size=size,
                moe_tp_size=size,
                moe_ep_size=1,
                gemm_quant_mode=getattr(common.GEMMQuantMode, gemm),
                moe_quant_mode=getattr(common.MoEQuantMode, experts),
                kvcache_quant_mode=getattr(common.KVCacheQuantMode, kv_cache),
                fmha_quant_mode=common.FMHAQuantMode.bfloat16,
            )
            models.resolve_context_fmha_by_data(model_config, deployment.model, view, "vllm", is_context_role=True)
            model = models.get_model(deployment.model, model_config, "vllm")
            self._session = session.InferenceSession(model, view, factory.get_backend("vllm"))
        except Exception as error:
            raise self._no_answer(error) from None

    def highest_rate(self, input_tokens: int, output_tokens: int, slo: LatencyTarget) -> float:
        """The rate of the largest batch that fits and keeps the objectives, in req/s; 0 if not one request does."""
        most = self.deployment.max_batch
        best, low, high = 0.0, 0, most + 1
        batch = 1
        while high - low > 1:
            rate = self._rate(input_tokens, output_tokens, batch, slo)
            if rate is None:
                high = batch
            else:
                best, low = max(best, rate), batch
            # Doubling until the first failure: most sizes end at small batches.
            batch = min(2 * batch, most) if high > most else (low + high) // 2
        return best

    def _rate(self, input_tokens: int, output_tokens: int, batch: int, slo: LatencyTarget) -> float | None:
        """Rate at a batch; None if it does not fit or breaks an objective.

        It wants to be told the prompt tokens of a step that prefills. A steady state of b requests admits b/o prompts
        a step, as far as the engine's token budget goes.
        """
        budget = self.deployment.max_step_tokens // input_tokens
        prompts = max(1, min(math.ceil(batch / output_tokens), budget))
        runtime = self._runtime_config(isl=input_tokens, osl=output_tokens, batch_size=batch)
        try:
            summary = self._session.run_agg(runtime, ctx_tokens=prompts * input_tokens)
            figures: dict[str, Any] = summary.get_result_dict()
            fits = not summary.check_oom() and not summary.check_kv_cache_oom()
            tpot_ms, ttft_ms, rate_rps = (float(figures[key]) for key in ("tpot", "ttft", "seq/s"))
        except Exception as error:
            raise self._no_answer(error) from None
        if not fits or not all(map(math.isfinite, (tpot_ms, ttft_ms, rate_rps))):
            return None
        if slo.tpot_ms is not None and tpot_ms > slo.tpot_ms:
            return None
        if slo.ttft_ms is not None and ttft_ms > slo.ttft_ms:
            return None
        return rate_rps

    def _no_answer(self, error: Exception) -> UserError:
        deployment = self.deployment
        return UserError(
            f"aiconfigurator {self.package_version} has no answer ({type(error).__name__}: {str(error)[:200]})",
            field=f"{deployment.model} on {deployment.system} × {deployment.tensor_parallel_size}",
            fix="Check --source-model, --source-gpu, --tp and --weights against what it supports",
        )


def _version() -> str:
    try:
        return importlib.metadata.version("aiconfigurator")
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
