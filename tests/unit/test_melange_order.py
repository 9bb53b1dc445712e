"""The order of GPU types per size against Mélange's published figures (docs/explanation/melange-order.md).

Figures of arXiv 2404.14527 as pictures with numbers in github.com/tyler-griggs/melange-release (d46ab43), docs/images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import pytest

from medley.model.engine import EngineFlags
from medley.model.workload import Size
from medley.profiles.estimate import ERROR_BAND, roofline_of
from medley.profiles.gpu import find_gpu
from medley.profiles.latency import LatencyTarget, Unservable
from medley.profiles.model_facts import model_facts
from medley.profiles.roofline import GIB, Roofline

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
LLAMA_2_70B = model_facts(
    {
        "model_type": "llama",
        "num_hidden_layers": 80,
        "hidden_size": 8192,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "intermediate_size": 28672,
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
    },
    "Llama-2-70b",
)
PRICES = {"L4": 0.70, "A10G": 1.01, "A100-80": 3.67, "H100": 7.516}  # $/h, Table 1
LETTERS = {"L": "L4", "G": "A10G", "A": "A100-80", "H": "H100"}
OURS = {gpu: roofline_of(LLAMA_2_7B, find_gpu(gpu), 1, EngineFlags()) for gpu in PRICES}
OURS_70B = {gpu: roofline_of(LLAMA_2_70B, find_gpu(gpu), 2, EngineFlags()) for gpu in ("A100-80", "H100")}

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
# Picture h100-v-a100, no SLO: 70B on two A100 against two H100.
FIGURE_70B = {
    2000: "A9 H6 H6 H24 H27 H55",
    1000: "A16 A8 A5 A7 H11 H52",
    500: "A23 A15 A8 A9 H8 H47",
    250: "A35 A26 A16 A15 A8 H34",
    100: "A39 A35 A33 A18 A16 H7",
    25: "A43 A40 A32 A32 A33 H1",
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
WALK_NS = 195.0
"""Per token of context and layer: what attention on the A100 is taken to need, however few the sequences."""


def cells(figure: dict[int, str] = FIGURE_5A) -> Iterator[tuple[Size, str, float]]:
    """(size, best GPU, per cent ahead of the second)."""
    for output, row in figure.items():
        for tokens, cell in zip(INPUTS, row.split(), strict=figure is FIGURE_5A):
            yield Size(tokens, output), LETTERS[cell[0]], float(cell[1:])


def target(tpot_ms: float | None) -> LatencyTarget:
    return LatencyTarget(tpot_ms=tpot_ms, percentile=50.0)


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


@dataclass(frozen=True, slots=True)
class Slowed(Roofline):
    """A GPU whose decode steps take longer by something."""

    extra_ms: Callable[[Roofline, Size, float], float] = lambda engine, size, batch: 0.0

    def decode_ms(self, size: Size, batch: float) -> float:
        return Roofline.decode_ms(self, size, batch) + self.extra_ms(self, size, batch)


Change = Callable[[Roofline], Roofline]


def slower_by(extra_ms: Callable[[Roofline, Size, float], float]) -> Change:
    def change(engine: Roofline) -> Roofline:
        return Slowed(**{field.name: getattr(engine, field.name) for field in fields(Roofline)}, extra_ms=extra_ms)

    return change


def context(size: Size) -> float:
    return size.input_tokens + size.output_tokens / 2


def cache_ms(engine: Roofline, size: Size, batch: float) -> float:
    """What the roofline counts for attention: the KV cache is read once."""
    read = engine.kv_bytes_per_token / engine.kv_shards * batch * context(size)
    return read / (engine.bandwidth_gb_per_s * engine.calibration.bandwidth * 1e6)


def walk(ns: float) -> Change:
    """Attention goes along a context token by token, in parallel over sequences and heads only."""
    return slower_by(
        lambda engine, size, batch: max(0.0, engine.layers * context(size) * ns * 1e-6 - cache_ms(engine, size, batch))
    )


def too_few_blocks(k: float) -> Change:
    """Attention needs k thread blocks on each of 108 multiprocessors; there are 32 a sequence."""
    return slower_by(
        lambda engine, size, batch: cache_ms(engine, size, batch) * (max(1.0, 108 * k / (32 * max(batch, 1.0))) - 1)
    )


def too_few_sequences(enough: float) -> Change:
    return slower_by(
        lambda engine, size, batch: Roofline.decode_ms(engine, size, batch) * (max(1.0, enough / max(batch, 1.0)) - 1)
    )


def host_step(ms: float) -> Change:
    return slower_by(lambda engine, size, batch: ms)


def per_context_token(us: float) -> Change:
    """The same for a model of 80 layers as for one of 32."""
    return slower_by(lambda engine, size, batch: us * context(size) / 1000)


def slower_prefill(times: float) -> Change:
    def change(engine: Roofline) -> Roofline:
        c = engine.calibration
        made = replace(c, prefill_compute=c.prefill_compute / times, attention_compute=c.attention_compute / times)
        return replace(engine, calibration=made)

    return change


@dataclass(frozen=True, slots=True)
class Cell:
    """One size for which the published rate of H100 over that of A100 is known, and long outputs: 500 and more."""

    engines: dict[str, Roofline]
    size: Size
    published: float

    @property
    def excess(self) -> float:
        return self.published / ratio(self.size, "H100", "A100-80", None, self.engines)

    @property
    def fit(self) -> float:
        """Sequences that fit in memory."""
        return self.engines["A100-80"].kv_capacity_tokens / (self.size.input_tokens + self.size.output_tokens)


def published_ratio(gpu: str, ahead: float) -> float:
    price = PRICES["H100"] / PRICES["A100-80"]
    return price * (1 + ahead / 100) if gpu == "H100" else price / (1 + ahead / 100)


CELLS_7B = [
    Cell(OURS, size, published_ratio(gpu, ahead))
    for size, gpu, ahead in cells()
    if size.input_tokens >= 4000 and size.output_tokens >= 500
]
CELLS_70B = [
    Cell(OURS_70B, size, published_ratio(gpu, ahead))
    for size, gpu, ahead in cells(FIGURE_70B)
    if size.output_tokens >= 500
]


def wrong_by(of: Sequence[Cell], changed: Callable[[dict[str, Roofline]], dict[str, Roofline]]) -> float:
    """Root mean square of log(ours/published) with changed GPUs."""
    logs = [math.log(ratio(cell.size, "H100", "A100-80", None, changed(cell.engines)) / cell.published) for cell in of]
    return math.sqrt(sum(log * log for log in logs) / len(logs))


def error(change: Change, of: Sequence[Cell], both: bool = False) -> float:
    """The same if A100 alone, or both, are changed so."""
    return wrong_by(of, lambda gpus: {gpu: change(e) if both or gpu == "A100-80" else e for gpu, e in gpus.items()})


def rank_correlation(left: Sequence[float], right: Sequence[float]) -> float:
    """Spearman's, with mean ranks for equal values."""

    def ranks(values: Sequence[float]) -> list[float]:
        made = [sum(v < w for v in values) + (sum(v == w for v in values) - 1) / 2 for w in values]
        return [rank - (len(values) - 1) / 2 for rank in made]

    x, y = ranks(left), ranks(right)
    return sum(a * b for a, b in zip(x, y, strict=True)) / math.sqrt(sum(a * a for a in x) * sum(b * b for b in y))


def with_all(
    engines: dict[str, Roofline], host_ms: float = 0.0, prefill: float = 1.0, ns: float = 0.0
) -> dict[str, Roofline]:
    """The changes of the page: host time for each sequence, H100's share of its prefill, A100's walk."""
    made = {}
    for gpu, engine in engines.items():
        c = engine.calibration
        c = replace(c, per_sequence_ms=c.per_sequence_ms + host_ms)
        if gpu == "H100":
            c = replace(c, prefill_compute=c.prefill_compute * prefill)
        changed = replace(engine, calibration=c)
        made[gpu] = walk(ns)(changed) if gpu == "A100-80" and ns else changed
    return made


def pairs_agreeing_70b(engines: dict[str, Roofline] = OURS_70B) -> int:
    """In how many cells of the 70B picture the better one of A100 and H100 is the published one."""
    price = PRICES["H100"] / PRICES["A100-80"]
    return sum(
        (ratio(size, "H100", "A100-80", None, engines) > price) == (gpu == "H100") for size, gpu, _ in cells(FIGURE_70B)
    )


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
    assert pairs_agreeing_without_objective(with_all(OURS, HOST_MS)) >= 23
    assert agreeing(None, with_all(OURS, HOST_MS)) >= 32


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
    assert pairs_agreeing(with_all(OURS, HOST_MS)) >= 33
    for tokens in (25, 64, 100):
        rates = per_dollar(Size(tokens, tokens), 120.0, with_all(OURS, HOST_MS))
        assert rates["A10G"] > rates["A100-80"]
    for tokens in (250, 500):
        rates = per_dollar(Size(tokens, tokens), 120.0, with_all(OURS, HOST_MS))
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
    engines = with_all(OURS, HOST_MS, 2 / 3)
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


def test_70b_on_two_gpus_agrees_in_16_sizes_and_with_all_changes_in_33() -> None:
    assert sum(1 for _ in cells(FIGURE_70B)) == 36
    assert pairs_agreeing_70b() >= 16
    assert pairs_agreeing_70b(with_all(OURS_70B, HOST_MS)) >= 18
    assert pairs_agreeing_70b(with_all(OURS_70B, HOST_MS, 2 / 3)) >= 24
    assert pairs_agreeing_70b(with_all(OURS_70B, HOST_MS, 2 / 3, WALK_NS)) >= 33


def test_how_much_of_figure_5_the_walk_adds() -> None:
    assert agreeing(None, with_all(OURS, ns=WALK_NS)) >= 35
    assert agreeing(None, with_all(OURS, HOST_MS, 2 / 3, WALK_NS)) >= 43
    engines = with_all({**OURS, "A10G": replace(OURS["A10G"], dense_tflops=125.0)}, HOST_MS, 2 / 3, WALK_NS)
    assert agreeing(None, engines) >= 48
    assert pairs_agreeing(engines) >= 32
    assert pairs_agreeing_without_objective(engines) >= 27


def test_the_excess_of_h100_follows_the_sequences_that_fit_and_not_the_length() -> None:
    both = CELLS_7B + CELLS_70B
    assert len(both) == 30
    excess = [cell.excess for cell in both]
    fit = rank_correlation([-cell.fit for cell in both], excess)
    assert fit > 0.92
    for length in (lambda size: size.input_tokens, context, lambda size: size.input_tokens + size.output_tokens):
        assert 0.6 < rank_correlation([length(cell.size) for cell in both], excess) < fit - 0.12
    assert all(0.9 < cell.excess < 1.16 for cell in both if cell.fit > 20)
    assert all(cell.excess > 1.2 for cell in both if cell.fit < 15)
    # At eight times the length, as much, where as many fit: (1000, 2000) of 70B and (8000, 1000) of 7B.
    near = {(cell.size.input_tokens, cell.size.output_tokens): cell for cell in both}
    short, long = near[1000, 2000], near[8000, 1000]
    assert short.fit == pytest.approx(long.fit, rel=0.05)
    assert short.excess == pytest.approx(long.excess, rel=0.05)


def test_a_walk_of_the_a100_along_the_context_gives_both_models_with_one_constant_and_nothing_else_does() -> None:
    both = CELLS_7B + CELLS_70B
    assert error(lambda engine: engine, both) > 0.35
    assert error(walk(WALK_NS), both) < 0.09
    # What is fitted to 7B alone (200 ns; 17.5; 3.1 us; 6; 28 ms; 3.75), for 70B.
    assert error(walk(200), CELLS_70B) < 0.1
    assert 0.12 < error(too_few_sequences(17.5), CELLS_70B) < 0.17
    assert error(per_context_token(3.1), CELLS_70B) > 0.18
    assert error(too_few_blocks(6.0), CELLS_70B) > 0.2
    assert error(host_step(28.0), CELLS_70B) > 0.25
    assert error(slower_prefill(3.75), CELLS_70B) > 0.2
    # The best constant for all.
    assert min(error(too_few_sequences(enough), both) for enough in (17, 18, 19, 20, 21)) > 0.1
    assert min(error(per_context_token(us), both) for us in (2.5, 3.0, 3.5, 4.0, 6.0)) > 0.16
    assert min(error(too_few_blocks(k), both) for k in (4, 5, 6, 7, 8, 12, 20, 40)) > 0.18
    assert min(error(host_step(ms), both) for ms in (5, 10, 15, 20, 30)) > 0.25
    assert min(error(slower_prefill(times), both) for times in (2, 3, 4, 5, 8)) > 0.25


def test_h100_must_walk_at_least_four_times_as_fast() -> None:
    both = CELLS_7B + CELLS_70B
    assert min(error(walk(ns), both, both=True) for ns in (50, 100, 150, 200, 300)) > 0.38

    def faster(times: float, ns: float) -> float:
        by = {"A100-80": walk(ns), "H100": walk(ns / times)}
        return wrong_by(both, lambda gpus: {gpu: by[gpu](gpus[gpu]) for gpu in by})

    assert min(faster(3, ns) for ns in (200, 250, 300, 350)) > 0.17
    assert min(faster(4, ns) for ns in (200, 225, 250)) < 0.12


def test_less_memory_and_few_requests_at_a_time_would_do_for_70b_but_not_for_both() -> None:
    def wrong(share: float, requests: int, of: Sequence[Cell]) -> float:
        def changed(gpus: dict[str, Roofline]) -> dict[str, Roofline]:
            made = {gpu: replace(engine, max_batch=requests) for gpu, engine in gpus.items()}
            a100 = made["A100-80"]
            lost = (1 - share) * a100.kv_capacity_tokens * a100.kv_bytes_per_token / a100.kv_shards / GIB
            made["A100-80"] = replace(a100, memory_gib=a100.memory_gib - lost / a100.memory_fraction)
            assert made["A100-80"].kv_capacity_tokens == pytest.approx(share * a100.kv_capacity_tokens, abs=2)
            return made

        return wrong_by(of, changed)

    assert wrong(0.55, 12, CELLS_70B) < 0.09
    # (16,000; 2,000) does not fit in less than 0.153.
    shares, requests = (0.155, 0.165, 0.175, 0.2, 0.3, 0.4, 0.55, 0.75, 1.0), (2, 3, 4, 5, 6, 8, 12, 20, 40, 256)
    assert min(wrong(share, most, CELLS_7B + CELLS_70B) for share in shares for most in requests) > 0.14


def test_at_16000_tokens_three_outputs_are_alike_as_one_of_384_tokens_would_be_and_250_is_an_outlier() -> None:
    published = {
        size.output_tokens: published_ratio(gpu, by) for size, gpu, by in cells() if size.input_tokens == 16000
    }
    assert published[500] == published[1000] == published[2000] == pytest.approx(4.08, abs=0.01)
    engines = with_all(OURS, ns=WALK_NS)
    assert ratio(Size(16000, 384), "H100", "A100-80", None, engines) == pytest.approx(3.95, abs=0.02)
    assert ratio(Size(16000, 250), "H100", "A100-80", None, engines) > 1.3 * published[250]


def test_no_schedule_gives_the_published_ratio_at_8000_tokens() -> None:
    # One engine, as much memory: each step takes A100 at most 3.17 times as long. 1/R = s/3.17 + (1 - s)/1.9.
    flops = find_gpu("H100").fp16_tflops / find_gpu("A100-80").fp16_tflops
    assert flops == pytest.approx(3.17, abs=0.01)
    a100 = OURS["A100-80"]
    published = {(size.input_tokens, size.output_tokens): published_ratio(gpu, by) for size, gpu, by in cells()}
    for output, needed, has, times in ((1000, 0.78, 0.14, 21), (2000, 0.91, 0.07, 130)):
        size = Size(8000, output)
        share = (1 / 1.9 - 1 / published[8000, output]) / (1 / 1.9 - 1 / flops)
        batch = a100.kv_capacity_tokens / (8000 + output)
        prefill = batch * a100.prefill_ms(8000)
        decode = output * a100.decode_ms(size, batch)
        assert share == pytest.approx(needed, abs=0.01)
        assert prefill / (prefill + decode) == pytest.approx(has, abs=0.01)
        assert share / (1 - share) * decode / prefill == pytest.approx(times, rel=0.05)
    # Nor is prefill that much faster there: what is mostly prefill has at most this.
    for tokens, at_most in ((8000, 1.92), (12000, 2.32), (16000, 2.53)):
        assert published[tokens, 25] < at_most < published[tokens, 2000]
        batch = a100.kv_capacity_tokens / (tokens + 25)
        prefill = batch * a100.prefill_ms(tokens)
        assert prefill / (prefill + 25 * a100.decode_ms(Size(tokens, 25), batch)) > 0.85


def test_vllm_0_2_7_would_not_use_its_first_kernel_in_most_of_these_cells() -> None:
    # V1 up to 8,192 tokens and for more than 512 heads of sequences, of which both models have 32 a GPU.
    beyond = [cell for cell in CELLS_7B + CELLS_70B if cell.excess > 1.2]
    second = [cell for cell in beyond if cell.fit * 32 <= 512 or cell.size.input_tokens > 8192]
    assert (len(second), len(beyond)) == (14, 17)
    assert {LLAMA_2_7B.attention_heads, LLAMA_2_70B.attention_heads // 2} == {32}


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
