"""`medley profile estimate` as a user runs it: what it prints in each format, and how it refuses bad input."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from medley.api.convert import Resources, parse
from medley.cli.main import main
from medley.model.engine import EngineFlags
from medley.model.workload import Size
from medley.profiles.latency import LatencyTarget
from medley.profiles.profile import Provenance
from medley.profiles.roofline import Roofline

Capture = pytest.CaptureFixture[str]
Row = dict[str, Any]

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
CONFIG: dict[str, object] = {
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
SMALL = ("--inputs", "256,1024", "--outputs", "64,256")
FIELDS = {"gpu", "tensorParallelSize", "inputTokens", "outputTokens", "requestsPerSecond", "low", "high", "reason"}


def command(*words: str, model: str = LLAMA) -> list[str]:
    return ["profile", "estimate", "--model", model, *words]


def run(capsys: Capture, *words: str, model: str = LLAMA, code: int = 0) -> str:
    assert main(command(*words, model=model)) == code
    return capsys.readouterr().out


def rows(capsys: Capture, *words: str, model: str = LLAMA, code: int = 0) -> list[Row]:
    found: list[Row] = json.loads(run(capsys, *words, "-o", "json", model=model, code=code))["rows"]
    return found


def refused(capsys: Capture, *words: str, model: str = LLAMA) -> str:
    """What is said of bad input; nothing is printed beside it."""
    assert main(command(*words, model=model)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("medley: ")
    assert len(printed.err.splitlines()) == 1
    return printed.err


def config_file(folder: Path, **changes: object) -> str:
    """A config.json whose fields are changed; None takes one away."""
    fields = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    path = folder / "config.json"
    path.write_text(json.dumps(fields))
    return str(path)


# JSON


def test_json_has_a_row_for_each_replica_and_size(capsys: Capture) -> None:
    document = json.loads(run(capsys, "--gpu", "l4,h100", "--tp", "1,2", "--slo", "tpot=100ms", *SMALL, "-o", "json"))
    assert document["model"] == LLAMA
    low, high = document["errorBand"]
    assert 0 < low < 1 < high
    seen = [(r["gpu"], r["tensorParallelSize"], r["inputTokens"], r["outputTokens"]) for r in document["rows"]]
    sizes = [(256, 64), (256, 256), (1024, 64), (1024, 256)]
    assert seen == [(gpu, count, *size) for gpu in ("l4", "h100") for count in (1, 2) for size in sizes]
    for row in document["rows"]:
        assert row.keys() >= FIELDS
        assert row["requestsPerSecond"] > 0
        assert row["reason"] is None
        assert row["low"] == pytest.approx(low * row["requestsPerSecond"])
        assert row["high"] == pytest.approx(high * row["requestsPerSecond"])
        assert row["low"] < row["requestsPerSecond"] < row["high"]


def test_the_default_grid_reaches_from_short_to_long(capsys: Capture) -> None:
    found = {(row["inputTokens"], row["outputTokens"]) for row in rows(capsys, "--gpu", "h100")}
    assert (1024, 256) in found
    assert {i for i, _ in found} >= {128, 512, 2048, 8192}
    assert {o for _, o in found} >= {32, 128, 512, 1024}


def test_sizes_have_the_same_form_whether_given_or_default(capsys: Capture) -> None:
    given = rows(capsys, "--gpu", "h100", "--inputs", "1024", "--outputs", "256")
    default = [r for r in rows(capsys, "--gpu", "h100") if (r["inputTokens"], r["outputTokens"]) == (1024, 256)]
    assert json.dumps(given) == json.dumps(default)


@pytest.mark.parametrize("name", ["H100", "h100-sxm", "H100-SXM5-80GB", "NVIDIA-H100-80GB-HBM3"])
def test_h100_is_the_sxm_card(capsys: Capture, name: str) -> None:
    def numbers(gpu: str) -> list[Row]:
        return [{**row, "gpu": ""} for row in rows(capsys, "--gpu", gpu, *SMALL)]

    assert numbers(name) == numbers("h100")
    assert numbers("h100") != numbers("h100-pcie")


@pytest.mark.parametrize("slo", ["tpot=90ms", "ttft=2s", "tpot=90ms,ttft=2s", "TTFT=2000ms, TPOT=0.09s"])
def test_either_objective_may_be_left_out(capsys: Capture, slo: str) -> None:
    bounded = rows(capsys, "--gpu", "l4", "--slo", slo, *SMALL)
    free = rows(capsys, "--gpu", "l4", *SMALL)
    assert all(row["requestsPerSecond"] > 0 for row in bounded)
    assert all(b["requestsPerSecond"] <= f["requestsPerSecond"] for b, f in zip(bounded, free, strict=True))


def test_each_objective_counts(capsys: Capture) -> None:
    def total(*slo: str) -> float:
        return sum(row["requestsPerSecond"] for row in rows(capsys, "--gpu", "l4", *slo, *SMALL))

    both = total("--slo", "tpot=70ms,ttft=300ms")
    assert both < total("--slo", "tpot=70ms") < total()
    assert both <= total("--slo", "ttft=300ms") < total()


def test_zero_rows_have_a_reason_and_others_have_none(capsys: Capture) -> None:
    sizes = ("--inputs", "128,8192,130000", "--outputs", "32,2000")
    found = rows(capsys, "--gpu", "t4,l4,h100", "--slo", "tpot=20ms", *sizes)
    for row in found:
        assert (row["requestsPerSecond"] == 0) == bool(row["reason"])
        assert (row["low"] == 0) == (row["requestsPerSecond"] == 0)
    reasons = {(row["gpu"], row["inputTokens"], row["outputTokens"]): row["reason"] for row in found}
    assert reasons["t4", 128, 32] == "WeightsDoNotFit"
    assert reasons["l4", 128, 32] == "TimePerOutputTokenAtBatch1"
    assert reasons["h100", 128, 32] is None
    assert reasons["h100", 130_000, 2000] == "LongerThanMaxModelLen"


def test_faster_gpus_have_higher_rates_at_every_size(capsys: Capture) -> None:
    found = rows(capsys, "--gpu", "l4,l40s,h100,h200", "--slo", "tpot=100ms")
    for size in {(row["inputTokens"], row["outputTokens"]) for row in found}:
        l4, l40s, h100, h200 = (
            row["requestsPerSecond"] for row in found if (row["inputTokens"], row["outputTokens"]) == size
        )
        assert l4 < l40s < h100 < h200


def test_all_means_every_known_gpu(capsys: Capture) -> None:
    names = {row["gpu"] for row in rows(capsys, "--gpu", "all", *SMALL)}
    assert len(names) > 15
    assert {"T4", "L4", "A100-80", "H100", "B200", "MI300X"} <= names


def test_quantisation_and_cache_type_count(capsys: Capture) -> None:
    def total(*words: str) -> float:
        return sum(row["requestsPerSecond"] for row in rows(capsys, "--gpu", "l4", "--slo", "tpot=80ms", *words))

    assert total() < total("--kv-cache-dtype", "fp8") < total("--kv-cache-dtype", "fp8", "--quantization", "fp8")


def test_a_config_file_is_read(capsys: Capture, tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    document = json.loads(run(capsys, "--gpu", "l4", *SMALL, "-o", "json", model=config_file(folder)))
    assert document["model"] == "my-model"
    slower = rows(capsys, "--gpu", "l4", *SMALL)
    for small, large in zip(document["rows"], slower, strict=True):
        assert small["requestsPerSecond"] > large["requestsPerSecond"]


def test_dollars_are_list_price_over_tokens(capsys: Capture) -> None:
    [row] = rows(capsys, "--gpu", "l4", "--inputs", "1024", "--outputs", "256")
    per_second = row["requestsPerSecond"] * (1024 + 256)
    # The cheapest way to an L4 in the catalogue is between 0.5 and 1 $/h.
    assert 0.5 < row["dollarsPerMillionTokens"] * per_second * 3600 / 1e6 < 1.0


def test_nothing_that_can_be_served_is_exit_code_3_and_says_why(capsys: Capture) -> None:
    assert main(command("--gpu", "t4", *SMALL, "-o", "json")) == 3
    printed = capsys.readouterr()
    assert {row["reason"] for row in json.loads(printed.out)["rows"]} == {"WeightsDoNotFit"}
    assert "WeightsDoNotFit" in printed.err


def test_sizes_that_do_not_divide_the_heads_are_left_out_with_a_note(capsys: Capture) -> None:
    assert main(command("--gpu", "h100", "--tp", "1,3,4,6", *SMALL, "-o", "json")) == 0
    printed = capsys.readouterr()
    assert {row["tensorParallelSize"] for row in json.loads(printed.out)["rows"]} == {1, 4}
    assert "3, 6: left out" in printed.err


# YAML


def applied(text: str) -> Resources:
    resources = parse([document for document in yaml.safe_load_all(text) if document])
    assert resources.errors == ()
    return resources


def test_yaml_applies_and_is_marked_estimated(capsys: Capture) -> None:
    text = run(capsys, "--gpu", "l4,h100", "--tp", "1,2", "--date", "2026-11-01", "-o", "yaml")
    assert text.startswith("# ESTIMATED")
    made = applied(text).profiles
    assert [(p.key.gpu, p.key.tensor_parallel_size) for p in made] == [("L4", 1), ("L4", 2), ("H100", 1), ("H100", 2)]
    for profile in made:
        assert profile.key.model == LLAMA
        assert (profile.provenance, profile.derating) == (Provenance.ESTIMATED, 0.7)
        assert isinstance(profile.speed, Roofline)
        assert re.fullmatch(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?", profile.name)
    assert len({profile.name for profile in made}) == 4
    for document in filter(None, yaml.safe_load_all(text)):
        assert document["spec"]["provenance"]["date"] == "2026-11-01"
        assert document["spec"]["provenance"]["tool"].startswith("medley profile estimate ")


def test_the_yaml_gives_the_rates_of_the_json(capsys: Capture) -> None:
    words = ("--gpu", "h100", "--tp", "2", "--quantization", "fp8", "--kv-cache-dtype", "fp8", *SMALL)
    [profile] = applied(run(capsys, *words, "-o", "yaml")).profiles
    assert profile.key.flags == EngineFlags("fp8", "fp8")
    target = LatencyTarget(tpot_ms=12, percentile=50)
    for row in rows(capsys, *words, "--slo", "tpot=12ms"):
        rate = profile.max_throughput(Size(row["inputTokens"], row["outputTokens"]), target, None).rate_rps
        assert rate == pytest.approx(row["requestsPerSecond"], rel=1e-3)


def test_yaml_has_the_name_that_is_asked_for_and_leaves_out_what_cannot_serve(capsys: Capture) -> None:
    [profile] = applied(run(capsys, "--gpu", "t4,l4", "--name", "prod/chat_model", "-o", "yaml")).profiles
    assert (profile.key.model, profile.key.gpu) == ("prod/chat_model", "L4")


def test_yaml_of_a_mixture_and_of_latent_attention_applies(capsys: Capture) -> None:
    for model, gpu in (("mistralai/Mixtral-8x7B-Instruct-v0.1", "h100"), ("deepseek-ai/DeepSeek-V3", "b200")):
        [profile] = applied(run(capsys, "--gpu", gpu, "--tp", "8", "-o", "yaml", model=model)).profiles
        assert isinstance(profile.speed, Roofline)
        assert profile.speed.experts > 0
        assert 0 < profile.speed.expert_weight_gb < profile.speed.weight_gb


def test_a_gpu_that_is_named_twice_is_one_profile(capsys: Capture) -> None:
    assert len(applied(run(capsys, "--gpu", "h100,h100-sxm", "-o", "yaml")).profiles) == 1


# Text and picture


def test_text_has_the_error_band_the_rates_and_the_price(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    words = ("--gpu", "t4,l4,h100", "--slo", "tpot=100ms,ttft=2s", *SMALL)
    document = json.loads(run(capsys, *words, "-o", "json"))
    text = run(capsys, *words)
    low, high = document["errorBand"]
    assert f"×{low:g} and ×{high:g}" in text
    assert "TPOT 100 ms and TTFT 2000 ms" in text
    assert "H100 ×1" in text
    assert "$/h" in text
    for row in document["rows"]:
        assert (f"{row['requestsPerSecond']:.3g} req/s" if row["requestsPerSecond"] else row["reason"]) in text


def test_the_heat_map_is_a_png(capsys: Capture, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    # L4 and T4 have cells, or nothing but cells, that cannot be served.
    picture = tmp_path / "rates.png"
    run(capsys, "--gpu", "t4,l4,h100", "--tp", "1,2", "--slo", "tpot=90ms", "--heat-map", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.stat().st_size > 20_000


def test_the_heat_map_is_written_to_the_file_that_was_named(capsys: Capture, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run(capsys, "--gpu", "l4", *SMALL, "--heat-map", str(tmp_path / "rates"))
    assert [path.name for path in tmp_path.iterdir()] == ["rates"]
    assert (tmp_path / "rates").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_heat_map_of_nothing_that_serves_is_drawn_too(capsys: Capture, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "rates.png"
    run(capsys, "--gpu", "t4", *SMALL, "--heat-map", str(picture), code=3)
    assert picture.read_bytes().startswith(b"\x89PNG")


# Bad input


@pytest.mark.parametrize(
    ("words", "field", "fix"),
    [
        (["--gpu", "l4,h900"], "--gpu", "Known GPUs: T4"),
        (["--gpu", "l4,"], "--gpu", "Known GPUs: T4"),
        (["--gpu", "l4", "--slo", "tpot=15"], "--slo", "tpot=15ms for milliseconds"),
        (["--gpu", "l4", "--slo", "tpot=15us"], "--slo", "Use ms or s"),
        (["--gpu", "l4", "--slo", "latency=15ms"], "--slo", "Use tpot, ttft or both"),
        (["--gpu", "l4", "--slo", "tpot=15ms,tpot=20ms"], "--slo", "Keep one of the two"),
        (["--gpu", "l4", "--slo", "tpot=0ms"], "--slo", "Write it as in tpot=15ms"),
        (["--gpu", "l4", "--slo", "tpot=-5ms"], "--slo", "Write it as in tpot=15ms"),
        (["--gpu", "l4", "--slo", "tpot"], "--slo", "tpot=15ms,ttft=2s"),
        (["--gpu", "l4", "--inputs", "512,128"], "--inputs", "ascending order"),
        (["--gpu", "l4", "--inputs", "128,128"], "--inputs", "ascending order"),
        (["--gpu", "l4", "--outputs", "0"], "--outputs", "Write it as in --outputs"),
        (["--gpu", "l4", "--outputs", "12.5"], "--outputs", "Write it as in --outputs"),
        (["--gpu", "l4", "--quantization", "fp3"], "quantization", "use one of: awq, fp8"),
        (["--gpu", "l4", "--kv-cache-dtype", "fp3"], "kv-cache-dtype", "fp8"),
    ],
)
def test_bad_input_names_the_field_and_what_to_do(capsys: Capture, words: list[str], field: str, fix: str) -> None:
    said = refused(capsys, *words)
    assert field in said
    assert fix in said


@pytest.mark.parametrize("count", ["0", "-1", "two", "1,,2"])
def test_a_bad_number_of_gpus_is_not_called_a_number_of_tokens(capsys: Capture, count: str) -> None:
    said = refused(capsys, "--gpu", "h100", f"--tp={count}")
    assert "--tp" in said
    assert "tokens" not in said
    assert "512" not in said


def test_no_number_of_gpus_that_divides_the_heads_says_so(capsys: Capture, tmp_path: Path) -> None:
    # There is nothing to print, and nothing to draw.
    picture = tmp_path / "rates.png"
    for more in ([], ["--heat-map", str(picture)], ["-o", "json"]):
        code = main(command("--gpu", "h100", "--tp", "3", *SMALL, *more))
        assert code in (2, 3)
        assert "32 attention heads do not divide by 3" in capsys.readouterr().err
    assert not picture.exists()


def test_a_model_that_is_not_known_lists_those_that_are(capsys: Capture) -> None:
    said = refused(capsys, "--gpu", "l4", model="llama-9")
    assert "--model" in said
    assert "'llama-9' is neither a file nor a known model" in said
    assert LLAMA in said


@pytest.mark.parametrize("text", [b"weights", b"", b"\xff\xfe\x00", b"[1, 2]", b"null"])
def test_a_file_that_is_no_config_is_named(capsys: Capture, tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text)
    said = refused(capsys, "--gpu", "l4", model=str(path))
    assert str(path) in said
    assert "Give a Hugging Face config.json" in said


@pytest.mark.parametrize("field", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"])
def test_a_config_without_a_field_names_it(capsys: Capture, tmp_path: Path, field: str) -> None:
    said = refused(capsys, "--gpu", "l4", model=config_file(tmp_path, **{field: None}))
    assert f"config.json: {field}: is missing" in said


def test_a_config_with_nonsense_says_what_it_should_be(capsys: Capture, tmp_path: Path) -> None:
    said = refused(capsys, "--gpu", "l4", model=config_file(tmp_path, num_hidden_layers=-2))
    assert "config.json: num_hidden_layers: -2 must be a whole number, 1 or more" in said


def test_a_picture_that_cannot_be_written_is_named(capsys: Capture, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    said = refused(capsys, "--gpu", "l4", *SMALL, "--heat-map", str(tmp_path / "absent" / "rates.png"))
    assert "--heat-map" in said


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["--date", "the day before yesterday, in the morning"], "date"),
        (["--name", "x" * 300], "name"),
    ],
)
def test_what_a_profile_cannot_hold_is_refused_by_field(capsys: Capture, words: list[str], field: str) -> None:
    assert field in refused(capsys, "--gpu", "l4", *words, "-o", "yaml")


@pytest.mark.parametrize("words", [[], ["--gpu", "l4", "-o", "xml"]])
def test_arguments_that_argparse_refuses_are_exit_code_2(capsys: Capture, words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(command(*words))
    assert caught.value.code == 2
    assert "usage: medley profile estimate" in capsys.readouterr().err
