"""Reading routing tables, and where requests go."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medley.lab.router import Router, RoutingMode, RoutingTable, Target
from medley.lab.traces import TraceRequest
from medley.model.errors import UserError

DOCUMENT: dict[str, Any] = {
    "schemaVersion": 1,
    "service": "chat/llama",
    "generation": 17,
    "mode": "InputRange",
    "inputEdges": [500, 2000],
    "shares": [
        {"variant": "l4", "byRange": [0.75, 0.2, 0.0]},
        {"variant": "h100", "byRange": [0.25, 0.8, 1.0]},
    ],
}
ENDPOINTS = {"l4": ["http://l4-a", "http://l4-b"], "h100": ["http://h100-a"]}


def changed(**fields: Any) -> str:
    return json.dumps({**DOCUMENT, **fields})


def new_router(text: str | None = None, endpoints: dict[str, list[str]] | None = None) -> Router:
    table = RoutingTable.parse(text or json.dumps(DOCUMENT))
    return Router(table, ENDPOINTS if endpoints is None else endpoints, random.Random(5))


def request(input_tokens: int) -> TraceRequest:
    return TraceRequest(0.0, input_tokens, 10)


def variants(router: Router, input_tokens: int, times: int = 4000) -> dict[str, float]:
    found: Counter[str] = Counter()
    for _ in range(times):
        target = router.pick(request(input_tokens))
        assert target is not None
        found[target.variant] += 1
        router.done(target)
    return {variant: count / times for variant, count in found.items()}


def test_a_table_is_read_as_written() -> None:
    table = RoutingTable.parse(json.dumps(DOCUMENT))
    assert (table.service, table.generation, table.mode) == ("chat/llama", 17, RoutingMode.INPUT_RANGE)
    assert [table.range_of(tokens) for tokens in (1, 500, 501, 2000, 2001, 10**6)] == [0, 0, 1, 1, 2, 2]
    assert table.weights(3000) == {"h100": 1.0}


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{", "routing.json"),
        ("[]", "routing.json"),
        (changed(schemaVersion=2), "schemaVersion"),
        (changed(service="llama"), "service"),
        (changed(generation="17"), "generation"),
        (changed(generation=True), "generation"),
        (changed(mode="Full"), "mode"),
        (changed(mode=None), "mode"),
        (changed(inputEdges=[500, 500]), "inputEdges"),
        (changed(inputEdges=[500, "2000"]), "inputEdges[1]"),
        (changed(inputEdges=7), "inputEdges"),
        (changed(shares={}), "shares"),
        (changed(shares=[3]), "shares[0]"),
        (changed(shares=[{"variant": "", "byRange": [1, 1, 1]}]), "shares[0].variant"),
        (changed(shares=[{"variant": "a", "byRange": [1, 1]}]), "shares[0].byRange"),
        (changed(shares=[{"variant": "a", "byRange": [1, -1, 1]}]), "shares[0].byRange[1]"),
        (changed(shares=[{"variant": "a", "byRange": [1, 1, float("nan")]}]), "shares[0].byRange[2]"),
        (changed(shares=[{"variant": "a", "byRange": [1, 0.5, 1]}]), "shares[*].byRange[1]"),
        (changed(shares=[{"variant": "a", "byRange": [1, 0, 1]}] * 2), "shares[1].variant"),
    ],
)
def test_a_bad_table_is_refused_with_the_field(text: str, field: str) -> None:
    with pytest.raises(UserError) as caught:
        RoutingTable.parse(text)
    assert caught.value.field == field


def test_shares_are_kept_per_range() -> None:
    router = new_router()
    assert variants(router, 100)["l4"] == pytest.approx(0.75, abs=0.04)
    assert variants(router, 500)["l4"] == pytest.approx(0.75, abs=0.04)
    assert variants(router, 1000)["l4"] == pytest.approx(0.2, abs=0.04)
    assert variants(router, 5000) == {"h100": 1.0}


def test_within_a_variant_the_least_busy_endpoint_is_taken() -> None:
    only_l4 = changed(inputEdges=[], shares=[{"variant": "l4", "byRange": [1]}])
    router = new_router(only_l4, {"l4": ["http://a", "http://b", "http://c"]})
    picked = [router.pick(request(1)) for _ in range(9)]
    assert set(router.outstanding().values()) == {3}
    freed = Target("l4", "http://b")
    assert freed in picked
    router.done(freed)
    assert router.pick(request(1)) == freed


def test_a_variant_without_endpoints_is_replaced_by_an_able_one_then_by_any() -> None:
    router = new_router(endpoints={"h100": ["http://h100-a"], "l4": []})
    assert variants(router, 100, 50) == {"h100": 1.0}
    router.set_endpoints({"l4": ["http://l4-a"]})
    assert variants(router, 5000, 50) == {"l4": 1.0}  # the table gives this range to h100 only
    router.set_endpoints({"a10g": ["http://new"]})
    assert variants(router, 100, 50) == {"a10g": 1.0}
    router.set_endpoints({})
    assert router.pick(request(100)) is None


def test_a_range_that_nobody_serves_goes_anywhere() -> None:
    router = new_router(changed(inputEdges=[10], shares=[{"variant": "l4", "byRange": [1, 0]}]))
    assert set(variants(router, 100)) == {"l4", "h100"}


def test_service_mode_is_uniform_over_all_pods() -> None:
    text = changed(mode="Service", inputEdges=[], shares=[{"variant": "h100", "byRange": [1.0]}])
    assert variants(new_router(text), 100)["l4"] == pytest.approx(2 / 3, abs=0.04)


def test_another_endpoint_is_found_after_a_refusal() -> None:
    router = new_router()
    refused = Target("h100", "http://h100-a")
    other = router.pick_other(request(5000), refused)
    assert other is not None
    assert other.variant == "l4"
    router.set_endpoints({"h100": ["http://h100-a"]})
    assert router.pick_other(request(5000), refused) is None


def test_a_new_table_takes_effect() -> None:
    router = new_router()
    router.set_table(
        RoutingTable.parse(changed(generation=18, inputEdges=[], shares=[{"variant": "l4", "byRange": [1]}]))
    )
    assert router.table.generation == 18
    assert variants(router, 5000, 50) == {"l4": 1.0}


@given(st.lists(st.floats(1, 1e6), max_size=8, unique=True).map(sorted), st.floats(1, 2e6))
def test_ranges_have_inclusive_upper_edges(edges: list[float], tokens: float) -> None:
    shares = [{"variant": "a", "byRange": [1.0] * (len(edges) + 1)}]
    table = RoutingTable.parse(changed(inputEdges=edges, shares=shares))
    index = table.range_of(tokens)
    assert index == len(edges) or tokens <= edges[index]
    assert index == 0 or tokens > edges[index - 1]
