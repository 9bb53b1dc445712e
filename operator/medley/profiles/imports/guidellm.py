"""guidellm reports (benchmarks.json or .yaml, version 0.3 on): every benchmark of a sweep is one load point.

guidellm's `time_per_output_token_ms` is latency / output tokens, first token included. Its `inter_token_latency_ms` is
(last token - first token) / (output tokens - 1) per request: Medley's TPOT. The latter is used; where only the former
is there, it is converted: exactly for the mean, to an upper bound for percentiles. Distributions of the latter are
weighted by output tokens, which is the same thing in a run of one size. 0 stands for "not measured".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medley.model.errors import UserError
from medley.profiles.imports.document import day, number, parse_json, to_object
from medley.profiles.imports.result import Imported
from medley.profiles.imports.runs import CLOSED_LOOP, REGULAR, Remarks, Run, check_failures, check_spread, measured
from medley.profiles.measured import Latency

FORMAT = "Give what guidellm wrote: benchmarks.json or benchmarks.yaml"

ONE_SIZE = "Run one size at a time: --data prompt_tokens=N,output_tokens=M without the _stdev, _min and _max settings"

MOST_CUT_OFF = 0.05
"""Share of requests that were cut off at the end above which their absence is worth a note."""


@dataclass(frozen=True, slots=True)
class _Metrics:
    """The metrics of one benchmark, and where they are."""

    values: Mapping[str, Any]
    where: str

    def summary(self, name: str) -> Mapping[str, Any]:
        """Distribution of a metric over successful requests; empty if there is none."""
        metric = self.values.get(name)
        if metric is None:
            return {}
        successful = to_object(metric, f"{self.where}.{name}", FORMAT).get("successful")
        return {} if successful is None else to_object(successful, f"{self.where}.{name}.successful", FORMAT)

    def mean(self, name: str) -> float:
        """Mean of a metric that must be there."""
        return number(self.summary(name).get("mean"), f"{self.where}.{name}.successful.mean", above=True)

    def latency(self, name: str) -> Latency:
        """Mean and percentiles; all None if nothing was measured."""
        summary = self.summary(name)
        place = f"{self.where}.{name}.successful"
        percentiles = to_object(summary.get("percentiles") or {}, f"{place}.percentiles", FORMAT)

        def value(key: str, within: Mapping[str, Any], path: str) -> float | None:
            return None if within.get(key) is None else number(within[key], f"{path}.{key}") or None

        if value("mean", summary, place) is None:
            return Latency()
        at = [value(key, percentiles, f"{place}.percentiles") for key in ("p50", "p90", "p95", "p99")]
        return Latency(value("mean", summary, place), *at)


def parse(file: str, text: str) -> object:
    """The document in the text of a JSON report.

    Raises:
        UserError: the text is empty or not JSON.
    """
    return parse_json(file, text)


def read(files: Sequence[tuple[str, object]]) -> Imported:
    """Load points of all benchmarks in (file name, parsed document) pairs.

    Raises:
        UserError: a file is not such a report, or a benchmark cannot be used.
    """
    runs: list[Run] = []
    remarks = Remarks()
    days: list[str] = []
    models: list[str] = []
    converted = 0
    tool = "guidellm"
    for file, value in files:
        document = to_object(value, file, FORMAT)
        metadata = document.get("metadata")
        if isinstance(metadata, Mapping) and isinstance(metadata.get("guidellm_version"), str):
            tool = f"guidellm {metadata['guidellm_version']}"
        benchmarks = document.get("benchmarks")
        if not isinstance(benchmarks, list) or not benchmarks:
            raise UserError("holds no benchmarks", field=file, fix=FORMAT)
        models.extend(_models(document))
        for place, item in enumerate(benchmarks):
            where = f"{file}: benchmarks[{place}]"
            benchmark = to_object(item, where, FORMAT)
            run, was_converted = _run(benchmark, where, remarks)
            runs.append(run)
            converted += was_converted
            date = day(benchmark.get("start_time"))
            if date is not None:
                days.append(date)
    notes = remarks.notes()
    if converted:
        notes.append(
            f"Converted: {converted} of {len(runs)} benchmarks state only guidellm's time per output token, which "
            "includes the first token. Decode-only means are (that × o - TTFT) / (o-1) for o output tokens; "
            "percentiles are its upper bound, that × o/(o-1)."
        )
    if sum(run.tpot != Latency() for run in runs) > converted:
        notes.append(
            "TPOT is guidellm's inter-token latency; its own time per output token includes the first token and is not "
            "used."
        )
    if len(set(models)) > 1:
        raise UserError(
            f"runs are of different models: {', '.join(sorted(set(models)))}",
            field=", ".join(file for file, _ in files),
            fix="Import one model at a time",
        )
    source, more = measured(runs)
    return Imported(source, (*notes, *more), tool, max(days, default=None), next(iter(models), None))


def _models(document: Mapping[str, Any]) -> list[str]:
    arguments = document.get("args")
    model = arguments.get("model") if isinstance(arguments, Mapping) else None
    return [model] if isinstance(model, str) and model else []


def _run(benchmark: Mapping[str, Any], where: str, remarks: Remarks) -> tuple[Run, bool]:
    """The run of one benchmark, and whether its TPOT was converted."""
    kind = str(benchmark.get("type_") or "generative_benchmark")
    if kind != "generative_benchmark":
        raise UserError(f"is a {kind}", field=f"{where}.type_", fix="Benchmark a generating model")
    metrics = _Metrics(to_object(benchmark.get("metrics"), f"{where}.metrics", FORMAT), f"{where}.metrics")
    completed = _check_totals(benchmark, metrics, where, remarks)
    for name, metric in (("input", "prompt_token_count"), ("output", "output_token_count")):
        deviation = metrics.summary(metric).get("std_dev")
        if deviation is not None:
            check_spread(where, name, metrics.mean(metric), number(deviation, f"{where}: {metric} std_dev"), ONE_SIZE)
    outputs = metrics.mean("output_token_count")
    ttft = metrics.latency("time_to_first_token_ms")
    tpot, converted = metrics.latency("inter_token_latency_ms"), False
    if tpot == Latency():
        tpot = _decode_only(metrics.latency("time_per_output_token_ms"), ttft, outputs)
        converted = tpot != Latency()
    if tpot == Latency() and ttft == Latency():
        raise UserError(
            "states neither TPOT nor TTFT", field=f"{where}.metrics", fix="Run it against a streaming endpoint"
        )
    concurrency = metrics.summary("request_concurrency").get("mean")
    run = Run(
        where,
        metrics.mean("prompt_token_count"),
        outputs,
        metrics.mean("requests_per_second"),
        _offered(benchmark, where, remarks),
        tpot,
        ttft,
        None if concurrency is None else number(concurrency, f"{where}.metrics.request_concurrency") or None,
        completed,
    )
    return run, converted


def _check_totals(benchmark: Mapping[str, Any], metrics: _Metrics, where: str, remarks: Remarks) -> int:
    """How many requests completed; refuses failures, and notes those that the end of the run cut off."""
    totals = metrics.values.get("request_totals") or benchmark.get("request_totals")
    if totals is None:
        raise UserError("has no request_totals", field=where, fix=FORMAT)
    counts = to_object(totals, f"{where}: request_totals", FORMAT)
    successful, incomplete, errored = (
        int(number(counts.get(key) or 0, f"{where}: request_totals.{key}"))
        for key in ("successful", "incomplete", "errored")
    )
    check_failures(where, successful, errored, remarks)
    if incomplete > MOST_CUT_OFF * (successful + incomplete):
        remarks.add(
            where,
            f"the end of the run cut off {incomplete} of {successful + incomplete} requests, long ones more often than "
            "short ones: its latencies are too low. Run it longer.",
        )
    return successful


def _decode_only(inclusive: Latency, ttft: Latency, outputs: float) -> Latency:
    """Decode-only TPOT from one that includes the first token: exact for the mean, bounds for percentiles."""
    if outputs <= 1 or inclusive == Latency():
        return Latency()
    factor = outputs / (outputs - 1)

    def bound(value: float | None) -> float | None:
        return None if value is None else round(value * factor, 4)

    mean = bound(inclusive.mean_ms)
    if mean is not None and ttft.mean_ms is not None:
        mean = round(max(0.0, mean - ttft.mean_ms / (outputs - 1)), 4) or None
    return Latency(
        mean, bound(inclusive.p50_ms), bound(inclusive.p90_ms), bound(inclusive.p95_ms), bound(inclusive.p99_ms)
    )


def _offered(benchmark: Mapping[str, Any], where: str, remarks: Remarks) -> float | None:
    """The rate that was sent; None if requests waited for answers."""
    strategy: Mapping[str, Any] = {}
    # 0.4 on keeps it in config, 0.3 in scheduler.
    for key in ("config", "scheduler"):
        holder = benchmark.get(key)
        if isinstance(holder, Mapping) and isinstance(holder.get("strategy"), Mapping):
            strategy = holder["strategy"]
            break
    name, rate = str(strategy.get("type_") or strategy.get("kind") or ""), strategy.get("rate")
    if name == "constant":
        remarks.add(where, f"constant rate: {REGULAR}")
    if name in ("constant", "poisson") and rate is not None:
        return number(rate, f"{where}: strategy.rate", above=True)
    if name in ("synchronous", "concurrent", "throughput"):
        remarks.add(where, CLOSED_LOOP)
    return None
