"""Reading and printing RBAC manifests: what is refused, with its path; what is kept; what is warned about."""

from __future__ import annotations

import pytest
import yaml

from medley.model.errors import UserError
from medley.policy.rbac.document import Form
from medley.policy.rbac.parse import parse_manifest
from medley.policy.rbac.render import manifest_text

ROLE = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: medley
  namespace: serving
  labels: {app: medley}
  annotations: {note: "keep: this"}
  creationTimestamp: null
rules:
- apiGroups: [""]
  resources: [pods, pods/log]
  verbs: [get, list]
- apiGroups: [apps]
  resources: ["*/scale"]
  resourceNames: [vllm]
  verbs: [update]
"""
BINDING = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: medley, namespace: serving}
subjects:
- {kind: ServiceAccount, name: medley}
- {kind: User, name: jane, apiGroup: rbac.authorization.k8s.io}
- {kind: Group, name: dev}
roleRef: {kind: Role, name: medley}
"""
CLUSTER = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: all}
aggregationRule:
  clusterRoleSelectors:
  - matchLabels: {a: b}
    matchExpressions:
    - {key: c, operator: In, values: [d, e]}
    - {key: f, operator: Exists}
rules: []
"""
URLS = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: urls}
rules:
- nonResourceURLs: [/metrics, "/healthz/*"]
  verbs: [get]
"""


@pytest.mark.parametrize("text", [ROLE, BINDING, CLUSTER, URLS])
def test_what_is_printed_says_what_was_written(text: str) -> None:
    manifest = parse_manifest(text)
    again = manifest_text(manifest)
    assert yaml.safe_load(again) == yaml.safe_load(text)
    assert parse_manifest(again) == manifest


def test_a_stream_and_a_list_keep_their_form_and_order() -> None:
    stream = parse_manifest("---\n" + "---\n".join((ROLE, BINDING, CLUSTER, URLS)) + "---\n")
    assert [found.kind.value for found in stream.objects] == ["Role", "RoleBinding", "ClusterRole", "ClusterRole"]
    assert parse_manifest(manifest_text(stream)) == stream
    listed = parse_manifest(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [yaml.safe_load(ROLE)]}))
    assert listed.form is Form.LIST
    assert parse_manifest(manifest_text(listed)) == listed
    assert listed.objects == parse_manifest(ROLE).objects


def test_objects_of_other_groups_are_kept_as_they_are() -> None:
    deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {replicas: 1, a: [1.5, null, é]}\n"
    text = f"{deployment}---\n{ROLE}---\n{deployment}"
    manifest = parse_manifest(text)
    assert list(yaml.safe_load_all(manifest_text(manifest))) == list(yaml.safe_load_all(text))
    assert parse_manifest(manifest_text(manifest)) == manifest
    assert [str(role) for role in manifest.roles] == ["Role serving/medley"]


def test_json_is_read_as_well() -> None:
    text = '{"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": []}'
    assert parse_manifest(text).objects == ()


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (changed(ROLE, "verbs: [get, list]", "verb: [get]"), "$.rules[0].verb"),
        (changed(ROLE, "verbs: [get, list]", "verbs: get"), "$.rules[0].verbs"),
        (changed(ROLE, "verbs: [get, list]", "verbs: [get, 1]"), "$.rules[0].verbs[1]"),
        (changed(ROLE, "verbs: [get, list]", "verbs: [get, on]"), "$.rules[0].verbs[1]"),
        (changed(ROLE, "verbs: [get, list]", "verbs: []"), "$.rules[0].verbs"),
        (changed(ROLE, "verbs: [update]", "verbs: [update]\n  nonResourceURLs: [/x]"), "$.rules[1].nonResourceURLs"),
        (changed(URLS, "verbs: [get]", "verbs: [get]\n  resources: [pods]"), "$.rules[0].nonResourceURLs"),
        (changed(ROLE, 'apiGroups: [""]\n  ', ""), "$.rules[0].apiGroups"),
        (changed(ROLE, "resources: [pods, pods/log]", "resources: []"), "$.rules[0].resources"),
        (changed(ROLE, "resources: [pods, pods/log]", "resources: [pods, null]"), "$.rules[0].resources[1]"),
        (changed(ROLE, "rules:\n", "rules:\n- 5\n"), "$.rules[0]"),
        (changed(ROLE, "rules:", "Rules:"), "$.Rules"),
        (changed(ROLE, "  namespace: serving\n", ""), "$.metadata"),
        (changed(ROLE, "name: medley\n", "name: a/b\n"), "$.metadata.name"),
        (changed(ROLE, "labels: {app: medley}", "labels: {app: 1}"), "$.metadata.labels.app"),
        (changed(ROLE, "labels:", "label:"), "$.metadata.label"),
        (changed(ROLE, "/v1", "/v1beta1"), "$.apiVersion"),
        (changed(ROLE, "kind: Role", "kind: Rol"), "$.kind"),
        (changed(ROLE, "apiVersion: rbac.authorization.k8s.io/v1", "apiVersion: v1"), "$.apiVersion"),
        ("apiVersion: v1\nkind: ConfigMap\ndata: {1: a}", "$.data"),
        (changed(ROLE, "kind: Role", "kind: ClusterRole"), "$.metadata.namespace"),
        (changed(ROLE, "rules:", "aggregationRule: {}\nrules:"), "$.aggregationRule"),
        (changed(CLUSTER, "operator: Exists", "operator: Has"), "matchExpressions[1].operator"),
        (changed(CLUSTER, "values: [d, e]", "values: []"), "matchExpressions[0].values"),
        (changed(BINDING, "kind: Role,", "kind: Deployment,"), "$.roleRef.kind"),
        (changed(BINDING, "{kind: Role, name: medley}", "medley"), "$.roleRef"),
        (changed(BINDING, "kind: Group", "kind: Groups"), "$.subjects[2].kind"),
        (changed(BINDING, "name: dev", "name: ''"), "$.subjects[2].name"),
        (changed(BINDING, "name: dev", "name: dev, namespace: x"), "$.subjects[2].namespace"),
        (changed(BINDING, "apiGroup: rbac.authorization.k8s.io}", "apiGroup: apps}"), "$.subjects[1].apiGroup"),
        (
            changed(BINDING, "RoleBinding\n", "ClusterRoleBinding\n").replace(", namespace: serving", ""),
            "$.roleRef.kind",
        ),
        (f"{ROLE}---\n{changed(BINDING, 'subjects', 'subject')}", "document 2: $.subject"),
        (f"{ROLE}---\n{ROLE}", "document 2"),
        ("", "manifest"),
        ("[1]", "$"),
    ],
)
def test_what_is_wrong_is_refused_with_its_path(text: str, path: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_manifest(text)
    assert path in refused.value.field


@pytest.mark.parametrize(
    "text",
    [
        changed(ROLE, "verbs: [get, list]", "verbs: [get, list]\n  verbs: [get]"),
        changed(ROLE, "kind: Role", "kind: Role\nkind: Role"),
        '{"kind": "List", "kind": "List", "apiVersion": "v1", "items": []}',
        "a: &x [1]\nb: *x",
        "a: [",
    ],
)
def test_duplicate_keys_aliases_and_broken_yaml_are_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_manifest(text)


def warned(resources: str, verbs: str, names: str = "") -> list[str]:
    rule = f"- apiGroups: ['']\n  resources: [{resources}]\n  verbs: [{verbs}]\n"
    text = ROLE[: ROLE.index("- apiGroups")] + rule + (f"  resourceNames: [{names}]\n" if names else "")
    return [warning.partition("$.")[2].partition(":")[0] for warning in parse_manifest(text).warnings]


def test_what_is_useless_is_warned_about_with_its_path() -> None:
    assert warned("pods", "get, create", "a") == ["rules[0].verbs[1]"]
    assert warned("pods", "deletecollection", "a") == ["rules[0].verbs[0]"]
    assert warned("pods/exec", "create", "a") == []
    assert warned("pods", "create") == []
    assert warned("pods", "list", "a") == ["rules[0].verbs[0]"]
    assert warned("pods, 'pods/*'", "get") == ["rules[0].resources[1]"]
    assert warned("Pods", "get") == ["rules[0].resources[0]"]
    assert warned("'*', '*/scale', pods/log", "get") == []
    assert warned("pods", "Get") == ["rules[0].verbs[0]"]


def test_urls_that_match_nothing_are_warned_about() -> None:
    text = changed(URLS, '[/metrics, "/healthz/*"]', '[metrics, "/a*b", "*", "/c*"]')
    assert [warning.partition("$.")[2].partition(":")[0] for warning in parse_manifest(text).warnings] == [
        "rules[0].nonResourceURLs[0]",
        "rules[0].nonResourceURLs[1]",
    ]
