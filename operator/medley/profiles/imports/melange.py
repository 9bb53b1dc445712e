"""Mélange's solver input: {"gpu_info": {GPU: {"cost": $, "tputs": [[req/s]]}}}, rows are input sizes.

The file states neither sizes nor an SLO: the user must. Mélange's SLO is the mean of latency / output tokens (prefill
and queue included), Medley's TPOT is decode only. For a request of o output tokens

    (latency - TTFT) / (o - 1)  <=  latency / (o - 1)  =  (latency / o) · o / (o - 1),

so a rate that keeps the inclusive TPOT below X keeps the decode-only one below X·o/(o - 1). A grid states one
objective, so it states the loosest: that of the fewest output tokens above 1. One token has no decode TPOT at all.

A cell stands for a range of sizes; the published format does not say at which size in the range it was profiled. With
the upper borders as sizes, a grid never promises a request more than one at least as large had. An SLO on TTFT is not
part of the format: it holds if the user says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from medley.model.errors import UserError
from medley.profiles.grid import Grid
from medley.profiles.imports.document import parse_json, to_object
from medley.profiles.imports.matrix import Axis, axis, read_matrix, remarks
from medley.profiles.imports.result import Imported
from medley.profiles.latency import LatencyTarget

FORMAT = 'Give a Mélange input: {"gpu_info": {GPU: {"cost": …, "tputs": [[…]]}}}'


def read(
    file: str,
    text: str,
    *,
    gpu: str,
    inputs: tuple[int, ...] | None,
    outputs: tuple[int, ...] | None,
    slo: LatencyTarget | None,
) -> Imported:
    """The grid of one GPU of a Mélange input file.

    Args:
        file: name, for messages.
        text: the content.
        gpu: the GPU's name in the file.
        inputs: input sizes of the rows, in tokens.
        outputs: output sizes of the columns, in tokens.
        slo: what the rates keep: TPOT by Mélange's definition.

    Raises:
        UserError: the file is wrong, or sizes or SLO are missing.
    """
    document = to_object(parse_json(file, text), file, FORMAT)
    name, info = _gpu(file, document, gpu)
    for option, values in (("--inputs", inputs), ("--outputs", outputs)):
        if values is None:
            raise UserError(
                "a Mélange file does not state its sizes",
                field=option,
                fix=f"Give the upper borders of its ranges in tokens, as in {option} 25,100,250",
            )
    if slo is None or slo.tpot_ms is None:
        raise UserError(
            "a Mélange file does not state the SLO of its rates",
            field="--slo",
            fix="Give the mean latency per output token that they keep, with its unit, as in --slo tpot=120ms",
        )
    rows, columns = axis("input", inputs, "--inputs"), axis("output", outputs, "--outputs")
    rates = read_matrix(info.get("tputs"), f"{file}: gpu_info.{name}.tputs", rows, columns)
    notes = []
    if name != gpu:
        notes.append(f"The file's only GPU is {name!r}; it is imported as {gpu!r}.")
    tpot_ms, conversion = _decode_only(slo.tpot_ms, columns)
    notes.append(conversion)
    if slo.ttft_ms is not None:
        notes.append(f"Mélange profiles state no TTFT: that the rates keep {slo.ttft_ms:g} ms is what --slo says.")
    notes.append(
        "The SLO holds for the mean: Mélange knows no percentiles. A cell stands for a range of sizes and is taken as "
        "the rate of a request of exactly the stated sizes."
    )
    if len(rows.tokens) == len(columns.tokens):
        notes.append(
            f"The matrix is square ({len(rows.tokens)} × {len(columns.tokens)}): that rows are input sizes, as Mélange "
            "writes them, cannot be checked."
        )
    notes.extend(remarks(rows, columns, rates))
    grid = Grid(tpot_ms, slo.ttft_ms, _floats(rows), _floats(columns), rates)
    return Imported(grid, tuple(notes), "Mélange")


def _gpu(file: str, document: Mapping[str, Any], gpu: str) -> tuple[str, Mapping[str, Any]]:
    if "gpu_info" not in document:
        raise UserError("has no gpu_info", field=file, fix=FORMAT)
    known = to_object(document["gpu_info"], f"{file}: gpu_info", FORMAT)
    if not known:
        raise UserError("is empty", field=f"{file}: gpu_info", fix=FORMAT)
    name = next((key for key in known if key == gpu), None) or next(
        (key for key in known if key.lower() == gpu.lower()), None
    )
    if name is None:
        if len(known) > 1:
            raise UserError(
                f"has no GPU {gpu!r}",
                field=f"{file}: gpu_info",
                fix=f"It has {', '.join(known)}: name one with --source-gpu",
            )
        name = next(iter(known))
    return name, to_object(known[name], f"{file}: gpu_info.{name}", FORMAT)


def _decode_only(inclusive_ms: float, outputs: Axis) -> tuple[float, str]:
    """The decode-only objective that follows from an inclusive one for every output size, and a note that says so."""
    smallest = next((tokens for tokens in outputs.tokens if tokens > 1), None)
    if smallest is None:
        raise UserError(
            "requests of one output token have no time per output token",
            field="--outputs",
            fix="Import a profile with output sizes of 2 tokens or more",
        )
    factor = smallest / (smallest - 1)
    # Up, not to nearest: the grid must not state a tighter objective than follows.
    decode_ms = math.ceil(inclusive_ms * factor * 1e4 - 1e-3) / 1e4
    return decode_ms, (
        f"Converted: Mélange's TPOT of {inclusive_ms:g} ms is latency / output tokens (prefill and queue included). A "
        "rate that keeps it keeps the decode-only TPOT below that times o/(o-1) for o output tokens. The grid "
        f"states the loosest, for {smallest} output tokens: {decode_ms:g} ms ({inclusive_ms:g} × {factor:.4g})."
    )


def _floats(direction: Axis) -> tuple[float, ...]:
    return tuple(map(float, direction.tokens))
