"""Edits that give a floor rule what it lacks: an entry of a rule, a subject, a binding, a rule, or a role with both."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medley.policy.rbac.document import (
    API_GROUP,
    RULE_FIELDS,
    Binding,
    Kind,
    Manifest,
    Metadata,
    PolicyRule,
    Role,
    RoleRef,
    Subject,
    SubjectKind,
)
from medley.policy.rbac.edits import Edit, EditKind, entries_of
from medley.policy.rbac.evaluate import rule_allows
from medley.policy.rbac.localise import elements_on
from medley.policy.rbac.narrowing import Plan, add_object, free_name
from medley.policy.rbac.regions import Among, Region
from medley.policy.rbac.request import ACCOUNT_PREFIX, ANONYMOUS, AUTHENTICATED, FIRST, UNAUTHENTICATED, Caller
from medley.policy.rbac.roleset import EVERYWHERE, RoleSet, applies_to
from medley.policy.rbac.spec import Spec
from medley.policy.rbac.verify import Witness


def rule_for(region: Region) -> PolicyRule:
    """The rule that gives a floor's region."""

    def items(among: Among | None) -> tuple[str, ...]:
        return () if among is None else among.items

    return PolicyRule(
        items(region.verbs),
        items(region.api_groups),
        items(region.resources),
        items(region.names),
        items(region.urls),
    )


class Widening:
    """Proposes edits of one manifest."""

    def __init__(self, manifest: Manifest, roles: RoleSet) -> None:
        self._objects = {found.key: found for found in manifest.objects}
        self._roles = roles

    def plans(self, witness: Witness) -> Iterator[Plan]:
        """Edits after which the witness may be allowed, fewest first; the last give the floor and no more."""
        region = witness.rule.parts[0]
        wanted = rule_for(region)
        yield from self._entries(witness, wanted)
        yield from self._bound(witness)
        for role in self._reaching(witness):
            yield (Edit(EditKind.ADD_RULE, role.key, added=wanted),)
        subjects = subjects_of(witness.rule.parts[0].caller)
        for role in self._idle(witness):
            binding = self._binding(role, witness.request.namespace, subjects)
            yield (Edit(EditKind.ADD_RULE, role.key, added=wanted), add_object(binding))
        yield self._objects_for(witness, wanted)

    def _entries(self, witness: Witness, wanted: PolicyRule) -> Iterator[Plan]:
        """One more entry in a rule that matches but for that."""
        for grant in self._roles.grants():
            if bool(grant.rule.non_resource_urls) is not bool(wanted.non_resource_urls):
                continue
            missing = [found.name for found in elements_on(grant, witness.request) if not found.matches]
            if len(missing) == 1 and missing[0] in RULE_FIELDS and grant.role.key in self._objects:
                entries = entries_of(wanted, missing[0])
                fresh = tuple(entry for entry in entries if entry not in entries_of(grant.rule, missing[0]))
                if fresh:
                    yield (Edit(EditKind.ADD, grant.role.key, grant.index, missing[0], fresh),)

    def _bound(self, witness: Witness) -> Iterator[Plan]:
        """A role that allows it to others: the caller as a subject of its binding, or a binding of its own."""
        request = witness.request
        subjects = subjects_of(witness.rule.parts[0].caller)
        for role in (found for found in self._objects.values() if isinstance(found, Role)):
            if role.kind is Kind.ROLE and role.metadata.namespace != request.namespace:
                continue
            if not any(rule_allows(rule, request) for rule in role.rules):
                continue
            for binding in self._roles.bindings:
                if binding.key in self._objects and binding.role_key == role.key:
                    fresh = [subject for subject in subjects if subject not in binding.subjects]
                    yield tuple(Edit(EditKind.ADD_SUBJECT, binding.key, subject=subject) for subject in fresh)
            if not self._roles.implied:
                yield (add_object(self._binding(role, request.namespace, subjects)),)

    def _idle(self, witness: Witness) -> Iterator[Role]:
        """Roles that are empty and bound to nobody: as one is read that was deleted."""
        bound = {binding.role_key for binding in self._roles.bindings}
        places = ("", witness.request.namespace)
        for role in (found for found in self._objects.values() if isinstance(found, Role)):
            empty = not role.rules and role.aggregation is None
            if empty and role.key not in bound and role.metadata.namespace in places:
                yield role

    def _binding(self, role: Role, namespace: str, subjects: tuple[Subject, ...]) -> Binding:
        kind = Kind.ROLE_BINDING if namespace else Kind.CLUSTER_ROLE_BINDING
        # A name of a binding's kind may be a role's too: only bindings count.
        taken = {key for key in self._objects if key[0] == kind.value}
        metadata = Metadata(free_name(taken, role.metadata.name, namespace), namespace)
        return Binding(kind, metadata, RoleRef(role.kind, role.metadata.name, API_GROUP), subjects)

    def _reaching(self, witness: Witness) -> Iterator[Role]:
        """Roles of the manifest that the caller has where the request goes."""
        seen = set()
        for binding in self._roles.bindings:
            scope = binding.metadata.namespace or EVERYWHERE
            role = self._objects.get(binding.role_key)
            if (
                isinstance(role, Role)
                and role.aggregation is None
                and role.key not in seen
                and scope in (EVERYWHERE, witness.request.namespace)
                and applies_to(binding, witness.request.caller)
            ):
                seen.add(role.key)
                yield role

    def _objects_for(self, witness: Witness, wanted: PolicyRule) -> Plan:
        """A role of its own, bound to nobody else."""
        region, request = witness.rule.parts[0], witness.request
        named = region.namespaces is not None and "" not in region.namespaces.items
        namespace = request.namespace if named else ""
        kind, bound = (Kind.ROLE, Kind.ROLE_BINDING) if namespace else (Kind.CLUSTER_ROLE, Kind.CLUSTER_ROLE_BINDING)
        slug = re.sub(r"[^a-z0-9]+", "-", witness.rule.id.lower()).strip("-") or "floor"
        metadata = Metadata(free_name(self._objects.keys(), f"medley-{slug}", namespace), namespace)
        role = add_object(Role(kind, metadata, (wanted,)))
        if self._roles.implied:
            return (role,)
        ref = RoleRef(kind, metadata.name, API_GROUP)
        return (role, add_object(Binding(bound, metadata, ref, subjects_of(region.caller))))


def bindings_to_the_floor(manifest: Manifest, spec: Spec) -> Plan:
    """Bindings of a manifest's roles to the callers that the floor names, where the manifest has no binding at all.

    It is then read as if everybody had its roles: a ceiling for everybody but one cannot hold, whatever the rules say.
    """
    callers = dict.fromkeys(part.caller for rule in spec.floor for part in rule.parts)
    if not RoleSet(manifest).implied or not callers or None in callers:
        return ()
    plan = []
    for role in manifest.roles:
        kind = Kind.ROLE_BINDING if role.kind is Kind.ROLE else Kind.CLUSTER_ROLE_BINDING
        ref = RoleRef(role.kind, role.metadata.name, API_GROUP)
        subjects = tuple(subject for caller in callers for subject in subjects_of(caller))
        plan.append(add_object(Binding(kind, Metadata(role.metadata.name, role.metadata.namespace), ref, subjects)))
    return tuple(plan)


def subjects_of(caller: Caller | None) -> tuple[Subject, ...]:
    """Subjects that are this caller, or everybody."""
    if caller is None:
        names = (AUTHENTICATED, UNAUTHENTICATED)
        return tuple(Subject(SubjectKind.GROUP, name, "", API_GROUP) for name in names)
    if caller.user == ANONYMOUS:
        return (Subject(SubjectKind.GROUP, UNAUTHENTICATED, "", API_GROUP),)
    if caller.user.startswith(ACCOUNT_PREFIX) and caller.user.count(":") == 3:
        namespace, _, name = caller.user.removeprefix(ACCOUNT_PREFIX).partition(":")
        return (Subject(SubjectKind.SERVICE_ACCOUNT, name, namespace),)
    if caller.user == FIRST:
        return (Subject(SubjectKind.GROUP, caller.groups[0], "", API_GROUP),)
    return (Subject(SubjectKind.USER, caller.user, "", API_GROUP),)
