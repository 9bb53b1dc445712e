"""Prints manifests: what `parse` reads back as the same."""

from __future__ import annotations

import json
from typing import Any

import yaml

from medley.policy.rbac.document import (
    API_VERSION,
    Binding,
    Form,
    LabelSelector,
    Manifest,
    Metadata,
    Other,
    PolicyRule,
    Role,
    Subject,
)


def manifest_text(manifest: Manifest) -> str:
    """The manifest as YAML, in the form in which it was written."""
    return yaml.safe_dump_all(
        manifest_values(manifest), sort_keys=False, allow_unicode=True, width=100, explicit_start=False
    )


def manifest_values(manifest: Manifest) -> list[dict[str, Any]]:
    """The YAML documents of a manifest."""
    objects = [object_value(found) for found in manifest.objects]
    return [{"apiVersion": "v1", "kind": "List", "items": objects}] if manifest.form is Form.LIST else objects


def object_value(found: Role | Binding | Other) -> dict[str, Any]:
    """One object."""
    if isinstance(found, Other):
        value: dict[str, Any] = json.loads(found.text)
        return value
    out: dict[str, Any] = {"apiVersion": API_VERSION, "kind": found.kind.value, "metadata": _metadata(found.metadata)}
    if isinstance(found, Role):
        if found.aggregation is not None:
            out["aggregationRule"] = {"clusterRoleSelectors": [_selector(item) for item in found.aggregation]}
        out["rules"] = [rule_value(rule) for rule in found.rules]
        return out
    out["subjects"] = [subject_value(subject) for subject in found.subjects]
    group = {} if found.role.api_group is None else {"apiGroup": found.role.api_group}
    out["roleRef"] = {**group, "kind": found.role.kind.value, "name": found.role.name}
    return out


def rule_value(rule: PolicyRule) -> dict[str, list[str]]:
    """One rule, without its empty lists."""
    fields = {
        "apiGroups": rule.api_groups,
        "resources": rule.resources,
        "resourceNames": rule.resource_names,
        "nonResourceURLs": rule.non_resource_urls,
        "verbs": rule.verbs,
    }
    return {name: list(items) for name, items in fields.items() if items}


def subject_value(subject: Subject) -> dict[str, str]:
    """One subject."""
    out = {"kind": subject.kind.value, "name": subject.name}
    if subject.namespace:
        out["namespace"] = subject.namespace
    if subject.api_group is not None:
        out["apiGroup"] = subject.api_group
    return out


def _metadata(metadata: Metadata) -> dict[str, Any]:
    out: dict[str, Any] = {"name": metadata.name}
    if metadata.namespace:
        out["namespace"] = metadata.namespace
    if metadata.labels:
        out["labels"] = dict(metadata.labels)
    if metadata.annotations:
        out["annotations"] = dict(metadata.annotations)
    return out | {key: json.loads(text) for key, text in metadata.other}


def _selector(selector: LabelSelector) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if selector.match_labels:
        out["matchLabels"] = dict(selector.match_labels)
    if selector.expressions:
        out["matchExpressions"] = [
            {"key": found.key, "operator": found.operator, **({"values": list(found.values)} if found.values else {})}
            for found in selector.expressions
        ]
    return out
