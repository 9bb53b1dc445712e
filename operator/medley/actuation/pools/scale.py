"""Pools whose nodes are the replicas of an object with the scale subresource (Karpenter NodePool …).

How many nodes Medley asked for last stands in an annotation of the GPUPool: `managedFields` would say whose number it
is, but the scale subresource of a custom resource loses its entry on a second write (seen on Kubernetes 1.36).
"""

from __future__ import annotations

from dataclasses import dataclass

from medley.actuation.cluster_api import NOT_FOUND, ApiError, ClusterApi, PatchType
from medley.actuation.deployments import FIELD_MANAGER
from medley.cycle.decision import Claim
from medley.model.errors import UserError
from medley.model.objects import API_VERSION, Pool, ScaleTarget

ASKED = "medley.dev/asked-nodes"


@dataclass(frozen=True, slots=True)
class Target:
    """An object with the scale subresource; `namespace` is empty where its kind has none, `group` for the core."""

    group: str
    plural: str
    name: str
    namespace: str


class ScaleProvider:
    """Scales any object that has the scale subresource; resource names are discovered once."""

    def __init__(self, api: ClusterApi) -> None:
        self._api = api
        self._plurals: dict[tuple[str, str], tuple[str, bool]] = {}

    def target(self, pool: Pool) -> Target:
        """What a pool's spec.provider.scale names, as the API server calls it.

        Raises:
            UserError: the API server has no such kind.
            TransientError: it did not answer.
        """
        target = pool.scale
        assert target is not None
        group = target.api_version.rpartition("/")[0]
        plural, namespaced = self._resource(_root(target), target, pool)
        return Target(group, plural, target.name, (target.namespace or "default") if namespaced else "")

    def nodes(self, pool: Pool) -> int:
        """Nodes asked for now.

        Raises:
            UserError: there is no such object, or it has no scale subresource.
            TransientError: the API server did not answer.
        """
        try:
            found = self._api.get(f"{self._path(pool)}/scale")
        except ApiError as error:
            raise self._explained(pool, error) from error
        return int(found.get("spec", {}).get("replicas") or 0)

    def set_nodes(self, pool: Pool, nodes: int, claim: Claim) -> int | None:
        """Ask for a number of nodes; returns the number before if it was another, else None.

        Raises:
            UserError, TransientError: as `nodes`.
        """
        before = self.nodes(pool)
        if before == nodes or (claim is Claim.GROWING and nodes < before):
            return None
        asked = self._asked(pool)
        if claim is Claim.IF_OURS and before not in asked:
            return None
        # First the note, with both numbers: nodes that nobody remembers asking for would never be given back, whether
        # the next write succeeds or fails.
        self._note(pool, *({before} & asked), nodes)
        try:
            self._api.patch(
                f"{self._path(pool)}/scale", {"spec": {"replicas": nodes}}, PatchType.MERGE, fieldManager=FIELD_MANAGER
            )
        except ApiError as error:
            raise self._explained(pool, error) from error
        self._note(pool, nodes)
        return before

    def _asked(self, pool: Pool) -> set[int]:
        """Nodes that Medley asked for last; two numbers while a write is under way. Any other is somebody else's."""
        annotations = self._api.get(_object(pool))["metadata"].get("annotations") or {}
        return {int(number) for number in str(annotations.get(ASKED, "")).split(",") if number.isdigit()}

    def _note(self, pool: Pool, *nodes: int) -> None:
        body = {"metadata": {"annotations": {ASKED: ",".join(map(str, nodes))}}}
        self._api.patch(_object(pool), body, PatchType.MERGE, fieldManager=FIELD_MANAGER)

    def _path(self, pool: Pool) -> str:
        assert pool.scale is not None
        found = self.target(pool)
        place = f"/namespaces/{found.namespace}" if found.namespace else ""
        return f"{_root(pool.scale)}{place}/{found.plural}/{found.name}"

    def _resource(self, root: str, target: ScaleTarget, pool: Pool) -> tuple[str, bool]:
        key = (target.api_version, target.kind)
        if key not in self._plurals:
            try:
                resources = self._api.get(root).get("resources") or []
            except ApiError as error:
                raise self._explained(pool, error) from error
            for resource in resources:
                if resource["kind"] == target.kind and "/" not in resource["name"]:
                    self._plurals[key] = (resource["name"], bool(resource["namespaced"]))
                    break
            else:
                raise UserError(
                    f"{target.api_version} has no kind {target.kind}",
                    field=f"GPUPool/{pool.name} spec.provider.scale",
                    fix="Check apiVersion and kind, and that the CRD is installed",
                )
        return self._plurals[key]

    @staticmethod
    def _explained(pool: Pool, error: ApiError) -> Exception:
        if error.status == NOT_FOUND:
            return UserError(
                str(error),
                field=f"GPUPool/{pool.name} spec.provider.scale",
                fix="Create the object, or correct apiVersion, kind, name and namespace",
            )
        return error


def _root(target: ScaleTarget) -> str:
    return f"/apis/{target.api_version}" if "/" in target.api_version else f"/api/{target.api_version}"


def _object(pool: Pool) -> str:
    return f"/apis/{API_VERSION}/gpupools/{pool.name}"
