"""One review of a live or written policy: verdict, who is to blame, the repair, its proof, all of it in plain texts.

The reconcile of AccessPolicies and whoever else has no terminal asks here. Cases and reviews are values of texts and
numbers, so that a review can run in a process of its own, under a time limit that no solver can ignore.
"""

from __future__ import annotations

from medley.policy.kind import PolicyKind
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
    if case.kind is PolicyKind.RBAC:
        return review_roles(case)
    return review_document(case, proposer)
