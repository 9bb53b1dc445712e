"""The operator's rights are what it calls: the committed inventory against the roles, by the policy engine."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from rights_inventory import (
    INSTALLATIONS,
    NAMESPACE,
    PAGE,
    ROOT,
    SERVICES,
    Inventory,
    page,
    read,
    rights_of,
    roles_with,
    text_of,
)

from medley.actuation.rights import RIGHTS, Right, Scope
from medley.lab.calls import Installation, Use, differences, outside, roles_of, unused, uses
from medley.policy.answers import Engine
from medley.policy.prove import Proved, Prover
from medley.policy.rbac.questions import within
from medley.policy.rbac.request import Request, service_account
from medley.policy.rbac.roleset import RoleSet
from medley.policy.rbac.spec import read_spec
from medley.policy.rbac.verify import verify
from medley.policy.verify import Verdict

PROVER = Prover()
ME = service_account("ns", "me")
INSTALLED = Installation("me", "ns", ("a", "b"), ("a", "b"))


@pytest.fixture(scope="module")
def inventory() -> Inventory:
    return read()


@pytest.fixture(params=list(INSTALLATIONS))
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_every_verb_of_every_rule_is_called(inventory: Inventory, name: str) -> None:
    installation = INSTALLATIONS[name]
    assert unused(rights_of(installation), inventory.calls[name], installation) == []


def test_the_roles_are_proved_equal_to_the_calls(inventory: Inventory, name: str) -> None:
    installation = INSTALLATIONS[name]
    called, shipped = roles_of(inventory.calls[name], installation), roles_with(installation, rights_of(installation))
    assert differences(called, shipped, PROVER) == []
    assert within(called, shipped, PROVER) == Proved((Engine.ATOMS, Engine.SMT)), "by both engines"


@pytest.mark.parametrize("right", RIGHTS, ids=[f"{right.resource}-{right.scope}" for right in RIGHTS])
def test_another_verb_in_any_rule_is_found_with_a_witness(inventory: Inventory, right: Right) -> None:
    installation = INSTALLATIONS["in-two-namespaces"]
    wider = replace(right, verbs=(*right.verbs, "delete"))
    rights = tuple(wider if other is right else other for other in rights_of(installation))
    calls = inventory.calls["in-two-namespaces"]
    places = sorted(installation.looks_after) if right.scope is Scope.SERVICES else [right.namespace]
    assert len(unused(rights, calls, installation)) == len(places)
    (said,) = differences(roles_of(calls, installation), roles_with(installation, rights), PROVER)
    assert said.startswith(f"allowed, and no recorded call needs it: delete {right.resource}")


@pytest.mark.parametrize(
    "right",
    [
        Right("", "nodes", ("list",), "sees nodes"),
        Right("batch", "jobs", ("create",), "runs jobs", scope=Scope.SERVICES),
        Right("", "events", ("create",), "posts in another namespace", scope=Scope.LEASE, namespace="kube-system"),
        Right("coordination.k8s.io", "leases", ("get",), "another lease", ("other",), Scope.LEASE, NAMESPACE),
    ],
    ids=["nodes", "jobs", "events-elsewhere", "another-lease"],
)
def test_another_rule_is_found_with_a_witness(inventory: Inventory, right: Right) -> None:
    installation = INSTALLATIONS["in-two-namespaces"]
    calls = inventory.calls["in-two-namespaces"]
    wider = roles_with(installation, (*rights_of(installation), right))
    (said,) = differences(roles_of(calls, installation), wider, PROVER)
    assert said.startswith(f"allowed, and no recorded call needs it: {right.verbs[0]} {right.resource}")


def test_a_rule_that_is_missing_is_found_with_the_call_that_needs_it(inventory: Inventory, name: str) -> None:
    installation = INSTALLATIONS[name]
    rights = rights_of(installation)
    for right in rights:
        if right.scope is Scope.POOL_EVENTS and not installation.looks_after:
            continue  # there the rule of services covers it
        narrower = roles_with(installation, [other for other in rights if other is not right])
        (said,) = differences(roles_of(inventory.calls[name], installation), narrower, PROVER)
        assert said.startswith("a recorded call needs it, and it is refused: ")
        assert f" {right.resource}" in said


def test_every_call_has_a_test_that_fails_without_it_and_every_test_its_calls(inventory: Inventory) -> None:
    recorded = {text_of(use): use for found in inventory.calls.values() for use in found}
    for use in recorded.values():
        assert inventory.needing(use), f"no test needs {use}"
    for node, calls in inventory.tests.items():
        assert set(calls) <= set(recorded), node
        path, _, function = node.partition("::")
        assert re.search(rf"^def {function}\(", (ROOT / path).read_text(), re.MULTILINE), node


def test_no_verb_on_secrets_anywhere(name: str) -> None:
    installation = INSTALLATIONS[name]
    spec = read_spec(
        "ceiling:\n- {id: secrets, apiGroups: '*', resources: [secrets, secrets/anything]}\n"
        "- {id: every-resource, resources: a-resource-that-nobody-named}\n",
        "secrets",
    )
    report = verify(roles_with(installation, rights_of(installation)), spec, PROVER)
    assert report.verdict is Verdict.SATISFIED
    more = (*rights_of(installation), Right("", "secrets", ("get",), "no"))
    assert verify(roles_with(installation, more), spec, PROVER).verdict is Verdict.VIOLATED


def test_the_page_has_the_table_of_the_inventory(inventory: Inventory) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(text, inventory), "run make calls, or python hack/rights_inventory.py"


def asked(verb: str, resource: str, *, name: str = "", namespace: str = "", group: str = "") -> Request:
    whole, _, subresource = resource.partition("/")
    return Request(ME, verb, group, whole, subresource, name, namespace)


def test_names_are_kept_only_where_there_is_one() -> None:
    found = uses(
        [
            asked("get", "leases", name="one", namespace="a"),
            asked("patch", "things/scale", name="x", namespace="a"),
            asked("patch", "things/scale", name="y", namespace="b"),
            asked("create", "things", namespace="a"),
            # An apply that makes the object is asked with its name; by that alone the role would be for it only.
            asked("create", "things", name="x", namespace="a"),
            asked("create", "selfsubjectaccessreviews", group="authorization.k8s.io"),
            Request(ME, "get", path="/apis/apps/v1"),
        ]
    )
    assert found == (
        Use("", "leases", "get", ("a",), ("one",)),
        Use("", "things", "create", ("a",)),
        Use("", "things/scale", "patch", ("a", "b")),
    )


def test_what_is_done_in_one_namespace_is_done_in_all_only_where_all_are_looked_after() -> None:
    found = (Use("", "things", "list", ("a",)), Use("", "others", "list", ("elsewhere",)))
    everywhere = replace(INSTALLED, looks_after=())
    somewhere = asked("list", "things", namespace="c")
    assert outside([somewhere], roles_of(found, INSTALLED)) == [somewhere]
    assert outside([somewhere], roles_of(found, everywhere)) == []
    other = asked("list", "others", namespace="c")
    assert outside([other], roles_of(found, everywhere)) == [other]


def test_calls_outside_of_any_rule_are_named() -> None:
    roles = roles_of((Use("", "things", "list", ("a",)),), INSTALLED)
    secret = asked("get", "secrets", name="s", namespace="a")
    assert outside([asked("list", "things", namespace="a"), secret], roles) == [secret]
    assert outside([Request(ME, "get", path="/version")], RoleSet(())) == []


def test_an_url_that_not_everybody_may_read_needs_a_rule_of_its_own() -> None:
    metrics = Request(ME, "get", path="/metrics")
    (use,) = uses([metrics])
    assert use == Use("", "/metrics", "get", ("",))
    assert outside([metrics], roles_of([use], INSTALLED)) == []


def test_both_installations_have_services_in_two_namespaces(inventory: Inventory) -> None:
    assert set(inventory.calls) == set(INSTALLATIONS)
    for name, installation in INSTALLATIONS.items():
        status = next(use for use in inventory.calls[name] if use.resource == "llmservices/status")
        assert status.namespaces == installation.services == SERVICES
