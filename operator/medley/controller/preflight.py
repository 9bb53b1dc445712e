"""Is everything there that the operator needs? Says what is missing and how to fix it; changes nothing.

Rights are asked of the API server itself, by SelfSubjectAccessReview: those of the list in `actuation.rights`, and
those on what the pools that exist name in `spec.provider.scale`.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from medley.actuation.cluster_api import NOT_FOUND, ApiError, ClusterApi
from medley.actuation.pools.scale import ScaleProvider
from medley.actuation.rights import RIGHTS, Right, lease_creation_rights, lease_rights, places, target_right
from medley.api.convert import parse
from medley.api.crds import KINDS, PLANNING_KINDS, Kind
from medley.controller.lease import LeaseSettings
from medley.model.errors import MedleyError, UserError
from medley.model.objects import API_VERSION
from medley.ports import MetricsSource

OLDEST_MINOR = 30
"""Of Kubernetes 1: the CRDs' validation rules and selectable fields are served from there on."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that is not as it must be, and what to do."""

    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}. {self.fix}"


def preflight(
    api: ClusterApi, metrics: MetricsSource | None, rights: Iterable[Right], services: Sequence[str] = ()
) -> tuple[Missing, ...]:
    """Everything that is missing, most basic first; where the API server does not answer, only that.

    Args:
        api: as the account that is to have the rights.
        metrics: where samples come from, if anywhere.
        rights: what the account needs.
        services: namespaces that are looked after; none: all.
    """
    try:
        basic = (*_version(api), *_kinds(api), *_rights(api, rights, services))
        return (*basic, *_rights(api, _of_targets(api), services), *_metrics(metrics))
    except MedleyError as error:
        return (Missing(str(error), "Check the address of the API server, and that it is up"),)


def needed(api: ClusterApi, lease: LeaseSettings | None) -> tuple[Right, ...]:
    """The operator's rights: to its lease too, and to create that where it is not there."""
    if lease is None:
        return RIGHTS
    try:
        there = api.exists(f"/apis/coordination.k8s.io/v1/namespaces/{lease.namespace}/leases/{lease.name}")
    except MedleyError:
        there = True  # it cannot be read: that is what is missing
    creation = () if there else lease_creation_rights(lease.namespace)
    return (*RIGHTS, *lease_rights(lease.namespace, lease.name), *creation)


def _version(api: ClusterApi) -> Iterable[Missing]:
    said = api.get("/version")
    minor = "".join(digit for digit in str(said.get("minor", "")) if digit.isdigit())  # "30+" on some clouds
    if str(said.get("major")) == "1" and minor and int(minor) < OLDEST_MINOR:
        text = f"Kubernetes {said.get('gitVersion', f'1.{minor}')} is older than 1.{OLDEST_MINOR}"
        yield Missing(text, f"Upgrade the cluster to 1.{OLDEST_MINOR} or later")


def preflight_access(api: ClusterApi, rights: Iterable[Right], services: Sequence[str] = ()) -> tuple[Missing, ...]:
    """The same for `medley access`: its kinds, its account's rights, and the solver of the second proof."""
    solver = () if find_spec("z3") else (Missing("Z3 is not installed: nothing can be proved", "Use the full image"),)
    try:
        return (*_version(api), *_kinds(api, KINDS), *_rights(api, rights, services), *solver)
    except MedleyError as error:
        return (Missing(str(error), "Check the address of the API server, and that it is up"),)


def _kinds(api: ClusterApi, kinds: Sequence[Kind] = PLANNING_KINDS) -> Iterable[Missing]:
    try:
        served = {item["name"] for item in api.get(f"/apis/{API_VERSION}").get("resources") or []}
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
        served = set()
    missing = [kind.crd_name for kind in kinds if kind.plural not in served]
    if missing:
        text = f"the CRDs {', '.join(missing)} are not served in {API_VERSION}"
        yield Missing(text, "Install them: medley crds | kubectl apply --server-side -f -")


def _rights(api: ClusterApi, rights: Iterable[Right], services: Sequence[str]) -> Iterable[Missing]:
    for right in rights:
        for place in places(right, services):
            refused = [verb for verb in right.verbs if not _allowed(api, right, verb, place)]
            if refused:
                yield _missing(right, refused, place)


def _of_targets(api: ClusterApi) -> Iterable[Right]:
    """To scale what the pools that exist name in spec.provider.scale, one right for each kind and namespace."""
    try:
        items = api.items(f"/apis/{API_VERSION}/gpupools")
    except ApiError:
        return  # no such kind, or no right to list it: both are named by the other checks
    pools = parse([{**item, "apiVersion": API_VERSION, "kind": "GPUPool"} for item in items]).pools
    provider = ScaleProvider(api)
    of: dict[tuple[str, str, str], list[tuple[str, str]]] = defaultdict(list)
    for pool in pools:
        if pool.scale is None:
            continue
        # A kind that is not served: no right would help, and an Event on the pool says so.
        with contextlib.suppress(UserError, ApiError):
            target = provider.target(pool)
            of[target.group, target.plural, target.namespace].append((target.name, pool.name))
    for (group, plural, namespace), found in sorted(of.items()):
        yield target_right(
            group, plural, namespace, names=sorted({name for name, _ in found}), pools=sorted(pool for _, pool in found)
        )


def _missing(right: Right, refused: Sequence[str], place: str) -> Missing:
    resource = f"{right.resource}.{right.group}" if right.group else right.resource
    where = f" in namespace {place}" if place else " in all namespaces"
    named = f" named {', '.join(right.names)}" if right.names else ""
    rule = f'{{apiGroups: ["{right.group}"], resources: ["{right.resource}"], verbs: {_list(refused)}'
    rule += f", resourceNames: {_list(right.names)}}}" if right.names else "}"
    return Missing(
        f"no right to {', '.join(refused)} {resource}{named}{where} ({right.why})",
        f"Add to the {'Role' if place else 'ClusterRole'} of its ServiceAccount: {rule}",
    )


def _list(items: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{item}"' for item in items) + "]"


def _allowed(api: ClusterApi, right: Right, verb: str, place: str) -> bool:
    resource, _, subresource = right.resource.partition("/")
    attributes = {"group": right.group, "resource": resource, "subresource": subresource, "verb": verb}
    attributes |= {"namespace": place} if place else {}
    answers = [
        api.create(
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {**attributes, **({"name": name} if name else {})}},
            },
        )
        for name in (right.names or ("",))
    ]  # fmt: skip
    return all(answer["status"].get("allowed", False) for answer in answers)


def _metrics(metrics: MetricsSource | None) -> Iterable[Missing]:
    # Without one, services with a static workload are still planned: that is a choice, and nothing is missing.
    fault = metrics.fault() if metrics is not None else ""
    if fault:
        yield Missing(fault, "Check --prometheus, and that a NetworkPolicy lets the operator reach it")
