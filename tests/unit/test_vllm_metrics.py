"""The rendered page against the recording of a real server."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from medley.lab.vllm_engine import Engine, EngineLoad, StepResult
from medley.lab.vllm_metrics import VllmMetrics, one_two_five
from medley.profiles.step import StepModel

RECORDING = Path(__file__).parents[1] / "data" / "vllm_0.32.0_metrics.txt"
MODEL = StepModel(
    base_ms=10, per_sequence_ms=0.1, per_context_token_ms=0.0002, prefill_ms_per_token=0.05, kv_capacity_tokens=32_000
)


def new_metrics() -> VllmMetrics:
    return VllmMetrics("tiny", 2048, kv_capacity_tokens=32_000, created_s=1.8e9)


def vllm_families(text: str) -> Iterator[tuple[str, str, str]]:
    """(name, type, help) of each `vllm:` family, read from the comment lines (the parser folds some of them)."""
    helps: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# HELP vllm:"):
            _, _, name, words = line.split(" ", 3)
            helps[name] = words
        elif line.startswith("# TYPE vllm:"):
            _, _, name, kind = line.split(" ")
            yield name, kind, helps[name]


def label_sets(text: str) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    """(sample name, labels) of each sample; of cache_config_info only the label names, its values are the GPU's."""
    found = set()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "vllm:cache_config_info":
                found.add((sample.name, frozenset((label, "") for label in sample.labels)))
            elif sample.name.startswith("vllm:"):
                found.add((sample.name, frozenset(sample.labels.items())))
    return found


def values(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            extra = {k: v for k, v in sample.labels.items() if k not in {"engine", "model_name"}}
            key = sample.name.removeprefix("vllm:")
            found[key + "".join(f"[{v}]" for v in extra.values())] = sample.value
    return found


def run_to_end(engine: Engine, metrics: VllmMetrics, now_s: float = 0.0) -> list[StepResult]:
    results = []
    while (result := engine.advance(now_s)) is not None:
        metrics.record(result)
        results.append(result)
        now_s = result.end_s
    return results


def test_families_types_and_help_are_those_of_the_recording() -> None:
    rendered = new_metrics().render(EngineLoad(0, 0, 0))
    assert list(vllm_families(rendered)) == list(vllm_families(RECORDING.read_text()))


def test_label_sets_and_edges_are_those_of_the_recording() -> None:
    rendered = label_sets(new_metrics().render(EngineLoad(0, 0, 0)))
    recorded = label_sets(RECORDING.read_text())
    assert rendered - recorded == set()
    assert recorded - rendered == set()


def test_sample_lines_are_in_the_order_of_the_recording() -> None:
    def names(text: str) -> list[str]:
        return [line.split(" ")[0] for line in text.splitlines() if line.startswith("vllm:")]

    rendered, recorded = (names(text) for text in (new_metrics().render(EngineLoad(0, 0, 0)), RECORDING.read_text()))
    assert rendered[:-1] == recorded[:-1]  # the last is cache_config_info


@pytest.mark.parametrize(
    ("limit", "last"), [(2048, (500.0, 1000.0, 2000.0)), (5000, (1000.0, 2000.0, 5000.0)), (1, (1.0,))]
)
def test_token_edges_end_at_the_model_length(limit: int, last: tuple[float, ...]) -> None:
    assert one_two_five(limit)[-len(last) :] == last


def test_a_served_request_is_in_every_histogram() -> None:
    engine, metrics = Engine(MODEL, rng=random.Random(1), noise=0.0), new_metrics()
    engine.submit(prompt_tokens=100, output_tokens=5, max_tokens=8, now_s=0.0)
    run_to_end(engine, metrics, now_s=0.5)
    seen = values(metrics.render(engine.load))
    assert seen["prompt_tokens_total"] == 100
    assert seen["prompt_tokens_by_source_total[local_compute]"] == 100
    assert seen["generation_tokens_total"] == 5
    assert seen["request_success_total[length]"] == 1
    assert seen["request_prompt_tokens_bucket[100.0]"] == 1
    assert seen["request_prompt_tokens_bucket[50.0]"] == 0
    assert seen["request_generation_tokens_sum"] == 5
    assert seen["request_params_max_tokens_sum"] == 8
    assert seen["inter_token_latency_seconds_count"] == 4
    assert seen["iteration_tokens_total_sum"] == 105
    assert seen["iteration_tokens_total_count"] == 5
    assert seen["request_queue_time_seconds_sum"] == pytest.approx(0.5)
    assert seen["time_to_first_token_seconds_sum"] == pytest.approx(0.5 + 0.015)
    assert seen["request_prefill_time_seconds_sum"] == pytest.approx(0.015)
    decode_s = seen["request_decode_time_seconds_sum"]
    assert decode_s == pytest.approx(seen["inter_token_latency_seconds_sum"])
    assert seen["request_time_per_output_token_seconds_sum"] == pytest.approx(decode_s / 4)
    assert seen["request_inference_time_seconds_sum"] == pytest.approx(0.015 + decode_s)
    assert seen["e2e_request_latency_seconds_sum"] == pytest.approx(0.515 + decode_s)


def test_an_aborted_request_counts_tokens_but_no_request() -> None:
    engine, metrics = Engine(MODEL, rng=random.Random(1)), new_metrics()
    generation = engine.submit(prompt_tokens=100, output_tokens=50, now_s=0.0)
    queued = engine.submit(prompt_tokens=70, output_tokens=50, now_s=0.0)
    engine.abort(queued)
    for step in range(3):
        result = engine.advance(float(step))
        assert result is not None
        metrics.record(result)
    engine.abort(generation)
    seen = values(metrics.render(engine.load))
    assert seen["prompt_tokens_total"] == 100
    assert seen["generation_tokens_total"] == 3
    assert seen["time_to_first_token_seconds_count"] == 1
    request_counts = {
        name: value
        for name, value in seen.items()
        if name.startswith(("request_", "e2e_")) and (name.endswith("_count") or "success_total" in name)
    }
    assert len(request_counts) > 10
    assert set(request_counts.values()) == {0.0}


def test_gauges_show_the_load_and_littles_law_can_use_the_blocks() -> None:
    metrics = VllmMetrics('a "quoted" name', 2048, kv_capacity_tokens=32_000, created_s=1.8e9)
    text = metrics.render(EngineLoad(running=3, waiting=2, kv_used_tokens=8000))
    seen = values(text)
    assert seen["num_requests_running"] == 3
    assert seen["num_requests_waiting"] == seen["num_requests_waiting_by_reason[capacity]"] == 2
    (info,) = [s for f in text_string_to_metric_families(text) for s in f.samples if s.name.endswith("config_info")]
    capacity = int(info.labels["num_gpu_blocks"]) * int(info.labels["block_size"])
    assert seen["kv_cache_usage_perc"] * capacity == pytest.approx(8000)
