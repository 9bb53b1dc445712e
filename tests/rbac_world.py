"""Random roles, bindings and requests over a vocabulary so small that they often meet.

Every name of a subject, a role or a label carries a suffix, so that many role sets can stand beside each other in one
cluster without touching; namespaces are shared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

from medley.model.errors import UserError
from medley.policy.rbac.document import (
    API_GROUP,
    Binding,
    Kind,
    LabelSelector,
    Manifest,
    Metadata,
    PolicyRule,
    Requirement,
    Role,
    RoleRef,
    Subject,
    SubjectKind,
)
from medley.policy.rbac.request import ACCOUNT_PREFIX, MASTERS, Caller, Request, service_account
from medley.policy.rbac.spec import Spec, rule_of
from medley.policy.spec.spec import Side

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "use", "escalate")
GROUPS = ("", "apps", "batch", "x.example.org")
RESOURCES = ("pods", "deployments", "secrets", "nodes", "widgets")
SUBRESOURCES = ("log", "scale", "exec", "status", "*")
RULE_RESOURCES = (
    *RESOURCES, "*", "pods/log", "pods/exec", "deployments/scale", "*/scale", "*/log", "pods/*", "*/*", "pods/", "/log",
    "nodes/status", "Pods", "pod", "*/", "pods/log/x",
)  # fmt: skip
NAMES = ("a", "b", "c-1")
PATHS = ("/x", "/x/", "/x/y", "/xy", "/logs/a", "/logs", "/", "/x/*", "/q*r")
RULE_PATHS = (*PATHS, "*", "/x*", "/x/*", "/x/**", "/logs/*", "/l*gs", "x", "/*", "/q*r*")
LABELS = ("aggregate", "tier")


class World:
    """Makes the objects and requests of one role set."""

    def __init__(self, rng: Random, suffix: str = "0", namespaces: Sequence[str] = ("n1", "n2", "n3")) -> None:
        self._rng = rng
        self._suffix = suffix
        self.namespaces = tuple(namespaces)
        self.users = tuple(f"u{n}-{suffix}" for n in range(3))
        self.groups = tuple(f"g{n}-{suffix}" for n in range(3))
        self.accounts = tuple(f"s{n}-{suffix}" for n in range(2))

    def _some(self, items: Sequence[str], most: int = 3, *, star: float = 0.1) -> tuple[str, ...]:
        if self._rng.random() < star:
            return ("*",)
        return tuple(self._rng.sample(items, self._rng.randint(1, min(most, len(items)))))

    def rule(self, *, namespaced: bool) -> PolicyRule:
        """A rule, now and then about URLs."""
        if not namespaced and self._rng.random() < 0.3:
            return PolicyRule(self._some(VERBS, 4), non_resource_urls=self._some(RULE_PATHS))
        names = self._some(NAMES, 2, star=0.0) if self._rng.random() < 0.3 else ()
        return PolicyRule(self._some(VERBS, 4), self._some(GROUPS), self._some(RULE_RESOURCES), names)

    def role(self, kind: Kind, name: str) -> Role:
        """A role; some ClusterRoles have labels, some aggregate."""
        namespaced = kind is Kind.ROLE
        rules = tuple(self.rule(namespaced=namespaced) for _ in range(self._rng.randint(0, 3)))
        labels: tuple[tuple[str, str], ...] = ()
        aggregation = None
        if not namespaced:
            labels = tuple(
                (f"{label}-{self._suffix}", self._rng.choice(("yes", "no")))
                for label in LABELS
                if self._rng.random() < 0.5
            )
            if self._rng.random() < 0.2:
                aggregation = tuple(self._selector() for _ in range(self._rng.randint(1, 2)))
                rules = ()
        namespace = self._rng.choice(self.namespaces) if namespaced else ""
        return Role(kind, Metadata(f"{name}-{self._suffix}", namespace, labels), rules, aggregation)

    def _selector(self) -> LabelSelector:
        key = f"{self._rng.choice(LABELS)}-{self._suffix}"
        if self._rng.random() < 0.6:
            return LabelSelector(((key, self._rng.choice(("yes", "no"))),))
        # NotIn and DoesNotExist would select the roles of everybody else: always beside a label of ours.
        other = f"{self._rng.choice(LABELS)}-{self._suffix}"
        operator = self._rng.choice(("In", "NotIn", "Exists", "DoesNotExist"))
        values = ("yes",) if operator in ("In", "NotIn") else ()
        return LabelSelector((), (Requirement(key, "Exists"), Requirement(other, operator, values)))

    def subject(self, kind: Kind) -> Subject:
        """Somebody to bind; in a RoleBinding a service account may leave out its namespace."""
        found = self._rng.choice(tuple(SubjectKind))
        if found is SubjectKind.USER:
            names = (*self.users, f"{ACCOUNT_PREFIX}{self.namespaces[0]}:{self.accounts[0]}")
            return Subject(found, self._rng.choice(names), "", API_GROUP)
        if found is SubjectKind.GROUP:
            return Subject(found, self._rng.choice(self.groups), "", API_GROUP)
        omit = kind is Kind.ROLE_BINDING and self._rng.random() < 0.3
        return Subject(found, self._rng.choice(self.accounts), "" if omit else self._rng.choice(self.namespaces))

    def binding(self, kind: Kind, name: str, roles: Sequence[Role]) -> Binding:
        """A binding to one of the roles, now and then to one that is not there."""
        namespaced = kind is Kind.ROLE_BINDING
        usable = [role for role in roles if namespaced or role.kind is Kind.CLUSTER_ROLE]
        ref = RoleRef(Kind.CLUSTER_ROLE, f"gone-{self._suffix}")
        if usable and self._rng.random() < 0.95:
            role = self._rng.choice(usable)
            ref = RoleRef(role.kind, role.metadata.name)
            if role.kind is Kind.ROLE and self._rng.random() < 0.9:
                return self._bind(kind, Metadata(f"{name}-{self._suffix}", role.metadata.namespace), ref)
        return self._bind(
            kind, Metadata(f"{name}-{self._suffix}", self._rng.choice(self.namespaces) if namespaced else ""), ref
        )

    def _bind(self, kind: Kind, metadata: Metadata, ref: RoleRef) -> Binding:
        subjects = tuple(dict.fromkeys(self.subject(kind) for _ in range(self._rng.randint(1, 3))))
        return Binding(kind, metadata, ref, subjects)

    def manifest(self, *, bindings: bool = True) -> Manifest:
        """Roles and bindings."""
        roles = [
            self.role(self._rng.choice((Kind.ROLE, Kind.CLUSTER_ROLE)), f"r{n}") for n in range(self._rng.randint(1, 4))
        ]
        kinds = (Kind.ROLE_BINDING, Kind.CLUSTER_ROLE_BINDING)
        bound = [self.binding(self._rng.choice(kinds), f"b{n}", roles) for n in range(self._rng.randint(1, 4))]
        return Manifest((*roles, *bound) if bindings else tuple(roles))

    def caller(self) -> Caller:
        """Somebody who asks."""
        choice = self._rng.random()
        if choice < 0.4:
            return service_account(self._rng.choice(self.namespaces), self._rng.choice(self.accounts))
        groups = tuple(self._rng.sample(self.groups, self._rng.randint(0, 2)))
        if choice < 0.43:
            return Caller(self._rng.choice(self.users), (MASTERS, *groups))
        if choice < 0.5:
            return Caller(f"{ACCOUNT_PREFIX}{self.namespaces[0]}:{self.accounts[0]}", groups)
        return Caller(self._rng.choice((*self.users, f"nobody-{self._suffix}")), groups)

    def request(self, manifest: Manifest | None = None) -> Request:
        """A request; half of them near a rule of the manifest, changed in one place or none."""
        rules = [(role, rule) for role in manifest.roles for rule in role.rules] if manifest is not None else []
        if not rules or self._rng.random() < 0.5:
            return self._any_request()
        role, rule = self._rng.choice(rules)
        other = self._any_request()
        verb = self._pick(rule.verbs, other.verb)
        bound = [
            found for found in (manifest.bindings if manifest else ()) if found.subjects and found.role_key == role.key
        ]
        binding = self._rng.choice(bound) if bound else None
        caller = other.caller if binding is None else self._one_of(binding)
        if rule.non_resource_urls:
            url = self._pick(rule.non_resource_urls, other.path or "/x")
            return Request(caller, verb, path=url.replace("*", self._rng.choice(("", "q"))) or "/")
        resource, _, subresource = self._pick(rule.resources, other.whole_resource or "pods").partition("/")
        near = Request(
            caller,
            verb,
            self._pick(rule.api_groups, other.api_group),
            self._rng.choice(RESOURCES) if resource in ("*", "") else resource,
            subresource,
            self._pick(rule.resource_names, other.name),
            (binding.metadata.namespace if binding else "") or other.namespace,
        )
        changes = {
            "verb": other.verb,
            "api_group": other.api_group,
            "resource": other.resource or "pods",
            "subresource": other.subresource,
            "name": other.name,
            "namespace": other.namespace,
            "caller": other.caller,
        }
        if self._rng.random() < 0.5:
            return near
        field = self._rng.choice(tuple(changes))
        return replace(near, **{field: changes[field]})  # type: ignore[arg-type]

    def _pick(self, items: Sequence[str], instead: str) -> str:
        """One of the items; for none or a star something else."""
        found = self._rng.choice(items) if items else "*"
        return instead if found == "*" else found

    def _one_of(self, binding: Binding) -> Caller:
        subject = self._rng.choice(binding.subjects)
        if subject.kind is SubjectKind.USER:
            return Caller(subject.name, ())
        if subject.kind is SubjectKind.GROUP:
            return Caller(self._rng.choice(self.users), (subject.name,))
        namespace = subject.namespace or binding.metadata.namespace
        return service_account(namespace or self.namespaces[0], subject.name)

    def _any_request(self) -> Request:
        caller = self.caller()
        if self._rng.random() < 0.2:
            return Request(caller, self._rng.choice(VERBS), path=self._rng.choice(PATHS))
        return Request(
            caller,
            self._rng.choice(VERBS),
            self._rng.choice(GROUPS),
            self._rng.choice(RESOURCES),
            self._rng.choice(SUBRESOURCES) if self._rng.random() < 0.5 else "",
            self._rng.choice((*NAMES, "")),
            self._rng.choice((*self.namespaces, "")),
        )

    def spec(self, *, subjects: bool = True) -> Spec:
        """One or two floor rules and up to three ceiling rules, some of them about one subject; none is empty."""
        rules = []
        for side, number in ((Side.FLOOR, self._rng.randint(0, 2)), (Side.CEILING, self._rng.randint(1, 3))):
            while sum(rule.side is side for rule in rules) < number:
                value = self._region(side, subjects=subjects)
                if side is Side.CEILING and self._rng.random() < 0.15:
                    value = {"allOf": [self._region(side, subjects=False) for _ in range(2)]}
                with contextlib.suppress(UserError):  # a set without any request
                    rules.append(rule_of(value, side, len(rules), "spec"))
        return Spec(tuple(rules))

    def _region(self, side: Side, *, subjects: bool) -> dict[str, Any]:
        floor = side is Side.FLOOR
        out: dict[str, Any] = {}
        if subjects and (floor or self._rng.random() < 0.3):
            out["subject"] = self._spec_subject()
        if self._rng.random() < 0.15:
            urls = [url for url in self._some(RULE_PATHS, 2) if url == "*" or url.startswith("/")] or ["/x"]
            return {**out, "verbs": list(self._some(VERBS, 2)), "nonResourceURLs": urls}
        fields: dict[str, tuple[tuple[str, ...], float]] = {
            "verbs": (VERBS, 0.1),
            "apiGroups": (GROUPS, 0.1),
            "resources": (("pods", "deployments", "secrets", "pods/log", "deployments/scale", "*/scale"), 0.1),
        }
        for name, (items, star) in fields.items():
            if floor or self._rng.random() < 0.7:
                negate = not floor and self._rng.random() < 0.15
                key = f"not{name[0].upper()}{name[1:]}" if negate else name
                out[key] = list(self._some(items, 2, star=0.0 if negate else star))
        if self._rng.random() < 0.2:
            out["resourceNames"] = list(self._some(NAMES, 2, star=0.0))
        if self._rng.random() < (0.8 if floor else 0.4):
            negate = not floor and self._rng.random() < 0.3
            key = "notNamespaces" if negate else "namespaces"
            out[key] = list(self._some((*self.namespaces, ""), 2, star=0.0))
        return out

    def _spec_subject(self) -> dict[str, str]:
        kind = self._rng.choice(("User", "Group", "ServiceAccount"))
        if kind == "ServiceAccount":
            return {
                "kind": kind,
                "name": self._rng.choice(self.accounts),
                "namespace": self._rng.choice(self.namespaces),
            }
        return {"kind": kind, "name": self._rng.choice(self.users if kind == "User" else self.groups)}
