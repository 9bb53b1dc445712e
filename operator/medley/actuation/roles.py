"""Roles of Kubernetes with the bindings that give them: read as one manifest, written object by object."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import yaml

from medley.actuation.cluster_api import CONFLICT, NOT_FOUND, ApiError, ClusterApi, PatchType
from medley.model.errors import AccessError, MedleyError, TransientError
from medley.model.live_policy import LivePolicy
from medley.policy.rbac.document import Binding, Kind, Other, Role
from medley.policy.rbac.parse import object_of, parse_manifest
from medley.policy.rbac.render import object_value
from medley.policy.rbac.request import Request

Json = dict[str, Any]
ROOT = "/apis/rbac.authorization.k8s.io/v1"
_PLURALS = {
    Kind.ROLE: "roles",
    Kind.CLUSTER_ROLE: "clusterroles",
    Kind.ROLE_BINDING: "rolebindings",
    Kind.CLUSTER_ROLE_BINDING: "clusterrolebindings",
}
_KEPT = ("name", "namespace")
"""Of the metadata: the rest means nothing to authorisation, and whoever may edit it could make a document too long."""
CONSENT = "medley.dev/access-policy"
"""Annotation of a ClusterRole, or tag of an IAM role: `namespace/name` of the AccessPolicy that may write it."""
FIELD_MANAGER = "medley-access"


class RoleHome:
    """Roles (kind, namespace, name) and every binding that gives them.

    A Role's bindings are in its namespace; a ClusterRole's may be anywhere.
    """

    def __init__(self, api: ClusterApi, roles: tuple[tuple[Kind, str, str], ...]) -> None:
        self._api = api
        self._roles = roles

    def read(self) -> LivePolicy:
        """The roles with their bindings, as YAML.

        A role that is gone but still bound, or that is named and gone, is read as one without rules: what it lacks can
        be said, and given back.
        """
        objects: list[Json] = []
        marks: dict[str, str] = {}
        consents: set[str] = set()
        for kind, namespace, name in self._roles:
            try:
                role = self._get(_path(kind, namespace, name))
                marks[_mark(kind, namespace, name)] = role["metadata"]["resourceVersion"]
            except ApiError as error:
                if error.status != NOT_FOUND:
                    raise _refused(error) from error
                role = {"metadata": {"name": name, **({"namespace": namespace} if namespace else {})}, "rules": []}
            objects.append(_plain(kind, role))
            if kind is Kind.CLUSTER_ROLE:
                self._require_not_aggregated(role)
                consents.add((role["metadata"].get("annotations") or {}).get(CONSENT, ""))
            for bound, item in self._bindings(kind, namespace, name):
                metadata = item["metadata"]
                mark = _mark(bound, metadata.get("namespace", ""), metadata["name"])
                if mark not in marks:
                    marks[mark] = metadata["resourceVersion"]
                    objects.append(_plain(bound, item))
        text = yaml.safe_dump_all(objects, sort_keys=False, allow_unicode=True, width=100)
        return LivePolicy(text, marks=marks, consent=consents.pop() if len(consents) == 1 else "")

    def write(self, live: LivePolicy, document: str) -> None:
        """Bring the objects that differ to the document; roles first, so that no binding gives what is not there."""
        before, after = parse_manifest(live.document), parse_manifest(document)
        old = {found.key: found for found in before.objects}
        new = {found.key: found for found in after.objects}
        for found in after.objects:
            self._require_ours(found, live)
        changed = [found for found in after.objects if found != old.get(found.key) or not _there(found, live)]
        try:
            for found in sorted(changed, key=lambda item: isinstance(item, Binding)):
                self._put(found, live)
            for found in before.objects:
                if found.key not in new and _there(found, live):
                    self._delete(found, live)
        except ApiError as error:
            raise _refused(error) from error

    def _require_ours(self, found: Role | Binding | Other, live: LivePolicy) -> None:
        """Refuses every object but the roles that are named and what gives them.

        Raises:
            AccessError: it is another one: it would be written in the name of an AccessPolicy that does not name it.
        """
        keys = {(kind.value, namespace, name) for kind, namespace, name in self._roles}
        if isinstance(found, Role) and found.key in keys:
            return
        # Of a ClusterRole only bindings that were read: a new one could give it anywhere.
        known = isinstance(found, Binding) and (found.role.kind is Kind.ROLE or _there(found, live))
        if known and isinstance(found, Binding) and found.role_key in keys:
            return
        raise AccessError(f"the repair needs {found}, which is none of what the AccessPolicy names: apply it by hand")

    def allowed(self, request: Request) -> bool:
        """Whether the API server lets a request through now, whoever decides it there.

        Raises:
            AccessError: the right to ask is missing.
            TransientError: no answer.
        """
        try:
            answer = self._api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", subject_review(request))
        except ApiError as error:
            raise _refused(error) from error
        return bool(answer["status"].get("allowed", False))

    def _require_not_aggregated(self, role: Json) -> None:
        """Refuses a ClusterRole whose rules go to others through aggregation: who has those is not read.

        Raises:
            AccessError: it is aggregated, or that cannot be known.
        """
        labels = tuple((role["metadata"].get("labels") or {}).items())
        if not labels:
            return
        try:
            items = self._api.items(f"{ROOT}/clusterroles")
        except ApiError as error:
            raise _refused(error) from error
        for item in items:
            if item.get("aggregationRule"):
                one = object_of(_plain(Kind.CLUSTER_ROLE, item))
                picks = one.aggregation if isinstance(one, Role) else None
                if any(selector.matches(labels) for selector in picks or ()):
                    name, by = role["metadata"]["name"], item["metadata"]["name"]
                    raise AccessError(f"ClusterRole {name} is a part of ClusterRole {by}: name that one")

    def _get(self, path: str) -> Json:
        return self._api.get(path)

    def _bindings(self, kind: Kind, namespace: str, name: str) -> list[tuple[Kind, Json]]:
        try:
            if kind is Kind.ROLE:
                found = self._api.items(f"{ROOT}/namespaces/{namespace}/rolebindings")
                lists = [(Kind.ROLE_BINDING, found)]
            else:
                lists = [
                    (Kind.CLUSTER_ROLE_BINDING, self._api.items(f"{ROOT}/clusterrolebindings")),
                    (Kind.ROLE_BINDING, self._api.items(f"{ROOT}/rolebindings")),
                ]
        except ApiError as error:
            raise _refused(error) from error
        wanted = (kind.value, name)
        return [
            (bound, item)
            for bound, items in lists
            for item in items
            if (item["roleRef"]["kind"], item["roleRef"]["name"]) == wanted
        ]

    def _put(self, found: Role | Binding | Other, live: LivePolicy) -> None:
        assert not isinstance(found, Other)  # nothing else was read
        value = object_value(found)
        if not _there(found, live):
            try:
                self._api.create(_collection(found), value)
            except ApiError as error:
                if error.status != CONFLICT:
                    raise
                text = f"there is another {found}, which gives something else: rename it, or apply the repair by hand"
                raise AccessError(text) from error
            return
        content = {"rules": value["rules"]} if isinstance(found, Role) else {"subjects": value["subjects"]}
        # With the version that was read: what somebody changed meanwhile is read and judged again first.
        body = {"metadata": {"resourceVersion": live.marks[_mark_of(found)]}, **content}
        self._api.patch(_path_of(found), body, PatchType.MERGE, fieldManager=FIELD_MANAGER)

    def _delete(self, found: Role | Binding | Other, live: LivePolicy) -> None:
        assert not isinstance(found, Other)
        self._api.delete(_path_of(found), resource_version=live.marks[_mark_of(found)])


def subject_review(request: Request) -> Json:
    """The SubjectAccessReview that asks for a request."""
    if request.path:
        what: Json = {"nonResourceAttributes": {"verb": request.verb, "path": request.path}}
    else:
        attributes = {
            "verb": request.verb,
            "group": request.api_group,
            "resource": request.resource,
            "subresource": request.subresource,
            "name": request.name,
            "namespace": request.namespace,
        }
        what = {"resourceAttributes": {key: value for key, value in attributes.items() if value}}
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": request.caller.user, "groups": list(request.caller.groups), **what},
    }


def _plain(kind: Kind, item: Json) -> Json:
    """The object without what only the server needs."""
    metadata = {key: item["metadata"][key] for key in _KEPT if item["metadata"].get(key)}
    rest = {key: item[key] for key in ("aggregationRule", "rules", "subjects", "roleRef") if item.get(key) is not None}
    if kind in (Kind.ROLE, Kind.CLUSTER_ROLE):
        rest.setdefault("rules", [])
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind.value, "metadata": metadata, **rest}


def _there(found: Role | Binding | Other, live: LivePolicy) -> bool:
    return not isinstance(found, Other) and _mark_of(found) in live.marks


def _mark_of(found: Role | Binding) -> str:
    return _mark(found.kind, found.metadata.namespace, found.metadata.name)


def _mark(kind: Kind, namespace: str, name: str) -> str:
    return f"{kind.value}/{namespace}/{name}"


def _path_of(found: Role | Binding) -> str:
    return _path(found.kind, found.metadata.namespace, found.metadata.name)


def _path(kind: Kind, namespace: str, name: str) -> str:
    # Names may have colons, and nothing that ends a path segment: the API server checks that, and so does the CRD.
    place = f"/namespaces/{namespace}" if namespace else ""
    return f"{ROOT}{place}/{_PLURALS[kind]}/{quote(name, safe=':')}"


def _collection(found: Role | Binding) -> str:
    place = f"/namespaces/{found.metadata.namespace}" if found.metadata.namespace else ""
    return f"{ROOT}{place}/{_PLURALS[found.kind]}"


def _refused(error: ApiError) -> MedleyError:
    if error.status in (CONFLICT, NOT_FOUND):
        return TransientError(f"it has changed since it was read: {error}")
    return AccessError(str(error))
