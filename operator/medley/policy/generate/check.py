"""Checks a part against its own spec, and against ceilings that the caller names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medley.policy.answers import Engine
from medley.policy.generate.part import Part
from medley.policy.iam.document import Document, DocumentKind
from medley.policy.iam.parse import parse_document
from medley.policy.iam.policyset import alone
from medley.policy.iam.render import size_characters
from medley.policy.kind import PolicyKind
from medley.policy.prove import Prover
from medley.policy.rbac import spec as rbac_spec
from medley.policy.rbac.parse import parse_manifest
from medley.policy.rbac.roleset import RoleSet
from medley.policy.rbac.verify import RbacReport, require_known
from medley.policy.rbac.verify import verify as verify_roles
from medley.policy.spec.read import read_spec
from medley.policy.verify import IamReport, Verdict, verify

KINDS = {PolicyKind.IAM_IDENTITY: DocumentKind.IDENTITY, PolicyKind.IAM_TRUST: DocumentKind.RESOURCE}


@dataclass(frozen=True, slots=True)
class Checked:
    """A part with its report. `characters`: length as the cloud counts it; 0 for RBAC, which has no limit."""

    part: Part
    report: IamReport | RbacReport
    characters: int = 0

    @property
    def too_long(self) -> bool:
        """Whether it passes the limit of where it goes."""
        return self.part.limit is not None and self.characters > self.part.limit.value

    @property
    def usable(self) -> bool:
        """Whether it is proved, and short enough to be applied."""
        return self.report.verdict is Verdict.SATISFIED and not self.too_long

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines that proved every rule of it."""
        return self.report.engines


def check(part: Part, prover: Prover, ceilings: Mapping[str, str] | None = None) -> Checked:
    """The part's document against its spec and the ceilings (name → text of a spec).

    Raises:
        UserError: a ceiling is no spec of this kind of document, or Z3 is not installed.
    """
    return check_text(part, part.document_text, prover, ceilings)


def check_text(part: Part, text: str, prover: Prover, ceilings: Mapping[str, str] | None = None) -> Checked:
    """Another document in place of the part's, such as one that was read back."""
    more = (ceilings or {}).items()
    if part.kind is PolicyKind.RBAC:
        roles = RoleSet(parse_manifest(text, part.title))
        require_known(roles)
        rules = rbac_spec.read_spec(part.spec_text, part.title)
        rules = rules.with_ceilings([rbac_spec.read_spec(found, name) for name, found in more])
        return Checked(part, verify_roles(roles, rules, prover))
    document = document_of(part, text)
    spec = read_spec(part.spec_text, part.title).with_ceilings([read_spec(found, name) for name, found in more])
    return Checked(part, verify(alone(document), spec, prover), size_characters(document))


def document_of(part: Part, text: str) -> Document:
    """A text read as an IAM document of the part's kind."""
    return parse_document(text, part.title, KINDS[part.kind])
