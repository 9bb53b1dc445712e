from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medley.model.objects import ServiceKey
from medley.model.samples import HistogramRate, ReadyReplica, ReplicaSample, ServiceSamples
from medley.model.workload import Bucket, Knowledge, Size, Workload
from medley.workload.estimate import BACKLOG_DRAIN_S, estimate
from medley.workload.histogram import marginal

KEY = ServiceKey("default", "chat")
PROMPT = HistogramRate((100.0, 200.0, 500.0, math.inf), (0.5, 1.0, 0.5, 0.0), 2.0 * 180)
OUTPUT = HistogramRate((50.0, 100.0, math.inf), (1.0, 1.0, 0.0), 2.0 * 55)


def sample(name: str, **changes: object) -> ReplicaSample:
    whole = ReplicaSample(
        name, "l4", age_s=1.0, prompt=PROMPT, generation=OUTPUT, started_rps=2.0, running=3.0, waiting=0.0,
        waiting_growth_rps=0.0,
    )  # fmt: skip
    return replace(whole, **changes)  # type: ignore[arg-type]


def ready(*names: str) -> list[ReadyReplica]:
    return [ReadyReplica(name) for name in names]


def of(*samples: ReplicaSample, fault: str = "") -> ServiceSamples:
    return ServiceSamples(KEY, 60.0, samples, fault=fault)


def test_known_demand_adds_up_to_the_rate_and_keeps_the_means() -> None:
    workload = estimate(of(sample("a"), sample("b")), ready("a", "b"), max_tokens=4096)
    assert workload.knowledge is Knowledge.VALUE
    assert workload.rate_rps == pytest.approx(4.0)
    mean_input = sum(b.size.input_tokens * b.rate_rps for b in workload.buckets) / workload.rate_rps
    mean_output = sum(b.size.output_tokens * b.rate_rps for b in workload.buckets) / workload.rate_rps
    assert mean_input == pytest.approx(180, rel=1e-3)
    assert mean_output == pytest.approx(55, rel=1e-3)


UNKNOWN = {
    "no source": (None, ["a"]),
    "source failed": (of(fault="Prometheus does not answer"), ["a"]),
    "no replica": (of(), []),
    "no sample": (of(), ["a"]),
    "stale": (of(sample("a", age_s=600.0)), ["a"]),
    "NaN rate": (of(sample("a", started_rps=math.nan)), ["a"]),
    "NaN in a histogram": (of(sample("a", prompt=replace(PROMPT, rates_rps=(0.5, math.nan, 0.5, 0.0)))), ["a"]),
    "infinite sum": (of(sample("a", generation=replace(OUTPUT, tokens_per_s=math.inf))), ["a"]),
    "negative rate": (of(sample("a", started_rps=-1.0)), ["a"]),
    "gauges gone": (of(sample("a", running=None)), ["a"]),
    "of another replica": (of(sample("z")), ["a"]),
}


@pytest.mark.parametrize("case", list(UNKNOWN))
def test_unknown_is_not_zero_and_says_why(case: str) -> None:
    samples, names = UNKNOWN[case]
    workload = estimate(samples, ready(*names), max_tokens=4096)
    assert workload.knowledge is Knowledge.UNKNOWN
    assert workload.reason
    assert not workload.buckets


def test_zero_is_confirmed_only_by_all_replicas() -> None:
    idle = sample("a", started_rps=0.0, running=0.0, prompt=replace(PROMPT, rates_rps=(0.0,) * 4, tokens_per_s=0.0),
                  generation=replace(OUTPUT, rates_rps=(0.0,) * 3, tokens_per_s=0.0))  # fmt: skip
    assert estimate(of(idle), ready("a"), max_tokens=4096).knowledge is Knowledge.ZERO
    assert estimate(of(idle), ready("a", "b"), max_tokens=4096).knowledge is Knowledge.UNKNOWN


def test_a_missing_replica_counts_as_busy_as_the_busiest() -> None:
    workload = estimate(of(sample("a"), sample("b", started_rps=5.0)), ready("a", "b", "c"), max_tokens=4096)
    assert workload.rate_rps == pytest.approx(2.0 + 5.0 + 5.0)
    assert workload.coverage == pytest.approx(2 / 3)
    assert "2 of 3" in workload.reason


def test_a_new_replica_takes_from_others_and_does_not_add() -> None:
    seen = of(sample("a"), sample("b", started_rps=5.0))
    new = estimate(seen, [*ready("a", "b"), ReadyReplica("c", ready_for_s=5.0)], max_tokens=4096)
    assert new.rate_rps == pytest.approx(2.0 + 5.0)
    assert new.coverage == pytest.approx(2 / 3)
    old = estimate(seen, [*ready("a", "b"), ReadyReplica("c", ready_for_s=500.0)], max_tokens=4096)
    assert old.rate_rps == pytest.approx(2.0 + 5.0 + 5.0)


def test_a_missing_replica_is_compared_with_its_own_variant() -> None:
    seen = of(sample("a"), sample("b", started_rps=50.0))
    mixed = [ReadyReplica("a", "l4"), ReadyReplica("b", "h100"), ReadyReplica("c", "l4")]
    assert estimate(seen, mixed, max_tokens=4096).rate_rps == pytest.approx(2.0 + 50.0 + 2.0)


def test_a_queue_adds_what_it_gains_and_its_backlog_and_a_shrinking_one_takes_nothing() -> None:
    growing = estimate(of(sample("a", waiting=60.0, waiting_growth_rps=3.0)), ready("a"), max_tokens=4096)
    assert growing.rate_rps == pytest.approx(2.0 + 3.0 + 60.0 / BACKLOG_DRAIN_S)
    shrinking = estimate(of(sample("a", waiting_growth_rps=-3.0)), ready("a"), max_tokens=4096)
    assert shrinking.rate_rps == pytest.approx(2.0)


def test_requests_that_have_not_finished_count_as_long_ones() -> None:
    late = estimate(of(sample("a", started_rps=20.0)), ready("a"), max_tokens=4096)
    steady = estimate(of(sample("a")), ready("a"), max_tokens=4096)

    def mean_output(workload: Workload) -> float:
        return sum(b.size.output_tokens * b.rate_rps for b in workload.buckets) / workload.rate_rps

    assert mean_output(late) > mean_output(steady)


def test_before_anything_has_finished_the_last_known_sizes_serve() -> None:
    empty = sample("a", prompt=replace(PROMPT, rates_rps=(0.0,) * 4), generation=replace(OUTPUT, rates_rps=(0.0,) * 3))
    assert estimate(of(empty), ready("a"), max_tokens=4096).knowledge is Knowledge.UNKNOWN
    past = Workload(Knowledge.VALUE, (Bucket(Size(100, 50), 1.0),))
    workload = estimate(of(empty), ready("a"), max_tokens=4096, past=past)
    assert workload.knowledge is Knowledge.VALUE
    assert workload.rate_rps == pytest.approx(2.0)
    assert workload.buckets[0].size == Size(100, 50)


rates = st.lists(st.floats(0, 100), min_size=4, max_size=4)


@given(rates, st.floats(1.0, 3000.0))
def test_a_marginal_keeps_every_cells_weight_and_stays_inside_its_cells(cells: list[float], mean: float) -> None:
    total = sum(cells)
    found = marginal(HistogramRate((10.0, 100.0, 1000.0, math.inf), tuple(cells), total * mean), 4000)
    if total <= 0:
        assert found is None
        return
    assert found is not None
    assert sum(found.weights) == pytest.approx(1.0)
    present = [rate for rate in cells if rate > 0]
    assert [w * total for w in found.weights] == pytest.approx(present)
    assert all(m <= edge * (1 + 1e-9) for m, edge in zip(found.means, found.edges, strict=True))


@given(st.floats(12.0, 900.0))
def test_a_reachable_mean_is_met(mean: float) -> None:
    found = marginal(HistogramRate((10.0, 1000.0), (0.0, 3.0), 3.0 * mean), 4000)
    assert found is not None
    assert found.mean == pytest.approx(mean, rel=1e-3)


def test_requests_that_only_finish_still_count_and_a_past_of_nothing_does_no_harm() -> None:
    ending = sample("a", started_rps=0.0)
    assert estimate(of(ending), ready("a"), max_tokens=4096).rate_rps == pytest.approx(2.0)
    empty = sample("a", started_rps=0.0, prompt=replace(PROMPT, rates_rps=(0.0,) * 4),
                   generation=replace(OUTPUT, rates_rps=(0.0,) * 3))  # fmt: skip
    nothing = Workload(Knowledge.VALUE, (Bucket(Size(100, 50), 0.0),))
    assert estimate(of(empty), ready("a"), max_tokens=4096, past=nothing).knowledge is Knowledge.UNKNOWN
