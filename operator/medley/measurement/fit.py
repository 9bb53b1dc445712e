"""Step-model constants from closed-loop probes, by least squares.

With c requests of size (i, o) decoding, the mean time per output token is

    TPOT = α + β·c + γ·c·(i + o/2) + π·(c - 1)·i/o,

as a request's own prefill is over before its second token; alone, its first token takes TTFT = α + π·i plus what the
network adds. Medians stand for the means: in a closed loop they are the same, but for stalls that are not the
replica's. Relative errors are minimised and no constant is negative.

How many tokens a step may compute is not told by closed loops. Open ones that waited for prefills tell it: of vLLM's
defaults the one is taken with which the stand-in's p95 of TTFT is nearest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medley.measurement.probe import Ending, Loop, ProbeResult
from medley.measurement.stand_in import STEP_TOKENS, FittedModel, long_run

_UNLIMITED_TOKENS = 10**9
_CLEARLY_BETTER = 0.01  # one p95 that is 10 % off by the one, and right by the other


def fitted(results: Sequence[ProbeResult], max_concurrency: int) -> FittedModel | None:
    """The model that the closed-loop results fit best; None without any.

    The KV cache is taken as boundless: where it is not, probes find out.
    """
    rows: list[list[float]] = []
    values: list[float] = []
    used = [result for result in results if result.probe.loop is Loop.CLOSED and result.point is not None]
    alone = [result for result in used if result.probe.level == 1.0]
    for result in used:
        assert result.point is not None
        i, o, c = result.probe.size.input_tokens, result.probe.size.output_tokens, result.probe.level
        if result.point.tpot.p50_ms:
            # By Little's law; the others wait for their first token.
            decode_ms = result.point.tpot.p50_ms * (o - 1.0)
            c = max(1.0, c * decode_ms / (decode_ms + (result.point.ttft.p50_ms or 0.0)))
            rows.append([1.0, c, c * (i + o / 2), (c - 1.0) * i / o, 0.0])
            values.append(result.point.tpot.p50_ms)
    can_tell_network = len({result.probe.size.input_tokens for result in alone}) > 1
    for result in alone:
        assert result.point is not None
        if result.point.ttft.p50_ms:
            rows.append([1.0, 0.0, 0.0, result.probe.size.input_tokens, 1.0 if can_tell_network else 0.0])
            values.append(result.point.ttft.p50_ms)
    if not rows:
        return None
    base, per_sequence, per_context, prefill, _ = _not_negative(np.array(rows), np.array(values))
    if base <= 0.0:  # a step always takes something; else an idle engine would be infinitely fast
        base = 0.01 * min(values)
    model = FittedModel(base, per_sequence, per_context, prefill, _UNLIMITED_TOKENS, max_concurrency)
    return _with_step_tokens(model, results)


def _with_step_tokens(model: FittedModel, results: Sequence[ProbeResult]) -> FittedModel:
    """With the default that explains TTFT in open loops best; the usual one unless another is clearly better."""
    seen = [
        (result.probe, result.point.ttft.p95_ms)
        for result in results
        if result.probe.loop is Loop.OPEN and result.ending is Ending.COMPLETE
        if result.point is not None and result.point.ttft.p95_ms
    ]

    def error(candidate: FittedModel) -> float:
        return sum(math.log(p95 / long_run(candidate, probe.size, probe.level, 95.0)[1]) ** 2 for probe, p95 in seen)

    candidates = [replace(model, step_tokens=tokens) for tokens in STEP_TOKENS]
    best = min(candidates, key=error)
    return best if error(best) < error(model) - _CLEARLY_BETTER else model


def _not_negative(rows: np.ndarray, values: np.ndarray) -> list[float]:
    """Least squares of relative errors; columns that come out negative are left out, the worst first."""
    scaled = rows / values[:, None]
    norms = np.linalg.norm(scaled, axis=0)
    columns = [number for number in range(rows.shape[1]) if norms[number] > 0.0]
    found = np.zeros(rows.shape[1])
    while columns:
        part, *_ = np.linalg.lstsq(scaled[:, columns] / norms[columns], np.ones(len(values)), rcond=1e-6)
        if part.min() >= 0.0:
            found[columns] = part / norms[columns]
            break
        columns.pop(int(part.argmin()))
    return [float(value) for value in found]
