"""`medley profile estimate`: rates from the facts of a model and of GPUs, before anything is measured."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from medley import __version__
from medley.api.convert import user_error
from medley.api.profile_manifest import object_name, profile_manifest
from medley.cli.units import parse_sizes, parse_slo
from medley.model.engine import EngineFlags
from medley.model.errors import UserError
from medley.model.workload import Size
from medley.profiles.calibration import MEASURED_GPUS
from medley.profiles.catalogue import instance_types
from medley.profiles.estimate import DEFAULT_INPUTS, DEFAULT_OUTPUTS, EstimateRow, error_band, estimate, roofline_of
from medley.profiles.gpu import Gpu, find_gpu, gpus
from medley.profiles.latency import LatencyTarget
from medley.profiles.model_facts import ModelFacts, known_models, model_facts
from medley.profiles.profile import Profile, ProfileKey, Provenance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEAN = 50.0
"""Percentile at which estimates are made: the step model's margin for the tail is for planning, not for comparing."""


def register(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `estimate`."""
    parser = actions.add_parser(
        "estimate",
        help="rates from a model's config.json and GPU data sheets",
        description="Estimates how many requests per second one replica serves at mean latency, before derating. "
        "A guess with an error band: import or measure before you trust a saving.",
    )
    parser.add_argument("--model", required=True, help="a config.json, or the name of a model that Medley knows")
    parser.add_argument("--gpu", required=True, help="GPU types, as in l4,a10g,h100 (h100: SXM); all: every known one")
    parser.add_argument("--tp", default="1", help="tensor-parallel sizes, as in 1,2,4,8")
    parser.add_argument("--slo", help="objectives, as in tpot=15ms,ttft=2s; either may be left out")
    parser.add_argument("--inputs", help="prompt tokens, as in 128,512,2048")
    parser.add_argument("--outputs", help="generated tokens, as in 64,256")
    parser.add_argument("--quantization", default="", help="how weights are held, as vLLM names it: fp8, awq ...")
    parser.add_argument("--kv-cache-dtype", default="", help="how the KV cache is held, as vLLM names it: fp8")
    parser.add_argument("--name", help="model name for the profile; default: the name in the config")
    parser.add_argument("--heat-map", type=Path, help="write a heat map (PNG) of the rates to this file")
    parser.add_argument("--date", help="date for the provenance, YYYY-MM-DD; default: today")
    parser.add_argument("-o", "--output", choices=("text", "json", "yaml"), default="text", help="yaml: the profiles")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Estimate and print."""
    facts = read_facts(args.model)
    asked = list(gpus()) if args.gpu.strip() == "all" else [name.strip() for name in args.gpu.split(",")]
    named: dict[str, Gpu] = {}
    for name in asked:
        try:
            gpu = find_gpu(name)
        except UserError as error:
            raise UserError(error.message, field="--gpu", fix=error.fix) from None
        if gpu not in named.values():
            named[name] = gpu
    parallel = parse_sizes(args.tp, field="--tp", what="number of GPUs", example="1,2,4,8")
    target = parse_slo(args.slo, percentile=MEAN) if args.slo else LatencyTarget(percentile=MEAN)
    inputs = parse_sizes(args.inputs, field="--inputs") if args.inputs else DEFAULT_INPUTS
    outputs = parse_sizes(args.outputs, field="--outputs") if args.outputs else DEFAULT_OUTPUTS
    flags = EngineFlags(quantization=args.quantization, kv_cache_dtype=args.kv_cache_dtype)
    if args.name:
        facts = replace(facts, name=args.name)
    left_out = [count for count in parallel if facts.attention_heads % count]
    if left_out:
        counts = ", ".join(map(str, left_out))
        text = f"{facts.attention_heads} attention heads do not divide by {counts}"
        if len(left_out) == len(parallel):
            raise UserError(text, field="--tp", fix="Give a divisor of the number of heads")
        print(f"medley: {text}: left out", file=sys.stderr)
    sizes = [Size(i, o) for i in inputs for o in outputs]
    rows = {name: list(estimate(facts, [gpu], parallel, target, sizes, flags)) for name, gpu in named.items()}
    if args.heat_map is not None:
        _draw(rows, args.heat_map, facts, target)
    if args.output == "json":
        print(json.dumps({"model": facts.name, "errorBand": list(error_band(facts)), "rows": list(_json_rows(rows))}))
    elif args.output == "yaml":
        date = args.date or datetime.now(UTC).strftime("%Y-%m-%d")
        print(_manifests(facts.name, facts, rows, flags, date), end="")
    else:
        _print(rows, facts, target, Console(highlight=False))
    if not any(row.throughput.rate_rps for found in rows.values() for row in found):
        reasons = sorted({str(row.throughput.reason) for found in rows.values() for row in found})
        print(f"medley: none of these can serve any size: {', '.join(reasons)}", file=sys.stderr)
        return 3
    return 0


def read_facts(model: str) -> ModelFacts:
    """Facts from a config.json, or of a model that is known by name.

    Raises:
        UserError: there is no such file and no such model, or the file is no config.
    """
    path = Path(model)
    if not path.is_file():
        known = known_models()
        if model in known:
            return known[model]
        raise UserError(
            f"{model!r} is neither a file nor a known model", field="--model",
            fix=f"Give the path of a config.json, or one of: {', '.join(sorted(known))}",
        )  # fmt: skip
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read: {error}", field=str(path), fix="Give a Hugging Face config.json") from None
    if not isinstance(config, dict):
        raise UserError("is no JSON object", field=str(path), fix="Give a Hugging Face config.json")
    return model_facts(config, "" if config.get("_name_or_path") else path.resolve().parent.name)


def price_per_gpu_hour(gpu: Gpu) -> float | None:
    """The lowest on-demand list price of one such GPU in the catalogue, $/h; None if none is listed."""
    prices = [row.price_per_hour / row.gpus_per_node for row in instance_types().values() if row.gpu == gpu.name]
    return min(prices, default=None)


def _json_rows(rows: dict[str, list[EstimateRow]]) -> Iterator[dict[str, Any]]:
    for name, found in rows.items():
        for row in found:
            reason = row.throughput.reason
            yield {
                "gpu": name,
                "tensorParallelSize": row.tensor_parallel_size,
                "inputTokens": round(row.size.input_tokens),
                "outputTokens": round(row.size.output_tokens),
                "requestsPerSecond": row.throughput.rate_rps,
                "low": row.low_rps,
                "high": row.high_rps,
                "reason": None if reason is None else reason.value,
                "dollarsPerMillionTokens": _dollars_per_million(row),
            }


def _dollars_per_million(row: EstimateRow) -> float | None:
    """List price of all tokens, prompt and output, $ per 10⁶."""
    price = price_per_gpu_hour(find_gpu(row.gpu))
    tokens_per_s = row.throughput.rate_rps * (row.size.input_tokens + row.size.output_tokens)
    return price * row.tensor_parallel_size / 3600.0 / tokens_per_s * 1e6 if price and tokens_per_s else None


def _replicas(rows: dict[str, list[EstimateRow]]) -> Iterator[tuple[str, int, list[EstimateRow]]]:
    """Each GPU type and tensor-parallel size with its rows."""
    for name, found in rows.items():
        for count, group in groupby(found, key=lambda row: row.tensor_parallel_size):
            yield name, count, list(group)


def _print(rows: dict[str, list[EstimateRow]], facts: ModelFacts, target: LatencyTarget, console: Console) -> None:
    low, high = error_band(facts)
    billions = f"{facts.parameters / 1e9:.2f} billion parameters"
    console.print(f"[bold]{facts.name}[/bold], {billions}; {_objectives(target)}")
    console.print(
        "Requests per second of one replica, and $ per million tokens at list price. Before derating; "
        f"in 9 of 10 cases the measured rate is within ×{low:g} and ×{high:g}."
    )
    unlike = sorted({found[0].gpu for _, _, found in _replicas(rows)} - MEASURED_GPUS)
    if unlike:
        console.print(f"note: nothing was measured on {', '.join(unlike)}: the band is what other types had")
    for note in facts.notes:
        console.print(f"note: {note}")
    for name, count, found in _replicas(rows):
        price = price_per_gpu_hour(find_gpu(name))
        cost = f"{price * count:.2f} $/h" if price else "no list price"
        table = Table(title=f"{found[0].gpu} ×{count}, {cost}", title_justify="left")
        table.add_column("prompt \\ output, tokens", justify="right")
        outputs = sorted({row.size.output_tokens for row in found})
        for tokens in outputs:
            table.add_column(f"{tokens:g}", justify="right")
        for tokens, cells in groupby(found, key=lambda row: row.size.input_tokens):
            table.add_row(f"{tokens:g}", *(_cell(row) for row in cells))
        console.print(table)


def _objectives(target: LatencyTarget) -> str:
    stated = [f"{name} {value:g} ms" for name, value in (("TPOT", target.tpot_ms), ("TTFT", target.ttft_ms)) if value]
    return f"mean {' and '.join(stated)}" if stated else "no latency objective"


def _cell(row: EstimateRow) -> str:
    if not row.throughput.rate_rps:
        return str(row.throughput.reason)
    dollars = _dollars_per_million(row)
    return f"{row.throughput.rate_rps:.3g} req/s" + (f"\n{dollars:.2f} $/M" if dollars else "")


def _manifests(name: str, facts: ModelFacts, rows: dict[str, list[EstimateRow]], flags: EngineFlags, date: str) -> str:
    """The profiles of what can serve anything at all."""
    low, high = error_band(facts)
    out = [
        f"# ESTIMATED from data sheets, not measured: {name}.\n"
        f"# In 9 of 10 cases the measured rate is within x{low:g} and x{high:g} of the estimated one.\n"
    ]
    for _, count, found in _replicas(rows):
        if not any(row.throughput.rate_rps for row in found):
            continue
        key = ProfileKey(name, found[0].gpu, count, flags=flags)
        roofline = roofline_of(facts, find_gpu(found[0].gpu), count, flags)
        profile = Profile(object_name(key), key, Provenance.ESTIMATED, 0.7, roofline)
        try:
            manifest = profile_manifest(profile, tool=f"medley profile estimate {__version__}", date=date)
        except ValidationError as error:
            wrong = user_error(error)
            raise UserError(wrong.message, field="--name or --date", fix=wrong.fix) from None
        out.append("---\n" + yaml.safe_dump(manifest, sort_keys=False, width=120))
    return "".join(out)


def _draw(rows: dict[str, list[EstimateRow]], path: Path, facts: ModelFacts, target: LatencyTarget) -> None:
    """One heat map per replica kind, all on one colour scale."""
    try:
        from matplotlib.colors import LogNorm
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("matplotlib is not installed", field="--heat-map", fix="Install medley[plots]") from None
    replicas = list(_replicas(rows))
    positive = [row.throughput.rate_rps for _, _, found in replicas for row in found if row.throughput.rate_rps]
    norm = LogNorm(min(positive), max(positive)) if positive else None
    columns = min(3, len(replicas))
    lines = -(-len(replicas) // columns)
    figure: Figure = Figure(figsize=(5.2 * columns, 4.2 * lines), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axis, (_, count, found) in zip(axes, replicas, strict=False):
        _panel(axis, found, f"{found[0].gpu} ×{count}", norm)
    for axis in axes[len(replicas) :]:
        axis.set_axis_off()
    figure.suptitle(f"{facts.name}: estimated req/s of one replica, {_objectives(target)}")
    try:
        figure.savefig(path, dpi=110, format="png")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", field="--heat-map", fix="Check the folder") from None


def _panel(axis: Any, found: Sequence[EstimateRow], title: str, norm: Any) -> None:
    inputs = sorted({row.size.input_tokens for row in found})
    outputs = sorted({row.size.output_tokens for row in found})
    rates = {(row.size.input_tokens, row.size.output_tokens): row.throughput.rate_rps for row in found}
    grid = [[rates[i, o] or float("nan") for o in outputs] for i in inputs]
    axis.imshow(grid, norm=norm, cmap="viridis", aspect="auto")
    for y, i in enumerate(inputs):
        for x, o in enumerate(outputs):
            text = f"{rates[i, o]:.3g}" if rates[i, o] else "–"
            # Dark letters on the light end of the scale.
            light = norm is not None and rates[i, o] and norm(rates[i, o]) > 0.6
            axis.text(x, y, text, ha="center", va="center", color="black" if light or not rates[i, o] else "white")
    axis.set_xticks(range(len(outputs)), [f"{tokens:g}" for tokens in outputs])
    axis.set_yticks(range(len(inputs)), [f"{tokens:g}" for tokens in inputs])
    axis.set_xlabel("output, tokens")
    axis.set_ylabel("prompt, tokens")
    axis.set_title(title)
