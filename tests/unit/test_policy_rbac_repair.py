"""Repair of RBAC manifests: the edits that come out, their proof, contradictions, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from medley.cli.main import main
from medley.model.errors import UserError
from medley.policy.prove import Prover
from medley.policy.rbac.document import Manifest
from medley.policy.rbac.edits import Edit, EditKind, apply_edits, edit_text
from medley.policy.rbac.parse import parse_manifest
from medley.policy.rbac.render import manifest_text
from medley.policy.rbac.repair import Repair, repair
from medley.policy.rbac.spec import read_spec
from medley.policy.repair.repair import Outcome
from medley.policy.verify import Verdict

ACCOUNT = "{kind: ServiceAccount, name: scaler, namespace: medley}"
NO_SECRETS = '- {id: secrets, verbs: [get, list, watch], apiGroups: "", resources: secrets}'


def role(*rules: str, name: str = "scaler") -> str:
    head = f"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: {name}}}\nrules:\n"
    return head + "".join(f"- {{{rule}}}\n" for rule in rules)


def bound(text: str, *, namespace: str = "", subjects: str = ACCOUNT, name: str = "scaler") -> str:
    kind = "RoleBinding" if namespace else "ClusterRoleBinding"
    where = f", namespace: {namespace}" if namespace else ""
    return (
        f"{text}---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}{where}}}\n"
        f"subjects: [{subjects}]\nroleRef: {{kind: ClusterRole, name: {name}}}\n"
    )


def floor(*rules: str) -> str:
    lines = (f"- {{id: f{number}, subject: {ACCOUNT}, {rule}}}\n" for number, rule in enumerate(rules))
    return "floor:\n" + "".join(lines)


PODS = 'apiGroups: [""], resources: [pods, secrets], verbs: [get, list, watch]'
READ_PODS = 'verbs: [get, list], apiGroups: "", resources: pods, namespaces: serving'


def run(manifest: str, spec: str) -> Repair:
    given = parse_manifest(manifest)
    result = repair(given, read_spec(spec, "spec"), Prover())
    assert apply_edits(given, result.edits) == result.manifest
    if result.outcome is Outcome.REPAIRED:
        assert result.proof is not None
        assert result.proof.verdict is Verdict.SATISFIED
        assert all(len(engines) == 2 for _, engines in result.proof.proved)
    return result


def texts(result: Repair) -> list[str]:
    return [edit_text(edit) for edit in result.edits]


def test_the_resource_goes_where_all_its_verbs_are_shut() -> None:
    result = run(bound(role(PODS)), floor(READ_PODS) + f"ceiling:\n{NO_SECRETS}")
    assert texts(result) == ["ClusterRole scaler rules[0].resources: remove secrets"]


def test_a_rule_is_split_where_only_one_verb_of_one_resource_is_shut() -> None:
    only_list = '- {id: secrets, verbs: list, apiGroups: "", resources: secrets}'
    result = run(bound(role(PODS)), floor(READ_PODS) + f"ceiling:\n{only_list}")
    assert texts(result) == [
        "ClusterRole scaler rules[0]: a rule of its own for the resources secrets",
        "ClusterRole scaler rules[1].verbs: remove list",
    ]
    assert [rule.verbs for rule in result.manifest.roles[0].rules] == [("get", "list", "watch"), ("get", "watch")]
    # To take list away from both is refused with what the floor then lacks.
    refused = {(edit_text(found.edits[0]), found.witness.rule.id) for found in result.rejected if len(found.edits) == 1}
    assert ("ClusterRole scaler rules[0].verbs: remove list", "f0") in refused


def test_a_star_becomes_a_list_without_what_is_shut() -> None:
    rule = 'apiGroups: [apps], resources: [deployments], verbs: ["*"]'
    result = run(bound(role(rule)), "ceiling:\n- {id: d, verbs: [delete, deletecollection], apiGroups: apps}")
    assert result.outcome is Outcome.REPAIRED
    assert set(result.manifest.roles[0].rules[0].verbs) == {"get", "list", "watch", "create", "update", "patch"}


def test_a_wildcard_is_replaced_by_nothing_that_it_does_not_cover() -> None:
    rule = 'apiGroups: [apps, ""], resources: ["*/scale"], verbs: [get, delete]'
    wanted = floor("verbs: get, apiGroups: apps, resources: deployments/scale, namespaces: serving")
    result = run(bound(role(rule)), wanted + "ceiling:\n- {id: s, resources: statefulsets/scale, apiGroups: apps}")
    assert result.outcome is Outcome.REPAIRED
    assert {entry for rule in result.manifest.roles[0].rules for entry in rule.resources} <= {
        "deployments/scale", "replicasets/scale", "*/scale",
    }  # fmt: skip


def test_a_prefix_is_replaced_by_urls_of_the_floor() -> None:
    wanted = floor("verbs: get, nonResourceURLs: [/metrics, /metrics/cadvisor]")
    result = run(
        bound(role("nonResourceURLs: [/metrics*], verbs: [get]")),
        wanted + "ceiling:\n- {id: u, nonResourceURLs: /metrics/x*}",
    )
    assert texts(result) == ["ClusterRole scaler rules[0].nonResourceURLs becomes /metrics, /metrics/cadvisor"]


def test_names_that_the_floor_gives_limit_a_rule() -> None:
    rule = 'apiGroups: [""], resources: [secrets], verbs: [get]'
    spec = floor('verbs: get, apiGroups: "", resources: secrets, resourceNames: [token], namespaces: serving')
    result = run(bound(role(rule)), spec + "ceiling:\n- {id: s, resources: secrets, notResourceNames: [token]}")
    assert texts(result) == ["ClusterRole scaler rules[0].resourceNames becomes token"]


def test_what_is_shut_elsewhere_moves_into_the_namespace_of_the_floor() -> None:
    nodes = 'apiGroups: [""], resources: [nodes], verbs: [list]'
    secrets = 'apiGroups: [""], resources: [secrets], verbs: [get]'
    wanted = floor(
        'verbs: get, apiGroups: "", resources: secrets, namespaces: serving',
        'verbs: list, apiGroups: "", resources: nodes, namespaces: ""',
    )
    result = run(
        bound(role(nodes, secrets)), wanted + "ceiling:\n- {id: s, resources: secrets, notNamespaces: serving}"
    )
    assert texts(result) == [
        "remove ClusterRole scaler rules[1]",
        "add Role serving/scaler",
        "add RoleBinding serving/scaler",
    ]


def test_a_binding_moves_into_the_namespace_where_all_of_its_role_is_shut_elsewhere() -> None:
    result = run(bound(role(PODS)), floor(READ_PODS) + 'ceiling:\n- {id: p, notNamespaces: serving, apiGroups: ""}')
    assert texts(result) == ["remove ClusterRoleBinding scaler", "add RoleBinding serving/scaler"]


def test_a_subject_that_may_not_have_it_leaves_the_binding() -> None:
    both = f"{ACCOUNT}, {{kind: User, name: eve}}"
    spec = floor(READ_PODS) + "ceiling:\n- {id: e, subject: {kind: User, name: eve}}"
    result = run(bound(role(PODS), subjects=both), spec)
    assert texts(result) == ["ClusterRoleBinding scaler: remove User eve"]


def test_the_floor_gets_an_entry_where_that_gives_the_floor_alone() -> None:
    rule = 'apiGroups: [""], resources: [pods], verbs: [get]'
    result = run(bound(role(rule), namespace="serving"), floor(READ_PODS))
    assert texts(result) == ["ClusterRole scaler rules[0].verbs: add list"]


def test_the_floor_gets_a_rule_where_an_entry_would_give_more() -> None:
    rule = 'apiGroups: [""], resources: [pods, secrets], verbs: [get]'
    result = run(bound(role(rule), namespace="serving"), floor(READ_PODS))
    assert texts(result) == ["ClusterRole scaler: add a rule: get, list on pods"]


def test_the_floor_gets_a_role_of_its_own_where_the_others_reach_further() -> None:
    nodes = 'apiGroups: [""], resources: [nodes], verbs: [list]'
    result = run(bound(role(nodes)), floor(READ_PODS))
    assert texts(result) == ["add Role serving/medley-f0", "add RoleBinding serving/medley-f0"]


def test_a_role_alone_is_repaired_without_bindings() -> None:
    result = run(role(PODS), f"ceiling:\n{NO_SECRETS}")
    assert texts(result) == ["ClusterRole scaler rules[0].resources: remove secrets"]
    assert not result.manifest.bindings


def test_cluster_admin_is_taken_away_with_its_binding() -> None:
    manifest = bound("").partition("---\n")[2].replace("name: scaler}\n", "name: cluster-admin}\n")
    result = run(manifest, floor(READ_PODS) + f"ceiling:\n{NO_SECRETS}")
    assert result.outcome is Outcome.REPAIRED
    assert all(not binding.subjects for binding in result.manifest.bindings if binding.role.name == "cluster-admin")


def test_a_rule_of_an_aggregated_role_is_edited_where_it_stands() -> None:
    part = role(PODS, name="part").replace("{name: part}", "{name: part, labels: {a: b}}")
    whole = role().replace("rules:\n", "aggregationRule: {clusterRoleSelectors: [{matchLabels: {a: b}}]}\n")
    result = run(f"{part}---\n{bound(whole)}", f"ceiling:\n{NO_SECRETS}")
    assert texts(result) == ["ClusterRole part rules[0].resources: remove secrets"]


def test_what_fits_is_left_alone() -> None:
    result = run(bound(role('apiGroups: [""], resources: [pods], verbs: [get, list]')), floor(READ_PODS))
    assert (result.outcome, result.edits) == (Outcome.UNCHANGED, ())


def test_rules_that_contradict_each_other_are_named_with_a_request() -> None:
    spec = floor('verbs: get, apiGroups: "", resources: secrets, namespaces: serving') + f"ceiling:\n{NO_SECRETS}"
    result = run(bound(role(PODS)), spec)
    assert result.outcome is Outcome.CONTRADICTION
    [found] = result.contradictions
    assert (found.floor.id, found.ceiling.id, found.proved) == ("f0", "secrets", True)
    assert found.witness.resource == "secrets"


def test_a_right_outside_of_namespaces_is_one_in_all_of_them() -> None:
    # Only a ClusterRoleBinding gives a list across all namespaces, and it gives it in each of them.
    spec = floor('verbs: list, apiGroups: "", resources: pods, namespaces: ""')
    result = run(bound(role(PODS)), spec + "ceiling:\n- {id: p, verbs: list, resources: pods, namespaces: kube-system}")
    assert result.outcome is Outcome.CONTRADICTION


def test_one_part_of_what_nobody_may_have_together_is_enough() -> None:
    parts = "allOf: [{verbs: get, resources: secrets}, {verbs: list, resources: pods}]"
    result = run(bound(role(PODS)), floor(READ_PODS) + f"ceiling:\n- {{id: both, {parts}}}")
    assert result.outcome is Outcome.REPAIRED
    assert texts(result) == [
        "ClusterRole scaler rules[0]: a rule of its own for the resources secrets",
        "ClusterRole scaler rules[1].verbs: remove get",
    ]


def test_edits_that_cannot_be_done_are_refused() -> None:
    manifest = parse_manifest(bound(role(PODS)))
    key, other = manifest.objects[0].key, ("Role", "x", "y")
    for edit in (
        Edit(EditKind.REMOVE, other, 0, "verbs", ("get",)),
        Edit(EditKind.REMOVE, key, 1, "verbs", ("get",)),
        Edit(EditKind.REMOVE, key, 0, "verbs", ("delete",)),
        Edit(EditKind.REMOVE, key, 0, "verbs", ("get", "list", "watch")),
        Edit(EditKind.SET, key, 0, "verbs", ()),
        Edit(EditKind.ADD_OBJECT, key, added=manifest.objects[0]),
        Edit(EditKind.REMOVE_SUBJECT, manifest.objects[1].key),
    ):
        with pytest.raises(UserError):
            apply_edits(manifest, (edit,))


def test_a_manifest_that_is_too_large_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medley.policy.rbac.repair.MAX_WORK", 2)
    given = parse_manifest(bound(role(PODS)))
    result = repair(given, read_spec(floor(READ_PODS) + f"ceiling:\n{NO_SECRETS}", "spec"), Prover())
    assert (result.outcome, result.manifest) == (Outcome.UNKNOWN, given)
    assert "too large" in result.reason


class Command:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys

    def run(self, manifest: str, spec: str, *more: str) -> tuple[int, str]:
        (self.folder / "m.yaml").write_text(manifest)
        (self.folder / "s.yaml").write_text(spec)
        files = ("-d", str(self.folder / "m.yaml"), "-s", str(self.folder / "s.yaml"))
        code = main(["policy", "repair", *files, *more])
        return code, self._capsys.readouterr().out


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path, capsys)


def test_the_command_prints_and_writes_the_repair(command: Command) -> None:
    spec = floor(READ_PODS) + f"ceiling:\n{NO_SECRETS}"
    written = command.folder / "fixed.yaml"
    code, out = command.run(bound(role(PODS)), spec, "-o", "json", "--write", str(written))
    said: dict[str, Any] = json.loads(out)
    assert (code, said["verdict"]) == (0, "Repaired")
    assert said["edits"] == [
        {"edit": "remove", "object": "ClusterRole scaler", "rule": 0, "field": "resources", "entries": ["secrets"]}
    ]
    assert "-  - secrets" in said["diff"]
    assert said["proof"]["verdict"] == "Satisfied"
    assert list(yaml.safe_load_all(written.read_text())) == said["documents"]
    code, out = command.run(written.read_text(), spec)
    assert (code, out.splitlines()[0]) == (0, "Unchanged")
    code, out = command.run(bound(role(PODS)), spec)
    assert "remove secrets" in out
    assert "2 rules proved by B+C" in out


def test_the_command_names_contradictions(command: Command) -> None:
    spec = floor('verbs: get, apiGroups: "", resources: secrets, namespaces: serving') + f"ceiling:\n{NO_SECRETS}"
    code, out = command.run(bound(role(PODS)), spec, "-o", "json")
    said = json.loads(out)
    assert (code, said["verdict"], said["proof"]) == (1, "Contradiction", None)
    assert parse_manifest(manifest_text(Manifest(parse_manifest(bound(role(PODS))).objects)))
    assert said["contradictions"][0]["provedBySmt"] is True
    code, out = command.run(bound(role(PODS)), spec)
    assert "floor f0 needs what ceiling secrets shuts" in out


def test_the_example_of_the_how_to_is_broken_and_repaired(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / "examples" / "policy"
    options = ("-s", str(folder / "autoscaler-spec.yaml"), "--ceiling", "kubernetes-danger", "-o", "json")
    given, fixed = str(folder / "autoscaler.yaml"), tmp_path / "fixed.yaml"
    assert main(["policy", "verify", "-d", given, *options]) == 1
    said = json.loads(capsys.readouterr().out)
    assert [witness["rule"] for witness in said["witnesses"]] == [
        "take-the-lease", "workloads-elsewhere", "wildcard-resources", "read-secrets", "workloads-anywhere",
    ]  # fmt: skip
    assert len(said["warnings"]) == 1
    assert main(["policy", "repair", "-d", given, *options, "--write", str(fixed)]) == 0
    assert len(json.loads(capsys.readouterr().out)["edits"]) == 6
    assert main(["policy", "verify", "-d", str(fixed), *options]) == 0
