"""Every documented rule of tests/data/policy/probes.yaml on all three engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from medley.policy.answers import Empty, Found
from medley.policy.atoms.product import find as find_by_atoms
from medley.policy.atoms.product import variables_of
from medley.policy.clauses import All, Builder, Question
from medley.policy.iam.document import Document, DocumentKind
from medley.policy.iam.evaluate import Evaluator
from medley.policy.iam.parse import document_of
from medley.policy.iam.policyset import PolicySet, Relation
from medley.policy.iam.request import Decision, Request, request
from medley.policy.smt.engine import find as find_by_smt
from medley.policy.spec.regions import region_of

FILE = Path(__file__).parents[1] / "data" / "policy" / "probes.yaml"
TABLE = yaml.safe_load(FILE.read_text(encoding="utf-8"))
PROBES: list[dict[str, Any]] = TABLE["probes"]


def document(probe: dict[str, Any], layer: str) -> Document | None:
    if layer not in probe:
        return None
    kind = DocumentKind.RESOURCE if layer == "resource" else DocumentKind.IDENTITY
    version = probe.get("version", "2012-10-17")
    return document_of({"Version": version, "Statement": probe[layer]}, kind=kind)


def policies(probe: dict[str, Any]) -> Document | PolicySet:
    identity, resource, boundary = (document(probe, layer) for layer in ("identity", "resource", "boundary"))
    alone = [found for found in (identity, resource, boundary) if found is not None]
    if len(alone) == 1:
        return alone[0]
    relation = Relation.CROSS_ACCOUNT if probe.get("cross-account") else Relation.SAME_ACCOUNT
    return PolicySet((identity,) if identity else (), resource, boundary, relation)


def sample(probe: dict[str, Any]) -> Request:
    asked = probe["request"]
    return request(asked["action"], asked.get("resource", "*"), asked.get("caller"), asked.get("context"))


def question(probe: dict[str, Any]) -> Question:
    """The requests that are this one and are allowed: one, or none."""
    builder = Builder()
    return builder.question(All((builder.allowed(policies(probe)), builder.clause(region_of(sample(probe))))))


def test_there_are_enough_and_each_names_its_page() -> None:
    assert len(PROBES) >= 60
    assert len({probe["rule"] for probe in PROBES}) == len(PROBES)
    assert all(probe["source"] in TABLE["sources"] for probe in PROBES)
    assert {probe["source"] for probe in PROBES} == set(TABLE["sources"]), "a page that no probe cites"


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe["rule"])
def test_engine_a(probe: dict[str, Any]) -> None:
    assert Evaluator(policies(probe)).decide(sample(probe)) is Decision(probe["expect"])


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe["rule"])
def test_engine_b(probe: dict[str, Any]) -> None:
    asked = question(probe)
    answer = find_by_atoms(asked)
    allowed = Decision(probe["expect"]).allowed
    # Variables relate two values: B may say that it cannot tell, but neither yes nor no wrongly.
    if variables_of(asked):
        assert not (isinstance(answer, Empty) and allowed)
        assert not (isinstance(answer, Found) and not allowed)
    else:
        assert isinstance(answer, Found if allowed else Empty)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe["rule"])
def test_engine_c(probe: dict[str, Any]) -> None:
    expected = Found if Decision(probe["expect"]).allowed else Empty
    assert isinstance(find_by_smt(question(probe)), expected)
