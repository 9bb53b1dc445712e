"""Medley's own rights, proved by its own engine: what is needed is given, and nothing that is dangerous."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from medley.actuation.rights import RIGHTS, Scope, lease_rights, role_manifests, scale_rights
from medley.cli.main import main

ACCOUNT = {"kind": "ServiceAccount", "name": "medley", "namespace": "medley-system"}
ALL = (*RIGHTS, *lease_rights("medley-system", "medley"), *scale_rights("eks.amazonaws.com", "nodegroups"))


def floor() -> dict[str, Any]:
    """That each right is there, where it is needed."""
    rules = []
    for number, right in enumerate(ALL):
        place = "serving" if right.scope is Scope.SERVICES else right.namespace
        rules.append(
            {
                "id": f"right-{number}",
                "subject": ACCOUNT,
                "verbs": list(right.verbs),
                "apiGroups": right.group,
                "resources": right.resource,
                **({"namespaces": place} if place else {}),
                **({"resourceNames": list(right.names)} if right.names else {}),
            }
        )
    return {"floor": rules}


def verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], services: tuple[str, ...], *more: str
) -> tuple[int, dict[str, Any]]:
    document, spec = tmp_path / "roles.yaml", tmp_path / "spec.yaml"
    document.write_text(yaml.safe_dump_all(role_manifests("medley", "medley-system", ALL, services)))
    spec.write_text(json.dumps(floor()))
    code = main(["policy", "verify", "-d", str(document), "-s", str(spec), "-o", "json", *more])
    captured = capsys.readouterr()
    assert captured.out, captured.err
    return code, json.loads(captured.out)


def broken(report: dict[str, Any]) -> set[str]:
    return {witness["rule"] for witness in report["witnesses"]}


def test_bound_to_the_namespaces_of_services_they_are_inside_the_danger_ceiling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = verified(tmp_path, capsys, ("serving",), "--ceiling", "kubernetes-danger")
    assert (code, report["verdict"], broken(report)) == (0, "Satisfied", set())


def test_given_everywhere_two_known_exceptions_are_all_that_is_outside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Deployments and ConfigMaps in kube-system. The chart says so where no namespaces are named.
    code, report = verified(tmp_path, capsys, (), "--ceiling", "kubernetes-danger")
    assert code == 1
    assert broken(report) == {"workloads-anywhere", "eks-users"}
