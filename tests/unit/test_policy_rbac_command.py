"""`medley policy` on Kubernetes manifests, and the shipped ceiling for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medley.cli.main import main
from medley.cli.policy_input import ceiling_text
from medley.policy.answers import Engine
from medley.policy.prove import Prover, Refuted
from medley.policy.rbac.parse import looks_like_manifest, parse_manifest
from medley.policy.rbac.questions import kinds_gained, within
from medley.policy.rbac.realistic import RESOURCES, VERBS, possible
from medley.policy.rbac.request import Request, service_account, user
from medley.policy.rbac.roleset import RoleSet
from medley.policy.rbac.spec import read_spec

SUBJECT = "subject: {kind: ServiceAccount, name: scaler, namespace: medley}"
MANIFEST = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: scaler}
rules:
- {apiGroups: [""], resources: [pods, secrets], verbs: [get, list, watch]}
- {apiGroups: [apps], resources: [deployments, deployments/scale], verbs: [get, list, watch, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: scaler}
subjects: [{kind: ServiceAccount, name: scaler, namespace: medley}]
roleRef: {kind: ClusterRole, name: scaler}
"""
SPEC = f"""\
floor:
- {{id: pods, verbs: [get, list], apiGroups: "", resources: pods, namespaces: serving, {SUBJECT}}}
- {{id: scale, verbs: patch, apiGroups: apps, resources: deployments/scale, namespaces: serving, {SUBJECT}}}
ceiling:
- {{id: secrets, verbs: [get, list, watch], resources: secrets, reason: never needed, source: "https://example.org/r"}}
"""
NARROW = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: medley, namespace: serving}
rules:
- {apiGroups: [apps], resources: [deployments], verbs: [get, list, watch, create, update, patch, delete]}
- {apiGroups: [apps], resources: [deployments/scale], verbs: [get, update, patch]}
- {apiGroups: [""], resources: [pods], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [events], verbs: [create, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: medley}
rules:
- {apiGroups: [""], resources: [nodes], verbs: [get, list, watch]}
- {apiGroups: [medley.dev], resources: [llmservices, llmservices/status], verbs: [get, list, watch, patch]}
- {nonResourceURLs: [/metrics], verbs: [get]}
"""


class Files:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def path(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def run(self, *arguments: object) -> tuple[int, str, str]:
        code = main(["policy", *map(str, arguments)])
        out, err = self._capsys.readouterr()
        return code, out, err

    def json(self, *arguments: object) -> tuple[int, dict[str, Any]]:
        code, out, _ = self.run(*arguments, "-o", "json")
        return code, json.loads(out)


@pytest.fixture
def files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Files:
    return Files(tmp_path, capsys)


def test_verify_names_the_rule_and_the_binding(files: Files) -> None:
    manifest, spec = files.path("m.yaml", MANIFEST), files.path("s.yaml", SPEC)
    code, said = files.json("verify", "-d", manifest, "-s", spec)
    assert (code, said["verdict"]) == (1, "Violated")
    [witness] = said["witnesses"]
    assert (witness["rule"], witness["reason"]) == ("secrets", "never needed")
    assert witness["grants"] == [{"role": "ClusterRole scaler", "rule": 0, "binding": "ClusterRoleBinding scaler"}]
    assert witness["request"]["resource"] == "secrets"
    assert witness["request"]["user"] == "system:serviceaccount:medley:scaler"
    assert [(rule["rule"], rule["engines"]) for rule in said["proved"]] == [("pods", ["B", "C"]), ("scale", ["B", "C"])]
    code, out, _ = files.run("verify", "-d", manifest, "-s", spec)
    assert "must not be allowed, but is, by ClusterRole scaler rules[0] through ClusterRoleBinding scaler" in out


def test_localise_names_the_entries(files: Files) -> None:
    manifest = files.path("m.yaml", MANIFEST)
    wanted = f"- {{id: w, verbs: watch, apiGroups: apps, resources: deployments/status, namespaces: x, {SUBJECT}}}"
    spec = files.path("s.yaml", SPEC.replace("ceiling:", f"{wanted}\nceiling:"))
    code, said = files.json("localise", "-d", manifest, "-s", spec)
    assert code == 1
    missing, secrets = said["faults"]
    assert (missing["case"], secrets["case"]) == ("implicit deny", "allowed")
    elements = {found["element"]: found["entries"] for found in secrets["grants"][0]["elements"]}
    assert elements["resources"] == ["secrets"]
    assert elements["subjects"] == ["ServiceAccount medley/scaler"]
    nearest = missing["nearest"][0]
    assert nearest["rule"] == 1
    assert [found["element"] for found in nearest["elements"] if not found["matches"]] == ["resources"]
    code, out, _ = files.run("localise", "-d", manifest, "-s", spec)
    assert "would allow it but for resources" in out


def test_explain_decides_one_request(files: Files) -> None:
    manifest = files.path("m.yaml", MANIFEST)
    asked = ("--verb", "get", "--resource", "secrets", "--name", "a", "--namespace", "x")
    code, said = files.json("explain", "-d", manifest, *asked, "--as", "system:serviceaccount:medley:scaler")
    assert (code, said["decision"]) == (0, "Allowed")
    assert [grant["matches"] for grant in said["grants"]] == [True, False]
    code, said = files.json("explain", "-d", manifest, *asked, "--as", "jane", "--as-group", "dev")
    assert (code, said["decision"]) == (1, "ImplicitDeny")
    assert said["request"]["groups"] == ["dev", "system:authenticated"]
    code, _, err = files.run("explain", "-d", manifest, "--verb", "get")
    assert code == 2
    assert "--path" in err
    code, _, err = files.run("explain", "-d", manifest, *asked, "--action", "s3:GetObject")
    assert (code, "--action" in err) == (2, True)
    iam = files.path("iam.json", '{"Version": "2012-10-17", "Statement": []}')
    code, _, err = files.run("explain", "-d", iam, "--action", "s3:GetObject", "--as", "jane")
    assert (code, "--as" in err) == (2, True)
    assert files.run("explain", "-d", iam)[0] == 2


def test_diff_tells_what_is_gained(files: Files) -> None:
    before = files.path("before.yaml", MANIFEST)
    after = files.path("after.yaml", MANIFEST.replace("[pods, secrets]", "[pods]"))
    code, said = files.json("diff", before, after)
    assert (code, said["relation"]) == (0, "Narrower")
    assert said["lost"]["request"]["resource"] == "secrets"
    assert said["lost"]["count"] > 0
    code, said = files.json("diff", after, before)
    assert (code, said["relation"]) == (1, "Wider")
    assert files.json("diff", before, before)[1]["relation"] == "Equivalent"
    # A rule that matches nothing changes nothing: a deletecollection has no name.
    useless = "- {apiGroups: [''], resources: [services], resourceNames: [a], verbs: [deletecollection]}\n---"
    again = files.path("again.yaml", MANIFEST.replace("---", useless, 1))
    assert files.json("diff", before, again)[1]["relation"] == "Equivalent"
    iam = files.path("iam.json", '{"Version": "2012-10-17", "Statement": []}')
    assert files.run("diff", before, iam)[0] == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MANIFEST.replace("verbs: [get, list, watch]}", "verb: [get]}"), "rules[0].verb"),
        (MANIFEST.replace("kind: ClusterRole, name: scaler}", "kind: ClusterRole, name: view}"), "ClusterRole view"),
        ("apiVersion: v1\nkind: List\nitems: []\n", "has no roles"),
        ("kind: [\n", "is not YAML"),
    ],
)
def test_bad_manifests_are_bad_input(files: Files, text: str, said: str) -> None:
    code, _, err = files.run("verify", "-d", files.path("m.yaml", text), "-s", files.path("s.yaml", SPEC))
    assert code == 2
    assert said in err


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("floor:\n- {id: a, verbs: get, resources: pods}", "apiGroups"),
        ("floor:\n- {id: a, apiGroups: '', resources: pods}", "verbs"),
        ("floor:\n- {id: a, verbs: get, apiGroups: '', notResources: pods}", "notResources"),
        ("ceiling:\n- {id: a, verb: get}", "'verb' is no field"),
        ("ceiling:\n- {id: a, action: 's3:GetObject'}", "'action' is no field"),
        ("ceiling:\n- {id: a, verbs: deletecollection, resources: pods, resourceNames: x}", "no request lies in it"),
        ("ceiling:\n- {id: a, verbs: GET, resources: pods}", "lower case"),
        ("ceiling:\n- {id: a, apiGroups: apps/v1, resources: deployments}", "without version"),
        ("ceiling:\n- {id: a, resources: 'pods/*'}", "no wildcard"),
        ("ceiling:\n- {id: a, resources: pods, namespaces: '*'}", "a star is a name here"),
        ("ceiling:\n- {id: a, resources: pods, resourceNames: ['*']}", "a star is a name here"),
        ("? [a]\n: b\n", "a key is no text"),
        ("ceiling: !!timestamp foo\n", "it has a tag"),
        ('ceiling:\n- {id: "\\ud800", resources: pods}', "half of a surrogate"),
        ("ceiling:\n- {id: a, verbs: [1]}", "is not a text"),
        ("ceiling:\n- {id: a, nonResourceURLs: /x, resources: pods}", "goes with verbs alone"),
        ("ceiling:\n- {id: a, verbs: get, notVerbs: list}", "does not go with verbs"),
        ("ceiling:\n- {id: a, subject: {kind: Robot, name: x}}", "is no subject"),
        ("ceiling:\n- {id: a, subject: {kind: Group, name: 'system:masters'}}", "may do everything"),
        ("ceiling:\n- {id: a, allOf: [{verbs: get}]}", "two or more"),
        ("ceiling: {a: b}", "is not a list"),
    ],
)
def test_bad_specs_are_bad_input(files: Files, rule: str, said: str) -> None:
    code, _, err = files.run("verify", "-d", files.path("m.yaml", MANIFEST), "-s", files.path("s.yaml", rule))
    assert code == 2
    assert said in err


def test_options_of_iam_are_refused_and_warnings_are_told(files: Files) -> None:
    manifest = files.path("m.yaml", MANIFEST.replace("[pods, secrets]", "[pods, 'secrets/*']"))
    spec = files.path("s.yaml", SPEC)
    code, _, err = files.run("verify", "-d", manifest, "-s", spec, "--target", "managed-policy")
    assert (code, "--target" in err) == (2, True)
    code, _, err = files.run("verify", "-d", manifest, "-s", spec)
    assert code == 0
    assert "rules[0].resources[1]: 'secrets/*' is no wildcard" in err


def test_a_role_that_nobody_has_beside_others_is_warned_about(files: Files) -> None:
    other = MANIFEST.partition("---\n")[0].replace("{name: scaler}", "{name: other}")
    manifest, spec = files.path("m.yaml", f"{MANIFEST}---\n{other}"), files.path("s.yaml", SPEC)
    _, said = files.json("verify", "-d", manifest, "-s", spec)
    assert said["warnings"] == ["ClusterRole other: bound to nobody here, so nothing that it gives is looked at"]


def test_what_a_document_is_is_told_by_its_fields() -> None:
    assert looks_like_manifest(MANIFEST)
    assert looks_like_manifest('{"apiVersion": "v1", "kind": "List", "items": []}')
    assert not looks_like_manifest('{"Version": "2012-10-17", "Statement": []}')
    assert not looks_like_manifest("{")
    assert not looks_like_manifest("not a document")


def test_a_set_that_one_caller_may_not_have_all_of(files: Files) -> None:
    parts = "allOf: [{verbs: get, resources: pods}, {verbs: patch, resources: deployments/scale}]"
    spec = files.path("s.yaml", f"ceiling:\n- {{id: both, {parts}}}\n")
    code, said = files.json("verify", "-d", files.path("m.yaml", MANIFEST), "-s", spec)
    assert code == 1
    assert [(found["part"], found["request"]["resource"]) for found in said["witnesses"]] == [
        (0, "pods"),
        (1, "deployments/scale"),
    ]
    # Two roles for two users: neither has both.
    one = MANIFEST.replace("- {apiGroups: [apps], resources: [deployments, deployments/scale]", "#")
    other = MANIFEST.replace('- {apiGroups: [""], resources: [pods, secrets]', "#").replace("scaler", "other")
    code, said = files.json("verify", "-d", files.path("m.yaml", f"{one}---\n{other}"), "-s", spec)
    assert (code, said["verdict"]) == (0, "Satisfied")


def test_a_user_named_with_two_groups_has_what_both_have(files: Files) -> None:
    group = MANIFEST.replace("kind: ServiceAccount, name: scaler, namespace: medley", "kind: Group, name: a")
    one = group.replace("- {apiGroups: [apps]", "#")
    other = group.replace('- {apiGroups: [""]', "#").replace("scaler", "other").replace("name: a}", "name: b}")
    manifest = files.path("m.yaml", f"{one}---\n{other}")
    parts = "allOf: [{verbs: get, resources: pods}, {verbs: patch, resources: deployments}]"
    anyone = files.path("anyone.yaml", f"ceiling:\n- {{id: both, {parts}}}\n")
    assert files.json("verify", "-d", manifest, "-s", anyone)[0] == 0
    subject = "subject: {kind: User, name: eve, groups: [a, b]}"
    eve = files.path("eve.yaml", f"ceiling:\n- {{id: both, {subject}, {parts}}}\n")
    assert files.json("verify", "-d", manifest, "-s", eve)[0] == 1


CEILING = "kubernetes-danger"


def test_every_row_of_the_ceiling_names_its_source() -> None:
    rules = read_spec(ceiling_text(CEILING), CEILING).ceiling
    assert len(rules) == len({rule.id for rule in rules}) >= 24
    assert all(rule.source.startswith("https://") for rule in rules)


@pytest.fixture
def spec(files: Files) -> Path:
    return files.path("empty.yaml", "ceiling:\n- {id: none, verbs: nothing, resources: nothing, apiGroups: nothing}\n")


def test_a_narrow_operator_is_inside_the_ceiling(files: Files, spec: Path) -> None:
    code, said = files.json("verify", "-d", files.path("m.yaml", NARROW), "-s", spec, "--ceiling", CEILING)
    assert (code, said["witnesses"]) == (0, [])


def test_an_administrator_breaks_every_row(files: Files, spec: Path) -> None:
    binding = MANIFEST.partition("---\n")[2].replace("name: scaler}\n", "name: cluster-admin}\n")
    code, said = files.json("verify", "-d", files.path("m.yaml", binding), "-s", spec, "--ceiling", CEILING)
    assert code == 1
    broken = {witness["rule"] for witness in said["witnesses"]}
    assert broken == {"none", *(rule.id for rule in read_spec(ceiling_text(CEILING), CEILING).ceiling)}


RISKY = {
    "read-secrets": ("", "secrets", "list"),
    "exec": ("", "pods/exec", "create"),
    "attach": ("", "pods/attach", "create"),
    "ephemeral-containers": ("", "pods/ephemeralcontainers", "patch"),
    "tokens": ("", "serviceaccounts/token", "create"),
    "namespace-labels": ("", "namespaces", "patch"),
    "escalate": ("rbac.authorization.k8s.io", "roles", "escalate"),
    "bind": ("rbac.authorization.k8s.io", "clusterroles", "bind"),
    "impersonate": ("", "users", "impersonate"),
}


@pytest.mark.parametrize("row", RISKY)
def test_one_risky_rule_in_a_role_breaks_its_row_alone(files: Files, spec: Path, row: str) -> None:
    group, resource, verb = RISKY[row]
    rule = f'- {{apiGroups: ["{group}"], resources: [{resource}], verbs: [{verb}]}}\n---'
    manifest = files.path("m.yaml", NARROW.replace("---", rule, 1))
    code, said = files.json("verify", "-d", manifest, "-s", spec, "--ceiling", CEILING)
    assert code == 1
    assert [witness["rule"] for witness in said["witnesses"]] == [row]


def test_regions_mean_what_the_spec_says() -> None:
    [rule] = read_spec(
        "ceiling:\n- {id: a, notVerbs: [get], notResources: ['*/scale', pods], notNamespaces: [x], apiGroups: ''}", "s"
    ).rules
    [region] = rule.parts

    def inside(verb: str, resource: str, subresource: str = "", namespace: str = "y") -> bool:
        return region.contains(Request(user("a"), verb, "", resource, subresource, "n", namespace))

    assert inside("list", "secrets")
    assert inside("list", "pods", "log")
    assert not inside("get", "secrets")
    assert not inside("list", "pods")
    assert not inside("list", "pods", "scale")
    assert not inside("list", "secrets", namespace="x")
    assert not region.contains(Request(user("a"), "list", path="/metrics"))


def role_set(text: str) -> RoleSet:
    return RoleSet(parse_manifest(text))


def test_a_witness_is_a_request_that_somebody_could_send() -> None:
    stars = "rules:\n- {apiGroups: ['*'], resources: ['*'], verbs: ['*']}\n---"
    everything = role_set(MANIFEST[: MANIFEST.index("rules:")] + stars + MANIFEST.partition("---")[2])
    for outer in (role_set(MANIFEST), RoleSet(())):
        found = within(everything, outer, Prover(engines=(Engine.ATOMS,)))
        assert isinstance(found, Refuted)
        request = found.witness
        assert (request.api_group, request.whole_resource) in RESOURCES
        assert request.verb in VERBS
        assert possible(request)
        assert request.caller == service_account("medley", "scaler")


def test_kinds_of_requests_are_counted() -> None:
    one, other = role_set(MANIFEST), role_set(MANIFEST.replace("[pods, secrets]", "[pods]"))
    assert kinds_gained(one, one) == 0
    assert kinds_gained(one, other) == 0
    # Of secrets, in a namespace or across all: get by name; list or watch, which no rule tells apart, by name or not.
    assert kinds_gained(other, one) == 6
