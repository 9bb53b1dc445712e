"""Estimates beside aiconfigurator's grids, row by row; run as a program it prints the table of docs/explanation."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medley.model.engine import EngineFlags
from medley.model.workload import Size
from medley.profiles.estimate import error_band, roofline_of
from medley.profiles.gpu import find_gpu
from medley.profiles.latency import LatencyTarget
from medley.profiles.model_facts import Attention, known_models

GRIDS = Path(__file__).parent / "data" / "aiconfigurator_grids.csv"

MODELS = {
    "Llama-3.1-8B": "meta-llama/Llama-3.1-8B-Instruct",
    "Llama-3.1-70B": "meta-llama/Llama-3.3-70B-Instruct",  # the same architecture
    "Qwen2.5-7B": "Qwen/Qwen2.5-7B-Instruct",
    "Qwen2.5-32B": "Qwen/Qwen2.5-32B-Instruct",
    "Qwen3-8B": "Qwen/Qwen3-8B",
    "Qwen3-30B-A3B": "Qwen/Qwen3-30B-A3B",
    "Mixtral-8x7B": "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "DeepSeek-V3": "deepseek-ai/DeepSeek-V3",
}


@dataclass(frozen=True)
class Compared:
    """One size on one deployment: estimate and reference in req/s, 0 where it cannot be served."""

    model: str
    gpu: str
    latent: bool
    estimated_rps: float
    reference_rps: float
    inside: bool

    @property
    def ratio(self) -> float:
        """How far off, whichever way; infinite where only one of the two can serve the size."""
        if self.estimated_rps <= 0 and self.reference_rps <= 0:
            return 1.0
        if self.estimated_rps <= 0 or self.reference_rps <= 0:
            return math.inf
        return math.exp(abs(math.log(self.estimated_rps / self.reference_rps)))


def compared() -> Iterator[Compared]:
    """Every row of the grids in which either side can serve the size."""
    with GRIDS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            facts = known_models()[MODELS[row["model"]]]
            low_precision = row["weights_dtype"] == "fp8"
            flags = EngineFlags(
                quantization="fp8" if low_precision else "", kv_cache_dtype="fp8" if row["kv_dtype"] == "fp8" else ""
            )
            roofline = roofline_of(facts, find_gpu(row["gpu"]), int(row["tensor_parallel_size"]), flags)
            size = Size(float(row["input_tokens"]), float(row["output_tokens"]))
            target = LatencyTarget(tpot_ms=float(row["tpot_objective_ms"]), percentile=50.0)
            estimated = roofline.max_throughput(size, target).rate_rps
            reference = float(row["requests_per_second"] or 0)
            if estimated <= 0 and reference <= 0:
                continue
            low, high = error_band(facts)
            latent = facts.attention is Attention.MLA
            inside = reference > 0 and estimated * low <= reference <= estimated * high
            yield Compared(row["model"], row["gpu"], latent, estimated, reference, inside)


def quantile(values: list[float], share: float) -> float:
    """The smallest value that at least this share does not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def coverage(rows: list[Compared]) -> float:
    """Share of the rows inside the printed band; rows that only one side can serve count as outside."""
    return sum(row.inside for row in rows) / len(rows)


def main() -> None:
    """Print the table."""
    rows = list(compared())
    print("| | rows | estimate ÷ reference, median | off by at most, 9 of 10 | inside the band |")
    print("|---|---|---|---|---|")

    def line(name: str, wanted: Callable[[Compared], bool]) -> None:
        some = [row for row in rows if wanted(row)]
        both = [row.estimated_rps / row.reference_rps for row in some if math.isfinite(row.ratio)]
        print(
            f"| {name} | {len(some)} | {quantile(both, 0.5):.2f} | ×{quantile([r.ratio for r in some], 0.9):.2f} "
            f"| {coverage(some):.0%} |"
        )

    line("**all without latent attention**", lambda row: not row.latent)
    for model in MODELS:
        line(model, lambda row, model=model: row.model == model)
    for gpu in sorted({row.gpu for row in rows}):
        line(f"{gpu}, without latent attention", lambda row, gpu=gpu: row.gpu == gpu and not row.latent)


if __name__ == "__main__":
    main()
