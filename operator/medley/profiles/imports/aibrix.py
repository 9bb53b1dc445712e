"""AIBrix GPU profiles, as its gen_profile.py writes them, of one GPU and one SLO.

    {"gpu": …, "cost": …, "tputs": [[req/s]], "indexes": [[output sizes], [input sizes]], "created": unix time,
     "e2e": [[s]], "ttft": [[s]], "slos": {"percentile": 0|50|90|99, "e2e": s, "ttft": s, "tpot": s, "tpat": s, …}}

`tputs` is [output][input], the other way round than Mélange and Medley. Times are seconds. A cell is 0 if no rate that
was tried keeps the SLO. Its TPOT is the time between chunks after the first, so it is decode only, as Medley's. E2E
latency and TPAT (latency per input and output token) say nothing about TPOT on their own: a grid made for them states
no objective.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medley.model.errors import UserError
from medley.profiles.grid import Grid
from medley.profiles.imports.document import day, number, parse_json, to_object
from medley.profiles.imports.matrix import Axis, axis, read_matrix, remarks, transposed
from medley.profiles.imports.result import Imported
from medley.profiles.latency import LatencyTarget

FORMAT = "Give a profile as AIBrix's gen_profile.py writes it: an object with gpu, tputs, indexes and slos"

OTHER_SLOS = {
    "e2e": ("an end-to-end latency", " s"),
    "tpat": ("a latency per input and output token", " s"),
    "tput": ("a throughput of at least", " req/s"),
    "tt": ("a token throughput of at least", " tokens/s"),
}


def read(
    file: str,
    text: str,
    *,
    gpu: str,
    inputs: tuple[int, ...] | None = None,
    outputs: tuple[int, ...] | None = None,
    slo: LatencyTarget | None = None,
) -> Imported:
    """The grid of an AIBrix profile.

    Args:
        file: name, for messages.
        text: the content.
        gpu: what the user calls the GPU.
        inputs: sizes that the user expects; None: those of the file.
        outputs: sizes that the user expects; None: those of the file.
        slo: objectives that the user expects; None: those of the file.

    Raises:
        UserError: the file is wrong, or is not what the user expects.
    """
    document = to_object(parse_json(file, text), file, FORMAT)
    if "gpu_info" in document:
        raise UserError("is a Mélange input", field=file, fix="Import it as melange")
    for key in ("tputs", "indexes"):
        if key not in document:
            raise UserError(f"has no {key}", field=file, fix=FORMAT)
    output_axis, input_axis = _axes(file, document["indexes"])
    for option, wanted, direction in (("--inputs", inputs, input_axis), ("--outputs", outputs, output_axis)):
        if wanted is not None and wanted != direction.tokens:
            raise UserError(
                f"are {_text(wanted)}, but the file's {direction.name} sizes are {_text(direction.tokens)}",
                field=option,
                fix="Leave the option out: the file states its sizes",
            )
    rates = transposed(read_matrix(document["tputs"], f"{file}: tputs", output_axis, input_axis))
    slos = document.get("slos")
    stated = to_object({} if slos is None else slos, f"{file}: slos", FORMAT)
    made_for, slo_notes = _made_for(file, stated)
    _compare(file, made_for, slo, stated)
    name = str(document.get("gpu") or "")
    notes = [] if name in ("", gpu) else [f"The file calls the deployment {name!r}; it is imported as GPU {gpu!r}."]
    notes.append("Transposed: AIBrix writes [output][input].")
    notes.extend(slo_notes)
    notes.extend(remarks(input_axis, output_axis, rates))
    grid = Grid(
        made_for.tpot_ms,
        made_for.ttft_ms,
        tuple(map(float, input_axis.tokens)),
        tuple(map(float, output_axis.tokens)),
        rates,
    )
    return Imported(grid, tuple(notes), "AIBrix gen_profile.py", day(document.get("created")))


def _axes(file: str, indexes: object) -> tuple[Axis, Axis]:
    if not isinstance(indexes, list) or len(indexes) != 2:
        raise UserError("must be two lists", field=f"{file}: indexes", fix="Give [output sizes, input sizes] in tokens")
    return (
        axis("output", indexes[0], f"{file}: indexes[0]"),
        axis("input", indexes[1], f"{file}: indexes[1]"),
    )


def _made_for(file: str, stated: Mapping[str, Any]) -> tuple[LatencyTarget, list[str]]:
    """Objectives that Medley knows among those of the file, and notes on all."""
    times_ms = {
        key: 1000.0 * number(stated[key], f"{file}: slos.{key}", above=True)
        for key in ("tpot", "ttft")
        if key in stated
    }
    percentile = number(stated.get("percentile", 0), f"{file}: slos.percentile")
    held = f"at percentile {percentile:g}" if percentile else "by the mean"
    notes = []
    others = [
        f"{words} of {number(stated[key], f'{file}: slos.{key}'):g}{unit}"
        for key, (words, unit) in OTHER_SLOS.items()
        if key in stated
    ]
    if others:
        also = " as well" if times_ms else ""
        notes.append(f"The rates keep {' and '.join(others)}{also} ({held}); Medley has no such objective.")
    if times_ms:
        listed = " and ".join(f"{key.upper()} {value:g} ms" for key, value in times_ms.items())
        notes.append(f"The rates keep {listed} {held}, from the file's seconds. AIBrix's TPOT is decode only already.")
    if "tpot" not in times_ms:
        notes.append("The grid states no TPOT objective: whether its rates keep a service's TPOT is not verified.")
    if not stated:
        notes.append("The file names no SLO: its rates are the highest that were tried and kept up.")
    if percentile and percentile < 95:
        notes.append(f"A service's objectives hold at p95 by default: stricter than the file's p{percentile:g}.")
    return LatencyTarget(times_ms.get("tpot"), times_ms.get("ttft"), percentile or 50.0), notes


def _compare(file: str, made_for: LatencyTarget, slo: LatencyTarget | None, stated: Mapping[str, Any]) -> None:
    if slo is None:
        return
    for name, mine, wanted in (("tpot", made_for.tpot_ms, slo.tpot_ms), ("ttft", made_for.ttft_ms, slo.ttft_ms)):
        if wanted is None or (mine is not None and abs(mine - wanted) < 1e-6 * wanted):
            continue
        if mine is not None:
            has = f"{name} {mine:g} ms"
        else:
            has = ", ".join(f"{key} {value:g}" for key, value in stated.items() if key in OTHER_SLOS) or "no SLO"
        raise UserError(
            f"asks for {name} {wanted:g} ms, but the file was made for {has}",
            field=f"{file}: slos",
            fix=f"Leave --slo out, or make the profile again: gen_profile.py --{name} {wanted / 1000:g}",
        )


def _text(tokens: tuple[int, ...]) -> str:
    return ",".join(map(str, tokens))
