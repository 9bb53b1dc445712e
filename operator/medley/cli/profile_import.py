"""`medley profile import`: a ThroughputProfile out of what another tool wrote or computes."""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from medley.api.fields import DNS_NAME
from medley.api.profile_manifest import profile_manifest
from medley.cli.units import parse_sizes, parse_slo
from medley.model.engine import EngineFlags
from medley.model.errors import UserError
from medley.profiles.imports import aibrix, aiconfigurator, guidellm, melange, vllm_bench
from medley.profiles.imports.result import Imported
from medley.profiles.profile import Profile, ProfileKey, Provenance

FORMATS = ("melange", "aibrix", "vllm-bench", "guidellm", "aiconfigurator")

ANY_SLO = ("vllm-bench", "guidellm")
"""Formats of load points, which answer for any SLO and state their own sizes."""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "import",
        help="make a ThroughputProfile from another tool's results",
        description="Prints a ThroughputProfile manifest. What was converted, assumed or not checked is noted on "
        "stderr and at the top of the manifest. Exit 0: imported; 2: the file or an option is wrong.",
    )
    parser.add_argument("format", choices=FORMATS, metavar="FORMAT", help=", ".join(FORMATS))
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help="results; aiconfigurator takes none")
    parser.add_argument("--model", required=True, help="model name, as in LLMService spec.model.name")
    parser.add_argument("--gpu", required=True, help="GPU type, as in GPUPool spec.gpu")
    parser.add_argument("--tp", type=int, default=1, help="GPUs that one replica ran on (default: 1)")
    parser.add_argument("--engine", default="vllm", help="inference engine (default: vllm)")
    parser.add_argument("--slo", help="what the rates keep, as in tpot=120ms,ttft=2s (melange, aibrix, aiconfigurator)")
    parser.add_argument("--inputs", help="input sizes in tokens, as in 128,512,2048 (melange, aiconfigurator)")
    parser.add_argument("--outputs", help="output sizes in tokens (melange, aiconfigurator)")
    parser.add_argument("--quantization", help="as the engine ran, e.g. fp8 (default: as in the checkpoint)")
    parser.add_argument("--kv-cache-dtype", help="as the engine ran, e.g. fp8 (default: the model's)")
    parser.add_argument("--name", help="name of the ThroughputProfile (default: from model, GPU and --tp)")
    parser.add_argument("--date", help="date of the results, YYYY-MM-DD (default: the file's, or today)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the manifest here instead of printing it")
    parser.add_argument("--source-gpu", help="what the source calls the GPU, if not --gpu (melange, aiconfigurator)")
    parser.add_argument("--source-model", help="what aiconfigurator calls the model, if not --model; or a folder")
    parser.add_argument(
        "--weights",
        choices=tuple(aiconfigurator.WEIGHTS),
        help="precision of the checkpoint's weights, for aiconfigurator (default: --quantization, or bf16)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Import, check and print."""
    _check_options(args)
    imported = read(args)
    notes = list(imported.notes)
    if imported.model is not None and _short(imported.model) != _short(args.model):
        notes.insert(0, f"The source names the model {imported.model!r}; it is imported as {args.model!r}.")
    text = render(manifest(args, imported), notes)
    if args.output is None:
        print(text, end="")
    else:
        try:
            args.output.write_text(text, encoding="utf-8")
        except OSError as error:
            fix = "Check the path"
            raise UserError(f"cannot be written: {error.strerror}", field=str(args.output), fix=fix) from None
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return 0


def _check_options(args: argparse.Namespace) -> None:
    if args.tp < 1:
        raise UserError(f"{args.tp} is not a number of GPUs", field="--tp", fix="Give 1 or more")
    if args.name is not None and not re.fullmatch(DNS_NAME, args.name):
        fix = "Use lower-case letters, digits, - and ."
        raise UserError(f"{args.name!r} is not a name of an object", field="--name", fix=fix)
    if args.format == "aiconfigurator" and args.files:
        raise UserError("aiconfigurator reads no files", field=str(args.files[0]), fix="Leave FILE out")
    if args.format != "aiconfigurator" and not args.files:
        raise UserError("there is no file to import", field="FILE", fix=f"Give the {args.format} results")
    if args.format in ("melange", "aibrix") and len(args.files) > 1:
        raise UserError("is one file too many", field=str(args.files[1]), fix="Import one matrix at a time")
    used = {
        "slo": ("melange", "aibrix", "aiconfigurator"),
        "inputs": ("melange", "aibrix", "aiconfigurator"),
        "outputs": ("melange", "aibrix", "aiconfigurator"),
        "source_gpu": ("melange", "aiconfigurator"),
        "source_model": ("aiconfigurator",),
        "weights": ("aiconfigurator",),
    }
    for option, formats in used.items():
        if getattr(args, option) is not None and args.format not in formats:
            why = "holds load points, which state their sizes and answer for any SLO"
            raise UserError(
                why if args.format in ANY_SLO and option in ("slo", "inputs", "outputs") else "has no use for it",
                field=f"--{option.replace('_', '-')} with {args.format}",
                fix="Leave the option out",
            )


def read(args: argparse.Namespace) -> Imported:
    """What the format's module makes of the files."""
    slo = None if args.slo is None else parse_slo(args.slo)
    inputs = None if args.inputs is None else parse_sizes(args.inputs, field="--inputs")
    outputs = None if args.outputs is None else parse_sizes(args.outputs, field="--outputs")
    match args.format:
        case "melange":
            [file] = args.files
            gpu = args.source_gpu or args.gpu
            return melange.read(str(file), _text(file), gpu=gpu, inputs=inputs, outputs=outputs, slo=slo)
        case "aibrix":
            [file] = args.files
            return aibrix.read(str(file), _text(file), gpu=args.gpu, inputs=inputs, outputs=outputs, slo=slo)
        case "vllm-bench":
            return vllm_bench.read([(str(file), _text(file)) for file in args.files])
        case "guidellm":
            return guidellm.read([(str(file), _document(file)) for file in args.files])
    system = args.source_gpu or aiconfigurator.SYSTEMS.get(args.gpu)
    if system is None:
        raise UserError(
            f"aiconfigurator has no measured kernel times of {args.gpu}",
            field="--gpu",
            fix=f"Use one of {', '.join(aiconfigurator.SYSTEMS)}, or name its system with --source-gpu",
        )
    if slo is None:
        raise UserError("a grid is made for an SLO", field="--slo", fix="Give one, as in --slo tpot=40ms,ttft=2s")
    return aiconfigurator.estimate(
        aiconfigurator.Deployment(
            args.source_model or args.model,
            system,
            args.tp,
            args.weights or args.quantization or "bf16",
            args.kv_cache_dtype or "bf16",
        ),
        slo,
        inputs or aiconfigurator.INPUTS,
        outputs or aiconfigurator.OUTPUTS,
    )


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError("is not text", field=str(file), fix="Give the file as the tool wrote it") from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", field=str(file), fix="Check the path") from None


def _document(file: Path) -> object:
    text = _text(file)
    if file.suffix not in (".yaml", ".yml"):
        return guidellm.parse(str(file), text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(
            f"is not YAML: {error}", field=str(file), fix="Give the file as guidellm wrote it, or its benchmarks.json"
        ) from None


def manifest(args: argparse.Namespace, imported: Imported) -> dict[str, Any]:
    """The ThroughputProfile as an object.

    Raises:
        UserError: the operator would refuse it.
    """
    more = f" and {len(args.files) - 1} more" if len(args.files) > 1 else ""
    made_by = " ".join(["medley profile import", args.format, *[file.name for file in args.files[:1]]]) + more
    flags = EngineFlags(quantization=args.quantization or "", kv_cache_dtype=args.kv_cache_dtype or "")
    profile = Profile(
        args.name or _name(args),
        ProfileKey(args.model, args.gpu, args.tp, args.engine, flags),
        Provenance.IMPORTED,
        Provenance.IMPORTED.default_derating,
        imported.source,
    )
    date = args.date or imported.made_on or datetime.now(UTC).strftime("%Y-%m-%d")
    try:
        return profile_manifest(profile, tool=f"{imported.tool}; {made_by}", date=date)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(first["msg"], field=place, fix="The API's limits are in docs/reference/api.md") from None


def _name(args: argparse.Namespace) -> str:
    parts = [
        _short(args.model),
        args.gpu,
        *([f"tp{args.tp}"] if args.tp > 1 else []),
        *([args.quantization] if args.quantization else []),
        *([f"kv{args.kv_cache_dtype}"] if args.kv_cache_dtype else []),
    ]
    name = re.sub(r"[^a-z0-9.]+", "-", "-".join(parts).lower()).strip("-.")
    return name[:253] or "profile"


def _short(model: str) -> str:
    """A model's name without its owner: meta-llama/Llama-3.1-8B is served as either."""
    return model.rstrip("/").rsplit("/", 1)[-1].lower()


def render(document: dict[str, Any], notes: list[str]) -> str:
    """The manifest as YAML, notes first as comments."""
    comments = [
        line
        for note in notes
        for line in textwrap.wrap(
            note,
            118,
            initial_indent="# note: ",
            subsequent_indent="#   ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]
    body = yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=118, allow_unicode=True)
    return "\n".join([*comments, body])
