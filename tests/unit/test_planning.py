from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from medley.allocation.bill import Bill
from medley.allocation.check import limits_broken
from medley.allocation.joint import allocate_all
from medley.allocation.problem import Barrier, Outcome, Problem, Supply, Variant
from medley.allocation.routing import steer
from medley.allocation.solve import allocate
from medley.controller.memory import Memory
from medley.cycle.decision import Decision, ServiceDecision
from medley.model.objects import CapacityType, Mode, Offering, Pool, RoutingMode, Scaling, ServiceKey
from medley.model.workload import Bucket, Knowledge, Size, Workload
from medley.planning.demand import MAX_DEMAND_FACTOR, demand_factor
from medley.planning.stabilisation import PastPlan, kept, seen_long_enough
from medley.planning.steps import VariantState, next_step
from medley.profiles.latency import Throughput

OD = CapacityType.ON_DEMAND
KEY = ServiceKey("ns", "s")


def problem(limit: int | None = None, budget: float | None = None) -> Problem:
    buckets = (Bucket(Size(100, 100), 1.0),)
    return Problem(
        "ns/s", buckets, (), 1.0,
        tuple(Variant(n, "p", n, OD, 1, 1, 1.0, (Throughput(1.0),)) for n in ("a", "b")),
        (Supply("p", 1, ((OD, 1.0),), limit),), RoutingMode.SERVICE, 0, budget,
    )  # fmt: skip


def states(**counts: tuple[int, int]) -> dict[str, VariantState]:
    return {name: VariantState(name, desired, ready, desired) for name, (desired, ready) in counts.items()}


def test_nothing_shrinks_before_what_replaces_it_is_ready() -> None:
    step = next_step(problem(), {"a": 0, "b": 2}, states(a=(3, 3), b=(0, 0)))
    assert dict(step.replicas) == {"a": 3, "b": 2}
    assert "shrinks once b is Ready" in step.waiting_for
    step = next_step(problem(), {"a": 0, "b": 2}, states(a=(3, 3), b=(2, 1)))
    assert dict(step.replicas) == {"a": 3, "b": 2}
    step = next_step(problem(), {"a": 0, "b": 2}, states(a=(3, 3), b=(2, 2)))
    assert dict(step.replicas) == {"a": 0, "b": 2}
    assert not step.waiting_for


def test_without_room_for_both_the_limit_is_kept() -> None:
    for tight in (problem(limit=3), problem(budget=3.0)):
        step = next_step(tight, {"a": 1, "b": 2}, states(a=(3, 3), b=(0, 0)))
        assert dict(step.replicas) == {"a": 1, "b": 0}
        assert "no room" in step.waiting_for


def test_what_drains_still_counts_against_the_budget() -> None:
    draining = {"a": VariantState("a", 0, 0, 2), "b": VariantState("b", 0, 0, 0)}
    step = next_step(problem(budget=3.0), {"a": 0, "b": 2}, draining)
    assert dict(step.replicas) == {"a": 0, "b": 0}
    assert "b grows" in step.waiting_for
    gone = {"a": VariantState("a", 0, 0, 0), "b": VariantState("b", 0, 0, 0)}
    assert dict(next_step(problem(budget=3.0), {"a": 0, "b": 2}, gone).replicas) == {"a": 0, "b": 2}


def test_what_drains_is_not_asked_for_again() -> None:
    # Seen in the demo: 2 wanted, 4 draining, and 4 more were asked for in each cycle until 18 ran.
    asked = 12
    for _ in range(5):
        current = {"a": VariantState("a", asked, 0, asked + 4), "b": VariantState("b", 2, 2, 2)}
        asked = dict(next_step(problem(), {"a": 1, "b": 3}, current).replicas)["a"]
    assert asked == 1


def test_what_does_not_serve_yet_is_let_go_when_the_target_changes() -> None:
    # Each cycle's target differs; kept until Ready, they would add up to 9 replicas where 3 are wanted.
    current = states(a=(2, 2), b=(0, 0))
    for target in ({"a": 0, "b": 3}, {"a": 3, "b": 0}, {"a": 0, "b": 3}):
        step = dict(next_step(problem(), target, current).replicas)
        current = states(a=(step["a"], min(2, step["a"])), b=(step["b"], 0))
        assert step["a"] >= 2, "what is Ready stays"
        assert step["a"] + step["b"] <= 5


counts = st.fixed_dictionaries({"a": st.integers(0, 5), "b": st.integers(0, 5)})


@given(counts, counts, st.integers(0, 5), st.integers(0, 5))
def test_a_step_never_goes_beyond_both_ends_and_repeated_it_arrives(
    target: dict[str, int], now: dict[str, int], ready_a: int, ready_b: int
) -> None:
    current = states(a=(now["a"], min(ready_a, now["a"])), b=(now["b"], min(ready_b, now["b"])))
    for _ in range(6):
        step = dict(next_step(problem(), target, current).replicas)
        for name in ("a", "b"):
            low, high = sorted((target[name], current[name].desired))
            assert low <= step[name] <= high
        current = states(a=(step["a"], step["a"]), b=(step["b"], step["b"]))
    assert {name: state.desired for name, state in current.items()} == target


def remembered(workload: Workload, **wanted: int) -> Decision:
    service = ServiceDecision(
        KEY, Mode.AUTO, True, workload, 1.0, RoutingMode.SERVICE, (), (), None, None, (), wanted=tuple(wanted.items())
    )  # fmt: skip
    return Decision((service,), (), 0.0)


def known(rate: float) -> Workload:
    return Workload(Knowledge.VALUE, (Bucket(Size(100, 100), rate),))


def test_what_a_plan_needed_stays_for_the_window_and_no_longer() -> None:
    memory = Memory(keep_s=300.0)
    for at_s, count in ((0.0, 9), (50.0, 5)):
        memory.remember(remembered(known(1.0), a=count), at_s)

    def stays(now_s: float, running: int = 9) -> int:
        return kept(memory.past(KEY), {"a": running}, {"a": 1.0}, now_s, 100.0)["a"]

    assert stays(100.0) == 9
    assert stays(101.0) == 5
    assert stays(151.0) == 0
    assert stays(100.0, running=3) == 3, "what does not run is not started for calm"


def test_what_stays_is_of_one_plan_not_of_all_together() -> None:
    past = [PastPlan(t, wanted) for t, wanted in ((1, (("a", 4),)), (2, (("b", 3),)), (3, (("a", 1), ("b", 1))))]
    running = {"a": 4, "b": 3, "c": 2}
    assert kept(past, running, {"a": 1.0, "b": 1.0, "c": 1.0}, 10.0, 60.0) == {"a": 4, "b": 0, "c": 0}
    assert kept(past, running, {"a": 1.0, "b": 2.0, "c": 1.0}, 10.0, 60.0) == {"a": 0, "b": 3, "c": 0}
    assert kept(past, running, {"a": 1.0, "c": 1.0}, 10.0, 60.0) == {"a": 4, "b": 0, "c": 0}, "b is not listed any more"
    # Of what it asked for, a plan keeps what runs: the one for 3 b has come to less by now than the one for both.
    assert kept(past, {"a": 1, "b": 1}, {"a": 1.0, "b": 2.0}, 10.0, 60.0) == {"a": 1, "b": 1}


@given(
    st.lists(st.tuples(st.floats(0.0, 100.0), counts), max_size=6), counts, st.floats(0.1, 5.0), st.floats(0.0, 100.0)
)
def test_what_stays_runs_and_was_wanted_by_one_plan_of_the_window(
    plans: list[tuple[float, dict[str, int]]], running: dict[str, int], price: float, window_s: float
) -> None:
    past = [PastPlan(at_s, tuple(wanted.items())) for at_s, wanted in plans]
    prices = {"a": 1.0, "b": price}
    stay = kept(past, running, prices, 100.0, window_s)
    recent = [wanted for at_s, wanted in plans if 100.0 - at_s <= window_s]
    options = [{name: min(count, wanted[name]) for name, count in running.items()} for wanted in recent]
    assert stay in [*options, {"a": 0, "b": 0}]
    worth = [sum(prices[name] * count for name, count in option.items()) for option in options]
    assert sum(prices[name] * count for name, count in stay.items()) == max(worth, default=0.0)


def test_only_known_demand_is_remembered_and_a_service_that_is_gone_is_not() -> None:
    memory = Memory(keep_s=100.0)
    memory.remember(remembered(Workload(Knowledge.UNKNOWN), a=5), 0.0)
    assert memory.past(KEY) == ()
    assert memory.last_known(KEY) is None
    memory.remember(remembered(Workload(Knowledge.ZERO), a=1), 1.0)
    memory.remember(remembered(known(2.0), a=3), 50.0)
    assert memory.past(KEY) == (PastPlan(1.0, (("a", 1),)), PastPlan(50.0, (("a", 3),)))
    assert memory.last_known(KEY) == known(2.0)
    memory.remember(remembered(known(3.0), a=4), 120.0)
    assert [plan.at_s for plan in memory.past(KEY)] == [50.0, 120.0]
    memory.remember(Decision((), (), 0.0), 121.0)
    assert memory.past(KEY) == ()


def test_what_has_not_been_seen_for_a_whole_window_is_not_enough_to_shrink() -> None:
    def seen(*times: float) -> bool:
        return seen_long_enough([PastPlan(t) for t in times], 100.0, 60.0)

    assert not seen()
    assert not seen(95.0)
    assert not seen(60.0, 80.0, 99.0)
    assert seen(35.0, 60.0, 80.0, 99.0)
    assert not seen(35.0, 38.0, 99.0), "a hole of a minute"
    assert seen(5.0, 38.0, 71.0), "cycles that take long"
    assert not seen(38.0), "one look is no rhythm"
    assert not seen(20.0, 60.0, 62.0), "a hole of 40 s"


def test_the_demand_factor_takes_the_larger_of_headroom_and_uncertainty_capped() -> None:
    def factor(headroom: float, uncertainty: float) -> float:
        return demand_factor(Scaling(headroom=headroom), Workload(Knowledge.VALUE, uncertainty=uncertainty))

    assert factor(0.1, 0.0) == 1.1
    assert factor(0.1, 0.3) == 1.3
    assert factor(0.1, 50.0) == MAX_DEMAND_FACTOR


def test_without_room_for_both_the_floor_is_kept_before_the_target() -> None:
    tight = replace(problem(budget=1.5), min_replicas=1)
    step = next_step(tight, {"a": 0, "b": 1}, states(a=(1, 1), b=(0, 0)))
    assert dict(step.replicas) == {"a": 1, "b": 0}
    assert "minReplicas forbids" in step.waiting_for


def test_a_trickle_goes_only_to_a_variant_that_has_a_replica() -> None:
    for trickle in (5e-7, 5e-6, 5e-4):
        buckets = (Bucket(Size(100, 100), 2.0, 0), Bucket(Size(500, 100), trickle, 1))
        variants = tuple(replace(v, throughput=(Throughput(1.0),) * 2) for v in problem().variants)
        both = replace(
            problem(), buckets=buckets, input_edges=(100.0,), routing=RoutingMode.INPUT_RANGE, variants=variants
        )
        result = allocate(both)
        assert result.outcome is Outcome.OPTIMAL
        for name, row in result.shares:
            assert result.count(name) > 0 or not any(row)


def test_a_variant_without_nodes_does_not_stop_the_rest() -> None:
    buckets = (Bucket(Size(100, 100), 5.0, 0), Bucket(Size(500, 100), 0.01, 1))
    variants = (
        Variant("a", "p", "a", OD, 1, 1, 1.0, (Throughput(1.0), Throughput(0.0))),
        Variant("b", "q", "b", OD, 1, 1, 1.0, (Throughput(9.0), Throughput(9.0))),
    )
    supplies = (Supply("p", 1, ((OD, 1.0),)), Supply("q", 1, ((OD, 5.0),), nodes_left=0))
    for mode in RoutingMode:
        result = allocate(replace(problem(), buckets=buckets, input_edges=(100.0,), variants=variants,
                                  supplies=supplies, routing=mode))  # fmt: skip
        assert dict(result.replicas) == {"a": 5, "b": 0}
        assert [item.bucket for item in result.unserved] == [buckets[1]]


def test_what_must_stay_is_set_aside_before_anybody_is_solved() -> None:
    pool = Pool("p", "g", 1, (Offering(OD, 1.0),), 10)
    hungry = Problem(
        "ns/a", (Bucket(Size(100, 100), 10.0),), (), 1.0,
        (Variant("p", "p", "g", OD, 1, 1, 1.0, (Throughput(1.0),)),), (Supply("p", 1, ((OD, 1.0),), 10),),
        RoutingMode.SERVICE,
    )  # fmt: skip
    held = replace(
        hungry, service="ns/b", buckets=(),
        variants=(replace(hungry.variants[0], at_least=5, running=5, throughput=()),),
    )  # fmt: skip
    joint = allocate_all([hungry, held], [pool])
    assert sum(count for _, _, count in joint.nodes) <= 10
    assert dict(joint.allocations)["ns/b"].count("p") == 5


def test_spot_that_is_ruled_out_is_no_plan_and_goes_only_once_its_replacement_is_ready() -> None:
    banned = problem()
    spot, other = banned.variants
    banned = replace(
        banned, variants=(replace(spot, capacity_type=CapacityType.SPOT), other), max_spot_fraction=0.0,
        supplies=(replace(banned.supplies[0], prices=((OD, 1.0), (CapacityType.SPOT, 0.5))),),
    )  # fmt: skip
    assert limits_broken(banned, {"a": 1}) == ["a: 1 replicas, at most 0 (scaling.maxSpotPercent 0)"]
    assert Bill(banned).judged((1, 0)) is None
    kept = replace(banned, variants=(replace(banned.variants[0], at_least=2), other))
    assert not limits_broken(kept, {"a": 2})
    step = next_step(banned, {"a": 0, "b": 2}, states(a=(3, 3), b=(0, 0)))
    assert dict(step.replicas) == {"a": 3, "b": 2}


def test_what_leaves_no_room_for_a_variant_is_named() -> None:
    base = problem()
    supply = replace(base.supplies[0], gpus_per_node=2, nodes_left=1, spare_gpus=((OD, 1),))
    wide = replace(base.variants[0], gpus=5, max_replicas=0)
    narrow = replace(base, variants=(wide,), supplies=(supply,))
    assert narrow.barriers(wide) == (Barrier("a maxReplicas", 1, "replica"), Barrier("pool p limits.nodes", 1, "node"))
    assert not narrow.barriers(replace(wide, gpus=3, max_replicas=1))
    assert not narrow.barriers(replace(wide, at_least=1))
    [unserved] = steer(narrow).unserved
    assert "a maxReplicas and pool p limits.nodes" in unserved.reason
