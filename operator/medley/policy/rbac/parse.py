"""Reads manifests, strictly: what it does not know is an error that names the place, as in `rules[2].resources[0]`.

Objects of other API groups are kept as they are. What the API server refuses is refused (source: kubernetes v1.36.3,
pkg/apis/rbac/validation). Stricter than it in that
an unknown field is an error, a namespaced object must name its namespace, and no object may be there twice.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from typing import Any

from medley.model.errors import UserError
from medley.policy.json_text import read_json
from medley.policy.rbac.document import (
    API_GROUP,
    API_VERSION,
    RULE_FIELDS,
    Binding,
    Form,
    Kind,
    LabelSelector,
    Manifest,
    Metadata,
    Other,
    Pairs,
    PolicyRule,
    Requirement,
    Role,
    RoleRef,
    Subject,
    SubjectKind,
)
from medley.policy.rbac.request import FIRST
from medley.policy.rbac.warnings import binding_warnings, role_warnings
from medley.policy.yaml_text import read_yaml_stream

_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
_OTHER_METADATA = (
    "generateName", "selfLink", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
    "deletionGracePeriodSeconds", "ownerReferences", "finalizers", "managedFields",
)  # fmt: skip


def looks_like_manifest(text: str) -> bool:
    """Whether the text is of Kubernetes objects: they have a kind and an apiVersion, IAM documents have neither."""
    if not text.lstrip("\ufeff \t\r\n").startswith("{"):
        return re.search(r"^[ \t]*(- )?[\"']?(apiVersion|kind)[\"']?[ \t]*:", text, re.MULTILINE) is not None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and bool({"apiVersion", "kind"} & value.keys())


def parse_manifest(text: str, name: str = "manifest") -> Manifest:
    """A manifest from YAML or JSON: one object, several documents, or a List.

    Raises:
        UserError: not YAML, or a field that is missing, unknown or of the wrong type; the field is its path.
    """
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        documents = [read_json(text, name)]
    else:
        documents = read_yaml_stream(text, name)
    documents = [found for found in documents if found is not None]
    if not documents:
        raise UserError("is empty", field=name, fix="Give roles and bindings")
    form = Form.STREAM
    values: list[tuple[Any, str]] = []
    for number, value in enumerate(documents):
        path = f"{name}: $" if len(documents) == 1 else f"{name}: document {number + 1}: $"
        if isinstance(value, dict) and value.get("kind") == "List":
            if len(documents) > 1:
                raise UserError("is a List beside other documents", field=path, fix="Give one or the other")
            _keys(value, path, ("apiVersion", "kind", "items", "metadata"))
            if value.get("apiVersion") != "v1":
                raise UserError("is not v1", field=f"{path}.apiVersion")
            form = Form.LIST
            items = _list(value.get("items"), f"{path}.items")
            values.extend((item, f"{path}.items[{index}]") for index, item in enumerate(items))
        else:
            values.append((value, path))
    objects: list[Role | Binding | Other] = []
    warnings: list[str] = []
    seen: dict[tuple[str, str, str], str] = {}
    for value, path in values:
        other = _other(value, path)
        if other is not None:
            objects.append(other)
            continue
        found = object_of(value, path)
        if found.key in seen:
            raise UserError(f"{found} is there twice, first at {seen[found.key]}", field=path, fix="Keep one")
        seen[found.key] = path
        objects.append(found)
        warnings.extend(role_warnings(found, path) if isinstance(found, Role) else binding_warnings(found, path))
    return Manifest(tuple(objects), form, warnings=tuple(warnings))


def _other(value: Any, path: str) -> Other | None:
    """An object of another API group; None: it has to be one of ours."""
    kind, version = (value.get("kind"), value.get("apiVersion")) if isinstance(value, dict) else (None, None)
    if not isinstance(kind, str) or not isinstance(version, str) or not kind or not version:
        return None
    if version.partition("/")[0] == API_GROUP or kind in {found.value for found in Kind}:
        return None
    metadata = value.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise UserError("is not an object", field=f"{path}.metadata")
    if isinstance(value.get("items"), list):
        # kubectl applies what lists hold, however deep: here it would not be looked at.
        raise UserError("is a list inside", field=f"{path}.items", fix="Give its items one by one, or in one List")
    namespace, name = (str(metadata.get(key) or "") for key in ("namespace", "name"))
    _only_text_keys(value, path)
    return Other((f"{kind} ({version})", namespace, name), json.dumps(value, ensure_ascii=False))


def _only_text_keys(value: Any, path: str) -> None:
    """Refuses keys that JSON, which the API server takes, cannot have."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise UserError(f"the key {key!r} is not a text", field=path, fix="Quote it")
            _only_text_keys(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _only_text_keys(inner, f"{path}[{number}]")


def object_of(value: Any, path: str = "$") -> Role | Binding:
    """One object from its value, whose keys are known to be distinct."""
    if not isinstance(value, dict):
        raise UserError("is not an object", field=path)
    kinds = {kind.value: kind for kind in Kind}
    kind = kinds.get(value["kind"]) if isinstance(value.get("kind"), str) else None
    if kind is None:
        known = ", ".join((*kinds, "List"))
        raise UserError(f"{value.get('kind')!r} is no kind of RBAC", field=f"{path}.kind", fix=f"Known: {known}")
    if value.get("apiVersion") != API_VERSION:
        raise UserError(f"{value.get('apiVersion')!r} is not served", field=f"{path}.apiVersion", fix=API_VERSION)
    if kind in (Kind.ROLE, Kind.CLUSTER_ROLE):
        return _role(value, kind, path)
    return _binding(value, kind, path)


def rule_of(value: Any, path: str = "rule", *, namespaced: bool = False) -> PolicyRule:
    """One rule from its value."""
    _keys(value, path, tuple(RULE_FIELDS))
    lists = {field: _texts(value.get(name), f"{path}.{name}") for name, field in RULE_FIELDS.items()}
    rule = PolicyRule(**lists)
    if not rule.verbs:
        raise UserError("has no verb", field=f"{path}.verbs", fix="Name at least one")
    if rule.non_resource_urls:
        if namespaced:
            raise UserError(
                "URLs lie in no namespace", field=f"{path}.nonResourceURLs", fix="Put the rule into a ClusterRole"
            )
        if rule.api_groups or rule.resources or rule.resource_names:
            raise UserError("goes with no resources", field=f"{path}.nonResourceURLs", fix="Make two rules")
        return rule
    if not rule.api_groups:
        raise UserError("is empty", field=f"{path}.apiGroups", fix='Name at least one; "" is the core group')
    if not rule.resources:
        raise UserError("is empty", field=f"{path}.resources", fix="Name at least one")
    return rule


def _role(value: dict[str, Any], kind: Kind, path: str) -> Role:
    fields = ("apiVersion", "kind", "metadata", "rules")
    _keys(value, path, fields if kind.namespaced else (*fields, "aggregationRule"))
    metadata = _metadata(value.get("metadata"), kind, f"{path}.metadata")
    items = _list(value.get("rules") or [], f"{path}.rules")
    rules = tuple(rule_of(item, f"{path}.rules[{n}]", namespaced=kind.namespaced) for n, item in enumerate(items))
    aggregation = value.get("aggregationRule")
    return Role(kind, metadata, rules, None if aggregation is None else _aggregation(aggregation, path))


def _aggregation(value: Any, path: str) -> tuple[LabelSelector, ...]:
    path = f"{path}.aggregationRule"
    _keys(value, path, ("clusterRoleSelectors",))
    selectors = _list(value.get("clusterRoleSelectors"), f"{path}.clusterRoleSelectors")
    if not selectors:
        raise UserError("is empty", field=f"{path}.clusterRoleSelectors", fix="Give a selector")
    return tuple(_selector(item, f"{path}.clusterRoleSelectors[{number}]") for number, item in enumerate(selectors))


def _selector(value: Any, path: str) -> LabelSelector:
    _keys(value, path, ("matchLabels", "matchExpressions"))
    expressions = []
    for number, item in enumerate(_list(value.get("matchExpressions") or [], f"{path}.matchExpressions")):
        place = f"{path}.matchExpressions[{number}]"
        _keys(item, place, ("key", "operator", "values"))
        operator = item.get("operator")
        if operator not in _OPERATORS:
            raise UserError(f"{operator!r} is no operator", field=f"{place}.operator", fix=", ".join(_OPERATORS))
        values = _texts(item.get("values"), f"{place}.values")
        if bool(values) is not (operator in ("In", "NotIn")):
            raise UserError(f"goes {'not ' if values else ''}with {operator}", field=f"{place}.values")
        expressions.append(Requirement(_text(item.get("key"), f"{place}.key"), operator, values))
    return LabelSelector(_pairs(value.get("matchLabels"), f"{path}.matchLabels"), tuple(expressions))


def _binding(value: dict[str, Any], kind: Kind, path: str) -> Binding:
    _keys(value, path, ("apiVersion", "kind", "metadata", "subjects", "roleRef"))
    metadata = _metadata(value.get("metadata"), kind, f"{path}.metadata")
    ref: Any = value.get("roleRef")
    place = f"{path}.roleRef"
    _keys(ref, place, ("apiGroup", "kind", "name"))
    bound = (Kind.ROLE, Kind.CLUSTER_ROLE) if kind.namespaced else (Kind.CLUSTER_ROLE,)
    kinds = {found.value: found for found in bound}
    role_kind = kinds.get(ref.get("kind")) if isinstance(ref.get("kind"), str) else None
    if role_kind is None:
        raise UserError(f"{ref.get('kind')!r} cannot be bound here", field=f"{place}.kind", fix=" or ".join(kinds))
    group = ref.get("apiGroup")
    if group not in (None, "", API_GROUP):
        raise UserError(f"{group!r} has no roles", field=f"{place}.apiGroup", fix=API_GROUP)
    role = RoleRef(role_kind, _text(ref.get("name"), f"{place}.name"), group)
    items = _list(value.get("subjects") or [], f"{path}.subjects")
    subjects = tuple(_subject(item, kind, f"{path}.subjects[{number}]") for number, item in enumerate(items))
    return Binding(kind, metadata, role, subjects)


def _subject(value: Any, kind: Kind, path: str) -> Subject:
    _keys(value, path, ("kind", "name", "namespace", "apiGroup"))
    kinds = {found.value: found for found in SubjectKind}
    found = kinds.get(value["kind"]) if isinstance(value.get("kind"), str) else None
    if found is None:
        raise UserError(f"{value.get('kind')!r} is no subject", field=f"{path}.kind", fix=", ".join(kinds))
    account = found is SubjectKind.SERVICE_ACCOUNT
    group, served = value.get("apiGroup"), "" if account else API_GROUP
    if group not in (None, "", served):
        raise UserError(f"{group!r} has no {found.value}", field=f"{path}.apiGroup", fix=f'Use "{served}"')
    namespace = value.get("namespace") or ""
    if not isinstance(namespace, str):
        raise UserError("is not a text", field=f"{path}.namespace", fix="Quote it")
    if account and not namespace and not kind.namespaced:
        raise UserError("has no namespace", field=path, fix="Name that of the service account")
    if namespace and not account:
        raise UserError(f"a {found.value} lies in no namespace", field=f"{path}.namespace", fix="Leave it out")
    name = _text(value.get("name"), f"{path}.name")
    if name == FIRST:
        raise UserError(f"{FIRST} stands for the members of a group here", field=f"{path}.name", fix="Name another")
    return Subject(found, name, namespace, group)


def _metadata(value: Any, kind: Kind, path: str) -> Metadata:
    _keys(value, path, ("name", "namespace", "labels", "annotations", *_OTHER_METADATA))
    name = _text(value.get("name"), f"{path}.name")
    if name in (".", "..") or "/" in name or "%" in name:
        raise UserError(f"{name!r} can be no part of a path", field=f"{path}.name")
    namespace = value.get("namespace") or ""
    if not isinstance(namespace, str):
        raise UserError("is not a text", field=f"{path}.namespace", fix="Quote it")
    if kind.namespaced and not namespace:
        raise UserError("has no namespace", field=path, fix="Name it: what the object allows depends on it")
    if namespace and not kind.namespaced:
        raise UserError(f"a {kind.value} lies in no namespace", field=f"{path}.namespace", fix="Leave it out")
    other = tuple((key, json.dumps(value[key])) for key in value if key in _OTHER_METADATA)
    labels, annotations = (_pairs(value.get(key), f"{path}.{key}") for key in ("labels", "annotations"))
    return Metadata(name, namespace, labels, annotations, other)


def _keys(value: Any, path: str, known: Sequence[str]) -> None:
    if not isinstance(value, dict):
        raise UserError("is not an object", field=path)
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            fix = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}"
            raise UserError(f"{key!r} is no field", field=f"{path}.{key}", fix=fix)


def _list(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise UserError("is not a list", field=path)
    return value


def _texts(value: Any, path: str) -> tuple[str, ...]:
    items = _list([] if value is None else value, path)
    for number, item in enumerate(items):
        if not isinstance(item, str):
            raise UserError(f"{item!r} is not a text", field=f"{path}[{number}]", fix="Quote it")
    return tuple(items)


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str) or not value:
        raise UserError(f"{value!r} is not a text", field=path, fix="Name one, quoted if need be")
    return value


def _pairs(value: Any, path: str) -> Pairs:
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise UserError("is not an object", field=path)
    for key, found in value.items():
        if not isinstance(key, str) or not isinstance(found, str):
            raise UserError(f"{found!r} is not a text", field=f"{path}.{key}", fix="Quote it")
    return tuple(value.items())
