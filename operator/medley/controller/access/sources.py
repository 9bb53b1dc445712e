"""From an AccessPolicy to what is judged: where the document is in force, and which spec it is held to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import ValidationError

from medley.actuation.cluster_api import ClusterApi
from medley.actuation.iam import IamClient, IamRoleHome, RolePart
from medley.actuation.roles import CONSENT, RoleHome
from medley.api.accesspolicy import AccessPolicySpec
from medley.api.convert import user_error
from medley.model.live_policy import LivePolicy
from medley.policy.generate import Part
from medley.policy.iam.document import DocumentKind
from medley.policy.iam.parse import parse_document
from medley.policy.kind import PolicyKind
from medley.policy.rbac.document import Extent, Kind
from medley.policy.rbac.parse import looks_like_manifest
from medley.policy.review import Case
from medley.ports import PolicyHome

Json = dict[str, Any]
EMPTY_IAM = '{"Version": "2012-10-17", "Statement": []}\n'
"""What a role without the inline policy has in its place."""


@dataclass(frozen=True, slots=True)
class Consent:
    """Whether the owner of the object has to name the AccessPolicy before it may be written, and how.

    `cluster` stands before its name where one account serves several clusters.
    """

    needed: bool
    how: str = ""
    cluster: str = ""

    def value(self, name: str) -> str:
        """What the owner writes."""
        return f"{self.cluster}/{name}" if self.cluster else name


@dataclass(frozen=True, slots=True)
class Source:
    """What is judged.

    Attributes:
        title: for people, as in `Role prod/chat-router`.
        kind: of document.
        spec: text of the access spec.
        ceilings: names of shipped ceilings.
        home: where the document is in force; None: it is `text`.
        text: of a document that is in force nowhere.
        consent: what Enforce needs.
        part: that is generated, where the user has statements of his own for it.
        statements: these, each as JSON.
    """

    title: str
    kind: PolicyKind
    spec: str
    ceilings: tuple[str, ...]
    home: PolicyHome | None
    text: str = ""
    consent: Consent = Consent(False)
    part: Part | None = None
    statements: tuple[str, ...] = ()

    def case(self, live: LivePolicy, timeout_ms: int) -> Case:
        """What the review is asked."""
        document = live.document or (EMPTY_IAM if self.kind is not PolicyKind.RBAC else "")
        return Case(
            self.kind,
            document,
            self.spec,
            self.ceilings,
            live.beside,
            live.boundary,
            timeout_ms,
            extent=Extent.PART if self.home is None else Extent.WHOLE,
            part=self.part,
            statements=self.statements,
        )


class Generated(Protocol):
    """Who makes the sources of generated policies."""

    def of(self, namespace: str, spec: AccessPolicySpec, sources: Sources) -> Source:
        """The source for one AccessPolicy."""


class Sources:
    """Resolves AccessPolicies.

    Args:
        api: for roles.
        iam: makes a client for IAM; called once one is needed.
        generated: makes the sources of generated policies.
        cluster: its name, where IAM roles are told apart by it; empty: they are not.
        may_write: asked before each write to IAM.
    """

    def __init__(
        self,
        api: ClusterApi,
        iam: Callable[[], IamClient],
        generated: Generated,
        cluster: str = "",
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self._cluster = cluster
        self._may_write = may_write
        self._api = api
        self._make_iam = iam
        self._iam: IamClient | None = None
        self._generated = generated

    def of(self, namespace: str, spec: AccessPolicySpec) -> Source:
        """The source of one AccessPolicy.

        Raises:
            UserError: boto3 is not there, or what is generated cannot be.
        """
        if spec.generated is not None:
            return self._generated.of(namespace, spec, self)
        assert spec.access_spec is not None
        text = json.dumps({"floor": spec.access_spec.floor or [], "ceiling": spec.access_spec.ceiling or []})
        if spec.document is not None:
            told = _kind_of(spec.document)
            return Source("document", told, text, _ceilings(spec, told), None, spec.document)
        if spec.iam_role_ref is not None:
            return self.iam_role(spec, text)
        assert spec.role_ref is not None
        kind = Kind(spec.role_ref.kind)
        place = namespace if kind is Kind.ROLE else ""
        return self.roles(spec, ((kind, place, spec.role_ref.name),), text)

    def iam_role(self, spec: AccessPolicySpec, text: str) -> Source:
        """An IAM role, with the text of its access spec."""
        ref = spec.iam_role_ref
        assert ref is not None
        if self._iam is None:
            self._iam = self._make_iam()
        part = RolePart(ref.part)
        kind = PolicyKind.IAM_IDENTITY if part is RolePart.IDENTITY else PolicyKind.IAM_TRUST
        home = IamRoleHome(self._iam, ref.name, part, ref.policy_name, self._may_write)
        where = f"policy {ref.policy_name}" if part is RolePart.IDENTITY else "trust policy"
        consent = Consent(True, f"tag the role {CONSENT}", self._cluster)
        return Source(f"IAM role {ref.name}, {where}", kind, text, _ceilings(spec, kind), home, consent=consent)

    def roles(self, spec: AccessPolicySpec, roles: tuple[tuple[Kind, str, str], ...], text: str) -> Source:
        """Roles of Kubernetes, with the text of their access spec."""
        title = ", ".join(
            f"{kind.value} {place}/{name}" if place else f"{kind.value} {name}" for kind, place, name in roles
        )
        wide = any(kind is Kind.CLUSTER_ROLE for kind, _, _ in roles)
        consent = Consent(wide, f"annotate the ClusterRole {CONSENT}" if wide else "")
        ceilings = _ceilings(spec, PolicyKind.RBAC)
        return Source(title, PolicyKind.RBAC, text, ceilings, RoleHome(self._api, roles), consent=consent)


def _ceilings(spec: AccessPolicySpec, kind: PolicyKind) -> tuple[str, ...]:
    named = tuple((spec.access_spec.ceilings if spec.access_spec else None) or ())
    own = kind.ceilings if spec.mode == "Enforce" else ()
    return tuple(dict.fromkeys((*named, *own)))


def _kind_of(document: str) -> PolicyKind:
    if looks_like_manifest(document):
        return PolicyKind.RBAC
    resource = parse_document(document, "spec.document").kind is DocumentKind.RESOURCE
    return PolicyKind.IAM_TRUST if resource else PolicyKind.IAM_IDENTITY


def parse_spec(manifest: Json) -> AccessPolicySpec:
    """The spec of an AccessPolicy.

    Raises:
        UserError: it is not of its form: the CRD would have refused it.
    """
    try:
        return AccessPolicySpec.model_validate(manifest.get("spec") or {})
    except ValidationError as error:
        raise user_error(error) from None
