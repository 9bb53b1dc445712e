"""What the operator may do, rule by rule, with the reason: roles and the check at start are made of this list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from medley.model.objects import API_VERSION

Json = dict[str, Any]
_LEASES = "coordination.k8s.io"
_RBAC = "rbac.authorization.k8s.io"
GROUP = API_VERSION.split("/")[0]


class Scope(StrEnum):
    """Where a right is needed."""

    CLUSTER = "Cluster"
    """Everywhere, or for objects without a namespace."""
    SERVICES = "Services"
    """In the namespaces that it looks after. Elsewhere it would be a way to more rights: whoever may write workloads or
    ConfigMaps in kube-system may become administrator (policies/ceilings/kubernetes-danger.yaml)."""
    LEASE = "Lease"
    """In the namespace of the operator's lease."""
    TARGET = "Target"
    """In the namespace of what a pool scales."""
    POOL_EVENTS = "PoolEvents"
    """In `default`: there lie Events about objects without a namespace."""


@dataclass(frozen=True, slots=True)
class Right:
    """One rule.

    Attributes:
        group: API group; empty for the core.
        resource: plural, with its subresource: `deployments/scale`.
        verbs: of the API server's authorizer.
        why: what breaks without it.
        names: the only objects it is for; empty: all.
        scope: where it is needed.
        namespace: the one in which it is needed: of a lease, of a scale target, of Events about pools.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    names: tuple[str, ...] = ()
    scope: Scope = Scope.CLUSTER
    namespace: str = ""


RIGHTS = (
    Right(GROUP, "llmservices", ("list", "watch"), "reads the services", scope=Scope.SERVICES),
    Right(GROUP, "llmservices/status", ("patch",), "writes their status", scope=Scope.SERVICES),
    Right(GROUP, "gpupools", ("list", "watch"), "reads the pools"),
    Right(GROUP, "gpupools", ("get", "patch"), "notes how many nodes it asked for (medley.dev/asked-nodes)"),
    Right(GROUP, "throughputprofiles", ("list", "watch"), "reads the profiles"),
    Right("apps", "deployments", ("list",), "sees what runs", scope=Scope.SERVICES),
    Right("apps", "deployments", ("create", "patch"), "applies one Deployment per variant", scope=Scope.SERVICES),
    Right("apps", "deployments/scale", ("patch",), "scales a variant that is no longer listed", scope=Scope.SERVICES),
    Right("", "pods", ("list",), "sees which replicas are Ready", scope=Scope.SERVICES),
    Right("", "configmaps", ("list",), "sees what routers acknowledge", scope=Scope.SERVICES),
    Right("", "configmaps", ("create", "patch"), "publishes the routing table", scope=Scope.SERVICES),
    Right("", "events", ("create",), "says what it did", scope=Scope.SERVICES),
    Right("", "events", ("create",), "says what is wrong with a pool", (), Scope.POOL_EVENTS, "default"),
)
"""Of the operator, besides its lease and the scale targets of the pools. No secrets, no delete: owners collect."""


def lease_rights(namespace: str, name: str) -> tuple[Right, ...]:
    """To be one of several operators of which one leads, where the Lease object is there already."""
    why = "holds the lease of the one that leads"
    return (Right(_LEASES, "leases", ("get", "patch"), why, (name,), Scope.LEASE, namespace),)


def lease_creation_rights(namespace: str) -> tuple[Right, ...]:
    """To create the Lease object, where an installation brings none. It cannot be limited to a name."""
    return (Right(_LEASES, "leases", ("create",), "creates that lease", (), Scope.LEASE, namespace),)


def scale_rights(group: str, plural: str) -> tuple[Right, ...]:
    """To scale node pools of one kind."""
    return (Right(group, f"{plural}/scale", ("get", "patch"), "scales the node pools"),)


def target_right(group: str, plural: str, namespace: str, names: Sequence[str], pools: Sequence[str]) -> Right:
    """To scale the objects that these pools name; `namespace` is empty where their kind has none."""
    why = f"scales the nodes of GPUPool {', '.join(pools)}"
    scope = Scope.TARGET if namespace else Scope.CLUSTER
    return Right(group, f"{plural}/scale", ("get", "patch"), why, tuple(names), scope, namespace)


def places(right: Right, services: Sequence[str] = ()) -> tuple[str, ...]:
    """Namespaces in which a right is needed; an empty one stands for all, and for what lies outside of any.

    Args:
        right: of the operator.
        services: namespaces of the services; none: all.
    """
    match right.scope:
        case Scope.SERVICES:
            return tuple(services) or ("",)
        case Scope.POOL_EVENTS if not services:
            return ()  # everywhere is also there
        case _:
            return (right.namespace,)


def rules(rights: Iterable[Right]) -> list[Json]:
    """As rules of a Role or ClusterRole: one per right, in order."""
    out = []
    for right in rights:
        rule: Json = {"apiGroups": [right.group], "resources": [right.resource], "verbs": list(right.verbs)}
        if right.names:
            rule["resourceNames"] = list(right.names)
        out.append(rule)
    return out


def role_manifests(name: str, namespace: str, rights: Iterable[Right], services: Sequence[str] = ()) -> list[Json]:
    """A ServiceAccount and the roles and bindings that give it these rights.

    Args:
        name: of all objects.
        namespace: of the ServiceAccount.
        rights: what to give.
        services: namespaces of the services; none: those rights are given in all namespaces.
    """
    given = [right for right in rights if places(right, services)]
    cluster = [right for right in given if places(right, services) == ("",)]
    inside = [right for right in given if right.scope is Scope.SERVICES and services]
    out: list[Json] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
    ]
    account = {"kind": "ServiceAccount", "name": name, "namespace": namespace}

    def role(kind: str, called: str, place: str, mine: Sequence[Right]) -> Json:
        metadata = {"name": called, **({"namespace": place} if place else {})}
        return {"apiVersion": f"{_RBAC}/v1", "kind": kind, "metadata": metadata, "rules": rules(mine)}

    def binding(kind: str, called: str, place: str) -> Json:
        return {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "RoleBinding" if place else "ClusterRoleBinding",
            "metadata": {"name": called, **({"namespace": place} if place else {})},
            "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": called},
            "subjects": [dict(account)],
        }

    if cluster:
        out += [role("ClusterRole", name, "", cluster), binding("ClusterRole", name, "")]
    if inside:
        called = f"{name}-services"
        out += [role("ClusterRole", called, "", inside)]
        out += [binding("ClusterRole", called, place) for place in services]
    for place in sorted({right.namespace for right in given if right.namespace}):
        mine = [right for right in given if right.namespace == place]
        out += [role("Role", name, place, mine), binding("Role", name, place)]
    return out
