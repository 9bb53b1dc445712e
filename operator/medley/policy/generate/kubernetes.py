"""Roles, bindings and service accounts.

A service's engines call no API of the cluster: their account has no rules, and no token is mounted. Its router reads
one ConfigMap by its name. The operator's objects come from the caller, who renders them from its list of rights; their
spec is made here from that list, not from the objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medley.model.objects import ServiceKey
from medley.policy.generate.inputs import OperatorNeeds, RightLike, RouterAccess, ServiceNeeds
from medley.policy.generate.part import Cloud, Json, Part, PartName
from medley.policy.generate.rbac_spec import Access, spec_of
from medley.policy.kind import PolicyKind
from medley.policy.rbac.document import API_GROUP, API_VERSION

CEILINGS = ("kubernetes-danger",)
_READING = ("get", "watch")


class Kubernetes:
    """Generates for one cluster; `cloud`, if there is one, gives the annotations of service accounts."""

    def __init__(self, cloud: Cloud | None = None) -> None:
        self._cloud = cloud

    def service(self, needs: ServiceNeeds) -> tuple[Part, ...]:
        """The engines' account, and the router's account, Role and RoleBinding."""
        owner = f"LLMService/{needs.key}"
        parts = []
        if needs.account is not None:
            account = ServiceKey(needs.key.namespace, needs.account)
            parts.append(
                Part(
                    PartName.SERVICE_ACCOUNT,
                    owner,
                    PolicyKind.RBAC,
                    [service_account(account, self.annotations(needs))],
                    spec_of((), subject_of(account)),
                    ceilings=CEILINGS,
                )
            )
        if needs.router is not None:
            parts.append(_router(needs, owner))
        return tuple(parts)

    def operator(self, needs: OperatorNeeds) -> tuple[Part, ...]:
        """The operator's roles and bindings, as its caller rendered them."""
        if not needs.manifests:
            return ()
        accesses = [
            Access(right.group, right.resource, tuple(right.verbs), tuple(right.names), _namespaces(right, needs))
            for right in needs.rights
        ]
        notes = dict(self.annotations(needs))
        return (
            Part(
                PartName.OPERATOR_ROLES,
                "operator",
                PolicyKind.RBAC,
                [_annotated(found, needs.account, notes) for found in needs.manifests],
                spec_of(accesses, subject_of(needs.account)),
                ceilings=CEILINGS,
            ),
        )

    def annotations(self, needs: ServiceNeeds | OperatorNeeds) -> Mapping[str, str]:
        """What the cloud wants on a service account."""
        return {} if self._cloud is None else self._cloud.annotations(needs)


def subject_of(account: ServiceKey) -> Json:
    """A service account as a subject."""
    return {"kind": "ServiceAccount", "name": account.name, "namespace": account.namespace}


def service_account(account: ServiceKey, annotations: Mapping[str, str]) -> Json:
    """A ServiceAccount whose pods get no token of the cluster's API."""
    metadata: Json = {"name": account.name, "namespace": account.namespace}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, "automountServiceAccountToken": False}


def _router(needs: ServiceNeeds, owner: str) -> Part:
    router = needs.router
    assert router is not None
    place, name = needs.key.namespace, router.config_map
    account = ServiceKey(place, router.account)
    verbs = [*_READING, *(["patch"] if router.access is RouterAccess.ACKNOWLEDGE else [])]
    metadata = {"name": f"{name}-reader", "namespace": place}
    role = {
        "apiVersion": API_VERSION,
        "kind": "Role",
        "metadata": metadata,
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name], "verbs": verbs}],
    }
    binding = {
        "apiVersion": API_VERSION,
        "kind": "RoleBinding",
        "metadata": dict(metadata),
        "roleRef": {"apiGroup": API_GROUP, "kind": "Role", "name": metadata["name"]},
        "subjects": [subject_of(account)],
    }
    steers = (*_READING, "patch") if router.access is RouterAccess.ACKNOWLEDGE else _READING
    # A router does call the API: its pods mount the token, so the account says nothing of it.
    own = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account.name, "namespace": place}}
    spec = spec_of([Access("", "configmaps", steers, (name,), (place,))], subject_of(account))
    return Part(PartName.ROUTER, owner, PolicyKind.RBAC, [own, role, binding], spec, ceilings=CEILINGS)


def _namespaces(right: RightLike, needs: OperatorNeeds) -> tuple[str, ...]:
    """Where a right is needed; empty: everywhere."""
    if right.scope == "Services":
        return needs.services
    return (right.namespace,) if right.namespace else ()


def _annotated(found: Mapping[str, Any], account: ServiceKey, notes: Mapping[str, str]) -> Json:
    """The object; the operator's account with what the cloud wants on it."""
    out = dict(found)
    metadata = dict(found.get("metadata") or {})
    if notes and found.get("kind") == "ServiceAccount" and metadata.get("name") == account.name:
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **notes}
    return {**out, "metadata": metadata}
