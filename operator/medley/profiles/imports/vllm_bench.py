"""Results of `vllm bench serve` (formerly benchmark_serving.py): one run a JSON object, one object a file or a line.

Its TPOT is (latency - TTFT) / (output tokens - 1) per request: decode only, as Medley's. Times are ms where the key
ends in _ms. Only p99 is written unless `--metric-percentiles` names more; lengths of single requests are written only
with `--save-detailed`. `request_rate` is "inf" for a closed loop. A mean of 0 stands for "not measured": no request
had a second token, or the endpoint did not stream.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from medley.model.errors import UserError
from medley.profiles.imports.document import number, parse_json_lines, real, to_object
from medley.profiles.imports.result import Imported
from medley.profiles.imports.runs import CLOSED_LOOP, REGULAR, Remarks, Run, check_failures, check_spread, measured
from medley.profiles.measured import Latency

FORMAT = "Give what `vllm bench serve --save-result` wrote"

ONE_SIZE = (
    "Run one size at a time: --dataset-name random, fixed --random-input-len and --random-output-len, a "
    "--random-range-ratio that does not vary them (0; 1 in versions that scale by it), --ignore-eos"
)


def read(files: Sequence[tuple[str, str]]) -> Imported:
    """Load points of all runs in (file name, text) pairs.

    Raises:
        UserError: a file is not such a result, or a run cannot be used.
    """
    runs: list[Run] = []
    remarks = Remarks()
    models: dict[str, str] = {}
    days: list[str] = []
    undetailed = 0
    for file, text in files:
        for where, value in parse_json_lines(file, text):
            document = to_object(value, where, FORMAT)
            runs.append(_run(document, where, remarks))
            undetailed += not document.get("output_lens")
            if document.get("model_id"):
                models.setdefault(str(document["model_id"]), where)
            date = str(document.get("date") or "")
            if len(date) >= 8 and date[:8].isdigit():
                days.append(f"{date[:4]}-{date[4:6]}-{date[6:8]}")
    if not runs:
        raise UserError("there is no run", field=", ".join(file for file, _ in files), fix=FORMAT)
    if len(models) > 1:
        raise UserError(
            f"runs are of different models: {', '.join(models)}",
            field=list(models.values())[1],
            fix="Import one model at a time",
        )
    notes = remarks.notes()
    if undetailed:
        notes.append(
            f"{undetailed} of {len(runs)} runs hold no lengths of single requests (--save-detailed): that all requests "
            "of a run had one size is not checked."
        )
    source, more = measured(runs)
    return Imported(source, (*notes, *more), "vllm bench serve", max(days, default=None), next(iter(models), None))


def _run(document: Mapping[str, Any], where: str, remarks: Remarks) -> Run:
    if "request_throughput" not in document or "completed" not in document:
        raise UserError("is no result of a serving benchmark", field=where, fix=FORMAT)
    if "total_output_tokens" not in document:
        raise UserError("generated no text", field=where, fix="Benchmark a generating model, not pooling")
    if document.get("ramp_up_strategy"):
        raise UserError(
            f"its rate ramps up ({document['ramp_up_strategy']}): it is not one load",
            field=f"{where}: ramp_up_strategy",
            fix="Run one --request-rate at a time",
        )
    completed = int(number(document["completed"], f"{where}: completed"))
    # Older files do not count failures.
    sent = int(number(document.get("num_prompts", completed), f"{where}: num_prompts"))
    failed = int(number(document["failed"], f"{where}: failed")) if "failed" in document else max(0, sent - completed)
    check_failures(where, completed, failed, remarks)
    inputs = number(document.get("total_input_tokens"), f"{where}: total_input_tokens", above=True)
    outputs = number(document["total_output_tokens"], f"{where}: total_output_tokens", above=True)
    _check_lengths(document, where)
    rate_rps = number(document["request_throughput"], f"{where}: request_throughput", above=True)
    tpot, ttft = _latency(document, where, "tpot"), _latency(document, where, "ttft")
    if tpot == Latency() and ttft == Latency():
        raise UserError(
            "states neither TPOT nor TTFT",
            field=where,
            fix="Run it against a streaming endpoint, with --percentile-metrics ttft,tpot",
        )
    offered_rps = _offered(document, where, remarks)
    return Run(
        where, inputs / completed, outputs / completed, rate_rps, offered_rps, tpot, ttft,
        _concurrency(document, where, rate_rps, outputs / completed, tpot, ttft), completed,
    )  # fmt: skip


def _check_lengths(document: Mapping[str, Any], where: str) -> None:
    inputs, outputs = document.get("input_lens"), document.get("output_lens")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        return
    # A failed request is listed with 0 output tokens.
    pairs = [
        (number(i, f"{where}: input_lens[{place}]"), number(o, f"{where}: output_lens[{place}]"))
        for place, (i, o) in enumerate(zip(inputs, outputs, strict=True))
        if o
    ]
    for name, values in (("input", [i for i, _ in pairs]), ("output", [o for _, o in pairs])):
        if values:
            mean = sum(values) / len(values)
            deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
            check_spread(where, name, mean, deviation, ONE_SIZE)


def _latency(document: Mapping[str, Any], where: str, metric: str) -> Latency:
    """Mean and percentiles of a metric; all None if nothing was measured."""

    def value(key: str) -> float | None:
        name = f"{key}_{metric}_ms"
        # 0 is vLLM's word for "nothing to average".
        return None if document.get(name) is None else number(document[name], f"{where}: {name}") or None

    p50 = value("p50")
    return Latency(value("mean"), value("median") if p50 is None else p50, value("p90"), value("p95"), value("p99"))


def _offered(document: Mapping[str, Any], where: str, remarks: Remarks) -> float | None:
    """The rate that was sent; None for a closed loop, which is worth a note."""
    rate, limit = document.get("request_rate"), document.get("max_concurrency")
    if rate is None or rate in ("inf", math.inf):
        remarks.add(
            where, CLOSED_LOOP if limit else "all requests were sent at once: TTFT holds the wait of the burst."
        )
        return None
    burstiness = real(document.get("burstiness"))
    if burstiness is not None and burstiness > 1:
        remarks.add(where, f"burstiness {burstiness:g}: {REGULAR}")
    if limit:
        remarks.add(where, "max_concurrency was set: waiting for a free slot is not part of its TTFT.")
    return number(rate, f"{where}: request_rate", above=True)


def _concurrency(
    document: Mapping[str, Any], where: str, rate_rps: float, outputs: float, tpot: Latency, ttft: Latency
) -> float | None:
    """Mean number in flight, by Little's law from the mean latency; the file states only the peak."""
    latency_ms = document.get("mean_e2el_ms")
    if latency_ms is not None:
        return round(rate_rps * number(latency_ms, f"{where}: mean_e2el_ms") / 1000.0, 3) or None
    if tpot.mean_ms is None or ttft.mean_ms is None:
        return None
    return round(rate_rps * (ttft.mean_ms + tpot.mean_ms * (outputs - 1)) / 1000.0, 3)
