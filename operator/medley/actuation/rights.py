"""What the operator may do, rule by rule, with the reason: roles and the check at start are made of this list."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from medley.model.objects import API_VERSION

Json = dict[str, Any]
GROUP = API_VERSION.split("/")[0]


@dataclass(frozen=True, slots=True)
class Right:
    """One rule.

    Attributes:
        group: API group; empty for the core.
        resource: plural, with its subresource: `deployments/scale`.
        verbs: of the API server's authorizer.
        why: what breaks without it.
        names: the only objects it is for; empty: all.
        namespace: the only namespace it is for; empty: all.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    names: tuple[str, ...] = ()
    namespace: str = ""


RIGHTS = (
    Right(GROUP, "llmservices", ("list", "watch"), "reads the services"),
    Right(GROUP, "llmservices/status", ("patch",), "writes their status"),
    Right(GROUP, "gpupools", ("list", "watch"), "reads the pools"),
    Right(GROUP, "gpupools", ("get", "patch"), "notes how many nodes it asked for (medley.dev/asked-nodes)"),
    Right(GROUP, "throughputprofiles", ("list", "watch"), "reads the profiles"),
    Right("apps", "deployments", ("list",), "sees what runs"),
    Right("apps", "deployments", ("create", "patch"), "applies one Deployment per variant"),
    Right("apps", "deployments/scale", ("patch",), "scales a variant that is no longer listed"),
    Right("", "pods", ("list",), "sees which replicas are Ready"),
    Right("", "configmaps", ("list",), "sees what routers acknowledge"),
    Right("", "configmaps", ("create", "patch"), "publishes the routing table"),
    Right("", "events", ("create",), "says what it did"),
)
"""Of the operator, besides its lease and the scale targets of the pools. No secrets, no delete: owners collect."""


def lease_rights(namespace: str, name: str) -> tuple[Right, ...]:
    """To be one of several operators of which one leads. `create` cannot be limited to a name."""
    group = "coordination.k8s.io"
    return (
        Right(group, "leases", ("get", "patch"), "holds the lease of the one that leads", (name,), namespace),
        Right(group, "leases", ("create",), "creates that lease", (), namespace),
    )


def scale_rights(group: str, plural: str) -> tuple[Right, ...]:
    """To scale node pools of one kind."""
    return (Right(group, f"{plural}/scale", ("get", "patch"), "scales the node pools"),)


def rules(rights: Iterable[Right]) -> list[Json]:
    """As rules of a Role or ClusterRole: one per right, in order."""
    out = []
    for right in rights:
        rule: Json = {"apiGroups": [right.group], "resources": [right.resource], "verbs": list(right.verbs)}
        if right.names:
            rule["resourceNames"] = list(right.names)
        out.append(rule)
    return out


def role_manifests(name: str, namespace: str, rights: Iterable[Right]) -> list[Json]:
    """A ServiceAccount and the roles and bindings that give it rights in the whole cluster.

    Args:
        name: of all objects.
        namespace: of the ServiceAccount.
        rights: those with a namespace become a Role there, the others a ClusterRole.
    """
    account = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    everywhere, inside = [], {}  # type: ignore[var-annotated]
    for right in rights:
        (inside.setdefault(right.namespace, []) if right.namespace else everywhere).append(right)
    out: list[Json] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
    ]
    for place, mine in [("", everywhere), *sorted(inside.items())]:
        cluster = "" if place else "Cluster"
        metadata = {"name": name, **({"namespace": place} if place else {})}
        api = "rbac.authorization.k8s.io"
        out += [
            {"apiVersion": f"{api}/v1", "kind": f"{cluster}Role", "metadata": metadata, "rules": rules(mine)},
            {
                "apiVersion": f"{api}/v1", "kind": f"{cluster}RoleBinding", "metadata": metadata,
                "roleRef": {"apiGroup": api, "kind": f"{cluster}Role", "name": name}, "subjects": [account],
            },
        ]  # fmt: skip
    return out
