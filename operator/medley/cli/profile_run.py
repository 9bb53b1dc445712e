"""`medley profile run`: measures a served model and writes a ThroughputProfile."""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from medley import __version__
from medley.api.profile_manifest import object_name, profile_manifest
from medley.cli.units import parse_sizes, parse_slo
from medley.model.engine import EngineFlags
from medley.model.errors import UserError
from medley.profiles.measured import Latency, LoadPoint, Measured
from medley.profiles.profile import Profile, ProfileKey, Provenance

if TYPE_CHECKING:
    from medley.measurement.adaptive import Plan
    from medley.measurement.session import ExpectedLoad, Measurement


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `run`."""
    parser = subparsers.add_parser(
        "run",
        help="measure an OpenAI-compatible endpoint and write a ThroughputProfile",
        description="Finds the highest request rate per size that keeps the SLO, on one replica that serves nothing "
        "else. Says what it will send before it starts. Exit 130: interrupted; --journal goes on from there.",
    )
    what = parser.add_argument_group("what is measured")
    what.add_argument("--url", required=True, help="base URL of one replica, e.g. http://localhost:8000")
    what.add_argument("--model", help="served model name (default: the one that /v1/models names)")
    what.add_argument("--gpu", required=True, help="GPU type it runs on, as in GPUPool spec.gpu")
    what.add_argument("--tp", type=int, default=1, help="tensor-parallel size: GPUs of the replica (default 1)")
    what.add_argument("--engine", default="vllm", help="inference engine (default vllm)")
    what.add_argument("--quantization", default="", help="how the engine holds weights, as vLLM names it: fp8, awq ...")
    what.add_argument("--kv-cache-dtype", default="", help="how it holds the KV cache, as vLLM names it: fp8")
    what.add_argument("--name", help="name of the ThroughputProfile (default: made of model, GPU and tp)")
    what.add_argument("--slo", default="tpot=40ms,ttft=2s", help="objectives (default tpot=40ms,ttft=2s)")
    what.add_argument("--percentile", type=float, default=95.0, help="that they hold at: 50, 90, 95 or 99 (default 95)")
    what.add_argument("--inputs", default="128,512,2048", help="input tokens of the grid (default 128,512,2048)")
    what.add_argument("--outputs", default="64,256", help="output tokens of the grid (default 64,256)")
    how = parser.add_argument_group("how")
    how.add_argument("--max-concurrency", type=int, default=256, help="most requests in flight (default 256)")
    how.add_argument("--tolerance", type=float, default=0.04, help="width of each size's bracket (default 0.04)")
    how.add_argument(
        "--grid-tolerance", type=float, default=0.05, help="how far interpolation may be off (default 0.05)"
    )
    how.add_argument("--all-sizes", action="store_true", help="measure every size, interpolate none")
    how.add_argument("--requests", type=int, help="measured requests per open-loop probe (default: by the percentile)")
    how.add_argument("--tokens-as", choices=("ids", "text"), default="ids", help="form of the prompts (default ids)")
    how.add_argument("--vocab-size", type=int, default=32_000, help="token ids are drawn below this (default 32000)")
    how.add_argument("--timeout", type=float, default=300.0, help="seconds after which a request failed (default 300)")
    how.add_argument("--api-key-file", type=Path, help="file with the key that the endpoint wants")
    how.add_argument("--seed", type=int, default=0, help="of the arrivals (default 0)")
    how.add_argument("--journal", type=Path, help="keeps finished probes; the same command goes on from there")
    how.add_argument("--partial", action="store_true", help="write what the journal has, send nothing")
    how.add_argument("--output", type=Path, help="file for the manifest (default: standard output)")
    how.add_argument("--yes", action="store_true", help="do not ask before sending")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measures and writes."""
    plan = _plan(args)
    flags = EngineFlags(quantization=args.quantization, kv_cache_dtype=args.kv_cache_dtype)
    _check_output(args)
    if args.partial and args.journal is None:
        raise UserError("needs --journal", field="--partial", fix="name the journal of the broken-off run")
    try:
        model, result = asyncio.run(_measured(args, plan))
    except KeyboardInterrupt:
        kept = (
            f"; finished probes are in {args.journal}: the same command goes on, --partial writes what there is"
            if args.journal
            else "; nothing was kept: use --journal to be able to go on"
        )
        print(f"medley: interrupted{kept}", file=sys.stderr)
        return 130
    if result is None:
        return 1
    document = manifest(
        name=args.name or object_name(ProfileKey(model, args.gpu, args.tp, args.engine, flags)),
        model=model,
        gpu=args.gpu,
        tensor_parallel_size=args.tp,
        engine=args.engine,
        flags=flags,
        measured=result.measured,
        today=date.today(),
    )
    _print_summary(result, Console(stderr=True, highlight=False))
    if not result.measured.points:
        raise UserError("no size was measured", field="--journal" if args.partial else "--url")
    text = yaml.safe_dump(document, sort_keys=False)
    if args.output is None:
        print(text, end="")
    else:
        args.output.write_text(text)
    return 0


def manifest(
    *,
    name: str,
    model: str,
    gpu: str,
    tensor_parallel_size: int,
    engine: str,
    flags: EngineFlags,
    measured: Measured,
    today: date,
) -> dict[str, Any]:
    """The ThroughputProfile that states these points."""
    key = ProfileKey(model, gpu, tensor_parallel_size, engine, flags)
    points = Measured(tuple(_shortened(point) for point in measured.points))
    profile = Profile(name, key, Provenance.MEASURED, Provenance.MEASURED.default_derating, points)
    return profile_manifest(profile, tool=f"medley profile run {__version__}", date=today.isoformat())


def _shortened(point: LoadPoint) -> LoadPoint:
    def latency(whole: Latency) -> Latency:
        # 0: TPOT of a single token, there is none.
        return Latency(**{name: _short(value) if value else None for name, value in asdict(whole).items()})

    concurrency = None if point.concurrency is None else _short(point.concurrency)
    return replace(
        point,
        rate_rps=_short(point.rate_rps),
        concurrency=concurrency,
        tpot=latency(point.tpot),
        ttft=latency(point.ttft),
    )


def _short(value: float) -> float:
    """Five digits: more than a measurement has."""
    return float(f"{value:.5g}")


def _plan(args: argparse.Namespace) -> Plan:
    from medley.measurement.adaptive import Plan

    for field, value, low, high in (
        ("--tolerance", args.tolerance, 0.005, 0.5),
        ("--grid-tolerance", args.grid_tolerance, 0.005, 1.0),
        ("--max-concurrency", args.max_concurrency, 2, 10_000),
        ("--tp", args.tp, 1, 64),
        ("--timeout", args.timeout, 1.0, 86_400.0),
        ("--requests", args.requests, 50, 1_000_000),
    ):
        if value is not None and not low <= value <= high:
            raise UserError(f"{value:g} is not within {low:g} to {high:g}", field=field)
    if args.percentile not in (50.0, 90.0, 95.0, 99.0):
        raise UserError(f"{args.percentile:g} is not kept", field="--percentile", fix="take 50, 90, 95 or 99")
    outputs = parse_sizes(args.outputs, field="--outputs")
    target = parse_slo(args.slo, percentile=args.percentile)
    if outputs[0] < 2 and target.tpot_ms is not None:
        raise UserError("one token has no TPOT", field="--outputs", fix="begin with 2 or more")
    return Plan(
        inputs=parse_sizes(args.inputs, field="--inputs"),
        outputs=outputs,
        target=target,
        max_concurrency=args.max_concurrency,
        tolerance=args.tolerance,
        grid_tolerance=args.grid_tolerance,
        requests=args.requests,
        measure_all=args.all_sizes,
    )


def _check_output(args: argparse.Namespace) -> None:
    """Before hours of measuring, not after them."""
    if args.output is not None and not args.output.parent.is_dir():
        raise UserError("its folder does not exist", field=f"--output {args.output}", fix="make the folder first")


async def _measured(args: argparse.Namespace, plan: Plan) -> tuple[str, Measurement | None]:
    """The model's name and the result; None if the user said no."""
    from medley.measurement.client import OpenAiEndpoint, RequestError, TokensAs
    from medley.measurement.journal import Journal, model_of
    from medley.measurement.load import Limits
    from medley.measurement.session import Session, expected_load, measurement
    from medley.model.errors import TransientError
    from medley.model.workload import Size

    about = {
        "url": args.url,
        "slo": args.slo,
        "percentile": args.percentile,
        "inputs": list(plan.inputs),
        "outputs": list(plan.outputs),
        "maxConcurrency": plan.max_concurrency,
        "tolerance": plan.tolerance,
        "gridTolerance": plan.grid_tolerance,
        "requests": plan.requests,
        "allSizes": plan.measure_all,
        "tokensAs": args.tokens_as,
        "seed": args.seed,
    }
    endpoint = OpenAiEndpoint(
        args.url,
        args.model or "",
        tokens_as=TokensAs(args.tokens_as),
        vocabulary_size=args.vocab_size,
        timeout_s=args.timeout,
        headers=_headers(args.api_key_file),
        seed=args.seed,
    )
    async with endpoint:
        try:
            if args.partial:
                model = args.model or model_of(args.journal)
                return model, measurement(plan, Journal(args.journal, {"model": model, **about}).results)
            endpoint.model = await _model(endpoint, args.model, plan)
            journal = Journal(args.journal, {"model": endpoint.model, **about})
            console = Console(stderr=True, highlight=False)
            if not _is_agreed(args, expected_load(plan, len(journal.results)), len(journal.results), console):
                return endpoint.model, None
            await endpoint.check(Size(plan.inputs[-1], plan.outputs[0]))
        except RequestError as error:
            if error.ends_the_run:
                raise UserError(str(error), field="--url") from None
            raise TransientError(str(error)) from None
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}"),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("starting", total=1.0, left="")
            session = Session(
                plan,
                endpoint,
                journal,
                Limits(plan.max_concurrency, args.timeout),
                seed=args.seed,
                report=lambda now: bar.update(
                    task, completed=now.fraction, description=now.text, left=_left(now.remaining_s)
                ),
            )
            return endpoint.model, await session.run()


async def _model(endpoint: Any, asked: str | None, plan: Plan) -> str:
    served = await endpoint.models()
    names = [model.name for model in served]
    if asked is None and len(names) != 1:
        raise UserError(
            f"the endpoint serves {', '.join(names) or 'no model'}", field="--model", fix="name one of them"
        )
    if asked is not None and asked not in names:
        raise UserError(f"{asked!r} is not served: {', '.join(names) or 'none'} is", field="--model")
    chosen = served[names.index(asked)] if asked is not None else served[0]
    longest = plan.inputs[-1] + plan.outputs[-1]
    if chosen.max_model_len is not None and longest > chosen.max_model_len:
        raise UserError(
            f"the largest size has {longest} tokens, the model takes {chosen.max_model_len}",
            field="--inputs",
            fix="leave out the largest, or serve with a larger --max-model-len",
        )
    return str(chosen.name)


def _headers(key_file: Path | None) -> dict[str, str] | None:
    if key_file is None:
        return None
    try:
        return {"Authorization": f"Bearer {key_file.read_text().strip()}"}
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", field=f"--api-key-file {key_file}") from None


def _is_agreed(args: argparse.Namespace, load: ExpectedLoad, done: int, console: Console) -> bool:
    """States the load, and asks."""
    if done:
        console.print(f"{args.journal} has {done} finished probes; they are not made again.")
    console.print(
        f"Will send about {load.requests:,} requests ({load.tokens:,} tokens) to {args.url}, at most "
        f"{load.most_requests:,}, with at most {load.most_in_flight} in flight; about {_duration(load.seconds)}, "
        "judging by the SLO alone. The replica should serve nothing else meanwhile."
    )
    if args.yes:
        return True
    if not sys.stdin.isatty():
        raise UserError("nobody is there to agree to this load", field="--yes", fix="add --yes to send it")
    console.print("Go on? [y/N] ", end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _print_summary(result: Measurement, console: Console) -> None:
    table = Table(title="highest rate per size", title_justify="left")
    for column in ("input/output", "req/s", ""):
        table.add_column(column)
    for cell in result.cells:
        how = "measured" if cell.is_measured else "interpolated"
        table.add_row(str(cell.size), f"{cell.rate_rps:.4g}", f"{how}, {cell.reason.value}" if cell.reason else how)
    console.print(table)
    console.print(
        f"{result.probes} probes, {result.requests:,} requests, {result.failed} failed, {_duration(result.seconds)}"
    )
    for note in result.notes:
        console.print(f"note: {note}")


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{_duration(seconds)} left"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
