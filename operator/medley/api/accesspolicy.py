"""AccessPolicy: what somebody may do, held to a floor and a ceiling."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from medley.api.fields import ApiModel, K8s, Name, Text, cel
from medley.api.llmservice import ConditionStatus

DocumentText = Annotated[str, Field(min_length=2, max_length=131_072)]
RbacName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[^/%]+$")]
"""Names of roles are path segments: system:… is one."""
RuleItem = Annotated[dict[str, Any], Field(json_schema_extra=K8s(**{"x-kubernetes-preserve-unknown-fields": True}))]
Line = Annotated[str, Field(max_length=2048)]


class RoleRefSpec(ApiModel):
    """A live role of Kubernetes."""

    kind: Literal["Role", "ClusterRole"] = Field("Role", description="A Role is one of the AccessPolicy's namespace.")
    name: RbacName = Field(description="Its name.")


class IamRoleRefSpec(ApiModel):
    """A live IAM role."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w+=,.@-]+$")] = Field(
        description="Name of the role, without path."
    )
    policy_name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\w+=,.@-]+$")] = Field(
        "medley", description="The inline policy that is judged and repaired; the role's others decide with it."
    )
    part: Literal["Identity", "Trust"] = Field(
        "Identity", description="Identity: what the role may do. Trust: who may take it on."
    )


class GeneratedSpec(ApiModel):
    """A policy that Medley generates for a service."""

    service: Name = Field(description="An LLMService in the AccessPolicy's namespace.")
    router_account: Name | None = Field(
        None,
        description="ServiceAccount of the service's router, and the roles are judged that let it read and acknowledge "
        "its routing table. Unset: with iamRoleRef, what the service's pods may do, or who may be them.",
    )


class AccessSpec(ApiModel):
    """What must be allowed and what must not be."""

    floor: list[RuleItem] | None = Field(
        None,
        max_length=256,
        description="Requests that must be allowed, each rule as in docs/reference/access-specs.md.",
    )
    ceiling: list[RuleItem] | None = Field(
        None, max_length=256, description="Sets of requests of which none may be allowed."
    )
    ceilings: list[Text] | None = Field(
        None,
        max_length=16,
        description="Shipped ceilings that hold as well: kubernetes-danger, aws-escalation, aws-credentials, "
        "aws-exfiltration. Enforce adds those of the document's kind.",
    )


class AccessPolicySpec(ApiModel):
    """What a platform engineer declares about one policy."""

    document: DocumentText | None = Field(
        None,
        description="A policy as text: an IAM document, or roles with their bindings. It is judged, never written.",
    )
    role_ref: RoleRefSpec | None = Field(None, description="A live role with the bindings that give it.")
    iam_role_ref: IamRoleRefSpec | None = Field(None, description="A live IAM role.")
    generated: GeneratedSpec | None = Field(
        None,
        description="The access spec is what Medley generates for a service: its floor, and nothing beyond.",
    )
    access_spec: AccessSpec | None = Field(None, description="Floor and ceiling. Needed unless generated is set.")
    mode: Literal["Off", "Suggest", "Enforce"] = Field(
        "Suggest",
        description="Suggest: judge, and propose a repair. Enforce: write the repair once it is proved; that takes the "
        "policy writer.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> AccessPolicySpec:
        if sum(found is not None for found in (self.document, self.role_ref, self.iam_role_ref)) > 1:
            raise ValueError("set one of document, roleRef and iamRoleRef")
        if self.generated is None:
            if self.document is None and self.role_ref is None and self.iam_role_ref is None:
                raise ValueError("set one of document, roleRef, iamRoleRef and generated")
            if self.access_spec is None:
                raise ValueError("accessSpec: needed unless generated is set")
        elif self.document is not None or self.role_ref is not None:
            raise ValueError("generated goes with iamRoleRef, or alone")
        elif (self.generated.router_account is None) == (self.iam_role_ref is None):
            raise ValueError("generated: set exactly one of generated.routerAccount and iamRoleRef")
        if self.mode == "Enforce" and self.document is not None:
            raise ValueError("mode: a document as text has no place to be written to; use Suggest")
        trust = self.iam_role_ref is not None and self.iam_role_ref.part == "Trust"
        if self.mode == "Enforce" and trust and self.generated is None:
            raise ValueError("mode: of trust policies only generated ones are written; use Suggest")
        return self


ACCESSPOLICY_RULES = cel(
    (
        "(has(self.document) ? 1 : 0) + (has(self.roleRef) ? 1 : 0) + (has(self.iamRoleRef) ? 1 : 0) <= 1",
        "set one of document, roleRef and iamRoleRef",
    ),
    (
        "has(self.generated) || has(self.document) || has(self.roleRef) || has(self.iamRoleRef)",
        "set one of document, roleRef, iamRoleRef and generated",
    ),
    ("has(self.generated) || has(self.accessSpec)", "accessSpec: needed unless generated is set"),
    ("!has(self.generated) || !(has(self.document) || has(self.roleRef))", "generated goes with iamRoleRef, or alone"),
    (
        "!has(self.generated) || has(self.generated.routerAccount) != has(self.iamRoleRef)",
        "generated: set exactly one of generated.routerAccount and iamRoleRef",
    ),
    (
        "!has(self.document) || self.mode != 'Enforce'",
        "mode: a document as text has no place to be written to; use Suggest",
    ),
    (
        "self.mode != 'Enforce' || has(self.generated) || !has(self.iamRoleRef) || self.iamRoleRef.part != 'Trust'",
        "mode: of trust policies only generated ones are written; use Suggest",
    ),
)


class CounterexampleStatus(ApiModel):
    """A broken rule of the access spec."""

    rule: Line = Field(description="Its id.")
    side: Literal["floor", "ceiling"] = Field(description="floor: the request must be allowed; ceiling: it must not.")
    request: Line = Field(description="A request that breaks it.")
    case: Text = Field(description="allowed, explicit deny or implicit deny.")
    blamed: list[Line] | None = Field(None, max_length=8, description="Statements or rules to blame, or nearest.")


class ProofStatus(ApiModel):
    """A proof that a document meets the access spec."""

    of: Literal["Document", "Proposal"] = Field(description="The document as it is, or what is proposed.")
    rules: int = Field(description="Rules that were proved.")
    engines: list[Text] = Field(max_length=4, description="Engines that proved each of them. B: atoms, C: Z3.")
    digest: Text = Field(description="SHA-256 over document, spec, ceilings and what was proved.")


class RepairStatus(ApiModel):
    """The repair of a document that breaks its spec."""

    outcome: Text = Field(description="Repaired, Contradiction, TooLong or Unknown.")
    edits: list[Line] | None = Field(None, max_length=64, description="The edits, in their order.")
    diff: Annotated[str, Field(max_length=65_536)] | None = Field(None, description="From what is live.")
    document: DocumentText | None = Field(None, description="The repaired document, to be applied by hand.")
    rejected: int | None = Field(None, description="Candidates that were refused, each with a witness.")
    contradictions: list[Line] | None = Field(None, max_length=16, description="Floor and ceiling that conflict.")
    proposals: list[Line] | None = Field(None, max_length=8, description="What a language model proposed, if asked.")
    reason: Line | None = Field(None, description="Why there is none.")


class PreviousStatus(ApiModel):
    """What was in force before Medley wrote."""

    document: DocumentText | None = Field(None, description="Its text; unset: there was none.")
    replaced_at: Annotated[str, Field(max_length=40)] = Field(description="When, RFC 3339.")
    digest: Text = Field(description="SHA-256 of what was written.")
    checked: bool = Field(False, description="Whether the floor was tried after the write, and held.")


class AccessPolicyStatus(ApiModel):
    """What Medley reports."""

    observed_generation: int | None = Field(None, description="Generation of the spec that was judged.")
    conditions: list[ConditionStatus] | None = Field(
        None,
        max_length=16,
        description="Verified: the document meets the spec. Written: what was done about it.",
        json_schema_extra=K8s(**{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    )
    source: Line | None = Field(None, description="What was judged.")
    verdict: Literal["Satisfied", "Violated", "Unknown"] | None = Field(None, description="Of the document as it is.")
    counterexamples: list[CounterexampleStatus] | None = Field(None, max_length=16, description="Broken rules.")
    unknown: list[Line] | None = Field(None, max_length=16, description="Rules that could not be decided, and why.")
    repair: RepairStatus | None = Field(None, description="What would mend it.")
    proof: ProofStatus | None = Field(None, description="The last proof.")
    previous: PreviousStatus | None = Field(None, description="What the last write replaced.")
    held: Text | None = Field(
        None, description="SHA-256 of a document that was taken back, as its floor failed: not written again."
    )
