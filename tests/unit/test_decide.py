"""The cycle on snapshots made by hand: what is decided when data are whole, missing, or wrong."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medley.allocation.problem import Outcome
from medley.api.convert import Resources, parse
from medley.cycle.decide import decide
from medley.cycle.decision import Claim, ServiceDecision, Truth
from medley.cycle.snapshot import ServiceState, Settings, Snapshot
from medley.model.objects import Mode, RoutingMode, Slo, StaticPoint, VariantSpec
from medley.model.samples import HistogramRate, ServiceSamples
from medley.model.workload import Size
from medley.planning.stabilisation import PastPlan
from medley.planning.steps import VariantState
from medley.profiles.grid import Grid
from plans import pool, profile, service
from snapshots import NOW, WINDOW, snapshot, whole


def only(snap: Snapshot) -> ServiceDecision:
    (decision,) = decide(snap).services
    return decision


def desired(decision: ServiceDecision) -> dict[str, int]:
    return {variant.name: variant.desired for variant in decision.variants if variant.desired}


def test_the_same_snapshot_gives_the_same_decision(chat: Resources) -> None:
    snap = snapshot(chat, running={"l4": 2}, samples=whole(chat, {"l4": 2}, 6.0), past_rps=6.0)
    first, second = only(snap), only(snap)
    assert desired(first) == desired(second)
    assert first.shares == second.shares


def test_with_complete_data_it_shrinks(chat: Resources) -> None:
    running = {"l40s": 6}
    decision = only(snapshot(chat, running=running, samples=whole(chat, running, 0.5), past_rps=0.5))
    assert not decision.held
    assert sum(v.planned for v in decision.variants) == 2


FAULTS = {
    "no samples": None,
    "Prometheus down": "down",
    "one replica missing": "missing",
    "one replica NaN": "nan",
    "operator just started": "fresh",
}


@pytest.mark.parametrize("case", list(FAULTS))
@given(counts=st.dictionaries(st.sampled_from(["l4", "a10g", "l40s", "h100"]), st.integers(1, 4), min_size=1),
       rate=st.floats(0.0, 20.0))  # fmt: skip
@settings(max_examples=15, deadline=None)
def test_missing_data_never_scales_down(chat: Resources, case: str, counts: dict[str, int], rate: float) -> None:
    samples: ServiceSamples | None = whole(chat, counts, rate)
    assert samples is not None
    past: float | None = rate
    if case == "no samples":
        samples = None
    elif case == "Prometheus down":
        samples = replace(samples, replicas=(), fault="Prometheus does not answer")
    elif case == "one replica missing":
        samples = replace(samples, replicas=samples.replicas[1:])
    elif case == "one replica NaN":
        broken = replace(samples.replicas[0], started_rps=math.nan)
        samples = replace(samples, replicas=(broken, *samples.replicas[1:]))
    else:
        past = None
    decision = only(snapshot(chat, running=counts, samples=samples, past_rps=past))
    assert decision.held
    got = desired(decision)
    assert all(got.get(name, 0) >= count for name, count in counts.items())
    for found in decide(snapshot(chat, running=counts, samples=samples, past_rps=past)).pools:
        assert found.nodes >= counts.get(found.pool, 0)


def test_unknown_demand_raises_to_the_floor(chat: Resources) -> None:
    decision = only(snapshot(chat, running={}, samples=None))
    assert sum(desired(decision).values()) == 2
    known = decision.finding("WorkloadKnown")
    assert known is not None
    assert known.status is Truth.FALSE


def test_planned_for_service_until_a_router_acknowledges(chat: Resources) -> None:
    running = {"l40s": 2}
    samples = whole(chat, running, 5.0)
    assert only(snapshot(chat, running=running, samples=samples, past_rps=5.0)).routing is RoutingMode.SERVICE
    steered = only(snapshot(chat, running=running, samples=samples, past_rps=5.0, acknowledged=RoutingMode.INPUT_RANGE))
    assert steered.routing is RoutingMode.INPUT_RANGE
    for column in zip(*(row for _, row in steered.shares), strict=True):
        assert sum(column) == pytest.approx(1.0)
    assert all(len(row) == len(steered.input_edges) + 1 for _, row in steered.shares)


def test_observe_reports_a_plan_and_asks_for_what_runs(chat: Resources) -> None:
    running = {"l40s": 6}
    decision = only(snapshot(chat, running=running, samples=whole(chat, running, 0.5), past_rps=0.5, mode=Mode.OBSERVE))
    assert not decision.act
    assert desired(decision) == running
    assert sum(v.planned for v in decision.variants) == 2


def test_one_wrong_service_does_not_stop_another(chat: Resources) -> None:
    snap = snapshot(chat, running={"l4": 2}, samples=whole(chat, {"l4": 2}, 0.5), past_rps=0.5)
    wrong = replace(
        snap.services[0], key=replace(snap.services[0].key, name="aaa"), variants=(VariantSpec("nowhere"),),
        static_points=(StaticPoint(Size(100, 100), 1.0),), slo=Slo(120.0),
    )  # fmt: skip
    decision = decide(replace(snap, services=(wrong, *snap.services)))
    bad, good = decision.services
    ready = bad.finding("Ready")
    assert ready is not None
    assert "spec.variants[0].pool" in ready.message
    assert not bad.act
    assert good.allocation is not None


def test_draining_pods_keep_their_nodes(chat: Resources) -> None:
    running = {"l40s": 2}
    snap = snapshot(chat, running=running, samples=whole(chat, running, 0.5), past_rps=0.5)
    state = replace(snap.states[0], variants=(VariantState("l40s", 2, 2, 5, "l40s"),))
    nodes = {pool.pool: pool.nodes for pool in decide(replace(snap, states=(state,))).pools}
    assert nodes["l40s"] == 5


def test_a_variant_that_is_no_longer_listed_is_told_to_go_and_keeps_its_nodes_until_it_has(chat: Resources) -> None:
    running = {"l4": 2, "a10g": 2}
    listed = tuple(variant for variant in chat.services[0].variants if variant.pool != "a10g")
    snap = snapshot(chat, running=running, samples=whole(chat, running, 1.0), past_rps=1.0)
    snap = replace(snap, services=(replace(snap.services[0], variants=listed),))
    (left,) = [variant for variant in only(snap).variants if variant.name == "a10g"]
    assert (left.desired, left.spec) == (0, None)
    stays = VariantState("l4", 2, 2, 2, "l4")
    drains = replace(snap.states[0], variants=(stays, VariantState("a10g", 0, 0, 2, "a10g")))
    decision = decide(replace(snap, states=(drains,)))
    assert {pool.pool: pool.nodes for pool in decision.pools}["a10g"] == 2
    gone = replace(drains, variants=(stays, VariantState("a10g", 0, 0, 0, "a10g")))
    assert "a10g" not in {variant.name for variant in only(replace(snap, states=(gone,))).variants}


def test_nan_in_a_histogram_is_named_in_the_condition(chat: Resources) -> None:
    running = {"l40s": 1}
    samples = whole(chat, running, 1.0)
    broken = replace(samples.replicas[0], prompt=HistogramRate((500.0, math.inf), (math.nan, 0.0), 1.0))
    decision = only(snapshot(chat, running=running, samples=replace(samples, replicas=(broken,)), past_rps=1.0))
    known = decision.finding("WorkloadKnown")
    assert known is not None
    assert known.status is Truth.FALSE
    assert "vllm:request_prompt_tokens is not a finite number" in known.message
    assert "check what exports it" in known.message


def test_pods_of_a_service_that_cannot_be_read_keep_their_nodes(chat: Resources) -> None:
    snap = snapshot(chat, running={"l4": 2}, samples=whole(chat, {"l4": 2}, 0.5), past_rps=0.5)
    gone = ServiceState(
        replace(chat.services[0].key, name="gone"),
        (
            VariantState("h100", 2, 2, 2, "h100"),
            VariantState("l4", 5, 5, 5, "l4"),
        ),
    )
    nodes = {pool.pool: pool.nodes for pool in decide(replace(snap, states=(*snap.states, gone))).pools}
    assert nodes["h100"] == 2
    assert nodes["l4"] >= 7


def test_replicas_of_an_unknown_pool_keep_all_nodes_and_hinder_no_growth(chat: Resources) -> None:
    snap = snapshot(chat, running={"l4": 2}, samples=whole(chat, {"l4": 2}, 0.5), past_rps=0.5)
    claims = {pool.pool: pool.claim for pool in decide(snap).pools}
    assert claims["l4"] is Claim.ACTING
    stray = ServiceState(replace(chat.services[0].key, name="gone"), (VariantState("old", 1, 1, 1, "no-such-pool"),))
    decision = decide(replace(snap, states=(*snap.states, stray)))
    nodes = {pool.pool: (pool.nodes, pool.claim) for pool in decision.pools}
    assert nodes["l4"] == (2, Claim.GROWING)
    assert Claim.ACTING not in {claim for _, claim in nodes.values()}


def test_a_confirmed_zero_is_followed_only_after_the_window(chat: Resources) -> None:
    running = {"l40s": 6}
    busy = only(snapshot(chat, running=running, samples=whole(chat, running, 25.0), past_rps=25.0))
    assert dict(busy.wanted)["l40s"] > 2
    snap = snapshot(chat, running=running, samples=whole(chat, running, 0.0), past_rps=0.0)

    def idle_for(seconds: float) -> ServiceDecision:
        past = (*snap.states[0].past, PastPlan(NOW - seconds, busy.wanted))
        return only(replace(snap, states=(replace(snap.states[0], past=past),)))

    soon = idle_for(WINDOW - 1)
    assert soon.finding("WorkloadKnown").reason == "ConfirmedZero"  # type: ignore[union-attr]
    assert dict(soon.wanted)["l40s"] < 3
    assert desired(soon)["l40s"] == min(6, dict(busy.wanted)["l40s"])
    assert "l40s kept: plans of the last 60 s needed them" in soon.finding("Optimised").message  # type: ignore[union-attr]
    later = idle_for(WINDOW + 1)
    assert sum(v.planned for v in later.variants) == 2
    assert "kept" not in later.finding("Optimised").message  # type: ignore[union-attr]


def test_the_single_type_to_compare_with_keeps_what_it_needed_too(chat: Resources) -> None:
    running = {"l40s": 2}
    snap = snapshot(chat, running=running, samples=whole(chat, running, 1.0), past_rps=1.0)
    now = only(snap).best_single_per_hour
    assert now == only(snap).allocation.best_single_cost_per_hour  # type: ignore[union-attr]
    (state,) = snap.states
    for age_s, expected in ((WINDOW - 1, 20.0), (WINDOW + 1, now)):
        past = (*state.past, PastPlan(NOW - age_s, best_single_per_hour=20.0))
        assert only(replace(snap, states=(replace(state, past=past),))).best_single_per_hour == expected


def kept_by(snap: Snapshot, **wanted: int) -> Snapshot:
    """As if a plan of a moment ago had asked for these."""
    (state,) = snap.states
    past = (*state.past, PastPlan(NOW - 1, tuple(wanted.items())))
    return replace(snap, states=(replace(state, past=past),))


def test_growth_counts_on_what_is_kept(chat: Resources) -> None:
    # What was needed lately serves now too: another mix that would be cheaper from nothing starts nothing.
    running = {"l4": 8}
    snap = snapshot(chat, running=running, samples=whole(chat, running, 4.0), past_rps=4.0)
    free = only(snap)
    assert {name: count for name, count in free.wanted if count} != running, "there must be a cheaper mix"
    calm = only(kept_by(snap, l4=8))
    assert desired(calm) == running
    assert calm.wanted == free.wanted, "what is kept is not what is wanted, or it would renew itself for ever"


def test_where_what_is_kept_is_not_enough_what_is_wanted_grows(chat: Resources) -> None:
    running = {"l4": 2}
    snap = snapshot(chat, running=running, samples=whole(chat, running, 8.0), past_rps=8.0)
    free = only(snap)
    wanted = {name: count for name, count in free.wanted if count}
    assert wanted.get("l4", 0) < 2, "there must be something to keep"
    assert desired(only(kept_by(snap, l4=2))) == {**wanted, "l4": 2}


def test_what_is_kept_yields_to_limits_that_were_lowered(chat: Resources) -> None:
    running = {"l40s": 6}
    snap = kept_by(snapshot(chat, running=running, samples=whole(chat, running, 0.5), past_rps=0.5), l40s=6)
    assert desired(only(snap)) == running
    (service,) = snap.services
    variants = tuple(replace(v, max_replicas=3) if v.pool == "l40s" else v for v in service.variants)
    assert desired(only(replace(snap, services=(replace(service, variants=variants),))))["l40s"] == 3
    variants = tuple(v for v in service.variants if v.pool == "l40s")
    poorer = replace(service, variants=variants, scaling=replace(service.scaling, max_hourly_cost=4.0))
    assert desired(only(replace(snap, services=(poorer,))))["l40s"] == 2


def test_what_is_kept_yields_to_the_demand_of_another_service(chat: Resources) -> None:
    (first,) = chat.services
    variants = tuple(v for v in first.variants if v.pool == "l40s")
    pools = tuple(replace(p, max_nodes=6) if p.name == "l40s" else p for p in chat.pools)
    mine, other = (replace(first, key=replace(first.key, name=name), variants=variants) for name in ("mine", "other"))
    base = snapshot(chat, running={"l40s": 2}, samples=None, past_rps=0.5)

    def both(rate_rps: float, running: int) -> dict[str, ServiceDecision]:
        states, samples = [], []
        for owner, count, rate in ((mine, running, 0.5), (other, 2, rate_rps)):
            part = replace(chat, services=(owner,))
            snap = snapshot(part, running={"l40s": count}, samples=whole(part, {"l40s": count}, rate), past_rps=rate)
            wanted = kept_by(snap, l40s=count) if owner is mine else snap
            states += wanted.states
            samples += snap.samples
        given = replace(base, services=(mine, other), pools=pools, states=tuple(states), samples=tuple(samples))
        return {decision.key.name: decision for decision in decide(given).services}

    calm = both(rate_rps=2.0, running=4)
    assert desired(calm["mine"]) == {"l40s": 4}
    assert calm["other"].allocation.served_fraction == 1.0  # type: ignore[union-attr]
    short = both(rate_rps=12.0, running=4)
    assert sum(v.planned for v in short["mine"].variants) < 4
    assert short["other"].allocation.served_fraction == 1.0  # type: ignore[union-attr]


def test_without_room_for_what_is_wanted_beside_what_must_stay_something_else_grows(chat: Resources) -> None:
    running = {"l4": 4}
    samples = whole(chat, running, 8.0)
    partly = replace(samples, replicas=(replace(samples.replicas[0], fault="no answer"), *samples.replicas[1:]))
    snap = snapshot(chat, running=running, samples=partly, past_rps=8.0)
    (service,) = snap.services
    assert desired(only(snap)) == {"l4": 4, "l40s": dict(only(snap).wanted)["l40s"]}
    poorer = replace(service, scaling=replace(service.scaling, max_hourly_cost=6.0))
    found = only(replace(snap, services=(poorer,)))
    prices = {pool.name: pool.offerings[0].price_per_node_hour for pool in chat.pools}
    assert found.held
    assert desired(found)["l4"] >= 4
    assert sum(desired(found).values()) > 4, "it grows as far as the budget allows"
    assert sum(prices[name] * count for name, count in desired(found).items()) <= 6.0


def test_a_floor_of_one_service_takes_nothing_from_what_another_must_keep(chat: Resources) -> None:
    # Both hold. The first one's floor moves the joint plan; the second, whose own plan keeps all, must not be moved.
    (first,) = chat.services
    pools = tuple(replace(p, max_nodes=4) if p.name == "l40s" else p for p in chat.pools)
    one, two = (replace(first, key=replace(first.key, name=name)) for name in ("one", "two"))
    states, samples = [], []
    for owner, running, rate in ((one, {"l4": 6}, 4.0), (two, {"l40s": 2}, 5.0)):
        part = replace(chat, services=(owner,))
        seen = whole(part, running, rate)
        seen = replace(seen, replicas=(replace(seen.replicas[0], fault="no answer"), *seen.replicas[1:]))
        snap = snapshot(part, running=running, samples=seen, past_rps=rate)
        states += snap.states
        samples += snap.samples
    both = replace(snap, services=(one, two), pools=pools, states=tuple(states), samples=tuple(samples))
    found = {decision.key.name: decision for decision in decide(both).services}
    assert all(decision.held for decision in found.values())
    for name, running in (("one", {"l4": 6}), ("two", {"l40s": 2})):
        for variant, count in running.items():
            assert desired(found[name])[variant] >= count
            assert found[name].allocation.count(variant) >= count, "the plan counts it"  # type: ignore[union-attr]


def test_what_stays_beside_a_plan_keeps_its_nodes(chat: Resources) -> None:
    # With equal shares, 4 L4 that may not go would call for more L4; the plan does without them, and others get none.
    (first,) = chat.services
    pools = tuple(replace(p, max_nodes=4) if p.name == "l4" else p for p in chat.pools)
    mine = replace(first, key=replace(first.key, name="mine"))
    only_l4 = tuple(v for v in first.variants if v.pool == "l4")
    other = replace(first, key=replace(first.key, name="other"), variants=only_l4)
    busy = snapshot(replace(chat, services=(mine,)), running={"l4": 4}, samples=None, past_rps=8.0)
    samples = whole(replace(chat, services=(mine,)), {"l4": 4}, 8.0)
    partly = replace(samples, replicas=(replace(samples.replicas[0], fault="no answer"), *samples.replicas[1:]))
    idle = snapshot(replace(chat, services=(other,)), running={}, samples=None)
    both = replace(
        busy, services=(mine, other), pools=pools, states=(*busy.states, *idle.states), samples=(partly,)
    )  # fmt: skip
    found = {decision.key.name: decision for decision in decide(both).services}
    assert found["mine"].held
    assert desired(found["mine"])["l4"] == 4
    assert found["mine"].allocation.count("l4") == 0  # type: ignore[union-attr]
    assert desired(found["mine"])["l40s"] == dict(found["mine"].wanted)["l40s"] > 0
    assert not desired(found["other"]), "all nodes are taken"


def test_a_profile_whose_rate_rises_with_size_is_used_and_named(chat: Resources) -> None:
    rising = Grid(None, None, (128.0, 4096.0), (64.0, 1024.0), ((2.0, 1.0), (3.0, 0.5)))
    profiles = tuple(replace(p, speed=rising) if p.key.gpu == "L40S" else p for p in chat.profiles)

    def decided(running: dict[str, int]) -> ServiceDecision:
        samples = whole(chat, running, 0.5)
        return only(replace(snapshot(chat, running=running, samples=samples, past_rps=0.5), profiles=profiles))

    planned = {variant.name: variant.planned for variant in decided({"l4": 2}).variants if variant.planned}
    ready = decided(planned).finding("Ready")
    assert ready is not None
    assert ready.reason == "ProfilesInDoubt"
    assert "4096/64: 3 req/s, above 2 for shorter prompts" in ready.message


def test_demand_beyond_limits_takes_nothing_away(chat: Resources) -> None:
    running = {"l4": 10}
    samples = whole(chat, running, 400.0)
    decision = only(snapshot(chat, running=running, samples=samples, past_rps=400.0))
    assert decision.allocation is not None
    assert decision.allocation.outcome is Outcome.BEST_EFFORT
    assert desired(decision)["l4"] >= 10
    optimised = decision.finding("Optimised")
    assert optimised is not None
    assert optimised.reason == "BestEffort"


def test_prices_of_shared_pools_start_the_next_cycle() -> None:
    objects = [pool(limits={"nodes": 6}), pool("y", price="3.00"), profile(), profile("y")]
    services = [service(name, pools=["x", "y"], mode="Auto") for name in ("a", "b")]
    found = parse([*objects, *services])
    snapshot = Snapshot(0.0, Settings(), found.services, found.pools, found.profiles)
    first = decide(snapshot)
    # Both are scarce in x: one more GPU there saves one in y.
    prices = {name: price for name, _, price in first.pool_prices}
    assert prices == {"x": pytest.approx(3.0, rel=0.2)}
    again = decide(replace(snapshot, pool_prices=first.pool_prices))
    assert again.total_cost_per_hour == pytest.approx(first.total_cost_per_hour)
