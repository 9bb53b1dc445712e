"""The order of GPU types per size against Mélange's published figures (docs/explanation/melange-order.md).

Figures of arXiv 2404.14527 as pictures with numbers in github.com/tyler-griggs/melange-release (d46ab43), docs/images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from medley.model.engine import EngineFlags
from medley.model.workload import Size
from medley.profiles.estimate import ERROR_BAND, roofline_of
from medley.profiles.gpu import find_gpu
from medley.profiles.latency import LatencyTarget, Unservable
from medley.profiles.model_facts import model_facts
from medley.profiles.roofline import Roofline

LLAMA_2_7B = model_facts(
    {
        "model_type": "llama",
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "intermediate_size": 11008,
        "vocab_size": 32000,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
    },
    "Llama-2-7b",
)
PRICES = {"L4": 0.70, "A10G": 1.01, "A100-80": 3.67, "H100": 7.516}  # $/h, Table 1
LETTERS = {"L": "L4", "G": "A10G", "A": "A100-80", "H": "H100"}
OURS = {gpu: roofline_of(LLAMA_2_7B, find_gpu(gpu), 1, EngineFlags()) for gpu in PRICES}

INPUTS = (25, 100, 250, 500, 1000, 2000, 4000, 8000, 12000, 16000)
# Figure 5a, no SLO: the GPU with most tokens per dollar, and by how many per cent it is ahead of the second.
FIGURE_5A = {
    2000: "A8 A10 A13 A17 A18 A38 H1 H46 H86 H99",
    1000: "A6 A10 A11 A11 A18 A20 A7 H35 H90 H99",
    500: "G12 G2 G1 A4 A17 A17 A6 H28 H54 H99",
    250: "G20 G11 G2 G1 A8 A13 A6 H34 H37 H34",
    100: "G12 G19 G15 G1 A1 A4 A21 H24 H29 H39",
    25: "L9 G12 G19 G17 G13 G11 A32 A7 H13 H23",
}
# Figure 3b, no SLO: A10G against A100.
FIGURE_3B = {
    2000: "A8 A10 A13 A17 A18 A38",
    1000: "A6 A10 A11 A11 A18 A20",
    500: "G12 G2 G1 A4 A17 A21",
    250: "G28 G11 G2 G1 A8 A13",
    100: "G52 G25 G15 G1 A1 A4",
    25: "G72 G52 G20 G17 G13 G11",
}
# Figure 7: A10G against A100 by TPOT objective, for as many input as output tokens.
OBJECTIVES_MS = (40, 60, 80, 100, 120, 140, 160)
FIGURE_7 = {
    500: "A109 A60 A61 A61 A61 A61 A61",
    250: "A91 A22 A26 A24 A24 A24 A24",
    100: "A99 A8 G14 G20 G20 G19 G19",
    64: "A97 A11 G6 G21 G38 G46 G41",
    25: "A119 A11 G5 G27 G32 G44 G42",
}

HOST_MS = 0.1
"""Per sequence and step, in which the GPU waits for Python: what vLLM 0.2.7 is taken to need, and Medley leaves out."""


def cells(figure: dict[int, str] = FIGURE_5A) -> Iterator[tuple[Size, str, float]]:
    """(size, best GPU, per cent ahead of the second)."""
    for output, row in figure.items():
        for tokens, cell in zip(INPUTS, row.split(), strict=True):
            yield Size(tokens, output), LETTERS[cell[0]], float(cell[1:])


def target(tpot_ms: float | None) -> LatencyTarget:
    return LatencyTarget(tpot_ms=tpot_ms, percentile=50.0)


def slowed(host_ms: float) -> dict[str, Roofline]:
    """The same GPUs under an engine whose host needs so much for each sequence in each step."""
    made = {}
    for gpu, engine in OURS.items():
        c = engine.calibration
        made[gpu] = replace(engine, calibration=replace(c, per_sequence_ms=c.per_sequence_ms + host_ms))
    return made


def per_dollar(size: Size, tpot_ms: float | None, engines: dict[str, Roofline] = OURS) -> dict[str, float]:
    # From 12,000 tokens on the figure compares only these two.
    gpus = [gpu for gpu in PRICES if size.input_tokens < 12000 or gpu in ("A100-80", "H100")]
    return {gpu: engines[gpu].max_throughput(size, target(tpot_ms)).rate_rps / PRICES[gpu] for gpu in gpus}


def best(size: Size, tpot_ms: float | None, engines: dict[str, Roofline] = OURS) -> str:
    found = per_dollar(size, tpot_ms, engines)
    return max(found, key=found.__getitem__)


def ratio(
    size: Size, over: str, under: str, tpot_ms: float | None = None, engines: dict[str, Roofline] = OURS
) -> float:
    """Rate of one replica over that of another, whatever they cost."""
    rates = [engines[gpu].max_throughput(size, target(tpot_ms)).rate_rps for gpu in (over, under)]
    return rates[0] / rates[1]


def agreeing(tpot_ms: float | None, engines: dict[str, Roofline] = OURS) -> int:
    return sum(best(size, tpot_ms, engines) == gpu for size, gpu, _ in cells())


def pairs_agreeing(engines: dict[str, Roofline] = OURS) -> int:
    """In how many cells of figure 7 the better one of A10G and A100 is the published one."""
    found = 0
    for tokens, row in FIGURE_7.items():
        for tpot_ms, cell in zip(OBJECTIVES_MS, row.split(), strict=True):
            rates = per_dollar(Size(tokens, tokens), tpot_ms, engines)
            found += (rates["A10G"] > rates["A100-80"]) == (cell[0] == "G")
    return found


def pairs_agreeing_without_objective(engines: dict[str, Roofline] = OURS) -> int:
    """The same of figure 3b."""
    found = 0
    for output, row in FIGURE_3B.items():
        for tokens, cell in zip(INPUTS, row.split(), strict=False):
            rates = per_dollar(Size(tokens, output), None, engines)
            found += (rates["A10G"] > rates["A100-80"]) == (cell[0] == "G")
    return found


def rate_by_their_tpot(engine: Roofline, size: Size, tpot_ms: float) -> float:
    """The rate if TPOT is latency over output tokens: with half a step of waiting and the request's own prefill."""
    i, o = size.input_tokens, size.output_tokens
    if i + o > engine.kv_capacity_tokens:
        return 0.0
    prefill = engine.prefill_ms(i)

    def step_ms(batch: float) -> float:
        return engine.decode_ms(size, batch) + batch * prefill / o

    def kept(batch: float) -> bool:
        return step_ms(max(batch, 1.0)) * (1 + 0.5 / o) + prefill / o <= tpot_ms

    low, high = 0.0, min(engine.max_batch, engine.kv_capacity_tokens / engine.held_tokens(size))
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle) else (low, middle)
    return 1000 * low / (o * step_ms(low)) if low > 1e-6 else 0.0


# What agrees.


@pytest.mark.parametrize("tpot_ms", [None, 120.0])
@pytest.mark.parametrize(
    ("gpu", "inputs", "outputs"),
    [
        ("L4", (25,), (25,)),
        ("A100-80", (25, 100, 250, 500, 1000, 2000), (1000, 2000)),
        ("A100-80", (500, 1000, 2000, 4000), (500,)),
        ("A100-80", (4000,), (1000,)),
        ("H100", (8000, 12000, 16000), (25, 100, 250)),
        ("H100", (12000, 16000), (500,)),
    ],
)
def test_the_best_gpu_is_the_published_one(
    tpot_ms: float | None, gpu: str, inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> None:
    published = {(size.input_tokens, size.output_tokens): name for size, name, _ in cells()}
    for tokens in inputs:
        for output in outputs:
            if (tokens, output) == (8000, 25):  # A100 there, by 7 %: the one exception of the block
                continue
            assert published[tokens, output] == gpu
            assert best(Size(tokens, output), tpot_ms) == gpu, (tokens, output)


def test_long_outputs_have_the_published_order_of_a100_and_a10g() -> None:
    for size, gpu, _ in cells():
        if size.output_tokens >= 1000 and size.input_tokens <= 2000:
            rates = per_dollar(size, None)
            assert gpu == "A100-80"
            assert rates["A100-80"] > rates["A10G"] > rates["L4"]


def test_at_40_ms_a100_beats_a10g_at_every_size_as_published() -> None:
    assert all(row.split()[0].startswith("A") for row in FIGURE_7.values())
    for tokens in FIGURE_7:
        rates = per_dollar(Size(tokens, tokens), 40.0)
        assert rates["A100-80"] > 1.5 * rates["A10G"]


def test_a_tighter_objective_moves_the_advantage_to_the_faster_gpu() -> None:
    for size, _, _ in cells():
        if size.input_tokens < 12000:
            assert ratio(size, "A100-80", "A10G", 120.0) <= ratio(size, "H100", "A10G", 120.0)
        assert ratio(size, "H100", "A100-80", 40.0) >= 0.999 * ratio(size, "H100", "A100-80", 120.0)
    for tokens in FIGURE_7:
        size = Size(tokens, tokens)
        assert ratio(size, "A100-80", "A10G", 40.0) > 1.2 * ratio(size, "A100-80", "A10G", 120.0)


def test_one_a10g_serves_the_rate_that_figure_9_shows() -> None:
    # Size [1k, 500], 120 ms: a further A10G every 0.37 req/s, a further A100 every 2.0 req/s.
    a10g, a100 = (OURS[gpu].max_throughput(Size(1000, 500), target(120.0)).rate_rps for gpu in ("A10G", "A100-80"))
    assert a10g == pytest.approx(0.37, rel=0.1)
    assert 1.4 < a100 / 2.0 < 1.65


# What differs, and why.


def test_how_much_agrees() -> None:
    assert agreeing(None) >= 29
    assert agreeing(120.0) >= 29
    assert pairs_agreeing() >= 20
    assert pairs_agreeing_without_objective() >= 19
    assert pairs_agreeing_without_objective(slowed(HOST_MS)) >= 23
    assert agreeing(None, slowed(HOST_MS)) >= 32


def test_small_sizes_go_to_a10g_there_and_to_faster_gpus_here() -> None:
    ours = [best(size, None) for size, gpu, _ in cells() if gpu == "A10G"]
    assert len(ours) == 16
    assert set(ours) == {"A100-80", "H100"}


def test_the_published_small_sizes_are_bound_by_the_host() -> None:
    # (25, 25): L4 9 % ahead of A10G (figure 5a) and 239 % of the last (5b), A10G 72 % ahead of A100 (3b): H100 is last.
    tiny = Size(25, 25)
    published = PRICES["H100"] / PRICES["A100-80"] * 1.09 * 1.72 / 3.39
    assert published == pytest.approx(1.13, abs=0.01)
    h100, a100 = find_gpu("H100"), find_gpu("A100-80")
    assert published < h100.bandwidth_gb_per_s / a100.bandwidth_gb_per_s < h100.fp16_tflops / a100.fp16_tflops
    assert ratio(tiny, "H100", "A100-80") > 2.3


def test_host_time_gives_the_published_order_of_a10g_and_a100_by_objective() -> None:
    assert pairs_agreeing(slowed(HOST_MS)) >= 33
    for tokens in (25, 64, 100):
        rates = per_dollar(Size(tokens, tokens), 120.0, slowed(HOST_MS))
        assert rates["A10G"] > rates["A100-80"]
    for tokens in (250, 500):
        rates = per_dollar(Size(tokens, tokens), 120.0, slowed(HOST_MS))
        assert rates["A10G"] < rates["A100-80"]


def test_prompts_with_short_answers_go_to_h100_here_because_it_prefills_three_times_as_fast_as_a100() -> None:
    # Figure 5 at (1000, 25): A10G 13 % ahead of the second and 14 % of the last, so H100 is within 14 % of it, and A100
    # 13 % behind (3b): H100/A100 is at most this.
    published = PRICES["H100"] / PRICES["A100-80"] * 1.13 / 1.13
    assert published == pytest.approx(2.05, abs=0.01)
    assert ratio(Size(1000, 25), "H100", "A100-80") == pytest.approx(2.7, abs=0.15)
    for size, gpu, _ in cells():
        if 1000 <= size.input_tokens <= 4000 and size.output_tokens <= 250:
            assert gpu != "H100"
            assert best(size, None) == "H100"


def test_host_time_and_a_slower_h100_prefill_give_the_published_order_of_a100_and_h100_for_documents() -> None:
    # PubMed at 32 req/s: A100-only costs 0.94 of H100-only at 120 ms (Table 4), 1.16 at 40 ms (Table 7).
    engines = slowed(HOST_MS)
    c = engines["H100"].calibration
    engines["H100"] = replace(engines["H100"], calibration=replace(c, prefill_compute=c.prefill_compute * 2 / 3))
    for tokens in (2000, 4000, 8000):
        size = Size(tokens, 250)
        assert best(size, 120.0) == best(size, 40.0) == "H100"
        assert best(size, 120.0, engines) == "A100-80"
        assert best(size, 40.0, engines) == "H100"


def test_long_prompts_with_long_answers_go_to_a100_here_because_bandwidth_decides() -> None:
    price = PRICES["H100"] / PRICES["A100-80"]
    flops = find_gpu("H100").fp16_tflops / find_gpu("A100-80").fp16_tflops
    beyond = []
    for size, gpu, ahead in cells():
        if size.input_tokens >= 8000 and size.output_tokens >= 1000:
            assert gpu == "H100"
            assert 1.75 < ratio(size, "H100", "A100-80") < price
        if size.input_tokens >= 12000 and price * (1 + ahead / 100) > flops:
            beyond.append(size)
    # There the published ratio is above that of any figure on the data sheets: no roofline gives it.
    assert beyond == [Size(12000, 2000), Size(16000, 2000), Size(12000, 1000), Size(16000, 1000), Size(16000, 500)]


def test_no_other_memory_makes_h100_gain_on_a100_as_prompts_grow() -> None:
    a100, h100 = OURS["A100-80"], OURS["H100"]
    others = {
        "A100 of 40 GB": (replace(a100, memory_gib=40.0, bandwidth_gb_per_s=1555.0), h100),
        "A100 with half its memory": (replace(a100, memory_gib=40.0), h100),
        "H100 of 94 GB": (a100, replace(h100, memory_gib=94.0, bandwidth_gb_per_s=3900.0)),
    }
    for slow, fast in ((a100, h100), *others.values()):
        ratios = [ratio(Size(i, 2000), "fast", "slow", None, {"slow": slow, "fast": fast}) for i in INPUTS[5:]]
        # Published: from 1.5 to 4.1 along this row.
        assert max(ratios) / min(ratios) < 1.05
    ahead = {size.output_tokens: by for size, _, by in cells() if size.input_tokens == 16000}
    assert ahead[500] == ahead[1000] == ahead[2000] == 99


def test_l4_cannot_keep_40_ms_although_tables_6_and_8_count_on_it() -> None:
    read = LLAMA_2_7B.weight_bytes - 2 * LLAMA_2_7B.embedding_parameters
    assert read / 300e9 > 0.044  # s, once at Table 1's peak bandwidth
    for size, _, _ in cells():
        if size.input_tokens + size.output_tokens <= OURS["L4"].kv_capacity_tokens:
            found = OURS["L4"].max_throughput(size, target(40.0))
            assert found.reason is Unservable.TPOT_AT_BATCH_1


def test_their_tpot_which_counts_prefill_and_queue_does_not_change_the_best_at_120_ms() -> None:
    for size, _, _ in cells():
        gpus = per_dollar(size, 120.0)
        theirs = {gpu: rate_by_their_tpot(OURS[gpu], size, 120.0) / PRICES[gpu] for gpu in gpus}
        assert max(theirs, key=theirs.__getitem__) == best(size, 120.0), size


def test_125_tflops_for_a10g_does_not_explain_it() -> None:
    engines = {**OURS, "A10G": replace(OURS["A10G"], dense_tflops=125.0)}
    assert abs(agreeing(None, engines) - agreeing(None)) <= 1
    assert not any(best(size, None, engines) == "A10G" for size, _, _ in cells())


def test_most_differences_are_within_two_opposite_errors_of_the_printed_band() -> None:
    differing = [(size, gpu) for size, gpu, _ in cells() if best(size, None) != gpu]
    within = 0
    for size, gpu in differing:
        rates = per_dollar(size, None)
        within += rates[gpu] * ERROR_BAND[1] >= max(rates.values()) * ERROR_BAND[0]
    assert within >= 27
    assert len(differing) <= 31
