"""Reviews of IAM documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from medley.policy import words
from medley.policy.iam.document import Document, DocumentKind
from medley.policy.iam.parse import parse_document
from medley.policy.iam.policyset import PolicySet, alone
from medley.policy.iam.render import document_text
from medley.policy.kind import PolicyKind
from medley.policy.localise import Case as Mistake
from medley.policy.localise import localise
from medley.policy.prove import Prover, Refuted, Unproved
from medley.policy.repair.edits import edit_text
from medley.policy.repair.proposals import repair_with
from medley.policy.repair.repair import Outcome, repair
from medley.policy.review.case import Case, Finding, Review
from medley.policy.review.proof import AnyRule, as_it_is, ceilings_of, doubts, proof_of, require_rules, sha256
from medley.policy.spec.read import read_spec
from medley.policy.verify import Report, Verdict, verify, within
from medley.ports import RepairProposer

R = TypeVar("R", bound=AnyRule)
X = TypeVar("X")


def review_document(case: Case, proposer: RepairProposer | None) -> Review:
    """A review of an IAM document, with what stands beside it; see `review`."""
    spec = read_spec(case.spec, "accessSpec").with_ceilings(ceilings_of(case, read_spec))
    require_rules(spec)
    kind = DocumentKind.RESOURCE if case.kind is PolicyKind.IAM_TRUST else DocumentKind.IDENTITY
    document = parse_document(case.document, "document", kind)
    prover = Prover(case.timeout_ms)
    others = tuple(parse_document(text, f"policy {n} beside it", kind) for n, text in enumerate(case.beside, 1))
    boundary = parse_document(case.boundary, "boundary", DocumentKind.BOUNDARY) if case.boundary else None

    def together(one: Document) -> PolicySet:
        if case.kind is PolicyKind.IAM_TRUST:
            return alone(one)
        return PolicySet((one, *others), boundary=boundary)

    before = verify(together(document), spec, prover)
    found = Review(
        before.verdict,
        tuple(
            Finding(
                witness.rule.id,
                witness.rule.side.value,
                words.request_text(witness.request),
                (fault := localise(together(document), witness)).case.value,
                tuple(line.strip() for line in words.fault_lines(fault, together(document)))[2:],
                witness.rule.reason,
            )
            for witness in before.witnesses
        ),
        doubts(before),
        before.disagreements,
        judged_digest=sha256(document_text(document)),
    )
    if case.wanted:
        wanted = parse_document(case.wanted, "the generated document", kind)
        drift, unknown = _drift(document, wanted, prover)
        found = replace(found, findings=(*found.findings, *drift), unknown=(*found.unknown, *unknown))
        if not found.findings:
            if unknown and found.verdict is Verdict.SATISFIED:
                return replace(found, verdict=Verdict.UNKNOWN)
            return as_it_is(found, before, case, document_text(document))
        found = replace(found, verdict=Verdict.VIOLATED)
        whole = verify(together(wanted), spec, prover)
        if whole.verdict is not Verdict.SATISFIED:
            return replace(found, reason="the generated document does not meet the spec with what stands beside it")
        edits = ["the generated document in place of what is in force"]
        return replace(found, outcome=Outcome.REPAIRED, **_proposal(document, wanted, edits, whole, case))
    if before.verdict is not Verdict.VIOLATED:
        return as_it_is(found, before, case, document_text(document))
    limit = case.kind.limit_characters
    result = (
        repair(document, spec, prover, limit)
        if proposer is None
        else repair_with(proposer, document, spec, prover, limit)
    )
    found = replace(
        found,
        outcome=result.outcome,
        reason=result.reason,
        contradictions=tuple(
            f"floor {one.floor.id} and ceiling {one.ceiling.id} share {words.request_text(one.witness)}"
            for one in result.contradictions
        ),
        rejected=tuple(
            f"{len(one.edits)} edits: {one.witness.rule.side.value} {one.witness.rule.id}, "
            f"{words.request_text(one.witness.request)}"
            for one in result.rejected
        ),
        proposals=tuple("accepted" if said.accepted else f"refused: {said.reason}" for said in result.proposals),
    )
    if result.outcome is Outcome.UNCHANGED:
        # It is right by itself: what breaks the spec stands beside it, and that is not ours to change.
        return replace(
            found, outcome=Outcome.UNKNOWN, reason="the role's other policies or its boundary break the spec"
        )
    if result.outcome is not Outcome.REPAIRED:
        return found
    whole = verify(together(result.document), spec, prover)
    if whole.verdict is not Verdict.SATISFIED:
        witness = next(iter(whole.witnesses), None)
        said = f": {witness.rule.side.value} {witness.rule.id}" if witness else ""
        return replace(
            found, outcome=Outcome.UNKNOWN, reason=f"repaired, it breaks the spec with what stands beside it{said}"
        )
    edits = [edit_text(edit) for edit in result.edits]
    return replace(found, **_proposal(document, result.document, edits, whole, case))


def _proposal(
    document: Document, proposed: Document, edits: Sequence[str], whole: Report[R, X], case: Case
) -> dict[str, Any]:
    """The fields of a review that say what is proposed, with its proof."""
    after = document_text(proposed)
    return {
        "proposed": after,
        "proposed_digest": sha256(after),
        "edits": tuple(edits),
        "diff": words.text_diff(document_text(document), after, "live", "repaired"),
        "proof": proof_of(whole, case, after),
    }


def _drift(document: Document, wanted: Document, prover: Prover) -> tuple[list[Finding], list[str]]:
    """What the document allows beyond the one that is wanted, and what it lacks; and what could not be decided."""
    findings, unknown = [], []
    for inner, outer, side, case in (
        (document, wanted, "ceiling", Mistake.ALLOWED),
        (wanted, document, "floor", Mistake.IMPLICIT_DENY),
    ):
        outcome = within(alone(inner), alone(outer), prover)
        if isinstance(outcome, Refuted):
            findings.append(Finding("as-generated", side, words.request_text(outcome.witness), case.value, ()))
        elif isinstance(outcome, Unproved):
            unknown.append(f"{side} as-generated: {outcome.reason}")
    return findings, unknown
