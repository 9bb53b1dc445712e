"""A ServiceAccount with given rights, and a kubeconfig that speaks as it: nothing here need run as administrator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from medley.actuation.cluster_api import CONFLICT, ApiError, ClusterApi, PatchType
from medley.actuation.rights import Right, role_manifests

Json = dict[str, Any]

_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_PLURALS = {
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "Role": (_RBAC, "roles"),
    "RoleBinding": (_RBAC, "rolebindings"),
    "ClusterRole": (_RBAC, "clusterroles"),
    "ClusterRoleBinding": (_RBAC, "clusterrolebindings"),
}


def grant(api: ClusterApi, namespace: str, name: str, rights: Iterable[Right], services: Sequence[str] = ()) -> None:
    """Create the account and its roles, or bring them to these rights; see `role_manifests`."""
    try:
        api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    except ApiError as error:
        if error.status != CONFLICT:
            raise
    for manifest in role_manifests(name, namespace, rights, services):
        put(api, manifest)


def put(api: ClusterApi, manifest: Json) -> None:
    """Apply an account, a role or a binding."""
    root, plural = _PLURALS[manifest["kind"]]
    metadata = manifest["metadata"]
    place = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    path = f"{root}{place}/{plural}/{metadata['name']}"
    api.patch(path, manifest, PatchType.APPLY, fieldManager="medley-lab", force="true")


def kubeconfig_for(api: ClusterApi, admin: Path, target: Path, namespace: str, name: str) -> Path:
    """Write a kubeconfig to `target` with a token of the account, for the cluster that `admin` names.

    Raises:
        ApiError: there is no such account.
    """
    answer = api.create(
        f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 24 * 3600}},
    )
    document = yaml.safe_load(admin.read_text())
    context = next(item["context"] for item in document["contexts"] if item["name"] == document["current-context"])
    document["users"] = [{"name": name, "user": {"token": answer["status"]["token"]}}]
    document["contexts"] = [{"name": name, "context": {"cluster": context["cluster"], "user": name}}]
    document["current-context"] = name
    target.touch(mode=0o600)
    target.write_text(yaml.safe_dump(document, sort_keys=False))
    return target
