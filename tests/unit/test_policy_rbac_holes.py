"""Ways past a proof that a review found; each was Satisfied once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from medley.cli.main import main
from medley.policy.rbac.parse import parse_manifest
from medley.policy.rbac.roleset import RoleSet

API = "rbac.authorization.k8s.io"
EVERYTHING = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}


def role(name: str, *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"{API}/v1", "kind": "ClusterRole", "metadata": {"name": name, **more.pop("metadata", {})},
        "rules": list(rules), **more,
    }  # fmt: skip


def bound(role_name: str, kind: str = "User", name: str = "eve") -> dict[str, Any]:
    subject = {"kind": kind, "name": name, "apiGroup": API}
    called = f"{role_name}-{kind}-{name}".replace(":", "-").strip("()")
    return {
        "apiVersion": f"{API}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": called},
        "roleRef": {"apiGroup": API, "kind": "ClusterRole", "name": role_name}, "subjects": [subject],
    }  # fmt: skip


@pytest.fixture
def verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(document: str, spec: dict[str, Any]) -> tuple[int, str, str]:
        manifest, rules = tmp_path / "m.yaml", tmp_path / "s.yaml"
        manifest.write_text(document)
        rules.write_text(json.dumps(spec))
        code = main(["policy", "verify", "-d", str(manifest), "-s", str(rules), "-o", "json"])
        captured = capsys.readouterr()
        return code, json.loads(captured.out)["verdict"] if captured.out else "", captured.err

    return run


def text(*objects: dict[str, Any]) -> str:
    return yaml.safe_dump_all([json.loads(json.dumps(item)) for item in objects])


NO_PODS = {"ceiling": [{"id": "pods", "verbs": ["create"], "apiGroups": "", "resources": "pods"}]}
NO_SECRETS = {"ceiling": [{"id": "secrets", "verbs": "get", "apiGroups": "", "resources": "secrets"}]}


def test_a_create_by_apply_carries_a_name(verdict: Any) -> None:
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "patch"], "resourceNames": ["evil"]}
    assert verdict(text(role("r", rule), bound("r")), NO_PODS)[:2] == (1, "Violated")


@pytest.mark.parametrize("kind", ["List", "ConfigMapList"])
def test_lists_inside_lists_are_refused(verdict: Any, kind: str) -> None:
    inner = {"apiVersion": "v1", "kind": kind, "items": [role("r", EVERYTHING), bound("r")]}
    outer = {"apiVersion": "v1", "kind": "List", "items": [role("ok"), bound("ok"), inner]}
    code, _, error = verdict(text(outer), NO_SECRETS)
    assert code == 2
    assert "is a list inside" in error or "kind" in error


def test_merge_keys_are_refused(verdict: Any) -> None:
    document = yaml.safe_dump(role("r")).replace("rules: []", "rules: []\n<<: {rules: [{verbs: [get]}]}")
    code, _, error = verdict(document + "---\n" + text(bound("r")), NO_SECRETS)
    assert code == 2
    assert "merge key" in error


def test_a_user_may_be_called_like_the_masters(verdict: Any) -> None:
    assert verdict(text(bound("cluster-admin", "User", "system:masters")), NO_SECRETS)[:2] == (1, "Violated")


def test_the_unauthenticated_are_not_authenticated(verdict: Any) -> None:
    health = {"nonResourceURLs": ["/healthz"], "verbs": ["get"]}
    somebody = {"kind": "Group", "name": "system:unauthenticated"}
    floor = {"floor": [{"id": "f", "verbs": "get", "nonResourceURLs": "/healthz", "subject": somebody}]}
    only = bound("r", "Group", "system:authenticated")
    assert verdict(text(role("r", health), only), floor)[:2] == (1, "Violated")
    both = bound("r", "Group", "system:unauthenticated")
    assert verdict(text(role("r", health), only, both), floor)[:2] == (0, "Satisfied")


def test_nobody_may_be_called_like_the_stand_in_for_a_group(verdict: Any) -> None:
    code, _, error = verdict(text(role("r", EVERYTHING), bound("r", "User", "(somebody)")), NO_SECRETS)
    assert code == 2
    assert "stands for the members of a group" in error


def test_the_fresh_account_is_nobody_who_is_named() -> None:
    # One user of one account is not all accounts, however it is called.
    from medley.policy.rbac.callers import Callers

    names = ["system:serviceaccount:somewhere:somebody", "system:serviceaccounts:somewhere"]
    named = [bound("r", kind, name) for kind, name in zip(["User", "Group"], names, strict=True)]
    callers = Callers([RoleSet(parse_manifest(text(role("r", EVERYTHING), *named), "m.yaml"))])
    accounts = parse_manifest(text(role("r"), bound("r", "Group", "system:serviceaccounts")), "m.yaml")
    subject = accounts.objects[1].subjects[0]  # type: ignore[union-attr]
    found = callers.least(subject, "")
    assert found.user not in names
    assert not set(found.groups) & set(names)


def test_roles_that_select_each_other_give_what_both_say(verdict: Any) -> None:
    def circle(name: str, other: str, *rules: dict[str, Any]) -> dict[str, Any]:
        picks = {"clusterRoleSelectors": [{"matchLabels": {"in": other}}]}
        return role(name, *rules, metadata={"labels": {"in": name}}, aggregationRule=picks)

    secrets = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    document = text(circle("a", "b", secrets), circle("b", "a"), bound("a"))
    assert verdict(document, NO_SECRETS)[:2] == (1, "Violated")


def test_many_roles_with_one_label_are_read_quickly() -> None:
    picks = {"clusterRoleSelectors": [{"matchLabels": {"in": "all"}}]}
    objects = [
        role(f"r{n}", {**EVERYTHING, "verbs": [f"v{n}"]}, metadata={"labels": {"in": "all"}}, aggregationRule=picks)
        for n in range(12)
    ]
    roles = RoleSet(parse_manifest(text(*objects, bound("r0")), "m.yaml"))
    assert len(list(roles.grants())) == 12


def test_cluster_admin_is_what_the_server_makes_of_it(verdict: Any) -> None:
    assert verdict(text(role("cluster-admin"), bound("cluster-admin")), NO_SECRETS)[:2] == (1, "Violated")
