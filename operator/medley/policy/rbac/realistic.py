"""Makes a witness look like a request that somebody could send, where it can stay a witness.

Engines find the shortest texts: the verb `x`, the resource `x`. The verbs and resources here are Kubernetes' own
(API reference, v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from medley.policy.rbac.dimensions import OBJECT_VERBS
from medley.policy.rbac.request import Request

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
"""What the API server makes of HTTP methods; all others are asked for by its own checks."""
OWN_VERBS = ("escalate", "bind", "impersonate", "approve", "sign", "attest", "use", "proxy", "head", "post", "put")

RESOURCES = (
    ("", "pods"), ("", "pods/log"), ("", "pods/exec"), ("", "pods/attach"), ("", "pods/portforward"),
    ("", "pods/ephemeralcontainers"), ("", "pods/eviction"), ("", "pods/binding"), ("", "pods/proxy"),
    ("", "secrets"), ("", "configmaps"), ("", "services"), ("", "serviceaccounts"), ("", "serviceaccounts/token"),
    ("", "events"), ("", "endpoints"), ("", "persistentvolumeclaims"), ("", "replicationcontrollers"),
    ("", "namespaces"), ("", "nodes"), ("", "nodes/proxy"), ("", "nodes/status"), ("", "persistentvolumes"),
    ("", "users"), ("", "groups"), ("", "services/proxy"), ("", "services/status"),
    ("apps", "deployments"), ("apps", "deployments/scale"), ("apps", "deployments/status"), ("apps", "statefulsets"),
    ("apps", "statefulsets/scale"), ("apps", "daemonsets"), ("apps", "replicasets"), ("apps", "replicasets/scale"),
    ("batch", "jobs"), ("batch", "cronjobs"), ("networking.k8s.io", "networkpolicies"),
    ("networking.k8s.io", "ingresses"),
    ("rbac.authorization.k8s.io", "roles"), ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"), ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("coordination.k8s.io", "leases"), ("autoscaling", "horizontalpodautoscalers"),
    ("storage.k8s.io", "storageclasses"),
    ("policy", "poddisruptionbudgets"), ("certificates.k8s.io", "certificatesigningrequests"),
    ("certificates.k8s.io", "certificatesigningrequests/approval"), ("certificates.k8s.io", "signers"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"),
    ("apiextensions.k8s.io", "customresourcedefinitions"), ("apiregistration.k8s.io", "apiservices"),
    ("authentication.k8s.io", "userextras"), ("scheduling.k8s.io", "priorityclasses"),
    ("gateway.networking.k8s.io", "httproutes"),
)  # fmt: skip
"""Group and resource, with and without subresource."""
CLUSTER_SCOPED = frozenset(
    {
        "namespaces", "nodes", "persistentvolumes", "clusterroles", "clusterrolebindings", "storageclasses", "users",
        "groups", "certificatesigningrequests", "signers", "validatingwebhookconfigurations",
        "mutatingwebhookconfigurations", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings",
        "customresourcedefinitions", "apiservices", "userextras", "priorityclasses",
    }
)  # fmt: skip
"""Of these, those in no namespace."""
PATHS = ("/metrics", "/healthz", "/version")


def realistic(request: Request, still: Callable[[Request], bool], named: frozenset[str]) -> Request:
    """The request with real names where `still` holds for them; the request itself where it does not.

    `named`: texts that roles and rules name; only others, which the engines made up, are replaced.
    """
    if request.path:
        if request.verb not in named:
            request = _first(request, _with_verbs(request, ("get", *OWN_VERBS)), still)
        if request.path not in named:
            request = _first(request, (replace(request, path=path) for path in PATHS), still)
        return request
    if (request.api_group, request.whole_resource) not in RESOURCES:
        request = _first(request, _with_resources(request), still)
    if request.verb not in named or request.verb not in (*VERBS, *OWN_VERBS):
        request = _first(request, _with_verbs(request, (*VERBS, *OWN_VERBS)), still)
    if not possible(request):
        places = dict.fromkeys(("default", "", *sorted(named)))
        request = _first(request, (replace(request, namespace=place) for place in places), still)
    if request.name and request.name not in named:
        request = _first(request, (replace(request, name="example"),), still)
    if request.namespace and request.namespace not in named:
        request = _first(request, (replace(request, namespace="default"),), still)
    return request


def _first(request: Request, candidates: Iterable[Request], still: Callable[[Request], bool]) -> Request:
    return next((found for found in candidates if possible(found) and still(found)), request)


def possible(request: Request) -> bool:
    """Whether the API server makes such a request of a URL, for a resource that exists in its place."""
    if request.path:
        return True
    known = (request.api_group, request.whole_resource) in RESOURCES
    if known and request.verb in (*OBJECT_VERBS, "create"):
        # An object lies in a namespace or in none, as its kind does. (A namespace lies in itself.)
        scoped = request.resource in CLUSTER_SCOPED
        if scoped is bool(request.namespace) and request.resource != "namespaces":
            return False
    if request.verb == "deletecollection":
        return not request.name
    return bool(request.name) or request.verb not in OBJECT_VERBS


def _with_verbs(request: Request, verbs: tuple[str, ...]) -> Iterator[Request]:
    for verb in verbs:
        for name in dict.fromkeys((request.name, "", "example")):
            yield replace(request, verb=verb, name=name)


def _with_resources(request: Request) -> Iterator[Request]:
    """Resources that exist, those of the same group first; cluster-scoped ones only outside of namespaces."""
    for group, whole in sorted(RESOURCES, key=lambda found: found[0] != request.api_group):
        resource, _, subresource = whole.partition("/")
        scoped = resource in CLUSTER_SCOPED
        for namespace in dict.fromkeys((request.namespace, "" if scoped else "default")):
            if not namespace or not scoped:
                yield replace(request, api_group=group, resource=resource, subresource=subresource, namespace=namespace)
