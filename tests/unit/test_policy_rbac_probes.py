"""Every documented rule of tests/data/policy/rbac_probes.yaml on the RBAC engines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from medley.policy.answers import Answer, Empty, Found, Values
from medley.policy.atoms.product import find_values as find_by_atoms
from medley.policy.clauses import All, Question
from medley.policy.rbac.dimensions import region_of
from medley.policy.rbac.document import API_GROUP, API_VERSION, Binding, LabelSelector, Role
from medley.policy.rbac.evaluate import Evaluator
from medley.policy.rbac.parse import object_of
from medley.policy.rbac.questions import Space
from medley.policy.rbac.request import ANONYMOUS, MASTERS, Caller, Request, service_account, user
from medley.policy.rbac.roleset import RoleSet
from medley.policy.smt.engine import find_values as find_by_smt

FILE = Path(__file__).parents[1] / "data" / "policy" / "rbac_probes.yaml"
TABLE = yaml.safe_load(FILE.read_text(encoding="utf-8"))
PROBES: list[dict[str, Any]] = TABLE["probes"]


def role_set(probe: dict[str, Any]) -> RoleSet:
    """The probe's objects."""
    objects: list[Role | Binding] = []
    namespace = probe.get("role", "")
    kind = "Role" if namespace else "ClusterRole"
    where = {"namespace": namespace} if namespace else {}
    value = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "r", **where}, "rules": probe.get("rules")}
    if "aggregation" in probe:
        value["aggregationRule"] = {"clusterRoleSelectors": probe["aggregation"]}
    objects.append(object_of(value))
    for number, other in enumerate(probe.get("others", ())):
        metadata = {"name": f"other{number}", "labels": other["labels"]}
        objects.append(object_of({**value, "metadata": metadata, "rules": other["rules"], "aggregationRule": None}))
    bound = probe.get("bind", "")
    objects.append(
        object_of(
            {
                "apiVersion": API_VERSION,
                "kind": "RoleBinding" if bound else "ClusterRoleBinding",
                "metadata": {"name": "b", **({"namespace": bound} if bound else {})},
                "roleRef": {"apiGroup": API_GROUP, "kind": kind, "name": "r"},
                "subjects": probe.get("subjects", [{"kind": "User", "name": "jane"}]),
            }
        )
    )
    return RoleSet(objects)


def request_of(probe: dict[str, Any]) -> Request:
    asked = {**probe["request"]}
    asked["api_group"] = asked.pop("group", "")
    return Request(user(probe.get("user", "jane"), *probe.get("groups", ())), **asked)


def test_there_are_enough_and_each_names_its_page() -> None:
    assert len(PROBES) >= 60
    assert len({probe["rule"] for probe in PROBES}) == len(PROBES)
    assert {probe["source"] for probe in PROBES} == set(TABLE["sources"])


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe["rule"])
def test_the_evaluator_decides_as_documented(probe: dict[str, Any]) -> None:
    assert Evaluator(role_set(probe)).allows(request_of(probe)) is probe["allowed"]


@pytest.mark.parametrize("find", [find_by_atoms, find_by_smt], ids=["B", "C"])
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe["rule"])
def test_the_engines_that_prove_decide_as_documented(
    probe: dict[str, Any], find: Callable[[Question], Answer[Values]]
) -> None:
    roles, request = role_set(probe), request_of(probe)
    space = Space((roles,), (request.caller,))
    region = space.builder.clause(region_of(request, space.callers.text(request.caller)))
    answer = find(space.question(All((space.allowed(roles), region))))
    assert isinstance(answer, Found if probe["allowed"] else Empty)
    if isinstance(answer, Found):
        assert space.request(answer.witness) == request


def test_masters_pass_without_any_binding() -> None:
    # RBAC good practices: "Any user who is a member of this group bypasses all RBAC rights checks".
    evaluator = Evaluator(RoleSet(()))
    assert evaluator.allows(Request(Caller("root", (MASTERS,)), "delete", resource="nodes", name="a"))
    assert not evaluator.allows(Request(user("root"), "delete", resource="nodes", name="a"))


def test_a_name_brings_its_groups() -> None:
    assert user("system:serviceaccount:qa:x") == service_account("qa", "x")
    assert user(ANONYMOUS).groups == ("system:unauthenticated",)
    assert user("eve", "dev").groups == ("dev", "system:authenticated")


def test_roles_without_any_binding_are_read_as_given_to_everybody() -> None:
    whole = role_set(PROBES[0])
    roles = RoleSet(found for found in whole.objects if isinstance(found, Role))
    assert roles.implied
    assert not whole.implied
    assert Evaluator(roles).allows(Request(user("anybody"), "list", resource="pods", namespace="x"))


def test_a_binding_to_a_role_that_is_not_there_is_named_and_cluster_admin_is_known() -> None:
    binding = {
        "apiVersion": API_VERSION,
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "b"},
        "roleRef": {"kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "name": "jane"}],
    }
    roles = RoleSet((object_of(binding),))
    assert [str(found) for found in roles.missing()] == ["ClusterRoleBinding b"]
    admin = RoleSet((object_of({**binding, "roleRef": {"kind": "ClusterRole", "name": "cluster-admin"}}),))
    assert not admin.missing()
    assert Evaluator(admin).allows(Request(user("jane"), "get", path="/metrics"))
    assert Evaluator(admin).allows(Request(user("jane"), "get", resource="secrets", name="a", namespace="x"))


def selector(value: dict[str, Any]) -> LabelSelector:
    role = {"apiVersion": API_VERSION, "kind": "ClusterRole", "metadata": {"name": "r"}}
    found = object_of({**role, "aggregationRule": {"clusterRoleSelectors": [value]}})
    assert isinstance(found, Role)
    assert found.aggregation is not None
    return found.aggregation[0]


@pytest.mark.parametrize(
    ("operator", "values", "tier", "matches"),
    [
        ("In", ["a", "b"], "a", True),
        ("In", ["a", "b"], "c", False),
        ("In", ["a", "b"], None, False),
        ("NotIn", ["a", "b"], "a", False),
        ("NotIn", ["a", "b"], "c", True),
        # "Labels and Selectors", set-based requirement: "and all resources with no labels with the tier key".
        ("NotIn", ["a", "b"], None, True),
        ("Exists", [], "a", True),
        ("Exists", [], None, False),
        ("DoesNotExist", [], "a", False),
        ("DoesNotExist", [], None, True),
    ],
)
def test_selectors_match_as_documented(operator: str, values: list[str], tier: str | None, matches: bool) -> None:
    found = selector({"matchExpressions": [{"key": "tier", "operator": operator, "values": values}]})
    assert found.matches(() if tier is None else (("tier", tier),)) is matches


def test_all_of_a_selector_must_match_and_an_empty_one_matches_everything() -> None:
    both = {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]}
    assert selector(both).matches((("a", "b"), ("c", "")))
    assert not selector(both).matches((("a", "b"),))
    assert selector({}).matches(())
