"""Requests of a floor, to be tried on a real API server: does what was proved hold where it counts?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from medley.policy.rbac.callers import Callers
from medley.policy.rbac.document import ALL, Manifest
from medley.policy.rbac.regions import Among, Region
from medley.policy.rbac.request import Caller, Request
from medley.policy.rbac.roleset import RoleSet
from medley.policy.rbac.spec import Spec

MOST = 64
"""Requests of one spec: each is a call to the API server."""


def floor_requests(spec: Spec, manifest: Manifest) -> Iterator[Request]:
    """Requests that the floor names outright, by those whom it names; else by those who are bound.

    A star is no request, and is left out.
    """
    roles = RoleSet(manifest)
    known = Callers((roles,))
    bound = tuple(
        dict.fromkeys(
            known.least(subject, binding.metadata.namespace)
            for binding in roles.bindings
            for subject in binding.subjects
        )
    )
    found = (
        request
        for rule in spec.floor
        for part in rule.parts
        for caller in ((part.caller,) if part.caller is not None else bound)
        for request in _requests(part, caller)
    )
    yield from itertools.islice(dict.fromkeys(found), MOST)


def _requests(part: Region, caller: Caller) -> Iterator[Request]:
    verbs = _named(part.verbs)
    if part.urls is not None:
        for verb, path in itertools.product(verbs, _named(part.urls)):
            if not path.endswith(ALL):
                yield Request(caller, verb, path=path)
        return
    axes = verbs, _named(part.api_groups), _named(part.resources), _or_any(part.names), _or_any(part.namespaces)
    for verb, group, whole, name, namespace in itertools.product(*axes):
        resource, _, subresource = whole.partition("/")
        if resource != ALL:
            yield Request(caller, verb, group, resource, subresource, name, namespace)


def _named(among: Among | None) -> tuple[str, ...]:
    return () if among is None else tuple(item for item in among.items if item != ALL)


def _or_any(among: Among | None) -> tuple[str, ...]:
    """The items; where there are none, the request for all of them."""
    return ("",) if among is None else among.items
