"""`medley explain`, `plan --what-if` and `plan --chart` on manifests whose figures can be worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from medley.allocation.assemble import assemble, latency_target
from medley.allocation.diagnose import diagnose
from medley.allocation.routing import steer
from medley.api.convert import parse
from medley.cli.cost_chart import HALVINGS, POINTS, SPAN, costs_over_rate, treads
from medley.cycle.decide import problems_left
from medley.model.objects import RoutingMode
from medley.profiles.latency import LatencyTarget
from medley.workload.known import from_points
from plans import NEED, RATE, Json, Manifest, Plans, point, pool, profile, service


@pytest.fixture
def plans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Plans:
    return Plans(tmp_path, capsys)


def explained(plans: Plans, *manifests: Manifest) -> Json:
    plans.run("-f", plans.file("all.yaml", *manifests), "-o", "json", command="explain")
    [only] = plans.json()["services"]
    result: Json = only
    return result


def test_a_limit_is_worth_what_plans_with_more_of_it_save(plans: Plans) -> None:
    # 4 replicas are needed; x has 2 nodes at $1, y takes the other 2 at $3. One more x saves $2, and 2 are enough.
    one = explained(
        plans, pool(limits={"nodes": 2}), pool("y", price="3.00"), profile(), profile("y"), service(pools=["x", "y"])
    )
    assert one["costPerHour"] == pytest.approx(8.0)
    [limit] = one["limits"]
    assert limit["limit"] == "pool x limits.nodes"
    assert limit["savesPerHour"] == pytest.approx(2.0)
    assert limit["savesPerHourWith10"] == pytest.approx(4.0)


def test_a_limit_that_leaves_demand_unserved_is_worth_the_demand(plans: Plans) -> None:
    one = explained(plans, pool(limits={"nodes": 2}), profile(), service())
    assert plans.code == 3
    assert not one["feasible"]
    [limit] = one["limits"]
    assert limit["servesMore"] == pytest.approx(1 / NEED, rel=1e-3)
    assert limit["servesMoreWith10"] == pytest.approx(1 - 2 / NEED, rel=1e-3)


def test_an_unused_variant_and_the_next_best_plan_cost_what_a_plan_with_them_costs(plans: Plans) -> None:
    # 4 x cost $4. With one y at $1.5 at least, 3 x and 1 y cost $4.5; without x, 4 y cost $6.
    one = explained(plans, pool(), pool("y", price="1.50"), profile(), profile("y"), service(pools=["x", "y"]))
    [unused] = one["unused"]
    assert unused["variant"] == "y"
    assert unused["reason"] == "Dearer"
    assert unused["costsMorePerHour"] == pytest.approx(0.5)
    assert one["nextBest"] == {"replicas": {"x": 3, "y": 1}, "costPerHour": pytest.approx(4.5)}
    assert one["used"] == [{"variant": "x", "floor": 0, "costsMorePerHour": pytest.approx(2.0)}]


MIX = [pool(limits={"nodes": 3}), pool("y", price="1.02"), profile(), profile("y")]
"""4 replicas are needed: 3 x and 1 y cost $4.02, 4 y alone $4.08. The mix saves 1.5 %, less than the 3 % it has to."""


def test_a_mix_that_saves_too_little_is_said_to_be_turned_down(plans: Plans) -> None:
    one = explained(plans, *MIX, service(pools=["x", "y"]))
    assert one["replicas"] == {"y": 4}
    [unused] = one["unused"]
    assert (unused["variant"], unused["reason"]) == ("x", "TurnedDown")
    assert unused["costsMorePerHour"] == pytest.approx(-0.06)
    assert "save 0.0600 $/h (1.5%), not more than scaling.minMixSavingPercent 3" in unused["detail"]
    assert one["turnedDown"] == {"replicas": {"x": 3, "y": 1}, "costPerHour": pytest.approx(4.02)}
    values = {value["limit"]: value["savesPerHour"] for value in one["limits"]}
    # One x more would make it alone: 4 x for $4.
    assert values == {
        "pool x limits.nodes": pytest.approx(0.08),
        "scaling.minMixSavingPercent": pytest.approx(0.06),
    }
    took = explained(plans, *MIX, service(pools=["x", "y"], scaling={"minMixSavingPercent": 1}))
    assert took["replicas"] == {"x": 3, "y": 1}
    assert took["turnedDown"] is None


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"variants": [{"pool": "x"}, {"pool": "y", "maxReplicas": 0}]}, "y maxReplicas (lacks 1 replica)"),
        ({"pools": ["x", "none"]}, "pool none limits.nodes (lacks 1 node)"),
        ({"pools": ["x", "spot"], "scaling": {"maxSpotPercent": 0}}, "scaling.maxSpotPercent (lacks 1 percent)"),
    ],
)
def test_the_limit_that_leaves_no_room_is_named(plans: Plans, limits: Json, says: str) -> None:
    spot = pool("spot", offerings=[{"capacityType": "Spot", "pricePerNodeHour": "0.1"}])
    pools = [pool(), pool("y"), pool("none", limits={"nodes": 0}), spot]
    asked = service(**limits)
    if "variants" in limits:
        del asked["spec"]["pools"]
    one = explained(plans, *pools, *(profile(name) for name in ("x", "y", "none", "spot")), asked)
    [unused] = one["unused"]
    assert unused["reason"] == "NoRoom"
    assert says in unused["detail"]


def test_the_limit_that_forbids_a_plan_with_a_variant_is_named(plans: Plans) -> None:
    asked = service(pools=["x", "y"], scaling={"maxHourlyCost": "4"})
    one = explained(plans, pool(), pool("y", price="2"), profile(), profile("y"), asked)
    [unused] = one["unused"]
    assert (unused["variant"], unused["reason"]) == ("y", "Impossible")
    assert unused["detail"] == "no plan with it keeps scaling.maxHourlyCost"


def test_a_variant_that_is_steered_in_company_says_so(plans: Plans) -> None:
    short = profile("y")
    short["spec"]["maxThroughput"]["requestsPerSecond"] = [[9.1, 3.0], [7.2, 2.6], [0, 0]]
    asked = service(pools=["x", "y"], workload={"static": {"points": [point(), point(1.0, 2048)]}})
    one = explained(plans, pool(), pool("y"), profile(), short, asked)
    [unused] = one["unused"]
    assert (unused["variant"], unused["reason"]) == ("y", "SteeredInCompany")
    assert "1 of 2 sizes, and routing Service" in unused["detail"]


def test_a_floor_costs_what_a_plan_with_less_of_it_saves(plans: Plans) -> None:
    one = explained(plans, pool(), profile(), service(scaling={"minReplicas": 6}))
    [limit] = one["limits"]
    assert (limit["limit"], limit["unit"]) == ("scaling.minReplicas", "replica less")
    assert limit["savesPerHour"] == pytest.approx(1.0)
    assert limit["savesPerHourWith10"] == pytest.approx(2.0)  # 4 are needed


def test_a_looser_limit_that_serves_more_says_what_that_costs(plans: Plans) -> None:
    short = profile()
    short["spec"]["maxThroughput"]["requestsPerSecond"] = [[9.1, 3.0], [7.2, 2.6], [0, 0]]
    asked = service(
        pools=["x", "y"], routing={"mode": "InputRange"},
        workload={"static": {"points": [point(), point(1.0, 2048)]}},
    )  # fmt: skip
    one = explained(plans, pool(), pool("y", price="2", limits={"nodes": 0}), short, profile("y"), asked)
    assert one["replicas"] == {"x": 4}
    [limit] = one["limits"]
    assert limit["limit"] == "pool y limits.nodes"
    assert limit["savesPerHour"] == pytest.approx(-1.0)  # 3 x and 1 y, which has room for some of the short ones
    assert limit["servesMore"] == pytest.approx(1 / 21)


def test_margins_and_routing_cost_what_plans_without_them_cost(plans: Plans) -> None:
    one = explained(plans, pool(), profile(), service(rate=18.0))
    # 18 / 6.48 = 2.8; with headroom 3.06; at the full rates 19.8 / 7.2 = 2.75.
    assert one["costPerHour"] == pytest.approx(4.0)
    costs = {item["what"]: (item["costPerHour"], item["savesPerHour"]) for item in one["otherwise"]}
    assert costs == {
        "WithoutHeadroom": (3.0, 1.0),
        "FullRates": (3.0, 1.0),
        "RoutingService": (4.0, 0.0),
        "RoutingWeighted": (4.0, 0.0),
        "RoutingInputRange": (4.0, 0.0),
        "RoutingFull": (4.0, 0.0),
    }


def test_a_variant_that_cannot_serve_says_why(plans: Plans) -> None:
    slow = profile("y")
    slow["spec"]["maxThroughput"]["requestsPerSecond"] = [[0, 0], [0, 0], [0, 0]]
    one = explained(plans, pool(), pool("y"), profile(), slow, service(pools=["x", "y"]))
    [unused] = one["unused"]
    assert (unused["variant"], unused["reason"]) == ("y", "CannotServe")
    assert "ProfileSaysZero" in unused["detail"]
    assert one["nextBest"] is None
    assert one["used"] == [{"variant": "x", "floor": 0, "costsMorePerHour": None}]


def test_text_names_limits_and_unused_variants(plans: Plans) -> None:
    manifests = [pool(limits={"nodes": 2}), pool("y", price="3.00"), profile(), profile("y")]
    plans.run("-f", plans.file("all.yaml", *manifests, service(pools=["x", "y"])), command="explain")
    assert "2 x + 2 y for 8.0000 $/h" in plans.out
    assert "saves 2.0000 $/h" in plans.out
    assert "without headroom" in plans.out
    assert "routing InputRange" in plans.out
    assert plans.code == 0


def test_text_says_what_keeps_a_variant_and_what_would_serve_a_size(plans: Plans) -> None:
    asked = service(
        variants=[{"pool": "x", "minReplicas": 1}, {"pool": "y"}], routing={"mode": "Full"},
        workload={"static": {"points": [point(), point(1.0, 4096)]}}, model={"name": "m", "maxModelLen": 4000},
    )  # fmt: skip
    del asked["spec"]["pools"]
    longer = profile("y")
    longer["spec"]["maxThroughput"]["inputTokens"] = [128, 512, 8192]
    plans.run("-f", plans.file("all.yaml", *MIX[:2], profile(), longer, asked), command="explain")
    text = " ".join(plans.out.split())
    assert "at least 1 must run" in text
    assert "y could with maxModelLen 4224 (m-y)" in text
    assert "x: LongerThanMaxModelLen" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give either manifest files or a snapshot"),
        (("-f", "FILE", "--snapshot", "x.json"), "give either"),
        (("-f", "FILE", "--service", "other"), "there is no service 'other'"),
    ],
)
def test_bad_input_of_explain_exits_2(plans: Plans, arguments: tuple[str, ...], says: str) -> None:
    path = plans.file("all.yaml", pool(), profile(), service())
    assert plans.run(*[path if part == "FILE" else part for part in arguments], command="explain") == 2
    assert says in plans.err


# Sizes that are not served


def diagnosed(slo: Json, inputs: int, outputs: int) -> tuple[Json, object]:
    """What is said of one size on an L4 with an estimate, and the profile that was asked."""
    manifests = [
        {
            "apiVersion": "medley.dev/v1alpha1", "kind": "GPUPool", "metadata": {"name": "l4"},
            "spec": {"instanceType": "g6.xlarge", "provider": {"external": {}}},
        },
        {
            "apiVersion": "medley.dev/v1alpha1", "kind": "LLMService", "metadata": {"name": "s", "namespace": "n"},
            "spec": {
                "model": {"name": "meta-llama/Llama-3.1-8B-Instruct"}, "slo": slo, "pools": ["l4"],
                "allowEstimatedProfiles": True,
                "workload": {"static": {"points": [point(1.0, inputs, outputs), point(3.0, 64, 32)]}},
            },
        },
    ]  # fmt: skip
    resources = parse(manifests)
    assert not resources.errors
    [one] = resources.services
    pools = {found.name: found for found in resources.pools}
    workload = from_points(one.static_points or ())
    problem = assemble(one, pools, {}, workload, demand_factor=1.1, routing=RoutingMode.FULL).problem
    found = diagnose(one, problem, pools, {}, steer(problem).unserved)
    from medley.profiles.estimate import estimated_profile
    from medley.profiles.profile import ProfileKey

    made = estimated_profile(ProfileKey(one.model_name, "L4"))
    by_size = {str(item.unserved.bucket.size): item for item in found}
    return {"found": by_size, "target": latency_target(one.slo)}, made


@pytest.mark.parametrize("slo", [{"timePerOutputTokenMs": 20}, {"timePerOutputTokenMs": 40}])
def test_the_objective_that_is_named_is_the_tightest_that_works(slo: Json) -> None:
    said, made = diagnosed(slo, 4096, 256)
    item = said["found"]["4096/256"]
    assert item.share == pytest.approx(0.25)
    [row] = item.variants
    if row.reason != "TimePerOutputTokenAtBatch1":
        pytest.fail(f"the size was to fail by its time per output token, not by {row.reason}")
    tpot_ms = row.needs[0].tpot_ms
    assert tpot_ms > said["target"].tpot_ms
    size = item.unserved.bucket.size

    def rate(tpot_ms: float) -> float:
        target = LatencyTarget(tpot_ms, said["target"].ttft_ms, said["target"].percentile)
        return float(made.max_throughput(size, target, None).rate_rps)  # type: ignore[attr-defined]

    # Where the very first request fits, a replica carries next to nothing; a twentieth of all it can is asked.
    assert rate(tpot_ms) >= 0.05 * rate(600_000.0)
    assert rate(tpot_ms * 0.98) < 0.05 * rate(600_000.0)
    assert item.nearest == row.variant
    assert f"l4 could with timePerOutputTokenMs {tpot_ms:g} (estimate)" in item.remedy


def test_a_first_token_that_comes_too_late_names_the_time_and_the_larger_replica() -> None:
    said, made = diagnosed({"timePerOutputTokenMs": 120, "timeToFirstTokenMs": 1500}, 8192, 64)
    [row] = said["found"]["8192/64"].variants
    assert row.reason == "TimeToFirstToken"
    looser, larger = row.needs
    assert looser.ttft_ms is not None
    assert looser.ttft_ms > 1500
    # A node of the pool has one GPU: the larger replica needs other nodes.
    assert larger.tensor_parallel_size is None
    assert larger.node_gpus in (2, 4, 8)
    target = LatencyTarget(120.0, looser.ttft_ms * 0.98, said["target"].percentile)
    size = said["found"]["8192/64"].unserved.bucket.size
    assert made.max_throughput(size, target, None).rate_rps == 0  # type: ignore[attr-defined]


def test_plan_says_what_would_serve_a_size(plans: Plans) -> None:
    wide = service(pools=None, variants=[{"pool": "x"}])
    del wide["spec"]["pools"]
    wide["spec"]["workload"]["static"]["points"] = [point(), point(1.0, 100_000, 128)]
    one = plans.one(pool(), profile(), wide)
    [unserved] = one["unserved"]
    assert unserved["share"] == pytest.approx(1 / 21)
    assert [row["variant"] for row in unserved["variants"]] == ["x"]
    assert unserved["variants"][0]["reason"] == "OutsideProfileGrid"
    assert unserved["remedy"] == ""


def unserved_of(plans: Plans, *manifests: Manifest) -> Json:
    """The only size that is left out."""
    [found] = plans.one(*manifests)["unserved"]
    result: Json = found
    return result


NO_LONG = [[9.1, 3.0], [7.2, 2.6], [0, 0]]
TWO_SIZES = {"static": {"points": [point(), point(1.0, 2048)]}}


def test_a_size_longer_than_the_model_takes_names_the_length(plans: Plans) -> None:
    asked = service(model={"name": "m", "maxModelLen": 1024}, workload=TWO_SIZES)
    found = unserved_of(plans, pool(), profile(), asked)
    assert found["variants"][0]["reason"] == "LongerThanMaxModelLen"
    assert found["remedy"] == "x could with maxModelLen 2176 (m-x)"


def test_a_size_that_cannot_be_kept_apart_names_the_routing_that_could(plans: Plans) -> None:
    # x serves only short prompts, y only long ones: nobody serves both, and Service sends both everywhere.
    short, long = profile(), profile("y")
    short["spec"]["maxThroughput"]["requestsPerSecond"] = NO_LONG
    long["spec"]["maxThroughput"].update(inputTokens=[1024, 2048], requestsPerSecond=[[0, 0], [3.0, 2.0]])
    asked = service(pools=["x", "y"], workload=TWO_SIZES)
    found = unserved_of(plans, pool(), pool("y"), short, long, asked)
    assert {row["variant"]: row["reason"] for row in found["variants"]} == {
        "x": "ProfileSaysZero", "y": "SteeredInCompany"
    }  # fmt: skip
    assert found["remedy"] == "y could with routing InputRange"


@pytest.mark.parametrize(
    ("limits", "remedy"),
    [
        ({"variants": [{"pool": "x"}, {"pool": "y", "maxReplicas": 0}]}, "y could with y maxReplicas 1"),
        ({"pools": ["x", "none"]}, "none could with 1 more node (pool none limits.nodes)"),
        (
            {"pools": ["x", "spot"], "scaling": {"maxSpotPercent": 0}},
            "spot-spot could with scaling.maxSpotPercent 5",  # 1 of 21 req/s
        ),
    ],
)
def test_a_size_kept_out_by_a_limit_names_it(plans: Plans, limits: Json, remedy: str) -> None:
    short = profile()
    short["spec"]["maxThroughput"]["requestsPerSecond"] = NO_LONG
    spot = pool("spot", offerings=[{"capacityType": "Spot", "pricePerNodeHour": "0.1"}])
    pools = [pool(), pool("y"), pool("none", limits={"nodes": 0}), spot]
    asked = service(**limits, routing={"mode": "InputRange"}, workload=TWO_SIZES)
    if "variants" in limits:
        del asked["spec"]["pools"]
    found = unserved_of(plans, *pools, short, *(profile(name) for name in ("y", "none", "spot")), asked)
    assert found["variants"][1]["reason"] == "NoRoom"
    assert found["remedy"] == remedy


def test_a_variant_that_was_left_out_is_asked_too(plans: Plans) -> None:
    # The grid of y was made for 200 ms, looser than the 120 ms asked for: y is left out of the plan.
    short, loose = profile(), profile("y")
    short["spec"]["maxThroughput"]["requestsPerSecond"] = NO_LONG
    loose["spec"]["maxThroughput"]["slo"]["timePerOutputTokenMs"] = 200
    asked = service(pools=["x", "y"], routing={"mode": "InputRange"}, workload=TWO_SIZES)
    found = unserved_of(plans, pool(), pool("y"), short, loose, asked)
    assert found["variants"][1] == {
        "variant": "y", "reason": "NoProfile", "limits": [], "needs": found["remedies"]
    }  # fmt: skip
    assert found["remedy"] == "y could with timePerOutputTokenMs 200 (m-y)"


@pytest.mark.parametrize(
    ("gpus", "remedy"),
    [
        (1, "x could with nodes of 2 GPUs in another pool and tensorParallelSize 2 (m-x2)"),
        (2, "x could with tensorParallelSize 2 (a whole node a replica) (m-x2)"),
        (8, "x could with tensorParallelSize 2 (2 of 8 GPUs a replica) (m-x2)"),
    ],
)
def test_a_larger_replica_says_what_nodes_it_needs(plans: Plans, gpus: int, remedy: str) -> None:
    short, larger = profile(), profile()
    short["spec"]["maxThroughput"]["requestsPerSecond"] = NO_LONG
    larger["metadata"]["name"] = "m-x2"
    larger["spec"]["key"]["tensorParallelSize"] = 2
    found = unserved_of(plans, pool(gpus_per_node=gpus), short, larger, service(workload=TWO_SIZES))
    assert found["remedy"] == remedy


@pytest.mark.parametrize(
    ("longest", "says"), [(1024, "x could with maxModelLen 2176 (m-x)"), (None, "Loosen spec.slo")]
)
def test_the_condition_says_what_would_serve_the_size(longest: int | None, says: str) -> None:
    from medley.cycle.decide import decide
    from medley.cycle.snapshot import Settings, Snapshot

    sizes = TWO_SIZES if longest else {"static": {"points": [point(), point(1.0, 100_000)]}}
    resources = parse([pool(), profile(), service(model={"name": "m", "maxModelLen": longest}, workload=sizes)])
    snapshot = Snapshot(0.0, Settings(), resources.services, resources.pools, resources.profiles)
    [decision] = decide(snapshot).services
    [found] = [finding for finding in decision.findings if finding.reason == "SizesUnserved"]
    assert says in found.message
    assert found.message.count("Loosen") == (longest is None)


def test_replicas_of_several_nodes_alone_in_a_pool_are_planned(plans: Plans) -> None:
    wide = profile()
    wide["spec"]["key"]["tensorParallelSize"] = 2
    asked = service(variants=[{"pool": "x", "tensorParallelSize": 2}])
    del asked["spec"]["pools"]
    assert plans.one(pool(), wide, asked)["nodes"] == {"x": 8}


# What if


def what_if(plans: Plans, *changes: str) -> list[Json]:
    arguments = tuple(part for change in changes for part in ("--what-if", change))
    manifests = [pool(limits={"nodes": 4}), pool("y", price="3.00"), profile(), profile("y")]
    found: list[Json] = plans.plan(*manifests, service(pools=["x", "y"]), arguments=arguments)["whatIf"]
    return found


@pytest.mark.parametrize(
    ("change", "cost"),
    [
        ("rate=+100%", 13.0),  # 7 replicas, 4 on x and 3 on y
        ("rate=40", 13.0),
        ("rate=-50%", 2.0),
        ("price:x=+50%", 6.0),
        ("price:x=0.5", 2.0),
        ("price:y=-99%", 0.12),  # all on y at $0.03
        ("limit:x=2", 8.0),
        ("limit:x=-1", 6.0),
    ],
)
def test_a_change_is_planned_as_if_it_were_written(plans: Plans, change: str, cost: float) -> None:
    [one] = what_if(plans, change)
    assert one["change"] == change
    assert one["totalCostPerHour"] == pytest.approx(cost)


def test_plus_minus_makes_two_changes(plans: Plans) -> None:
    assert [one["change"] for one in what_if(plans, "rate=±20%")] == ["rate=-20%", "rate=+20%"]


def test_a_tighter_objective_than_the_grids_leaves_no_profile(plans: Plans) -> None:
    path = plans.file("all.yaml", pool(), profile(), service())
    assert plans.run("-f", path, "--what-if", "slo:tpot=10ms") == 2
    assert "slo" in plans.err


def test_text_compares_with_the_plan_as_it_is(plans: Plans) -> None:
    plans.run("-f", plans.file("all.yaml", pool(), profile(), service()), "--what-if", "rate=+100%")
    assert "as it is" in plans.out
    assert "+75.0%" in plans.out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("rate", "says no value"),
        ("rate=fast", "is not a number"),
        ("rate=-150%", "less than nothing"),
        ("price:z=-10%", "there is no GPUPool 'z'"),
        ("slo:e2e=2s", "not a change that is known"),
        ("slo:tpot=80", "has no unit"),
        ("slo:ttft=+10%", "has no ttft"),
        ("power=1", "not a change that is known"),
    ],
)
def test_a_bad_change_exits_2_and_says_how_to_write_it(plans: Plans, change: str, says: str) -> None:
    assert plans.run("-f", plans.file("all.yaml", pool(), profile(), service()), "--what-if", change) == 2
    assert says in plans.err
    assert not plans.out


def test_a_chart_is_a_picture(plans: Plans) -> None:
    path = plans.directory / "cost.png"
    plans.run("-f", plans.file("all.yaml", pool(), profile(), service()), "--chart", str(path))
    assert plans.code == 0
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_steps_of_the_chart_are_where_one_more_replica_is_needed() -> None:
    resources = parse([pool(), profile(), service()])
    assembled = assemble(
        resources.services[0], {"x": resources.pools[0]}, {resources.profiles[0].key: resources.profiles[0]},
        from_points(resources.services[0].static_points or ()), demand_factor=1.1, routing=RoutingMode.SERVICE,
    )  # fmt: skip
    points = costs_over_rate(assembled.problem)
    steps = treads(points)
    assert [step.point.counts for step in steps] == [str(count) for count in range(1, 15)]
    assert steps[-1].end_rps == pytest.approx(4 * RATE)
    within = (SPAN[1] - SPAN[0]) * RATE / (POINTS - 1) / 2**HALVINGS
    for step, count in zip(steps[1:], range(1, 14), strict=True):
        # So many replicas carry up to 7.2 · 0.9 / 1.1 req/s each; beyond that one more is needed.
        assert step.start_rps == pytest.approx(count * 7.2 * 0.9 / 1.1, abs=within)
        assert step.point.saving == pytest.approx(0.0)
    assert RATE in [point.rate_rps for point in points]


def test_a_chart_of_nothing_says_so(plans: Plans) -> None:
    path = plans.file("all.yaml", pool(), profile(), service(rate=0.0))
    assert plans.run("-f", path, "--chart", str(plans.directory / "cost.png")) == 2
    assert "no service has any demand" in plans.err


def test_problems_of_a_snapshot_are_those_of_its_services() -> None:
    from medley.cycle.snapshot import Settings, Snapshot

    resources = parse([pool(), profile(), service(mode="Auto"), service("other")])
    snapshot = Snapshot(0.0, Settings(), resources.services, resources.pools, resources.profiles)
    found = problems_left(snapshot)
    assert sorted(key.name for key in found) == ["chat", "other"]
    # The one that acts takes its replicas first; the one that watches is explained beside them.
    assert dict(found)[next(key for key in found if key.name == "other")][1].supplies[0].nodes_left is None


def test_a_recorded_decision_is_explained(plans: Plans) -> None:
    from medley.api.snapshot_file import Record, dump
    from medley.cycle.decide import decide
    from medley.cycle.snapshot import Settings, Snapshot

    resources = parse([pool(limits={"nodes": 2}), pool("y", price="3.00"), profile(), profile("y"),
                       service(pools=["x", "y"], mode="Observe")])  # fmt: skip
    snapshot = Snapshot(0.0, Settings(), resources.services, resources.pools, resources.profiles)
    path = plans.directory / "cycle.json"
    path.write_text(dump(Record(snapshot, decide(snapshot))))
    assert plans.run("--snapshot", str(path), "-o", "json", command="explain") == 0
    [one] = plans.json()["services"]
    assert one["replicas"] == {"x": 2, "y": 2}
    assert [limit["limit"] for limit in one["limits"]] == ["pool x limits.nodes"]
    assert {item["what"]: item["costPerHour"] for item in one["otherwise"]}["WithoutHeadroom"] == pytest.approx(8.0)
