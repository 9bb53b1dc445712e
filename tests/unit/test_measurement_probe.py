"""What is decided between two probes: rates, arrivals, fit, the journal. No clock, no endpoint."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import stand_in_errors
from medley.measurement.adaptive import Plan, measured_of, next_probe
from medley.measurement.arrivals import schedule
from medley.measurement.fit import fitted
from medley.measurement.growth import ever_grows, grows
from medley.measurement.journal import Journal, model_of
from medley.measurement.probe import (
    Ending,
    Loop,
    Probe,
    ProbeResult,
    closed_probe,
    latency_of,
    next_rate,
    open_requests,
)
from medley.measurement.stand_in import Factors, FittedModel, curve, latencies, long_run, percentile_of
from medley.model.errors import UserError
from medley.model.workload import Size
from medley.profiles.latency import LatencyTarget, Unservable
from medley.profiles.measured import Latency, LoadPoint, highest_rate
from medley.profiles.step import StepModel

MODEL = StepModel(5.0, 0.08, 0.0002, 0.008, kv_capacity_tokens=10**9, max_batch=256)
TARGET = LatencyTarget(tpot_ms=20.0, ttft_ms=500.0, percentile=95.0)
SIZE = Size(256, 64)
UNMEASURED = Latency()


def result(probe: Probe, tpot_ms: float, ttft_ms: float = 50.0, ending: Ending = Ending.COMPLETE) -> ProbeResult:
    same = Latency(*[tpot_ms] * 5), Latency(*[ttft_ms] * 5)
    point = LoadPoint(probe.size, probe.level, *same, concurrency=3.0, requests=probe.requests)
    return ProbeResult(probe, ending, point, sent=probe.requests + 10, failed=0, seconds=1.0)


def at(rate_rps: float, tpot_ms: float, ending: Ending = Ending.COMPLETE) -> ProbeResult:
    return result(Probe(SIZE, Loop.OPEN, rate_rps, 600), tpot_ms, ending=ending)


def linear(found: ProbeResult) -> float | None:
    """The rate that a latency proportional to the rate implies."""
    ratio = found.ratio(TARGET)
    return None if math.isinf(ratio) else found.probe.level / ratio


def ask(*results: ProbeResult, expected: float = 10.0) -> float | None:
    return next_rate(results, TARGET, expected, 0.04, linear)


def test_the_first_rate_is_a_little_below_the_expected_one() -> None:
    rate = ask()
    assert rate is not None
    assert 9.7 < rate < 10.0


def test_a_keep_next_to_what_it_implies_is_enough() -> None:
    assert ask(at(10.0, 19.8)) is None


def test_a_keep_far_from_what_it_implies_is_followed_by_what_it_implies() -> None:
    assert ask(at(10.0, 16.0)) == pytest.approx(12.5)


def test_a_miss_alone_is_never_enough_as_a_profile_needs_a_rate_that_keeps_the_target() -> None:
    rate = ask(at(10.0, 20.1))
    assert rate is not None
    assert rate < 9.9


def test_a_near_miss_with_a_keep_below_is_enough() -> None:
    assert ask(at(8.0, 15.0), at(10.0, 20.1)) is None


def test_a_bracket_is_halved_when_the_nearest_result_implies_nothing_in_it() -> None:
    overloaded = at(16.0, 3.0, Ending.OVERLOADED)
    assert overloaded.ratio(TARGET) == math.inf
    assert ask(at(4.0, 1.0), overloaded) == pytest.approx(8.0)


def test_an_overload_at_first_halves_the_rate() -> None:
    assert ask(at(16.0, 3.0, Ending.OVERLOADED)) == pytest.approx(8.0)


def test_bracketing_ends_whatever_the_endpoint_does() -> None:
    results: list[ProbeResult] = []
    while (rate := ask(*results)) is not None:
        results.append(at(rate, 30.0, Ending.OVERLOADED))
    assert len(results) <= 8


def test_a_probe_has_enough_requests_beyond_the_percentile() -> None:
    assert open_requests(95.0, 1.0) * 0.05 >= 30
    assert open_requests(99.0, 1.0) * 0.01 >= 30 - 1e-9
    assert open_requests(95.0, 200.0) == 2000


def test_percentiles_are_values_that_were_seen() -> None:
    latency = latency_of([float(number) for number in range(1, 101)])
    assert (latency.p50_ms, latency.p90_ms, latency.p95_ms, latency.p99_ms) == (50.0, 90.0, 95.0, 99.0)
    assert latency_of([]) == UNMEASURED


def closed_results(sizes: tuple[Size, ...], levels: tuple[int, ...]) -> list[ProbeResult]:
    """What the model itself would show in closed loops."""
    found = []
    for size in sizes:
        for level in levels:
            others = (level - 1) * size.input_tokens / size.output_tokens
            tpot = MODEL.step_ms(
                sequences=level,
                context_tokens=level * (size.input_tokens + size.output_tokens / 2),
                prefill_tokens=others,
            )
            ttft = MODEL.base_ms + MODEL.prefill_ms(size.input_tokens) if level == 1 else 0.0
            found.append(result(closed_probe(size, level), tpot, ttft))
    return found


def test_the_fit_finds_the_constants() -> None:
    fit = fitted(closed_results((Size(64, 256), Size(64, 32), Size(1024, 256), Size(1024, 32)), (1, 32)), 256)
    assert fit is not None
    assert fit.base_ms == pytest.approx(5.0, rel=0.05)
    assert fit.prefill_ms_per_token == pytest.approx(0.008, rel=0.1)
    for size in (Size(64, 32), Size(512, 128), Size(1024, 256)):
        assert fit.mean_step_ms(size, 40) == pytest.approx(MODEL.mean_step_ms(size, 40), rel=0.05)


def test_the_fit_of_one_result_is_usable() -> None:
    fit = fitted(closed_results((SIZE,), (1,)), 256)
    assert fit is not None
    assert min(fit.base_ms, 1.0) > 0
    assert fit.mean_step_ms(SIZE, 1) == pytest.approx(MODEL.mean_step_ms(SIZE, 1), rel=0.05)
    assert fitted([], 256) is None


@pytest.mark.parametrize("step_tokens", [8192, 2048])
def test_the_fit_finds_the_tokens_of_a_step_from_ttft_in_open_loops(step_tokens: int) -> None:
    truth = FittedModel(8.0, 0.2, 0.0004, 0.03, kv_capacity_tokens=10**9, max_batch=256, step_tokens=step_tokens)
    size, alone = Size(1024, 32), [result(closed_probe(Size(1024, 32), 1), 8.6, 39.0)]
    results = [*alone, result(closed_probe(size, 8), 19.4)]
    before = fitted(results, 256)
    assert before is not None
    assert before.step_tokens == 8192
    for rate in (7.0, 9.0):
        tpot, ttft = long_run(truth, size, rate, 95.0)
        results.append(result(Probe(size, Loop.OPEN, rate, 600), tpot, ttft))
    after = fitted(results, 256)
    assert after is not None
    assert after.step_tokens == step_tokens


def test_the_stand_in_is_the_step_model_where_that_is_simple() -> None:
    tpot, ttft = latencies(MODEL, SIZE, [0.0, 100.0])
    assert tpot[1] == pytest.approx(MODEL.step_ms(sequences=1, context_tokens=256 + 32), rel=0.01)
    assert ttft[1] == pytest.approx(MODEL.base_ms + MODEL.prefill_ms(256), rel=0.01)


def test_in_the_stand_in_prompts_that_come_during_a_step_share_the_next_one() -> None:
    model = StepModel(10.0, 1.0, 0.0, 0.1, kv_capacity_tokens=10**9)
    tpot, ttft = latencies(model, Size(100, 3), [0.0, 0.005, 0.010])
    # Steps: 10 + 10 ms; 10 + 1 + 2·10 with one that decodes; 10 + 3; 10 + 2.
    assert ttft == pytest.approx([20.0, 46.0, 41.0])
    assert tpot == pytest.approx([(31.0 + 13.0) / 2, (13.0 + 12.0) / 2, (13.0 + 12.0) / 2])


def test_the_stand_in_prefills_a_long_prompt_in_chunks() -> None:
    model = StepModel(10.0, 1.0, 0.0, 0.01, kv_capacity_tokens=10**9)
    _, ttft = latencies(model, Size(10_000, 2), [0.0])
    assert ttft == pytest.approx([10.0 + 81.92 + 10.0 + 18.08])


@pytest.mark.parametrize("size", [Size(64, 32), Size(1024, 32), Size(1024, 256)], ids=str)
@pytest.mark.parametrize("model", stand_in_errors.MODELS, ids=lambda model: f"{model.prefill_ms_per_token:g}")
def test_the_stand_in_has_the_engines_percentiles(model: StepModel, size: Size) -> None:
    for share in (0.4, 0.7):
        rate = stand_in_errors.rate_at(model, size, share)
        tpot, ttft = stand_in_errors.errors(model, size, rate, requests=3000)
        assert abs(tpot) < 0.03
        assert abs(ttft) < 0.05


def test_the_stand_ins_latency_rises_with_the_rate_and_the_highest_rate_is_where_it_crosses() -> None:
    found = curve(MODEL, SIZE, 95.0)
    rate = found.highest_rate(TARGET, Factors())
    assert found.ratio(rate, TARGET, Factors()) == pytest.approx(1.0, abs=0.01)
    assert found.ratio(0.5 * rate, TARGET, Factors()) < 0.8
    assert found.highest_rate(TARGET, Factors(tpot=1.2)) < 0.95 * rate
    assert found.highest_rate(LatencyTarget(tpot_ms=1.0), Factors()) == 0.0


def test_the_chosen_arrivals_are_like_a_long_run_and_come_at_the_asked_rate() -> None:
    probe = Probe(SIZE, Loop.OPEN, curve(MODEL, SIZE, 95.0).highest_rate(TARGET, Factors()), 600)
    usual, _ = long_run(MODEL, SIZE, probe.level, 95.0)

    def tpot_of(seed: str, model: StepModel | None) -> float:
        plan = schedule(probe, TARGET, model, seed)
        tpot, _ = latencies(MODEL, SIZE, plan.at_s)
        part = tpot[plan.first_measured : plan.first_measured + plan.measured]
        times = plan.at_s[plan.first_measured : plan.first_measured + plan.measured]
        assert (len(times) - 1) / (times[-1] - times[0]) == pytest.approx(probe.level, rel=0.01)
        return percentile_of(part, 95.0)

    chosen = [abs(tpot_of(str(seed), MODEL) / usual - 1.0) for seed in range(5)]
    ordinary = [abs(tpot_of(str(seed), None) / usual - 1.0) for seed in range(5)]
    assert max(chosen) < 0.02
    assert sum(ordinary) > 3 * sum(chosen)


def test_no_arrivals_are_chosen_under_which_the_stand_in_looks_overloaded() -> None:
    probe = Probe(SIZE, Loop.OPEN, curve(MODEL, SIZE, 95.0).highest_rate(TARGET, Factors()), 600)

    def looks_overloaded(seed: str, model: StepModel | None) -> bool:
        plan = schedule(probe, TARGET, model, seed)
        seen = zip(*latencies(MODEL, SIZE, plan.at_s), strict=True)
        lives = [ttft + tpot * SIZE.output_tokens for tpot, ttft in seen]
        return ever_grows(lives[plan.first_measured : plan.first_measured + plan.measured])

    assert any(looks_overloaded(str(seed), None) for seed in range(50))
    assert not any(looks_overloaded(str(seed), MODEL) for seed in range(10))


def test_a_queue_that_grows_at_one_look_only_has_grown() -> None:
    lives = [10.0] * 50 + [12.0] * 50 + [14.0] * 50 + [17.0] * 50
    assert grows(lives)
    assert not grows(lives + [10.0] * 50)
    assert ever_grows(lives + [10.0] * 50)
    assert not ever_grows(lives, 2.0)


def test_the_same_seed_gives_the_same_arrivals() -> None:
    probe = Probe(SIZE, Loop.OPEN, 20.0, 600)
    assert schedule(probe, TARGET, MODEL, "1") == schedule(probe, TARGET, MODEL, "1")
    assert schedule(probe, TARGET, MODEL, "1") != schedule(probe, TARGET, MODEL, "2")


PLAN = Plan((64, 256, 1024), (32, 256), TARGET, max_concurrency=256)


def test_the_centre_and_the_corners_come_first_and_closed_loops_before_open_ones() -> None:
    assert PLAN.seeds == (Size(256, 256), Size(64, 256), Size(64, 32), Size(1024, 256), Size(1024, 32))
    probe = next_probe(PLAN, [])
    assert probe == closed_probe(Size(256, 256), 1)


def test_a_size_that_is_too_slow_alone_is_known_by_that() -> None:
    plan = Plan((256,), (64,), LatencyTarget(tpot_ms=3.0), max_concurrency=64)
    found = [result(closed_probe(SIZE, 1), 5.0)]
    assert next_probe(plan, found) is None
    measured = measured_of(plan, found)
    assert measured.max_throughput(SIZE, plan.target).rate_rps == 0.0
    assert highest_rate(measured.points, plan.target).reason is Unservable.LATENCY_AT_LOWEST_RATE


def test_a_grid_of_one_size_is_a_grid() -> None:
    assert Plan((256,), (64,), TARGET).seeds == (SIZE,)


def test_an_overloaded_probe_gives_no_load_point() -> None:
    plan = Plan((256,), (64,), TARGET)
    assert measured_of(plan, [at(10.0, 5.0, Ending.OVERLOADED)]).points == ()


def perfect(plan: Plan) -> list[ProbeResult]:
    """Runs the decisions on a replica that is exactly the stand-in."""
    results: list[ProbeResult] = []
    while (probe := next_probe(plan, results)) is not None:
        if probe.loop is Loop.CLOSED:
            (found,) = closed_results((probe.size,), (int(probe.level),))
            results.append(result(probe, found.point.tpot.mean_ms or 0.0, found.point.ttft.mean_ms or 0.0))  # type: ignore[union-attr]
        else:
            tpot, ttft = long_run(MODEL, probe.size, probe.level, 95.0)
            results.append(result(probe, tpot, ttft))
    return results


def test_what_interpolation_tells_well_enough_is_not_measured() -> None:
    plan = Plan((256, 320, 400), (64, 80, 100), TARGET, max_concurrency=256)
    results = perfect(plan)
    measured = {found.probe.size for found in results if found.probe.loop is Loop.OPEN}
    assert len(measured) < len(plan.sizes)
    answers = measured_of(plan, results)
    for size in plan.sizes:
        truth = curve(MODEL, size, 95.0).highest_rate(TARGET, Factors())
        assert answers.max_throughput(size, TARGET).rate_rps == pytest.approx(truth, rel=0.05)


def test_every_size_is_measured_when_asked() -> None:
    plan = Plan((256, 400), (64, 100), TARGET, max_concurrency=256, measure_all=True)
    assert {found.probe.size for found in perfect(plan) if found.probe.loop is Loop.OPEN} == set(plan.sizes)


ABOUT = {"model": "m", "url": "http://a", "slo": "tpot=20ms"}


def test_the_journal_gives_back_what_was_put_in(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    results = [at(10.0, 19.0), ProbeResult(closed_probe(SIZE, 4), Ending.TIME_LIMIT, None, 5, 1, 2.0, 3.0, 7)]
    journal = Journal(path, ABOUT)
    for each in results:
        journal.add(each)
    assert Journal(path, ABOUT).results == results
    assert model_of(path) == "m"


def test_a_line_that_was_cut_off_is_dropped_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    Journal(path, ABOUT).add(at(10.0, 19.0))
    with path.open("a") as file:
        file.write('{"probe": {"si')
    journal = Journal(path, ABOUT)
    assert len(journal.results) == 1
    journal.add(at(11.0, 21.0))
    assert [found.probe.level for found in Journal(path, ABOUT).results] == [10.0, 11.0]


def test_a_journal_of_something_else_is_refused_with_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    Journal(path, ABOUT).add(at(10.0, 19.0))
    before = path.read_text()
    with pytest.raises(UserError, match=r"url is 'http://a' there and 'http://b' now"):
        Journal(path, {**ABOUT, "url": "http://b"})
    assert path.read_text() == before


@pytest.mark.parametrize("text", ["hello\n", '{"a": 1}\n', '{"medleyJournal": 1}\n{"probe": 3}\n', "[]\n"])
def test_another_file_is_no_journal_and_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(UserError, match="is no journal"):
        Journal(path, ABOUT)
    assert path.read_text() == text


def test_a_file_without_a_whole_line_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("secret without a line end")
    with pytest.raises(UserError, match="is no journal"):
        Journal(path, ABOUT)
    assert path.read_text() == "secret without a line end"


def test_a_journal_is_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    Journal(path, ABOUT).add(at(10.0, 19.0))
    header, line = map(json.loads, path.read_text().splitlines())
    assert header["medleyJournal"] == 1
    assert line["probe"]["loop"] == "Open"
