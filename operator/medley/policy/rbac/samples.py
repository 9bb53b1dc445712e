"""Requests that somebody could send, to judge by what an edit takes away.

They have Kubernetes' own verbs and resources, and what the manifest and the spec name.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from medley.policy.rbac.document import ALL
from medley.policy.rbac.realistic import CLUSTER_SCOPED, PATHS, RESOURCES, VERBS, possible
from medley.policy.rbac.request import Caller, Request
from medley.policy.rbac.roleset import Grant
from medley.policy.rbac.spec import Spec

MOST_CALLERS = 4


def samples(grants: Sequence[Grant], spec: Spec, callers: Iterable[Caller]) -> Iterator[Request]:
    """Sample requests of these callers, with what these grants and the spec name."""
    parts = [part for rule in spec.rules for part in rule.parts]
    verbs = _unique(*VERBS, *(verb for grant in grants for verb in grant.rule.verbs))
    names = _unique(
        "example",
        *(name for grant in grants for name in grant.rule.resource_names),
        *(name for part in parts if part.names is not None for name in part.names.items),
    )
    namespaces = _unique(
        "",
        "default",
        *(grant.scope for grant in grants),
        *(name for part in parts if part.namespaces is not None for name in part.namespaces.items),
    )
    urls = _unique(*PATHS, *(url.rstrip(ALL) for grant in grants for url in grant.rule.non_resource_urls))
    resources = dict.fromkeys((*RESOURCES, *_named(grants)))
    for caller in itertools.islice(dict.fromkeys(callers), MOST_CALLERS):
        for url in urls:
            if url.startswith("/"):
                yield Request(caller, "get", path=url)
        for (group, whole), verb, name, namespace in itertools.product(resources, verbs, ("", *names), namespaces):
            resource, _, subresource = whole.partition("/")
            if namespace and resource in CLUSTER_SCOPED:
                continue
            request = Request(caller, verb, group, resource, subresource, name, namespace)
            if possible(request):
                yield request


def _named(grants: Iterable[Grant]) -> Iterator[tuple[str, str]]:
    """Groups with resources as rules name them."""
    for grant in grants:
        for group, resource in itertools.product(grant.rule.api_groups, grant.rule.resources):
            if ALL not in (group, resource) and not resource.startswith("*/"):
                yield group, resource


def _unique(*texts: str) -> tuple[str, ...]:
    return tuple(text for text in dict.fromkeys(texts) if text != ALL)
