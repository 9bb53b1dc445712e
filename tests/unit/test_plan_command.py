"""`medley plan`, end to end over files: replicas and costs worked out by hand, the JSON contract, exit codes (§9)."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from medley.cli.main import main
from plans import NEED, REPLICAS, Json, Manifest, Plans, point, pool, profile, service

KEYS = {
    "name", "costPerHour", "bestSingleCostPerHour", "lowerBoundPerHour", "gap", "solveMs", "replicas", "nodes",
    "shares", "unserved", "binding", "messages",
}  # fmt: skip


@pytest.fixture
def plans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Plans:
    return Plans(tmp_path, capsys)


# Replicas and cost


def test_replicas_and_cost_are_those_worked_out_by_hand(plans: Plans) -> None:
    result = plans.plan(pool(), profile(), service())
    assert plans.code == 0
    assert plans.err == ""
    [only] = result["services"]
    assert only["replicas"] == {"x": REPLICAS}
    assert only["nodes"] == {"x": REPLICAS}
    assert only["shares"] == {"x": [1.0]}
    assert only["costPerHour"] == pytest.approx(4.0)
    assert only["bestSingleCostPerHour"] == pytest.approx(4.0)
    assert only["bestSingleGpu"] == "X"
    assert 4.0 * 0.996 <= only["lowerBoundPerHour"] <= 4.0
    assert only["gap"] <= 0.004
    assert only["unserved"] == []
    assert result["totalCostPerHour"] == pytest.approx(4.0)
    assert result["idleGpus"] == {"x": 0}


def test_json_has_every_promised_key_and_numbers_are_not_rounded(plans: Plans) -> None:
    result = plans.plan(pool(price="0.804812345"), profile(), service(rate=20.123456789))
    assert result["services"][0].keys() >= KEYS
    assert (result["services"][0]["name"], result["services"][0]["namespace"]) == ("chat", "prod")
    assert result["services"][0]["ratePerSecond"] == 20.123456789
    assert result["services"][0]["costPerHour"] == pytest.approx(4 * 0.804812345, abs=1e-12)
    assert result["totalCostPerHour"] == pytest.approx(4 * 0.804812345, abs=1e-12)
    assert "NaN" not in plans.out
    assert "Infinity" not in plans.out


def test_text_shows_replicas_cost_and_total(plans: Plans) -> None:
    assert plans.run("-f", plans.file("all.yaml", pool(), profile(), service())) == 0
    assert "prod/chat: 20.00 req/s" in plans.out
    assert "4.0000 $/h" in plans.out
    assert "total: 4.0000 $/h" in plans.out


@pytest.mark.parametrize(
    ("headroom", "replicas"),
    [(0, 4), (10, 4), (29, 4), (30, 5)],  # 20 × 1.296 / 6.48 is 4 exactly
)
def test_headroom_is_added_to_the_demand(plans: Plans, headroom: float, replicas: int) -> None:
    only = plans.one(pool(), profile(), service(scaling={"headroomPercent": headroom}))
    assert only["replicas"] == {"x": replicas}


def test_a_demand_that_fits_exactly_needs_no_replica_more(plans: Plans) -> None:
    # 4 × 6.48 / 1.1 req/s fills 4 replicas to the brim.
    assert plans.one(pool(), profile(), service(rate=4 * 6.48 / 1.1))["replicas"] == {"x": 4}


def test_two_sizes_share_the_replicas(plans: Plans) -> None:
    # 10 req/s of 512/128 and 2 req/s of 2048/128: (10/6.48 + 2/(2.2 × 0.9)) × 1.1 = 2.81: 3 replicas.
    both = service(workload={"static": {"points": [point(10), point(2, 2048)]}})
    only = plans.one(pool(), profile(), both)
    assert only["replicas"] == {"x": 3}
    assert only["inputEdges"] == [512]
    assert only["shares"] == {"x": [1.0, 1.0]}


def test_a_node_of_8_gpus_is_bought_whole(plans: Plans) -> None:
    result = plans.plan(pool(price="10.00", gpus_per_node=8), profile(), service())
    assert result["services"][0]["replicas"] == {"x": REPLICAS}
    assert result["services"][0]["nodes"] == {"x": 1}
    assert result["totalCostPerHour"] == pytest.approx(10.0)
    assert result["idleGpus"] == {"x": 4}


@pytest.mark.parametrize(("committed", "cost"), [(1, 3.0), (3, 1.0), (4, 0.0), (9, 0.0)])
def test_committed_nodes_cost_nothing_and_are_not_filled_for_that(plans: Plans, committed: int, cost: float) -> None:
    only = plans.one(pool(committedNodes=committed), profile(), service())
    assert only["replicas"] == {"x": REPLICAS}
    assert only["costPerHour"] == pytest.approx(cost)
    assert only["gap"] <= 0.004


def test_the_cheaper_of_two_like_pools_is_used(plans: Plans) -> None:
    chat = service(pools=["x", "y"])
    only = plans.one(pool("x", price="1.50"), pool("y", price="1.20"), profile("x"), profile("y"), chat)
    assert only["replicas"] == {"y": REPLICAS}
    assert only["costPerHour"] == pytest.approx(4.8)


@pytest.mark.parametrize(
    ("percent", "replicas", "cost"),
    [
        # 3 nodes of x at $1 and 1 of y at $1.02: $4.02, 1.5 % less than 4 of y at $4.08.
        (3, {"y": 4}, 4.08),
        (1, {"x": 3, "y": 1}, 4.02),
    ],
)
def test_a_mix_is_used_only_if_it_saves_enough(
    plans: Plans, percent: float, replicas: dict[str, int], cost: float
) -> None:
    chat = service(pools=["x", "y"], scaling={"minMixSavingPercent": percent})
    only = plans.one(pool("x", limits={"nodes": 3}), pool("y", price="1.02"), profile("x"), profile("y"), chat)
    assert plans.code == 0
    assert only["replicas"] == replicas
    assert only["costPerHour"] == pytest.approx(cost)
    assert any("minMixSavingPercent" in message for message in only["messages"]) is (percent == 3)
    assert only["bestSingleCostPerHour"] == pytest.approx(4.08)


def test_spot_is_a_variant_of_its_own(plans: Plans) -> None:
    both = [{"pricePerNodeHour": "1.00"}, {"capacityType": "Spot", "pricePerNodeHour": "0.40"}]
    only = plans.one(pool(offerings=both), profile(), service())
    assert only["replicas"] == {"x-spot": REPLICAS}
    assert only["costPerHour"] == pytest.approx(1.6)


# Several services


def test_services_that_share_a_pool_with_a_limit_are_planned_together(plans: Plans) -> None:
    # a needs 4 replicas, b 15 × 1.1 / 6.48 = 2.55: 3. x has 6 nodes, so that one replica is left for y.
    objects = [pool("x", limits={"nodes": 6}), pool("y", price="3.00"), profile("x"), profile("y")]
    a = service("a", pools=["x", "y"])
    b = service("b", rate=15, pools=["x", "y"])
    result = plans.plan(*objects, b, a)
    assert plans.code == 0
    replicas = [one["replicas"] for one in result["services"]]
    assert [sum(of.values()) for of in replicas] == [4, 3]
    assert sum(of.get("x", 0) for of in replicas) == 6
    assert sum(one["costPerHour"] for one in result["services"]) == pytest.approx(9.0)
    assert result["totalCostPerHour"] == pytest.approx(9.0)
    assert [one["gap"] for one in result["services"]] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert plans.plan(a, b, *objects)["totalCostPerHour"] == pytest.approx(9.0)


def test_services_share_a_node_and_its_cost_by_gpus(plans: Plans) -> None:
    # 4 + 3 replicas fit on one node of 8 GPUs at $14: $8 and $6.
    result = plans.plan(pool(price="14.00", gpus_per_node=8), profile(), service("a"), service("b", rate=15))
    assert [one["costPerHour"] for one in result["services"]] == pytest.approx([8.0, 6.0])
    assert result["totalCostPerHour"] == pytest.approx(14.0)
    assert result["idleGpus"] == {"x": 1}


# Options


def test_manifests_may_be_spread_over_files_in_any_order(plans: Plans) -> None:
    files = [
        plans.file("a.yaml", service()),
        plans.file("b.yaml", pool()),
        plans.file("c.yaml", profile()),
    ]
    assert plans.run("-f", files[0], files[1], "-f", files[2], "-o", "json") == 0
    assert plans.json()["services"][0]["replicas"] == {"x": REPLICAS}
    assert plans.run("-f", str(plans.directory), "-o", "json") == 0
    assert plans.json()["services"][0]["replicas"] == {"x": REPLICAS}


@pytest.mark.parametrize(("rate", "replicas"), [("40", 7), ("20", 4), ("5", 1), ("0.001", 1)])
def test_rate_scales_the_demand(plans: Plans, rate: str, replicas: int) -> None:
    # 40 × 1.1 / 6.48 = 6.79; 5 × 1.1 / 6.48 = 0.85
    only = plans.one(pool(), profile(), service(), arguments=("--rate", rate))
    assert only["replicas"] == {"x": replicas}
    assert only["ratePerSecond"] == pytest.approx(float(rate))


def test_rate_keeps_the_mix_of_sizes(plans: Plans) -> None:
    both = service(workload={"static": {"points": [point(1), point(3, 4096)]}})
    only = plans.one(pool(), profile(), both, arguments=("--rate", "8"))
    assert [item["requestsPerSecond"] for item in only["unserved"]] == pytest.approx([6.0])


@pytest.mark.parametrize(("floor", "replicas"), [(0, {}), (1, {"x": 1}), (3, {"x": 3})])
def test_rate_0_keeps_min_replicas(plans: Plans, floor: int, replicas: dict[str, int]) -> None:
    only = plans.one(pool(), profile(), service(scaling={"minReplicas": floor}), arguments=("--rate", "0"))
    assert plans.code == 0
    assert only["replicas"] == replicas
    assert only["costPerHour"] == pytest.approx(float(floor))


def test_workload_from_points(plans: Plans) -> None:
    given = plans.directory / "points.yml"
    given.write_text(yaml.safe_dump({"points": [point(12), point(8)]}))
    only = plans.one(pool(), profile(), service(rate=1), arguments=("--workload", str(given)))
    assert only["ratePerSecond"] == pytest.approx(20)
    assert only["replicas"] == {"x": REPLICAS}


def trace(path: Path, requests: int, duration_s: float) -> str:
    step = duration_s / (requests - 1)
    rows = [f"2023-11-16 18:00:{number * step:010.7f},512,128" for number in range(requests)]
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
    return str(path)


def test_workload_from_a_trace_needs_no_points_in_the_service(plans: Plans) -> None:
    # 101 requests in 5 s: 20.2 req/s × 1.1 / 6.48 = 3.43: 4 replicas.
    given = trace(plans.directory / "trace.csv", 101, 5.0)
    only = plans.one(pool(), profile(), service(workload={}), arguments=("--workload", given))
    assert plans.code == 0
    assert only["ratePerSecond"] == pytest.approx(20.2)
    assert only["replicas"] == {"x": REPLICAS}


# Exit codes


def test_sizes_that_nobody_serves_are_listed_and_the_rest_is_planned(plans: Plans) -> None:
    both = service(workload={"static": {"points": [point(), point(0.5, 4096)]}})
    only = plans.one(pool(), profile(), both)
    assert plans.code == 0
    assert only["replicas"] == {"x": REPLICAS}
    [item] = only["unserved"]
    assert (item["inputTokens"], item["outputTokens"], item["requestsPerSecond"]) == (4096, 128, 0.5)
    assert item["reason"]


def test_a_pool_that_does_not_exist_is_left_out_with_a_message(plans: Plans) -> None:
    only = plans.one(pool(), profile(), service(pools=["typo", "x"]))
    assert plans.code == 0
    assert only["replicas"] == {"x": REPLICAS}
    assert any("'typo'" in message and "x" in message for message in only["messages"])


@pytest.mark.parametrize(
    ("objects", "says"),
    [
        (
            [pool(), profile(), service(pools=["typo"])],
            ["GPUPool 'typo' does not exist", "Create it, or use one of: x"],
        ),
        ([pool(), service()], ["no ThroughputProfile for model 'm' on X"]),
        ([pool(), profile(), service(workload={})], ["prod/chat", "spec.workload.static", "--workload FILE"]),
        ([pool(), profile()], ["no LLMService"]),
        ([pool(), profile(), service(slo={"timePerOutputTokenMs": 50})], ["looser than the service's 50"]),
        (
            [pool(limits={"nodes": -1}), profile(), service(slo={})],
            ["GPUPool/x: spec.limits.nodes", "LLMService/prod/chat: spec.slo.timePerOutputTokenMs"],
        ),
        ([pool(), profile(), service(), service()], ["LLMService/prod/chat", "Keep one of the two"]),
    ],
    ids=["no pool", "no profile", "no demand", "no service", "profile for a looser SLO", "two errors", "twice"],
)
def test_bad_input_exits_2_and_says_why(plans: Plans, objects: list[Manifest], says: list[str]) -> None:
    assert plans.run("-f", plans.file("all.yaml", *objects), "-o", "json") == 2
    assert plans.out == ""
    for text in says:
        assert text in plans.err


@pytest.mark.parametrize("text", ["kind: [", "- 1\n", "kind: List\n", "hello\n"])
def test_a_broken_file_exits_2_and_is_named(plans: Plans, text: str) -> None:
    path = plans.directory / "broken.yaml"
    path.write_text(text)
    assert plans.run("-f", str(path)) == 2
    assert "broken.yaml" in plans.err


def test_a_missing_file_exits_2_and_is_named(plans: Plans) -> None:
    assert plans.run("-f", str(plans.directory / "absent.yaml")) == 2
    assert "absent.yaml" in plans.err


@pytest.mark.parametrize("rate", ["-1", "nan", "inf"])
def test_a_bad_rate_exits_2(plans: Plans, rate: str) -> None:
    assert plans.run("-f", plans.file("all.yaml", pool(), profile(), service()), f"--rate={rate}") == 2
    assert "--rate" in plans.err
    assert "0 or more" in plans.err


def test_a_rate_that_is_no_number_exits_2(plans: Plans) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["plan", "-f", plans.file("all.yaml", pool(), profile(), service()), "--rate", "fast"])
    assert caught.value.code == 2


def test_a_rate_without_sizes_to_give_it_to_exits_2(plans: Plans) -> None:
    assert plans.run("-f", plans.file("all.yaml", pool(), profile(), service(rate=0)), "--rate", "5") == 2
    assert "--rate" in plans.err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("w.yaml", "points: []\n"),
        ("w.yaml", "points: [{inputTokens: 512}]\n"),
        ("w.yaml", "points: [{inputTokens: 512, outputTokens: 128, requestsPerSecond: .nan}]\n"),
        ("w.yaml", "points: [{inputTokens: 512, outputTokens: 128, requestsPerSecond: -1}]\n"),
        ("w.yaml", "points: [{inputTokens: 0, outputTokens: 128, requestsPerSecond: 1}]\n"),
        ("w.yaml", "points: [{inputTokens: x, outputTokens: 128, requestsPerSecond: 1}]\n"),
        ("w.yaml", "points: [1]\n"),
        ("w.yaml", "points: [\n"),
        ("w.yaml", "hello\n"),
        ("w.yaml", None),
        ("w.csv", "TIMESTAMP,ContextTokens\n"),
        ("w.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n"),
        ("w.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:00:00.0,512,128\n"),
        ("w.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:00:00.0,many,128\n"),
        ("w.csv", None),
    ],
)
def test_a_bad_workload_exits_2_and_is_named(plans: Plans, name: str, text: str | None) -> None:
    path = plans.directory / name
    if text is not None:
        path.write_text(text)
    manifests = plans.file("all.yaml", pool(), profile(), service())
    assert plans.run("-f", manifests, "--workload", str(path)) == 2
    assert name in plans.err


@pytest.mark.parametrize(
    ("the_pool", "scaling", "binding"),
    [
        (pool(limits={"nodes": 3}), {}, "pool x limits.nodes"),
        (pool(), {"maxHourlyCost": "3.00"}, "scaling.maxHourlyCost"),
    ],
    ids=["nodes", "budget"],
)
def test_limits_that_are_too_low_exit_3_with_a_diagnosis(
    plans: Plans, the_pool: Manifest, scaling: Json, binding: str
) -> None:
    # 3 replicas carry 3 / 3.395 = 88 % of the demand.
    only = plans.one(the_pool, profile(), service(scaling=scaling))
    assert plans.code == 3
    assert only["feasible"] is False
    assert only["replicas"] == {"x": 3}
    assert only["servedFraction"] == pytest.approx(3 / NEED, rel=0.01)
    assert only["binding"] == [binding]
    assert "prod/chat" in plans.err
    assert "88%" in plans.err
    assert binding in plans.err


def test_a_budget_that_is_just_enough_is_fine(plans: Plans) -> None:
    only = plans.one(pool(), profile(), service(scaling={"maxHourlyCost": "4.00"}))
    assert plans.code == 0
    assert only["costPerHour"] == pytest.approx(4.0)


def test_a_budget_chooses_among_plans_and_keeps_min_replicas(plans: Plans) -> None:
    impossible = service(scaling={"maxHourlyCost": "1.00", "minReplicas": 2})
    only = plans.one(pool(), profile(), impossible)
    assert plans.code == 3
    assert only["outcome"] == "Impossible"
    assert "minReplicas" in plans.err


def test_one_service_without_a_plan_does_not_hide_the_other(plans: Plans) -> None:
    chats = [service("a", scaling={"maxHourlyCost": "3.00"}), service("b")]
    result = plans.plan(pool(), profile(), *chats)
    assert plans.code == 3
    assert [one["feasible"] for one in result["services"]] == [False, True]
    assert "prod/a" in plans.err
    assert "prod/b" not in plans.err
