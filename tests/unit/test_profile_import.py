"""`medley profile import`: golden manifests of every format, and what is refused, with file, row and fix.

`UPDATE_GOLDEN=1 pytest tests/unit/test_profile_import.py` writes the golden files anew; read the diff first.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from medley.api.convert import to_profile
from medley.cli import profile_import
from medley.cli.units import parse_milliseconds, parse_sizes, parse_slo
from medley.model.errors import UserError
from medley.model.workload import Size
from medley.profiles.grid import Grid
from medley.profiles.imports import aibrix, aiconfigurator, guidellm, melange, vllm_bench
from medley.profiles.latency import LatencyTarget
from medley.profiles.measured import Measured

TESTS = Path(__file__).parents[1]
DATA = TESTS / "data" / "imports"
GOLDEN = TESTS / "golden" / "imports"

Json = dict[str, Any]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the sample files, so that messages name them without a path."""
    for file in DATA.iterdir():
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    profile_import.register(parser.add_subparsers())
    args = parser.parse_args(["import", *arguments])
    code: int = args.run(args)
    return code


def refused(*arguments: str) -> str:
    with pytest.raises(UserError) as caught:
        run(*arguments)
    assert caught.value.fix, "an error without a fix"
    return str(caught.value)


MELANGE = ["melange", "melange.json", "--model", "meta-llama/Llama-2-7b", "--gpu", "A100-80GB"]
SIZES = ["--inputs", "100,1000,4000", "--outputs", "25,500"]
SLO = ["--slo", "tpot=120ms"]
OURS = ["--model", "Llama-3.1-8B", "--gpu", "H100"]

# Golden files


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("melange", [*MELANGE, *SIZES, *SLO, "--date", "2024-04-22"]),
        ("aibrix", ["aibrix", "aibrix.json", "--model", "llama2-7b", "--gpu", "A100-80"]),
        ("aibrix_tpot", ["aibrix", "aibrix_tpot.json", *OURS, "--slo", "tpot=25ms,ttft=1.5s"]),
        (
            "vllm_bench",
            ["vllm-bench", "vllm_bench_2rps.json", "vllm_bench_6rps.json", "vllm_bench_appended.json", *OURS],
        ),
        ("guidellm", ["guidellm", "guidellm.json", *OURS, "--tp", "2"]),
        ("guidellm_converted", ["guidellm", "guidellm.yaml", *OURS, "--name", "mine"]),
    ],
)
def test_the_manifest_is_the_golden_one(name: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 0
    captured = capsys.readouterr()
    golden = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(captured.out, encoding="utf-8")
    assert captured.out == golden.read_text(encoding="utf-8")
    noted = [line for line in captured.err.splitlines() if line.startswith("note: ")]
    assert len(noted) == captured.out.count("# note: ") == len(captured.err.splitlines()) > 0
    [manifest] = yaml.safe_load_all(captured.out)
    assert manifest["spec"]["provenance"]["kind"] == "Imported"
    assert to_profile(manifest).derating == 0.85


def test_output_goes_to_a_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*MELANGE, *SIZES, *SLO, "--output", "out.yaml") == 0
    assert capsys.readouterr().out == ""
    assert yaml.safe_load((here / "out.yaml").read_text())["metadata"]["name"] == "llama-2-7b-a100-80gb"
    assert "missing/out.yaml" in refused(*MELANGE, *SIZES, *SLO, "--output", "missing/out.yaml")


# What the numbers mean


def read_melange(tputs: object, inputs: tuple[int, ...], outputs: tuple[int, ...], tpot_ms: float = 120.0) -> Grid:
    source = melange.read(
        "m.json",
        json.dumps({"gpu_info": {"G": {"cost": 1, "tputs": tputs}}}),
        gpu="G",
        inputs=inputs,
        outputs=outputs,
        slo=LatencyTarget(tpot_ms),
    ).source
    assert isinstance(source, Grid)
    return source


def test_melange_rows_are_inputs() -> None:
    grid = read_melange([[9, 5, 2], [4, 3, 1]], (128, 1024), (32, 64, 256))
    assert grid.max_throughput(Size(128, 256)).rate_rps == pytest.approx(2)
    assert grid.max_throughput(Size(1024, 32)).rate_rps == pytest.approx(4)


@pytest.mark.parametrize(
    ("outputs", "states"), [((25, 100), 125.0), ((2, 100), 240.0), ((1, 5), 150.0), ((501, 1000), 120.24)]
)
def test_melange_tpot_is_stated_as_decode_only(outputs: tuple[int, ...], states: float) -> None:
    # 120·o/(o - 1) for the fewest output tokens above 1.
    assert read_melange([[9, 5]], (128,), outputs).tpot_ms == pytest.approx(states)


@pytest.mark.parametrize("output_tokens", [25, 100, 500])
@pytest.mark.parametrize("ttft_ms", [1.0, 120.0, 2000.0])
def test_a_rate_that_keeps_melanges_tpot_keeps_the_stated_one(output_tokens: int, ttft_ms: float) -> None:
    stated = read_melange([[9, 5, 2]], (128,), (25, 100, 500)).tpot_ms
    latency_ms = 120.0 * output_tokens
    assert stated is not None
    assert (latency_ms - ttft_ms) / (output_tokens - 1) <= stated


def test_melange_grid_answers_for_the_converted_slo_only() -> None:
    grid = read_melange([[9, 5]], (128,), (25, 100))
    assert grid.states(LatencyTarget(125.0)) is None
    assert grid.states(LatencyTarget(120.0)) is not None


def test_aibrix_is_transposed_and_zeros_stay() -> None:
    imported = aibrix.read("a.json", (DATA / "aibrix.json").read_text(), gpu="A100-80")
    assert isinstance(imported.source, Grid)
    # Row 5 is 64 output tokens, column 4 is 1024 input tokens.
    assert imported.source.max_throughput(Size(1024, 64)).rate_rps == pytest.approx(7.635)
    assert imported.source.max_throughput(Size(2048, 256)).rate_rps == 0
    assert (imported.source.tpot_ms, imported.source.ttft_ms) == (None, None)
    notes = " ".join(imported.notes)
    assert "end-to-end latency of 5 s (at percentile 99)" in notes
    assert "states no TPOT objective" in notes
    assert "2048/256" in notes
    assert imported.made_on == "2025-06-02"


def test_aibrix_seconds_become_milliseconds() -> None:
    imported = aibrix.read("a.json", (DATA / "aibrix_tpot.json").read_text(), gpu="H100")
    assert isinstance(imported.source, Grid)
    assert (imported.source.tpot_ms, imported.source.ttft_ms) == (25.0, 1500.0)
    assert "p50" in " ".join(imported.notes)


def vllm(**changes: object) -> Json:
    document: Json = json.loads((DATA / "vllm_bench_6rps.json").read_text())
    document.update(changes)
    return {key: value for key, value in document.items() if value is not ...}


def read_vllm(*documents: Json) -> tuple[Measured, str]:
    imported = vllm_bench.read([(f"{number}.json", json.dumps(one)) for number, one in enumerate(documents)])
    assert isinstance(imported.source, Measured)
    return imported.source, " ".join(imported.notes)


def test_vllm_run_is_a_load_point() -> None:
    source, _ = read_vllm(vllm())
    [point] = source.points
    assert point.size == Size(1024, 128)
    assert point.rate_rps == 5.93
    assert point.requests == 120
    assert (point.tpot.mean_ms, point.tpot.p50_ms, point.tpot.p95_ms, point.tpot.p99_ms) == (13.42, 13.3, 15.0, 15.9)
    # Little's law: 5.93 req/s of 81 ms + 127 × 13.42 ms.
    assert point.concurrency == pytest.approx(5.93 * 1.78534, abs=1e-3)


def test_vllm_points_answer_for_an_slo() -> None:
    files = [(file.name, file.read_text()) for file in sorted(DATA.glob("vllm_bench*.json"))]
    source = vllm_bench.read(files).source
    rate = source.max_throughput(Size(1024, 128), LatencyTarget(20.0, 1000.0, 95.0)).rate_rps
    # Between 5.93 req/s at 15.0 ms and 8.7 req/s at 34.5 ms (p99, as that run states no p95).
    assert rate == pytest.approx(5.93 + 2.77 * 5.0 / 19.5)


def test_mean_lengths_that_differ_little_are_one_size() -> None:
    source, notes = read_vllm(vllm(), vllm(total_input_tokens=120 * 1030, request_throughput=3.0, request_rate=3.0))
    assert {point.size for point in source.points} == {Size(1027, 128)}
    assert "one size" in notes


def test_percentiles_that_were_not_asked_for_are_unknown() -> None:
    gone: Json = {f"p{p}_{metric}_ms": ... for p in (90, 95, 99) for metric in ("ttft", "tpot")}
    source, notes = read_vllm(vllm(**gone))
    assert source.points[0].tpot.p99_ms is None
    assert "p95 or p99 of TPOT" in notes


def test_a_metric_of_zero_was_not_measured() -> None:
    zero = {f"{key}_ttft_ms": 0.0 for key in ("mean", "median", "p90", "p95", "p99")}
    source, notes = read_vllm(vllm(**zero))
    assert source.points[0].ttft.mean_ms is None
    assert source.points[0].concurrency is None
    assert "No run states TTFT" in notes


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"request_rate": "inf", "max_concurrency": 8}, "closed loop"),
        ({"request_rate": "inf"}, "sent at once"),
        ({"burstiness": 4.0}, "burstiness 4"),
        ({"max_concurrency": 8}, "waiting for a free slot"),
        ({"request_rate": 9.0}, "did not keep up"),
        ({"failed": 1}, "1 of 121 requests failed"),
        ({}, "not checked"),
    ],
)
def test_vllm_notes(changes: Json, says: str) -> None:
    assert says in read_vllm(vllm(**changes))[1]


def test_a_list_of_runs_is_read_too() -> None:
    imported = vllm_bench.read([("a.json", json.dumps([vllm(), vllm(request_throughput=1.0)]))])
    assert isinstance(imported.source, Measured)
    assert len(imported.source.points) == 2


def report(name: str = "guidellm.json") -> Json:
    text = (DATA / name).read_text()
    document: Json = yaml.safe_load(text)
    return document


def read_guidellm(document: object) -> tuple[Measured, str]:
    imported = guidellm.read([("g.json", document)])
    assert isinstance(imported.source, Measured)
    return imported.source, " ".join(imported.notes)


def test_guidellm_uses_inter_token_latency() -> None:
    source, notes = read_guidellm(report())
    assert [point.rate_rps for point in source.points] == [0.4, 3.96, 7.81, 11.2]
    assert [point.tpot.mean_ms for point in source.points] == [9.5, 10.9, 17.0, 41.0]
    assert {point.size for point in source.points} == {Size(512, 256)}
    assert "Converted" not in notes
    assert "inter-token latency" in notes
    assert "cut off 30 of 130" in notes


def test_guidellm_tpot_with_the_first_token_is_converted() -> None:
    source, notes = read_guidellm(report("guidellm.yaml"))
    [point] = source.points
    # It was made with 10 ms a token after a TTFT of 60 ms: 256 tokens take 60 + 255 × 10 ms.
    assert point.tpot.mean_ms == pytest.approx(10.0, abs=1e-3)
    inclusive = report("guidellm.yaml")["benchmarks"][0]["metrics"]["time_per_output_token_ms"]["successful"]
    assert point.tpot.p99_ms == pytest.approx(inclusive["percentiles"]["p99"] * 256 / 255)
    assert point.tpot.p99_ms is not None
    assert point.tpot.p99_ms >= 11.0
    assert "Converted: 1 of 1" in notes


# What is refused: by file


def test_files_that_cannot_be_read(here: Path) -> None:
    (here / "empty.json").write_text(" \n")
    (here / "half.json").write_text('{"gpu_info": {\n"A": ')
    (here / "binary.json").write_bytes(b"\xff\xfe\x00")
    (here / "list.json").write_text("[1]")
    for form in ("melange", "aibrix", "vllm-bench", "guidellm"):
        assert "empty.json: is empty" in refused(form, "empty.json", *OURS)
        assert "half.json: line 2: is not JSON" in refused(form, "half.json", *OURS)
        assert "binary.json: is not text" in refused(form, "binary.json", *OURS)
        assert "gone.json: cannot be read: No such file" in refused(form, "gone.json", *OURS)
        assert "list.json" in refused(form, "list.json", *OURS)
    (here / "bad.yaml").write_text("benchmarks: [}")
    assert "bad.yaml: is not YAML" in refused("guidellm", "bad.yaml", *OURS)


@pytest.mark.parametrize("form", ["aibrix", "vllm-bench", "guidellm"])
def test_another_format_is_refused(form: str) -> None:
    assert "melange.json" in refused(form, "melange.json", *OURS)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*MELANGE, *SLO], ["--inputs: a Mélange file does not state its sizes", "--inputs 25,100,250"]),
        ([*MELANGE, *SLO, *SIZES[:2]], ["--outputs"]),
        ([*MELANGE, *SIZES], ["--slo: a Mélange file does not state the SLO", "tpot=120ms"]),
        ([*MELANGE, *SIZES, "--slo", "ttft=2s"], ["--slo"]),
        ([*MELANGE, *SIZES, "--slo", "tpot=120"], ["--slo: 120 has no unit", "tpot=120ms", "tpot=120s"]),
        ([*MELANGE, *SLO, "--inputs", "25,500", "--outputs", "100,1000,4000"], ["other way round", "Transpose"]),
        ([*MELANGE, *SLO, "--inputs", "1,100,1000,4000", "--outputs", "25,500"], ["borders of 3 ranges"]),
        ([*MELANGE, *SLO, "--inputs", "100,50,4000", "--outputs", "25,500"], ["--inputs: 50 comes after 100"]),
        ([*MELANGE[:-1], "H100", *SIZES, *SLO], ["melange.json: gpu_info: has no GPU 'H100'", "A10G, A100-80GB"]),
        (["melange", *OURS, *SIZES, *SLO], ["there is no file"]),
        (["melange", "melange.json", "aibrix.json", *OURS], ["aibrix.json: is one file too many"]),
        (["aibrix", "aibrix.json", *OURS, *SLO], ["asks for tpot 120 ms", "made for e2e 5", "--tpot 0.12"]),
        (["aibrix", "aibrix_tpot.json", *OURS, "--slo", "tpot=20ms"], ["asks for tpot 20 ms", "made for tpot 25 ms"]),
        (["aibrix", "aibrix_tpot.json", *OURS, "--inputs", "1,2"], ["--inputs: are 1,2", "256,1024,4096"]),
        (["vllm-bench", "vllm_bench_6rps.json", *OURS, *SLO], ["--slo with vllm-bench", "answer for any SLO"]),
        (["guidellm", "guidellm.json", *OURS, "--weights", "fp8"], ["--weights with guidellm"]),
        (["guidellm", "guidellm.json", *OURS, "--tp", "0"], ["--tp"]),
        (["guidellm", "guidellm.json", *OURS, "--name", "My_Name"], ["--name: 'My_Name' is not a name"]),
        (["guidellm", "guidellm.json", *OURS, "--engine", ""], ["engine"]),
        (["aiconfigurator", "x.json", *OURS], ["x.json: aiconfigurator reads no files"]),
        (["aiconfigurator", "--model", "m", "--gpu", "T4", *SLO], ["--gpu", "H100", "--source-gpu"]),
        (["aiconfigurator", *OURS], ["--slo: a grid is made for an SLO"]),
    ],
)
def test_options_that_do_not_fit_the_file(arguments: list[str], says: list[str]) -> None:
    message = refused(*arguments)
    for part in says:
        assert part in message


# What is refused: by cell

PLACE = "m.json: gpu_info.G.tputs"


@pytest.mark.parametrize(
    ("tputs", "says"),
    [
        ([[9, 5], [4]], f"{PLACE} row 2: has 1 values, row 1 has 2"),
        ([[9, 5], []], f"{PLACE} row 2: is empty"),
        ([[9, 5], 4], f"{PLACE} row 2: is 4"),
        ([], f"{PLACE}: is empty"),
        (None, f"{PLACE}: is missing"),
        ([[9, 5], [4, float("nan")]], f"{PLACE} row 2 (input 1024), column 2 (output 64): is nan"),
        ([[9, float("inf")], [4, 3]], f"{PLACE} row 1 (input 128), column 2 (output 64): is inf"),
        ([[9, 5], [-4, 3]], f"{PLACE} row 2 (input 1024), column 1 (output 32): is -4"),
        ([[9, 5], [None, 3]], f"{PLACE} row 2 (input 1024), column 1 (output 32): is missing"),
        ([[9, "5"], [4, 3]], f"{PLACE} row 1 (input 128), column 2 (output 64): is the text '5'"),
        ([[9, True], [4, 3]], f"{PLACE} row 1 (input 128), column 2 (output 64): is true"),
        ([[0, 0], [0, 0.0]], f"{PLACE}: holds only zeros"),
        ([[9, 5], [4, 3], [2, 1]], f"{PLACE}: is 3 × 2, but there are 2 input and 2 output sizes"),
    ],
)
def test_bad_cells_are_named(tputs: object, says: str) -> None:
    with pytest.raises(UserError) as caught:
        read_melange(tputs, (128, 1024), (32, 64))
    assert str(caught.value).startswith(says)
    assert caught.value.fix


def test_one_output_token_alone_has_no_tpot() -> None:
    with pytest.raises(UserError, match="no time per output token"):
        read_melange([[1.0]], (128,), (1,))


def test_zeros_and_rates_that_rise_are_noted() -> None:
    # The example that Mélange ships, whose rates rise with the input; and a zero.
    imported = melange.read(
        "m.json",
        json.dumps({"gpu_info": {"G": {"cost": 3.67, "tputs": [[20, 2], [50, 0]]}}}),
        gpu="other",
        inputs=(128, 1024),
        outputs=(32, 64),
        slo=LatencyTarget(120.0, 2000.0),
    )
    notes = " ".join(imported.notes)
    assert "1024/64 (input/output tokens): the rate is 0" in notes
    assert "rises with the size from 128/32 to 1024/32" in notes
    assert "only GPU is 'G'; it is imported as 'other'" in notes
    assert "square (2 × 2)" in notes
    assert "2000 ms is what --slo says" in notes


def test_aibrix_shape_is_held_to_its_indexes() -> None:
    document: Json = json.loads((DATA / "aibrix_tpot.json").read_text())
    for change, says in (
        ({"indexes": document["indexes"][::-1]}, "a.json: tputs: is 2 × 3, but there are 3 output and 2 input sizes"),
        ({"indexes": [[128, 512]]}, "a.json: indexes: must be two lists"),
        ({"indexes": [[512, 128], [256, 1024, 4096]]}, "a.json: indexes[0]: output size 2 is 128, after 512"),
        ({"indexes": [[128, 512.5], [256, 1024, 4096]]}, "a.json: indexes[0]: output size 2 is 512.5"),
        ({"indexes": [[128, "512"], [256, 1024, 4096]]}, "a.json: indexes[0]: output size 2 is the text"),
        ({"slos": {"tpot": 0}}, "a.json: slos.tpot: is 0, it must be more than 0"),
        ({"slos": {"tpot": float("inf")}}, "a.json: slos.tpot: is inf"),
        ({"tputs": [[1, 2, 3], [1, 2, float("nan")]]}, "a.json: tputs row 2 (output 512), column 3 (input 4096)"),
    ):
        with pytest.raises(UserError) as caught:
            aibrix.read("a.json", json.dumps(document | change), gpu="H100")
        assert str(caught.value).startswith(says)
        assert caught.value.fix
    for key in ("tputs", "indexes"):
        with pytest.raises(UserError, match=f"has no {key}"):
            aibrix.read("a.json", json.dumps({k: v for k, v in document.items() if k != key}), gpu="H100")


# What is refused: by run


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"failed": 3}, "0.json: 3 of 123 requests failed"),
        ({"failed": ..., "num_prompts": 130}, "0.json: 10 of 130 requests failed"),
        ({"completed": 0}, "0.json: no request completed"),
        ({"request_throughput": float("nan")}, "0.json: request_throughput: is nan"),
        ({"request_throughput": 0}, "0.json: request_throughput: is 0"),
        ({"total_input_tokens": ...}, "0.json: total_input_tokens: is missing"),
        ({"total_output_tokens": ...}, "0.json: generated no text"),
        ({"p99_tpot_ms": -1}, "0.json: p99_tpot_ms: is -1"),
        ({"mean_ttft_ms": "81"}, "0.json: mean_ttft_ms: is the text '81'"),
        ({"ramp_up_strategy": "linear"}, "0.json: ramp_up_strategy"),
        ({"input_lens": [1024, 10] * 60, "output_lens": [128] * 120}, "0.json: input lengths spread too widely"),
        ({"input_lens": [1024] * 120, "output_lens": [128, 9] * 60}, "0.json: output lengths spread too widely"),
        ({"completed": ...}, "0.json: is no result"),
        (
            {f"{k}_{m}_ms": ... for k in ("mean", "median", "p90", "p95", "p99") for m in ("ttft", "tpot")},
            "0.json: states neither TPOT nor TTFT",
        ),
    ],
)
def test_bad_vllm_runs_are_named(changes: Json, says: str) -> None:
    with pytest.raises(UserError) as caught:
        read_vllm(vllm(**changes))
    assert str(caught.value).startswith(says)
    assert caught.value.fix


def test_a_bad_line_of_an_appended_file_is_named() -> None:
    good = json.dumps(vllm())
    with pytest.raises(UserError, match=r"a\.json: line 3: is not JSON"):
        vllm_bench.read([("a.json", f"{good}\n\n{{'single': 1}}\n")])
    with pytest.raises(UserError, match=r"a\.json: line 2: 60 of 180 requests failed"):
        vllm_bench.read([("a.json", f"{good}\n{json.dumps(vllm(failed=60))}\n")])


def test_runs_of_two_models_are_refused() -> None:
    with pytest.raises(UserError, match=r"1\.json: runs are of different models"):
        read_vllm(vllm(), vllm(model_id="other"))


def changed(path: str, value: object) -> Json:
    document = report()
    node: Any = document["benchmarks"][3]
    *way, last = path.split("/")
    for key in way:
        node = node[key]
    node[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("metrics/request_totals", {"successful": 90, "errored": 10}, "10 of 100 requests failed"),
        ("metrics/request_totals", {"successful": 0, "errored": 0}, "no request completed"),
        ("metrics/request_totals", None, "has no request_totals"),
        ("metrics", None, ".metrics: is missing"),
        ("metrics/requests_per_second/successful/mean", float("nan"), ".requests_per_second.successful.mean: is nan"),
        ("metrics/requests_per_second/successful", None, ".requests_per_second.successful.mean: is missing"),
        ("metrics/inter_token_latency_ms/successful/percentiles/p95", -3, "percentiles.p95: is -3"),
        ("metrics/output_token_count/successful/std_dev", 90.0, "output lengths spread too widely"),
        ("type_", "embeddings_benchmark", ".type_: is a embeddings_benchmark"),
    ],
)
def test_bad_guidellm_benchmarks_are_named(path: str, value: object, says: str) -> None:
    with pytest.raises(UserError) as caught:
        read_guidellm(changed(path, value))
    assert str(caught.value).startswith("g.json: benchmarks[3]")
    assert says in str(caught.value)
    assert caught.value.fix


def test_a_guidellm_report_without_benchmarks_is_refused() -> None:
    with pytest.raises(UserError, match=r"g\.json: holds no benchmarks"):
        read_guidellm({"benchmarks": []})


# What is refused: anything else

ODD: tuple[object, ...] = (None, "x", "", -1, 0, True, float("nan"), 1e400, [], {}, [None], [[]], 10**400)


def mutants(value: Any) -> Iterator[Any]:
    """The document with one node at a time replaced by something odd."""
    yield from ODD
    pairs = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, item in pairs[:8] if isinstance(value, list) else pairs:
        for odd in mutants(item):
            copy = value.copy()
            copy[key] = odd
            yield copy


@pytest.mark.parametrize("name", ["melange.json", "aibrix_tpot.json", "vllm_bench_2rps.json", "guidellm.yaml"])
def test_odd_files_are_read_or_refused(name: str) -> None:
    document = yaml.safe_load((DATA / name).read_text())
    refusals: list[UserError | None] = []
    for mutant in mutants(document):
        try:
            read_any(name, json.dumps(mutant))
            refusals.append(None)
        except UserError as error:
            refusals.append(error)
    refused = [error for error in refusals if error is not None]
    assert 10 < len(refused) < len(refusals) - 10
    assert all(error.fix and str(error).startswith(name) for error in refused)


def read_any(name: str, text: str) -> None:
    match name.split("_", maxsplit=1)[0].split(".", maxsplit=1)[0]:
        case "melange":
            melange.read(name, text, gpu="A10G", inputs=(1, 2, 3), outputs=(4, 5), slo=LatencyTarget(120.0))
        case "aibrix":
            aibrix.read(name, text, gpu="H100", slo=LatencyTarget(25.0))
        case "vllm":
            vllm_bench.read([(name, text)])
        case "guidellm":
            guidellm.read([(name, json.loads(text))])


# aiconfigurator


class FakeSummary:
    """One batch of an engine with a step of 10 ms + 1 ms per 10 sequences, and memory for 100,000 tokens."""

    def __init__(self, isl: int, osl: int, batch: int, ctx_tokens: int) -> None:
        self.tokens = batch * (isl + osl)
        step_ms = 10.0 + batch / 10
        self.figures = {"tpot": step_ms, "ttft": ctx_tokens / 10, "seq/s": 1000 * batch / (osl * step_ms)}

    def get_result_dict(self) -> dict[str, float]:
        return self.figures

    def check_oom(self) -> bool:
        return False

    def check_kv_cache_oom(self) -> bool:
        return self.tokens > 100_000


class Named(types.SimpleNamespace):
    """Keyword arguments as attributes."""


@pytest.fixture
def fake_aiconfigurator(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stands in for the package; gives the model configurations that were asked for."""
    asked: list[Any] = []

    class Session:
        def __init__(self, model: object, database: object, backend: object) -> None:
            asked.append((model, database, backend))

        def run_agg(self, runtime: Any, *, ctx_tokens: int) -> FakeSummary:
            return FakeSummary(runtime.isl, runtime.osl, runtime.batch_size, ctx_tokens)

    def get_model(path: str, config: object, backend: str) -> object:
        if path == "unknown":
            raise KeyError(path)
        return path, config

    core = "aiconfigurator_core.sdk"
    precisions = Named(bfloat16="bf16", fp8="fp8", fp8_block="fp8b")
    modules = {
        "aiconfigurator.sdk.inference_session": {"InferenceSession": Session},
        f"{core}.common": dict.fromkeys(
            ("GEMMQuantMode", "MoEQuantMode", "KVCacheQuantMode", "FMHAQuantMode"), precisions
        ),
        f"{core}.config": {"ModelConfig": Named, "RuntimeConfig": Named},
        f"{core}.models": {"get_model": get_model, "resolve_context_fmha_by_data": lambda *_, **__: None},
        f"{core}.perf_database": {
            "get_latest_database_version": lambda system, backend: "0.24.0",
            "get_database_view": lambda system, backend, version, database_mode: system,
        },
        f"{core}.backends.factory": {"get_backend": lambda name: name},
    }
    for name, attributes in modules.items():
        parts = name.split(".")
        for end in range(1, len(parts)):
            monkeypatch.setitem(sys.modules, ".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
        module = types.ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    return asked


def grid_of(deployment: aiconfigurator.Deployment, slo: LatencyTarget) -> Grid:
    source = aiconfigurator.estimate(deployment, slo, (100, 1000), (10, 100)).source
    assert isinstance(source, Grid)
    return source


def rate(batch: int, output_tokens: int) -> float:
    return 1000 * batch / (output_tokens * (10 + batch / 10))


@pytest.mark.parametrize(
    ("slo", "batches"),
    [
        # 10 + b/10 ms: 200 sequences at 30 ms; 100,000 tokens: 99 of 1,010, 90 of 1,100.
        (LatencyTarget(30.0), ((200, 200), (99, 90))),
        (LatencyTarget(1000.0), ((256, 256), (99, 90))),
        # ceil(b/o) prompts of 100 tokens at 1/10 ms a token: 1 prompt within 10 ms. 1,000 tokens take 100 ms.
        (LatencyTarget(30.0, 10.0), ((10, 100), (0, 0))),
        (LatencyTarget(11.0), ((10, 10), (10, 10))),
    ],
)
def test_the_largest_batch_within_memory_and_slo_is_found(
    fake_aiconfigurator: list[Any], slo: LatencyTarget, batches: tuple[tuple[int, ...], ...]
) -> None:
    grid = grid_of(aiconfigurator.Deployment("m", "h100_sxm", 2, "fp8"), slo)
    wanted = [[rate(batch, o) if batch else 0.0 for batch, o in zip(row, (10, 100), strict=True)] for row in batches]
    assert [list(row) for row in grid.requests_per_second] == [pytest.approx(row) for row in wanted]
    assert (grid.tpot_ms, grid.ttft_ms) == (slo.tpot_ms, slo.ttft_ms)
    [((path, config), database, backend)] = fake_aiconfigurator
    assert (path, database, backend) == ("m", "h100_sxm", "vllm")
    assert (config.tp_size, config.gemm_quant_mode, config.kvcache_quant_mode) == (2, "fp8", "bf16")


@pytest.mark.usefixtures("fake_aiconfigurator")
def test_aiconfigurator_end_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--slo",
        "tpot=30ms",
        "--inputs",
        "100,1000",
        "--outputs",
        "10,100",
        "--source-model",
        "org/Llama-3.1-8B",
    ]
    assert run("aiconfigurator", *OURS, *options) == 0
    captured = capsys.readouterr()
    spec = yaml.safe_load(captured.out)["spec"]
    assert spec["maxThroughput"]["slo"] == {"timePerOutputTokenMs": 30}
    assert "flags" not in spec["key"]
    assert spec["provenance"]["kind"] == "Imported"
    assert "Computed, not measured" in captured.err


def test_engine_flags_are_part_of_the_key(fake_aiconfigurator: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--slo", "tpot=30ms", "--quantization", "fp8", "--kv-cache-dtype", "fp8"]
    assert run("aiconfigurator", *OURS, *options) == 0
    manifest = yaml.safe_load(capsys.readouterr().out)
    assert manifest["spec"]["key"]["flags"] == {"quantization": "fp8", "kvCacheDtype": "fp8"}
    assert manifest["metadata"]["name"] == "llama-3.1-8b-h100-fp8-kvfp8"
    [((_, config), _, _)] = fake_aiconfigurator
    assert (config.gemm_quant_mode, config.kvcache_quant_mode) == ("fp8", "fp8")
    assert "'awq' is not a precision" in refused("aiconfigurator", *OURS, *SLO, "--quantization", "awq")


@pytest.mark.usefixtures("fake_aiconfigurator")
def test_aiconfigurator_without_an_answer() -> None:
    with pytest.raises(UserError, match=r"unknown on h100_sxm × 1: .* has no answer \(KeyError"):
        grid_of(aiconfigurator.Deployment("unknown", "h100_sxm"), LatencyTarget(30.0))
    with pytest.raises(UserError, match="no size can be served"):
        grid_of(aiconfigurator.Deployment("m", "h100_sxm"), LatencyTarget(5.0))
    with pytest.raises(UserError, match="'int3' is not a precision"):
        grid_of(aiconfigurator.Deployment("m", "h100_sxm", weights="int3"), LatencyTarget(30.0))


def test_aiconfigurator_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiconfigurator", None)
    message = refused("aiconfigurator", *OURS, *SLO)
    assert "is not installed" in message
    assert "medley[aiconfigurator]" in message


@pytest.mark.skipif(
    importlib.util.find_spec("aiconfigurator") is None, reason="the extra aiconfigurator is not installed"
)
def test_the_real_aiconfigurator_answers() -> None:
    deployment = aiconfigurator.Deployment("meta-llama/Meta-Llama-3.1-8B", "h100_sxm")
    imported = aiconfigurator.estimate(deployment, LatencyTarget(40.0), (1024,), (256,))
    assert isinstance(imported.source, Grid)
    assert 10 < imported.source.requests_per_second[0][0] < 40


# Units


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("tpot=15ms,ttft=2s", LatencyTarget(15.0, 2000.0)),
        (" TTFT = 0.5 s ", LatencyTarget(None, 500.0)),
        ("tpot=1e1ms", LatencyTarget(10.0)),
    ],
)
def test_objectives_have_units(text: str, target: LatencyTarget) -> None:
    assert parse_slo(text) == target


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tpot=15", "15 has no unit. Write tpot=15ms for milliseconds, tpot=15s for seconds"),
        ("tpot=15us", "'us' is not a unit"),
        ("tpot=15MS", "'MS' is not a unit"),
        ("itl=15ms", "'itl' is not an objective. Use tpot, ttft or both"),
        ("15ms", "'15ms' is not an objective"),
        ("", "'' is not an objective"),
        ("tpot=1ms,", "'' is not an objective"),
        ("tpot=1ms,tpot=2ms", "tpot is given twice"),
        ("tpot=0ms", "not a duration above 0"),
        ("tpot=-5ms", "not a duration above 0"),
        ("tpot=1-5ms", "not a duration above 0"),
        ("tpot=1e999ms", "not a duration above 0"),
    ],
)
def test_bad_objectives_are_refused(text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_slo(text)
    assert str(caught.value).startswith("--slo: ")
    assert says in str(caught.value)


def test_durations_and_sizes() -> None:
    assert parse_milliseconds("2s", field="--wait") == 2000.0
    assert parse_sizes("128, 512", field="--inputs") == (128, 512)
    for text in ("", "1,,2", "1.5", "0", "-1", "2,1", "1,1", "٣"):
        with pytest.raises(UserError, match=r"^--inputs: "):
            parse_sizes(text, field="--inputs")
