"""Edits that may take a request away from a grant: of its rule, or of its binding.

A rule is first split, so that what else it gives stays: a rule for pods and secrets that may not list secrets becomes
one for pods and one for secrets, and the second loses `list`.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from medley.policy.rbac.document import (
    ALL,
    API_GROUP,
    Binding,
    Kind,
    Manifest,
    Metadata,
    PolicyRule,
    Role,
    RoleRef,
)
from medley.policy.rbac.edits import Edit, EditKind, Key, entries_of, with_entries
from medley.policy.rbac.localise import matching_entries
from medley.policy.rbac.realistic import RESOURCES, VERBS
from medley.policy.rbac.regions import Region
from medley.policy.rbac.request import Request
from medley.policy.rbac.roleset import EVERYWHERE, Grant, subject_is
from medley.policy.rbac.spec import Rule, Spec

Plan = tuple[Edit, ...]
MOST_SPLITS = 2
_SPLIT_ORDER = ("resources", "nonResourceURLs", "apiGroups", "resourceNames", "verbs")
"""People read rules by resource: of two splits that do the same, that is the first."""


class Narrowing:
    """Proposes edits of one manifest."""

    def __init__(self, manifest: Manifest, spec: Spec) -> None:
        self._keys = {found.key for found in manifest.objects}
        self._spec = spec

    def plans(self, grant: Grant, request: Request, shut: Region) -> list[Plan]:
        """Edits after which the grant may no longer allow the request, fewest first.

        Entries that lead into the same region go together with those that match.
        """
        found = list(self._binding(grant, request))
        if grant.role.key in self._keys:
            matching = matching_entries(grant, request)
            found.extend(self._rule(grant, request, _all_shut(grant.rule, matching, request, shut)))
            found.extend(self._rule(grant, request, matching))
        return sorted(dict.fromkeys(found), key=len)

    def last(self, grant: Grant, request: Request) -> Plan:
        """What takes the request away for certain, with all else that the rule or the binding gives."""
        if grant.role.key in self._keys:
            return (Edit(EditKind.REMOVE_RULE, grant.role.key, grant.index),)
        return next(iter(self._subjects(grant, request)))

    # The rule.

    def _rule(self, grant: Grant, request: Request, matching: dict[str, tuple[str, ...]]) -> Iterator[Plan]:
        key, rule = grant.role.key, grant.rule
        splittable = [name for name in _SPLIT_ORDER if 0 < len(matching.get(name, ())) < len(entries_of(rule, name))]
        for number in range(MOST_SPLITS + 1):
            for names in itertools.combinations(splittable, number):
                index, part = grant.index, rule
                edits = []
                for name in names:
                    edits.append(Edit(EditKind.SPLIT_RULE, key, index, name, matching[name]))
                    index, part = index + 1, with_entries(part, name, matching[name])
                for edit in self._narrow(grant, part, index, matching, set(names), request):
                    yield (*edits, edit)
                for move in self._move(grant, part, index):
                    yield (*edits, *move)
        yield (Edit(EditKind.REMOVE_RULE, key, grant.index),)

    def _narrow(
        self,
        grant: Grant,
        rule: PolicyRule,
        index: int,
        matching: dict[str, tuple[str, ...]],
        taken: set[str],
        request: Request,
    ) -> Iterator[Edit]:
        key = grant.role.key
        for name, hits in matching.items():
            if name in taken:
                continue
            if len(hits) < len(entries_of(rule, name)):
                yield Edit(EditKind.REMOVE, key, index, name, hits)
            for entries in self._instead(rule, name, hits, request):
                yield Edit(EditKind.SET, key, index, name, entries)
        if not rule.resource_names and request.name:
            names = _unique(
                entry
                for floor in self._floors(rule)
                for part in floor.parts
                for entry in (part.names.items if part.names is not None else ())
            )
            if names and request.name not in names:
                yield Edit(EditKind.SET, key, index, "resourceNames", names)

    def _instead(
        self, rule: PolicyRule, name: str, hits: tuple[str, ...], request: Request
    ) -> Iterator[tuple[str, ...]]:
        """Lists in place of a wildcard."""
        wild = [
            hit for hit in hits if hit == ALL or hit.startswith("*/") or (hit.startswith("/") and hit.endswith(ALL))
        ]
        if not wild:
            return
        kept = tuple(entry for entry in entries_of(rule, name) if entry not in hits)
        parts = [part for floor in self._spec.floor for part in floor.parts if _same_group(part, rule)]
        if name == "verbs":
            own = [verb for part in parts for verb in (part.verbs.items if part.verbs else ())]
            lists = [[verb for verb in (*VERBS, *own) if self._free(replace(request, verb=verb))]]
        elif name == "nonResourceURLs":
            starts = tuple(hit.rstrip(ALL) for hit in wild)
            urls = (url for part in parts for url in (part.urls.items if part.urls else ()))
            lists = [[url for url in urls if url.startswith(starts)]]
        elif name == "apiGroups":
            own = [group for part in parts for group in (part.api_groups.items if part.api_groups else ())]
            known = [group for group, whole in RESOURCES if whole in rule.resources]
            lists = [
                [group for group in found if self._free(replace(request, api_group=group))]
                for found in ([*known, *own], own)
            ]
        else:
            own = [whole for part in parts for whole in (part.resources.items if part.resources else ())]
            known = [whole for group, whole in RESOURCES if group in rule.api_groups and ALL not in rule.api_groups]
            own, known = ([whole for whole in found if _covered(whole, wild)] for found in (own, known))
            lists = [
                [whole for whole in found if self._free(_about(request, whole))] for found in ([*known, *own], own)
            ]
        for found in lists:
            entries = _unique((*kept, *found))
            if entries and ALL not in entries:
                yield entries

    def _free(self, request: Request) -> bool:
        """Whether no ceiling shuts the request."""
        return not any(len(rule.parts) == 1 and rule.parts[0].contains(request) for rule in self._spec.ceiling)

    def _floors(self, rule: PolicyRule) -> list[Rule]:
        """Floor rules about resources that the rule gives."""
        return [
            floor
            for floor in self._spec.floor
            for part in floor.parts
            if part.resources is not None and (ALL in rule.resources or set(part.resources.items) & set(rule.resources))
        ]

    # The binding.

    def _binding(self, grant: Grant, request: Request) -> Iterator[Plan]:
        if grant.implied:
            return
        yield from self._subjects(grant, request)
        binding = grant.binding
        if grant.scope != EVERYWHERE:
            return
        namespaces = self._namespaces()
        # Other objects: what the server wrote of the old one (uid, resourceVersion) is not theirs.
        metadata = replace(binding.metadata, other=())
        added = [
            Binding(Kind.ROLE_BINDING, replace(metadata, namespace=name), binding.role, binding.subjects)
            for name in namespaces
        ]
        if added and not any(found.key in self._keys for found in added):
            yield (Edit(EditKind.REMOVE_OBJECT, binding.key), *map(add_object, added))

    def _subjects(self, grant: Grant, request: Request) -> Iterator[Plan]:
        binding = grant.binding
        named = [
            subject for subject in binding.subjects if subject_is(subject, request.caller, binding.metadata.namespace)
        ]
        yield tuple(Edit(EditKind.REMOVE_SUBJECT, binding.key, subject=subject) for subject in named)

    def _move(self, grant: Grant, rule: PolicyRule, index: int) -> Iterator[Plan]:
        """The rule in Roles of the namespaces that the floor names, for those who had it everywhere."""
        namespaces = self._namespaces()
        if grant.implied or grant.scope != EVERYWHERE or rule.non_resource_urls or not namespaces:
            return
        edits = [Edit(EditKind.REMOVE_RULE, grant.role.key, index)]
        for namespace in namespaces:
            metadata = Metadata(free_name(self._keys, grant.role.metadata.name, namespace), namespace)
            edits.append(add_object(Role(Kind.ROLE, metadata, (rule,))))
            ref = RoleRef(Kind.ROLE, metadata.name, API_GROUP)
            edits.append(add_object(Binding(Kind.ROLE_BINDING, metadata, ref, grant.binding.subjects)))
        yield tuple(edits)

    def _namespaces(self) -> tuple[str, ...]:
        return _unique(
            name
            for floor in self._spec.floor
            for part in floor.parts
            for name in (part.namespaces.items if part.namespaces is not None else ())
            if name
        )


def _all_shut(
    rule: PolicyRule, matching: dict[str, tuple[str, ...]], request: Request, shut: Region
) -> dict[str, tuple[str, ...]]:
    """The matching entries with the others that keep the request in the region."""
    out = {}
    for name, hits in matching.items():
        out[name] = tuple(
            entry
            for entry in entries_of(rule, name)
            if entry in hits or (ALL not in entry and shut.contains(_varied(request, name, entry)))
        )
    return out


def _varied(request: Request, name: str, entry: str) -> Request:
    if name == "resources":
        return _about(request, entry)
    fields = {"verbs": "verb", "apiGroups": "api_group", "resourceNames": "name", "nonResourceURLs": "path"}
    changed: dict[str, str] = {fields[name]: entry}
    return replace(request, **changed)  # type: ignore[arg-type]


def free_name(keys: Collection[Key], name: str, namespace: str) -> str:
    """The name, or the name with a number, that no role or binding of the namespace has; "": no cluster-wide one."""
    number, found = 1, name
    kinds = [kind.value for kind in Kind if kind.namespaced is bool(namespace)]
    while any((kind, namespace, found) in keys for kind in kinds):
        number += 1
        found = f"{name}-{number}"
    return found


def add_object(added: Role | Binding) -> Edit:
    """Appends an object."""
    return Edit(EditKind.ADD_OBJECT, added.key, added=added)


def _covered(whole: str, wild: Iterable[str]) -> bool:
    """Whether a resource is among those of a wildcard."""
    return any(hit == ALL or f"{ALL}/{whole.partition('/')[2]}" == hit for hit in wild)


def _same_group(part: Region, rule: PolicyRule) -> bool:
    """Whether a floor's region is about an API group of the rule."""
    if part.api_groups is None or ALL in rule.api_groups or ALL in part.api_groups.items:
        return True
    return bool(set(part.api_groups.items) & set(rule.api_groups))


def _about(request: Request, whole: str) -> Request:
    resource, _, subresource = whole.partition("/")
    return replace(request, resource=resource, subresource=subresource)


def _unique(entries: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(entries))
