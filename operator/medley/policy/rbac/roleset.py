"""Roles and bindings that decide together: which rules reach whom, and where.

Source: kubernetes v1.36.3, pkg/registry/rbac/validation/rule.go (bindings to rules) and
pkg/controller/clusterroleaggregation (aggregated rules).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from medley.policy.rbac.document import (
    ALL,
    API_GROUP,
    Binding,
    Extent,
    Kind,
    Manifest,
    Metadata,
    Other,
    PolicyRule,
    Role,
    RoleRef,
    Subject,
    SubjectKind,
)
from medley.policy.rbac.request import ACCOUNT_PREFIX, AUTHENTICATED, UNAUTHENTICATED, Caller

EVERYWHERE = ""
"""The scope of a ClusterRoleBinding, in place of a namespace."""

CLUSTER_ADMIN = Role(
    Kind.CLUSTER_ROLE,
    Metadata("cluster-admin"),
    (PolicyRule((ALL,), (ALL,), (ALL,)), PolicyRule((ALL,), non_resource_urls=(ALL,))),
)
"""The one default role that is the same in every cluster; bindings to it are read without its manifest."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A rule that a binding gives: where the rule stands, to whom it goes and in which namespace."""

    role: Role
    index: int
    rule: PolicyRule
    binding: Binding
    implied: bool = False
    """Whether the binding is ours, for lack of any."""

    @property
    def scope(self) -> str:
        """The namespace in which it counts; EVERYWHERE: in all of them, and outside."""
        return self.binding.metadata.namespace if self.binding.kind is Kind.ROLE_BINDING else EVERYWHERE

    @property
    def place(self) -> str:
        """Where the rule stands: `Role serving/medley rules[2]`."""
        return f"{self.role} rules[{self.index}]"


class RoleSet:
    """The objects of one or more manifests.

    Roles without any binding are read as bound to everybody: a Role in its namespace, a ClusterRole everywhere. That
    answers what a role allows to whom it will be given. In a manifest that is the whole they give nothing.
    """

    def __init__(self, objects: Manifest | Iterable[Role | Binding | Other]) -> None:
        self.objects = objects.objects if isinstance(objects, Manifest) else tuple(objects)
        roles = [found for found in self.objects if isinstance(found, Role)]
        bindings = [found for found in self.objects if isinstance(found, Binding)]
        extent = objects.extent if isinstance(objects, Manifest) else Extent.PART
        self.implied = not bindings and extent is Extent.PART
        """Whether the bindings are ours, for lack of any."""
        ours = tuple(_for_everybody(role) for role in roles) if self.implied else ()
        self.bindings: tuple[Binding, ...] = tuple(bindings) or ours
        self.roles = {role.key: role for role in roles}
        # The API server brings this one back to what it is at each start, whatever a manifest says.
        written = self.roles.get(CLUSTER_ADMIN.key)
        admin = CLUSTER_ADMIN if written is None else replace(written, rules=written.rules + CLUSTER_ADMIN.rules)
        self.roles[CLUSTER_ADMIN.key] = admin
        self._sources = {role.key: tuple(_sources(role, roles)) for role in self.roles.values()}

    def missing(self) -> list[Binding]:
        """Bindings to roles that are not here: what they allow is not known."""
        return [binding for binding in self.bindings if binding.role_key not in self.roles]

    def unbound(self) -> list[Role]:
        """Roles of which nothing is given to anybody, neither by a binding nor through an aggregating role."""
        given = {grant.role.key for grant in self.grants()} | {binding.role_key for binding in self.bindings}
        return [found for found in self.objects if isinstance(found, Role) and found.key not in given]

    def grants(self) -> Iterator[Grant]:
        """Every rule with every binding that gives it."""
        for binding in self.bindings:
            for role, index, rule in self._sources.get(binding.role_key, ()):
                yield Grant(role, index, rule, binding, self.implied)


def _for_everybody(role: Role) -> Binding:
    kind = Kind.ROLE_BINDING if role.kind is Kind.ROLE else Kind.CLUSTER_ROLE_BINDING
    groups = (Subject(SubjectKind.GROUP, name, "", API_GROUP) for name in (AUTHENTICATED, UNAUTHENTICATED))
    return Binding(kind, role.metadata, RoleRef(role.kind, role.metadata.name), tuple(groups))


Source = tuple[Role, int, PolicyRule]
"""A rule with the role and the position where it is written."""


def _sources(role: Role, roles: Sequence[Role]) -> Iterator[Source]:
    """The rules that a role gives: its own, or those of the ClusterRoles that it selects, directly or through others.

    A selected role that aggregates others itself passes those on. Where there is nothing to aggregate the controller
    leaves what is written. Where roles select each other in a circle it depends on the order of events whose written
    rules remain: then all of them count.
    """
    clusters = {other.metadata.name: other for other in roles if other.kind is Kind.CLUSTER_ROLE}

    def selected(one: Role) -> list[str]:
        picks = one.aggregation or ()
        others = [other for name, other in clusters.items() if name != one.metadata.name]
        return [o.metadata.name for o in others if any(selector.matches(o.metadata.labels) for selector in picks)]

    below: dict[str, list[str]] = {}
    left = [role.metadata.name] if role.aggregation is not None else []
    while left:
        name = left.pop()
        if name not in below:
            below[name] = selected(role if name == role.metadata.name else clusters[name])
            left += below[name]
    found: list[Source] = []
    for name in sorted(below):
        other = role if name == role.metadata.name else clusters[name]
        if _circular(name, below) or (name != role.metadata.name and not below[name]):
            found += [(other, index, rule) for index, rule in enumerate(other.rules)]
    yield from found or ((role, index, rule) for index, rule in enumerate(role.rules))


def _circular(name: str, below: Mapping[str, Sequence[str]]) -> bool:
    """Whether a role comes back to itself."""
    seen: set[str] = set()
    left = list(below[name])
    while left:
        other = left.pop()
        if other == name:
            return True
        if other not in seen:
            seen.add(other)
            left += below.get(other, ())
    return False


def applies_to(binding: Binding, caller: Caller) -> bool:
    """Whether a binding names the caller."""
    return any(subject_is(subject, caller, binding.metadata.namespace) for subject in binding.subjects)


def subject_is(subject: Subject, caller: Caller, namespace: str) -> bool:
    """Whether a subject of a binding in a namespace (empty: of none) is the caller."""
    if subject.kind is SubjectKind.USER:
        return caller.user == subject.name
    if subject.kind is SubjectKind.GROUP:
        return subject.name in caller.groups
    own = subject.namespace or namespace
    return bool(own) and caller.user == f"{ACCOUNT_PREFIX}{own}:{subject.name}"
