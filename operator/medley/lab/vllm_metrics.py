"""The /metrics page of the simulated server, as a recorded vLLM 0.32.0 shows it.

The `vllm:*` families have the recording's names, help texts, types, labels and bucket edges.

Two habits of the original are kept because readers trip over them. Token histograms have the 1-2-5 series up to
max_model_len as edges, so replicas of different length have different edges. And a request whose client went away
counts in the token counters and the TTFT histogram, but in no `request_*` histogram and not in `request_success`.

A family that a simulator has no value for (prefix cache, multi-modal cache, transfers) is there and stays 0. The
process and HTTP families of the recording are left out: many simulated pods share one process.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

from prometheus_client.utils import floatToGoString

from medley.lab.vllm_engine import EngineLoad, StepResult

_number: Callable[[float], str] = floatToGoString

_NO_TRAFFIC: tuple[tuple[str, str], ...] = (
    (
        "estimated_flops_per_gpu",
        "Estimated number of floating point operations per GPU (for Model Flops Utilization calculations).",
    ),
    (
        "estimated_read_bytes_per_gpu",
        "Estimated number of bytes read from memory per GPU (for Model Flops Utilization calculations).",
    ),
    (
        "estimated_write_bytes_per_gpu",
        "Estimated number of bytes written to memory per GPU (for Model Flops Utilization calculations).",
    ),
    ("prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens."),
    ("prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens."),
    (
        "external_prefix_cache_queries",
        "External prefix cache queries from KV connector cross-instance cache sharing, in terms of number of queried "
        "tokens.",
    ),
    (
        "external_prefix_cache_hits",
        "External prefix cache hits from KV connector cross-instance cache sharing, in terms of number of cached "
        "tokens.",
    ),
    ("mm_cache_queries", "Multi-modal cache queries, in terms of number of queried items."),
    ("mm_cache_hits", "Multi-modal cache hits, in terms of number of cached items."),
    ("prompt_tokens_cached", "Number of cached prompt tokens (local + external)."),
)

_TTFT_EDGES_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
)  # fmt: skip
_TOKEN_GAP_EDGES_S = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
_REQUEST_EDGES_S = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip
_ITERATION_EDGES = (1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0)
_PARAMS_N_EDGES = (1.0, 2.0, 5.0, 10.0, 20.0)
_PREEMPTION_EDGES = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)

# As recorded; what depends on the simulated GPU is filled in by `_cache_config`.
_CACHE_CONFIG: Mapping[str, str] = {
    "_block_size_resolved": "True",
    "cache_dtype": "auto",
    "cache_hit_alignment_tokens": "None",
    "enable_mamba_shared_prefix_checkpoint": "False",
    "enable_prefix_caching": "False",
    "gpu_memory_utilization": "0.92",
    "hash_block_size": "None",
    "is_attention_free": "False",
    "kv_cache_dtype_skip_layers": "[]",
    "kv_cache_layout": "None",
    "kv_cache_memory_bytes": "None",
    "kv_offloading_backend": "native",
    "kv_offloading_size": "None",
    "kv_sharing_fast_prefill": "False",
    "mamba_block_size": "None",
    "mamba_cache_dtype": "auto",
    "mamba_cache_mode": "none",
    "mamba_page_size_padded": "None",
    "mamba_ssm_cache_dtype": "float32",
    "num_cpu_blocks": "None",
    "num_gpu_blocks_override": "None",
    "prefix_cache_retention_interval": "0",
    "prefix_caching_hash_algo": "sha256",
    "prefix_match_unit": "None",
    "replayssm_buffer_len": "16",
    "skip_page_size_padded": "None",
    "sliding_window": "None",
    "swa_bounded_replay": "True",
    "use_kda_recoverssm": "False",
    "use_replayssm": "False",
    "user_specified_block_size": "False",
}


def one_two_five(limit: int) -> tuple[float, ...]:
    """The edges that vLLM gives token histograms: 1, 2, 5, 10, 20, 50 … up to and including `limit`."""
    edges: list[float] = []
    decade = 1
    while decade <= limit:
        edges += [float(digit * decade) for digit in (1, 2, 5) if digit * decade <= limit]
        decade *= 10
    return tuple(edges)


def _labels(pairs: Mapping[str, str]) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

    return ",".join(f'{name}="{escaped(pairs[name])}"' for name in sorted(pairs))


class _Samples:
    """A counter or gauge family: a value per label set, its text prepared but for the values."""

    def __init__(self, name: str, kind: str, help_text: str, label_sets: Sequence[Mapping[str, str]]) -> None:
        self._head = f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n"
        self._lines = [f"{name}{{{_labels(labels)}}} " for labels in label_sets]
        self.values = [0.0] * len(label_sets)

    def add(self, amount: float, index: int = 0) -> None:
        self.values[index] += amount

    def write(self, parts: list[str]) -> None:
        parts.append(self._head)
        for line, value in zip(self._lines, self.values, strict=True):
            parts.append(f"{line}{_number(value)}\n")


class _Histogram:
    """A histogram family with one label set. Its text is kept until the next observation: most steps fill few."""

    def __init__(self, name: str, help_text: str, edges: Sequence[float], labels: Mapping[str, str]) -> None:
        self._head = f"# HELP {name} {help_text}\n# TYPE {name} histogram\n"
        self._edges = tuple(edges)
        self._counts = [0] * (len(self._edges) + 1)
        self._sum = 0.0
        self._lines = [
            f"{name}_bucket{{{_labels({**labels, 'le': _number(edge)})}}} " for edge in (*self._edges, math.inf)
        ]
        self._count_line = f"{name}_count{{{_labels(labels)}}} "
        self._sum_line = f"{name}_sum{{{_labels(labels)}}} "
        self._text: str | None = None

    def observe(self, value: float, times: int = 1) -> None:
        self._counts[bisect_left(self._edges, value)] += times
        self._sum += value * times
        self._text = None

    def write(self, parts: list[str]) -> None:
        if self._text is None:
            lines = [self._head]
            total = 0
            for line, count in zip(self._lines, self._counts, strict=True):
                total += count
                lines.append(f"{line}{_number(total)}\n")
            lines.append(f"{self._count_line}{_number(total)}\n")
            lines.append(f"{self._sum_line}{_number(self._sum)}\n")
            self._text = "".join(lines)
        parts.append(self._text)


class VllmMetrics:
    """Metrics of one simulated server: `record` every step, `render` at every scrape.

    Args:
        model_name: value of the `model_name` label.
        max_model_len: sets the edges of the token histograms.
        kv_capacity_tokens: KV cache of the simulated GPU, told through `cache_config_info` in blocks.
        created_s: Unix time at which the series begin.
        block_size_tokens: tokens of a KV block.
    """

    def __init__(
        self,
        model_name: str,
        max_model_len: int,
        *,
        kv_capacity_tokens: int,
        created_s: float,
        block_size_tokens: int = 16,
    ) -> None:
        self._labels = {"engine": "0", "model_name": model_name}
        self._created_s = created_s
        self._families: list[_Samples | _Histogram] = []
        blocks = max(1, kv_capacity_tokens // block_size_tokens)
        self._kv_tokens_in_blocks = blocks * block_size_tokens
        token_edges = one_two_five(max_model_len)
        unused = dict(_NO_TRAFFIC)

        def never(*names: str) -> None:
            for name in names:
                self._counter(name, unused[name])

        never("estimated_flops_per_gpu", "estimated_read_bytes_per_gpu", "estimated_write_bytes_per_gpu")
        self._running = self._gauge("num_requests_running", "Number of requests in model execution batches.")
        self._waiting = self._gauge("num_requests_waiting", "Number of requests waiting to be processed.")
        self._waiting_by_reason = self._gauge(
            "num_requests_waiting_by_reason",
            "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling capacity; "
            "'deferred' = deferred by transient constraints (LoRA budget, KV transfer, blocked status). "
            "Sum of all reasons equals vllm:num_requests_waiting.",
            "reason",
            ("capacity", "deferred"),
        )
        sleep_state = self._gauge(
            "engine_sleep_state",
            "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; "
            "weights_offloaded = 1 means sleep level 1; discard_all = 1 means sleep level 2.",
            "sleep_state",
            ("awake", "weights_offloaded", "discard_all"),
        )
        sleep_state.values[0] = 1.0
        self._kv_usage = self._gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.")
        never("prefix_cache_queries", "prefix_cache_hits", "external_prefix_cache_queries")
        never("external_prefix_cache_hits", "mm_cache_queries", "mm_cache_hits")
        self._preemptions = self._counter("num_preemptions", "Cumulative number of preemption from the engine.")
        self._prompt_tokens = self._counter("prompt_tokens", "Number of prefill tokens processed.")
        self._prompt_tokens_by_source = self._counter(
            "prompt_tokens_by_source",
            "Number of prompt tokens by source.",
            "source",
            ("local_compute", "local_cache_hit", "external_kv_transfer"),
        )
        never("prompt_tokens_cached")
        self._counter(
            "prompt_tokens_cached_by_source",
            "Prefix-cache hit tokens by the cache tier that supplied them: device (local HBM), host (offloaded to "
            "DRAM), disk, p2p (transferred from another vLLM instance) or external_unspecified. Counted at admission; "
            "sums to vllm:prefix_cache_hits + vllm:external_prefix_cache_hits.",
            "source",
            ("device", "host", "p2p", "disk", "external_unspecified"),
        )
        self._generation_tokens = self._counter("generation_tokens", "Number of generation tokens processed.")
        reasons = ("stop", "length", "abort", "error", "repetition")
        self._success_index = {reason: index for index, reason in enumerate(reasons)}
        self._success = self._counter(
            "request_success", "Count of successfully processed requests.", "finished_reason", reasons
        )
        self._counter(
            "admission_rejections",
            "Number of admission attempts rejected by a queue limit, by reason.",
            "reason",
            ("max_num_queued_reqs", "max_num_queued_tokens"),
            with_engine=False,
        )
        self._request_prompt_tokens = self._histogram(
            "request_prompt_tokens", "Number of prefill tokens processed.", token_edges
        )
        self._request_generation_tokens = self._histogram(
            "request_generation_tokens", "Number of generation tokens processed.", token_edges
        )
        self._iteration_tokens = self._histogram(
            "iteration_tokens_total", "Histogram of number of tokens per engine_step.", _ITERATION_EDGES
        )
        self._max_generation_tokens = self._histogram(
            "request_max_num_generation_tokens",
            "Histogram of maximum number of requested generation tokens.",
            token_edges,
        )
        self._params_n = self._histogram("request_params_n", "Histogram of the n request parameter.", _PARAMS_N_EDGES)
        self._params_max_tokens = self._histogram(
            "request_params_max_tokens", "Histogram of the max_tokens request parameter.", token_edges
        )
        self._ttft = self._histogram(
            "time_to_first_token_seconds", "Histogram of time to first token in seconds.", _TTFT_EDGES_S
        )
        self._token_gap = self._histogram(
            "inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", _TOKEN_GAP_EDGES_S
        )
        self._tpot = self._histogram(
            "request_time_per_output_token_seconds",
            "Histogram of time_per_output_token_seconds per request.",
            _TOKEN_GAP_EDGES_S,
        )
        self._e2e = self._histogram(
            "e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", _REQUEST_EDGES_S
        )
        self._queue = self._phase("request_queue_time_seconds", "WAITING")
        self._inference = self._phase("request_inference_time_seconds", "RUNNING")
        self._prefill = self._phase("request_prefill_time_seconds", "PREFILL")
        self._decode = self._phase("request_decode_time_seconds", "DECODE")
        self._request_preemptions = self._histogram(
            "request_num_preemptions",
            "Histogram of the number of times a request was preempted.",
            _PREEMPTION_EDGES,
        )
        self._prefill_kv_computed = self._histogram(
            "request_prefill_kv_computed_tokens",
            "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
            token_edges,
        )
        info = {
            **_CACHE_CONFIG,
            "engine": "0",
            "block_size": str(block_size_tokens),
            "effective_attention_block_size": str(block_size_tokens),
            "num_gpu_blocks": str(blocks),
            "kv_cache_size_tokens": str(self._kv_tokens_in_blocks),
            "kv_cache_max_concurrency": str(round(self._kv_tokens_in_blocks / max_model_len, 2)),
        }
        config = _Samples("vllm:cache_config_info", "gauge", "Information of the LLMEngine CacheConfig", [info])
        config.values[0] = 1.0
        self._families.append(config)

    def record(self, step: StepResult) -> None:
        """Takes in a completed step: its tokens, its first tokens, and the requests that ended with it."""
        prompt_tokens = 0
        for generation in step.first_tokens:
            prompt_tokens += generation.prompt_tokens
            self._ttft.observe(generation.ttft_s)
        if prompt_tokens:
            self._prompt_tokens.add(prompt_tokens)
            self._prompt_tokens_by_source.add(prompt_tokens)
        self._generation_tokens.add(step.generated_tokens)
        self._preemptions.add(step.preempted)
        self._iteration_tokens.observe(prompt_tokens + step.generated_tokens)
        for gap_s, times in step.token_gaps:
            self._token_gap.observe(gap_s, times)
        for generation in step.finished:
            self._success.add(1, self._success_index[generation.ends_with.value])
            self._request_prompt_tokens.observe(generation.prompt_tokens)
            self._request_generation_tokens.observe(generation.generated)
            self._max_generation_tokens.observe(generation.generated)
            self._params_n.observe(1)
            self._params_max_tokens.observe(generation.max_tokens)
            self._tpot.observe(generation.tpot_s)
            self._e2e.observe(generation.last_token_s - generation.arrived_s)
            self._queue.observe(generation.scheduled_s - generation.arrived_s)
            self._inference.observe(generation.last_token_s - generation.scheduled_s)
            self._prefill.observe(generation.first_token_s - generation.scheduled_s)
            self._decode.observe(generation.last_token_s - generation.first_token_s)
            self._request_preemptions.observe(generation.preemptions)
            self._prefill_kv_computed.observe(generation.prompt_tokens)

    def render(self, load: EngineLoad) -> str:
        """The page in the text exposition format, with the gauges as `load` says."""
        self._running.values[0] = float(load.running)
        self._waiting.values[0] = float(load.waiting)
        self._waiting_by_reason.values[0] = float(load.waiting)
        self._kv_usage.values[0] = min(1.0, load.kv_used_tokens / self._kv_tokens_in_blocks)
        parts: list[str] = []
        for family in self._families:
            family.write(parts)
        return "".join(parts)

    def _label_sets(self, label: str, values: Sequence[str], *, with_engine: bool = True) -> list[dict[str, str]]:
        base = self._labels if with_engine else {"model_name": self._labels["model_name"]}
        return [{**base, label: value} for value in values] if label else [base]

    def _gauge(self, name: str, help_text: str, label: str = "", values: Sequence[str] = ()) -> _Samples:
        family = _Samples(f"vllm:{name}", "gauge", help_text, self._label_sets(label, values))
        self._families.append(family)
        return family

    def _counter(
        self, name: str, help_text: str, label: str = "", values: Sequence[str] = (), *, with_engine: bool = True
    ) -> _Samples:
        label_sets = self._label_sets(label, values, with_engine=with_engine)
        family = _Samples(f"vllm:{name}_total", "counter", help_text, label_sets)
        self._families.append(family)
        self._created(name, help_text, label_sets)
        return family

    def _histogram(self, name: str, help_text: str, edges: Sequence[float]) -> _Histogram:
        family = _Histogram(f"vllm:{name}", help_text, edges, self._labels)
        self._families.append(family)
        self._created(name, help_text, [self._labels])
        return family

    def _phase(self, name: str, phase: str) -> _Histogram:
        return self._histogram(name, f"Histogram of time spent in {phase} phase for request.", _REQUEST_EDGES_S)

    def _created(self, name: str, help_text: str, label_sets: Sequence[Mapping[str, str]]) -> None:
        family = _Samples(f"vllm:{name}_created", "gauge", help_text, label_sets)
        family.values = [self._created_s] * len(label_sets)
        self._families.append(family)
