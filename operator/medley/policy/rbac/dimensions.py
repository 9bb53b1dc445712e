"""RBAC as questions: rules and regions as clauses over the dimensions of a request.

A request is verb, API group, resource, subresource, name, namespace and caller, or verb, path and caller. An empty text
stands for what is not there, as in the API server. Every pattern is a constant, but for a path's trailing `*`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from medley.policy.clauses import Clause, Strings, Test
from medley.policy.glob import Glob, Star, Text
from medley.policy.rbac.document import ALL
from medley.policy.rbac.request import Request

VERB = "verb"
GROUP = "apiGroup"
RESOURCE = "rbac.resource"
SUBRESOURCE = "subresource"
NAME = "name"
NAMESPACE = "namespace"
PATH = "path"
CALLER = "rbac.caller"

OBJECT_VERBS = ("get", "update", "patch", "delete")
"""Verbs of requests for one object, by its name."""


def one_of(dimension: str, texts: Iterable[str], *, complement: bool = False) -> Test:
    """The dimension has one of the texts, or with `complement` another one."""
    globs = tuple(Glob((Text(text),) if text else ()) for text in dict.fromkeys(texts))
    return Test(dimension, Strings(globs), complement=complement)


ON_RESOURCE = one_of(PATH, ("",))
ON_PATH = one_of(PATH, ("",), complement=True)


def path_test(urls: Iterable[str], *, complement: bool = False) -> Test:
    """The path is one of the URLs, which may end in `*`."""
    globs = []
    for url in urls:
        start = url.rstrip(ALL)
        before = (Text(start),) if start else ()
        globs.append(Glob((*before, Star())) if url.endswith(ALL) else Glob(before))
    return Test(PATH, Strings(tuple(dict.fromkeys(globs))), complement=complement)


def resource_tests(resources: Sequence[str]) -> Iterator[tuple[Test, ...]]:
    """Alternatives, of which one holds where a rule's resources match; entries that match nothing have none."""
    if ALL in resources:
        yield ()
        return
    whole = [found for found in resources if found and "/" not in found]
    if whole:
        yield one_of(RESOURCE, whole), one_of(SUBRESOURCE, ("",))
    by_resource: dict[str, list[str]] = {}
    for found in resources:
        resource, _, subresource = found.partition("/")
        if resource and subresource:
            by_resource.setdefault(resource, []).append(subresource)
    for resource, subresources in by_resource.items():
        limit = () if resource == ALL else (one_of(RESOURCE, (resource,)),)
        yield *limit, one_of(SUBRESOURCE, subresources)


def listed(dimension: str, texts: Sequence[str]) -> tuple[Test, ...]:
    """A rule's list of verbs or API groups: nothing to test where it has a star."""
    return () if ALL in texts else (one_of(dimension, texts),)


def region_of(request: Request, caller: str) -> Clause:
    """The region that holds one request alone; `caller`: the caller's text."""
    verb = (one_of(CALLER, (caller,)), one_of(VERB, (request.verb,)))
    if request.path:
        return Clause((*verb, one_of(NAMESPACE, ("",)), one_of(PATH, (request.path,))))
    values = {
        GROUP: request.api_group,
        RESOURCE: request.resource,
        SUBRESOURCE: request.subresource,
        NAME: request.name,
        NAMESPACE: request.namespace,
    }
    return Clause((*verb, ON_RESOURCE, *(one_of(dimension, (text,)) for dimension, text in values.items())))


def ill_formed(callers: Sequence[str]) -> Iterator[Clause]:
    """Requests that the API server never makes of a URL, and callers that nobody is.

    Source: kubernetes v1.36.3, apiserver/pkg/endpoints/request/requestinfo.go. A `deletecollection` has no name;
    without one a GET is a `list`, and a DELETE a `deletecollection`. A `create` may have one: server-side apply and PUT
    of an object that is not there are authorised as that (endpoints/handlers/patch.go, update.go).
    """
    yield Clause((one_of(CALLER, callers, complement=True),))
    yield Clause((one_of(VERB, ("",)),))
    yield Clause((ON_PATH, one_of(NAMESPACE, ("",), complement=True)))
    yield Clause((ON_PATH, path_test(("/*",), complement=True)))
    yield Clause((ON_RESOURCE, one_of(RESOURCE, ("",))))
    yield Clause((ON_RESOURCE, one_of(VERB, OBJECT_VERBS), one_of(NAME, ("",))))
    named = one_of(NAME, ("",), complement=True)
    yield Clause((ON_RESOURCE, one_of(VERB, ("deletecollection",)), named))
