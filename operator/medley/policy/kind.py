"""Kinds of policy documents: the language that each is in, its limit, and the shipped ceilings that suit it."""

from __future__ import annotations

from enum import Enum

from medley.policy.iam.render import SizeLimit


class PolicyKind(Enum):
    """What kind of document it is, hence which parsers, specs and verifiers it takes."""

    IAM_IDENTITY = "IAMIdentity"
    IAM_TRUST = "IAMTrust"
    RBAC = "RBAC"

    @property
    def ceilings(self) -> tuple[str, ...]:
        """Shipped ceilings that hold for whatever is written without a person looking at it.

        aws-exfiltration is not among them: it shuts every reading of an object, which pods that load a model need.
        """
        if self is PolicyKind.RBAC:
            return ("kubernetes-danger",)
        identity = self is PolicyKind.IAM_IDENTITY
        return ("aws-credentials", "aws-escalation") if identity else ()

    @property
    def limit_characters(self) -> int | None:
        """Longest document of a role, white space not counted; None: no limit."""
        limits = {
            PolicyKind.IAM_IDENTITY: SizeLimit.ROLE_INLINE_POLICY,
            PolicyKind.IAM_TRUST: SizeLimit.TRUST_POLICY,
        }
        return limits[self].value if self in limits else None
