"""One review of a live or written policy: verdict, who is to blame, the repair, its proof, all of it in plain texts.

The reconcile of AccessPolicies and whoever else has no terminal asks here. Cases and reviews are values of texts and
numbers, so that a review can run in a process of its own, under a time limit that no solver can ignore.
"""

from __future__ import annotations

from dataclasses import replace

from medley.model.errors import UserError
from medley.policy.ceilings import shipped_ceilings
from medley.policy.generate import Part, merge_statements
from medley.policy.kind import PolicyKind
from medley.policy.prove import Prover
from medley.policy.review.case import Case, Finding, Proof, Review
from medley.policy.review.iam import review_document
from medley.policy.review.rbac import review_roles
from medley.ports import RepairProposer

__all__ = ["Case", "Finding", "Proof", "Review", "review"]


def review(case: Case, proposer: RepairProposer | None = None) -> Review:
    """Verify; where that fails, localise and repair.

    Args:
        case: what is to be reviewed.
        proposer: asked for edits of IAM documents first; they pass the same proof, or are not used.

    Raises:
        UserError: a document or the spec cannot be read; the message says which and where.
    """
    if case.part is not None:
        case = _merged(case, case.part)
    if case.kind is PolicyKind.RBAC:
        return review_roles(case)
    return review_document(case, proposer)


def _merged(case: Case, part: Part) -> Case:
    """The case with what the part and the user's statements come to.

    Raises:
        UserError: the statements cannot be had; what is in force stays.
    """
    shipped = shipped_ceilings()
    ceilings = {name: shipped[name] for name in part.ceilings}
    found = merge_statements(part, case.statements, Prover(case.timeout_ms), ceilings)
    if not found.usable:
        raise UserError(f"the service's own statements are not used: {found.reason}", field="spec.access.statements")
    return replace(case, spec=found.part.spec_text, wanted=found.part.document_text, part=None, statements=())
