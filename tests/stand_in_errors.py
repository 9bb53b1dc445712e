"""The measurement's stand-in beside the lab's engine; run as a program it prints a table for docs/explanation."""

from __future__ import annotations

import random

from medley.lab.vllm_engine import Engine, replay
from medley.measurement.stand_in import curve, latencies, percentile_of
from medley.model.workload import Size
from medley.profiles.step import StepModel

MODELS = [
    StepModel(base_ms, sequence_ms, context_ms, prefill_ms, kv_capacity_tokens=10**9, max_batch=512)
    for base_ms, sequence_ms, context_ms, prefill_ms in (
        (5.0, 0.08, 0.0002, 0.008),
        (8.0, 0.2, 0.0004, 0.03),
        (20.0, 0.1, 0.0003, 0.06),
        (12.0, 0.02, 0.0001, 0.002),
        (6.5, 0.03, 0.00005, 0.02),
    )
]
SIZES = [Size(64, 32), Size(256, 128), Size(1024, 32), Size(1024, 256), Size(4096, 128)]
SHARES = (0.4, 0.7, 0.88)


def rate_at(model: StepModel, size: Size, share: float) -> float:
    """A share of the rate, req/s, at which prefill and decoding leave no time for anything else."""
    return share * curve(model, size, 95.0).rates_rps[-1] / 0.96


def errors(model: StepModel, size: Size, rate_rps: float, *, requests: int) -> tuple[float, float]:
    """How far the stand-in's p95 of TPOT and of TTFT are off, relative, for the same Poisson arrivals."""
    rng, at_s = random.Random(f"{size} {rate_rps}"), 0.0
    arrivals_s = [at_s := at_s + rng.expovariate(rate_rps) for _ in range(requests)]
    tokens = (int(size.input_tokens), int(size.output_tokens))
    served = replay(Engine(model, rng=random.Random(1)), [(at, *tokens) for at in arrivals_s])
    tpot_ms, ttft_ms = latencies(model, size, arrivals_s)
    engine_tpot_ms = percentile_of([1000.0 * generation.tpot_s for generation in served], 95.0)
    engine_ttft_ms = percentile_of([1000.0 * generation.ttft_s for generation in served], 95.0)
    return percentile_of(tpot_ms, 95.0) / engine_tpot_ms - 1.0, percentile_of(ttft_ms, 95.0) / engine_ttft_ms - 1.0


def main() -> None:
    """Prints the error of TTFT (and of TPOT) for each model, size and load."""
    for model in MODELS:
        constants = (model.base_ms, model.per_sequence_ms, model.per_context_token_ms, model.prefill_ms_per_token)
        for size in SIZES:
            found = [errors(model, size, rate_at(model, size, share), requests=6000) for share in SHARES]
            row = " | ".join(f"{ttft:+.1%} (TPOT {tpot:+.1%})" for tpot, ttft in found)
            print(f"| {', '.join(f'{value:g}' for value in constants)} | {size} | {row} |")


if __name__ == "__main__":
    main()
