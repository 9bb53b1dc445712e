"""What is written, as values: the Deployment, the routing table, conditions, Events."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from medley.actuation import routing
from medley.actuation.deployments import deployment_name, render
from medley.actuation.status import conditions, worth_an_event
from medley.api.convert import Resources
from medley.cycle.decision import Finding, Truth
from medley.lab.router import RoutingTable
from medley.model.objects import CapacityType, RoutingMode, ServiceKey, VariantSpec

GOLDEN = Path(__file__).parents[1] / "golden" / "deployment.yaml"


def test_the_deployment_is_the_golden_one(chat: Resources) -> None:
    manifest = render(
        chat.services[0], chat.pools[0], "l4", 3, spec=VariantSpec("l4"), capacity_type=CapacityType.ON_DEMAND,
        image="vllm/vllm-openai:v0.11.2", args=["--enable-prefix-caching"], port=8000,
    )  # fmt: skip
    assert manifest == yaml.safe_load(GOLDEN.read_text())


def test_long_names_stay_within_a_label_and_apart() -> None:
    one = deployment_name(ServiceKey("ns", "a" * 60), "l4")
    other = deployment_name(ServiceKey("ns", "a" * 60), "l40s")
    assert len(one) <= 52
    assert one != other
    assert deployment_name(ServiceKey("ns", "chat"), "long-l4") != deployment_name(ServiceKey("ns", "chat-long"), "l4")


def test_the_tables_generation_moves_only_with_its_content(chat: Resources) -> None:
    service = chat.services[0]
    shares = (("l4", (0.25, 1.0)), ("l40s", (0.75, 0.0)))
    first = routing.table(service, (512.0,), shares, None)
    assert json.loads(first)["generation"] == 1
    assert routing.table(service, (512.0,), shares, first) == first
    changed = routing.table(service, (1024.0,), shares, first)
    assert json.loads(changed)["generation"] == 2
    assert json.loads(routing.table(service, (512.0,), shares, "not json"))["generation"] == 1


def test_the_table_is_what_the_router_reads(chat: Resources) -> None:
    text = routing.table(chat.services[0], (512.0,), (("l4", (0.25, 1.0)), ("l40s", (0.75, 0.0))), None)
    table = RoutingTable.parse(text)
    assert table.mode is RoutingMode.INPUT_RANGE
    assert table.weights(100) == {"l4": 0.25, "l40s": 0.75}
    assert {name: weight for name, weight in table.weights(2000).items() if weight} == {"l4": 1.0}


def test_an_acknowledgement_grows_old() -> None:
    said = {"generation": 3, "mode": "InputRange", "at": "2026-01-01T00:00:00Z"}
    config_map = {"metadata": {"annotations": {routing.ACKNOWLEDGED: json.dumps(said)}}}
    at_s = 1767225600.0
    assert routing.acknowledged(config_map, at_s + 10) is RoutingMode.INPUT_RANGE
    assert routing.acknowledged(config_map, at_s + 61) is None
    assert routing.acknowledged({"metadata": {}}, at_s) is None
    broken = {"metadata": {"annotations": {routing.ACKNOWLEDGED: "{}"}}}
    assert routing.acknowledged(broken, at_s) is None


def test_the_transition_time_moves_with_the_status_only() -> None:
    first = conditions([Finding("Ready", Truth.FALSE, "Scaling")], {}, 1, 0.0)
    later = conditions([Finding("Ready", Truth.FALSE, "InvalidSpec", "x")], {"conditions": first}, 2, 60.0)
    assert later[0]["lastTransitionTime"] == first[0]["lastTransitionTime"]
    assert later[0]["observedGeneration"] == 2
    turned = conditions([Finding("Ready", Truth.TRUE, "AllReplicasReady")], {"conditions": later}, 2, 120.0)
    assert turned[0]["lastTransitionTime"] == "1970-01-01T00:02:00Z"


def test_events_are_for_changes_that_matter() -> None:
    missed = Finding("SLOMet", Truth.FALSE, "Missed", "tpot")
    assert worth_an_event([missed], {}) == [missed]
    assert not worth_an_event([missed], {"conditions": conditions([missed], {}, 1, 0.0)})
    assert not worth_an_event([Finding("Ready", Truth.TRUE, "AllReplicasReady")], {})
    assert not worth_an_event([Finding("Ready", Truth.FALSE, "Scaling")], {})
