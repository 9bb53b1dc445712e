"""Roles, bindings and the manifest that holds them, as they are written.

Source: the API reference of rbac.authorization.k8s.io/v1, and "Using RBAC Authorization"
(https://kubernetes.io/docs/reference/access-authn-authz/rbac/).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

API_GROUP = "rbac.authorization.k8s.io"
API_VERSION = f"{API_GROUP}/v1"
ALL = "*"
"""Every verb, API group, resource or URL."""


class Kind(Enum):
    """The four kinds of object."""

    ROLE = "Role"
    CLUSTER_ROLE = "ClusterRole"
    ROLE_BINDING = "RoleBinding"
    CLUSTER_ROLE_BINDING = "ClusterRoleBinding"

    @property
    def namespaced(self) -> bool:
        """Whether an object of this kind lies in a namespace."""
        return self in (Kind.ROLE, Kind.ROLE_BINDING)


class SubjectKind(Enum):
    """Who can be bound."""

    USER = "User"
    GROUP = "Group"
    SERVICE_ACCOUNT = "ServiceAccount"


Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Metadata:
    """An object's metadata. `other`: fields that mean nothing to authorisation, each as JSON text."""

    name: str
    namespace: str = ""
    labels: Pairs = ()
    annotations: Pairs = ()
    other: Pairs = ()


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """What one rule allows: verbs on resources, or verbs on URLs."""

    verbs: tuple[str, ...]
    api_groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    resource_names: tuple[str, ...] = ()
    non_resource_urls: tuple[str, ...] = ()


RULE_FIELDS = {
    "verbs": "verbs",
    "apiGroups": "api_groups",
    "resources": "resources",
    "resourceNames": "resource_names",
    "nonResourceURLs": "non_resource_urls",
}
"""Fields of a rule as written, and what they are called here."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One entry of a selector's matchExpressions."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """Labels that must be there; empty: every object."""

    match_labels: Pairs = ()
    expressions: tuple[Requirement, ...] = ()

    def matches(self, labels: Pairs) -> bool:
        """Whether an object with these labels is selected."""
        found = dict(labels)
        return all(found.get(key) == value for key, value in self.match_labels) and all(
            _holds(requirement, found) for requirement in self.expressions
        )


def _holds(requirement: Requirement, labels: dict[str, str]) -> bool:
    value = labels.get(requirement.key)
    if requirement.operator == "In":
        return value in requirement.values
    if requirement.operator == "NotIn":
        return value not in requirement.values  # an absent label is in no set
    return (value is not None) is (requirement.operator == "Exists")


@dataclass(frozen=True, slots=True)
class Role:
    """A Role or ClusterRole. `aggregation`: its rules are those of the ClusterRoles that a selector matches."""

    kind: Kind
    metadata: Metadata
    rules: tuple[PolicyRule, ...] = ()
    aggregation: tuple[LabelSelector, ...] | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, namespace, name."""
        return self.kind.value, self.metadata.namespace, self.metadata.name

    def __str__(self) -> str:
        return object_text(self.kind, self.metadata)


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is bound. `namespace` is a service account's; empty: that of the RoleBinding."""

    kind: SubjectKind
    name: str
    namespace: str = ""
    api_group: str | None = None
    """As written; None: left out."""

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind.value} {where}{self.name}"


@dataclass(frozen=True, slots=True)
class RoleRef:
    """The role that a binding gives."""

    kind: Kind
    name: str
    api_group: str | None = API_GROUP


@dataclass(frozen=True, slots=True)
class Binding:
    """A RoleBinding or ClusterRoleBinding."""

    kind: Kind
    metadata: Metadata
    role: RoleRef
    subjects: tuple[Subject, ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, namespace, name."""
        return self.kind.value, self.metadata.namespace, self.metadata.name

    @property
    def role_key(self) -> tuple[str, str, str]:
        """The key of the role that it gives: a Role is looked for in the binding's namespace."""
        return self.role.kind.value, self.metadata.namespace if self.role.kind is Kind.ROLE else "", self.role.name

    def __str__(self) -> str:
        return object_text(self.kind, self.metadata)


@dataclass(frozen=True, slots=True)
class Other:
    """An object of another API group, as JSON text: kept, and never looked at."""

    key: tuple[str, str, str]
    """Kind with apiVersion, namespace, name."""
    text: str


def object_text(kind: Kind, metadata: Metadata) -> str:
    """An object as people name it: `Role serving/medley`."""
    where = f"{metadata.namespace}/" if metadata.namespace else ""
    return f"{kind.value} {where}{metadata.name}"


class Form(Enum):
    """How a manifest is written."""

    STREAM = "stream"
    LIST = "List"


class Extent(Enum):
    """Whether the bindings of a manifest's roles are all in it."""

    PART = "part"
    """They may stand elsewhere: roles without any are read as given to everybody."""
    WHOLE = "whole"
    """As a cluster has them: a role that nothing binds gives nothing."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Roles and bindings, and whatever else is there, in the order in which they are written."""

    objects: tuple[Role | Binding | Other, ...]
    form: Form = Form.STREAM
    extent: Extent = Extent.PART
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """What is allowed to write but does not do what it looks like, each with its path."""

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles."""
        return tuple(found for found in self.objects if isinstance(found, Role))

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """The bindings."""
        return tuple(found for found in self.objects if isinstance(found, Binding))
