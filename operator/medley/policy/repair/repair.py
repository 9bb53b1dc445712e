"""Repairs a document and proves the result, or says why it cannot be repaired."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from medley.policy.answers import Engine
from medley.policy.iam.document import Document
from medley.policy.iam.policyset import alone
from medley.policy.iam.render import size_characters
from medley.policy.prove import Prover
from medley.policy.repair.board import Example
from medley.policy.repair.contradictions import Contradiction, single_rules
from medley.policy.repair.edits import Edit, apply_edits
from medley.policy.repair.fewer import joined, needed
from medley.policy.repair.fitting import fitted
from medley.policy.repair.search import Rejected, Search, example_of
from medley.policy.repair.shrink import shrink
from medley.policy.repair.tidy import merges
from medley.policy.spec.spec import Spec
from medley.policy.verify import IamReport, Verdict, verify

PROOF_ROUNDS = 4
"""Searches, each with the counterexamples of the proof before it."""


class Outcome(Enum):
    """Of a repair."""

    REPAIRED = "Repaired"
    UNCHANGED = "Unchanged"
    CONTRADICTION = "Contradiction"
    TOO_LONG = "TooLong"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Repair:
    """The document that came out with the edits that made it, its proof, and what was tried and refused.

    For every outcome but REPAIRED and UNCHANGED `document` is the one that was given.
    """

    outcome: Outcome
    document: Document
    edits: tuple[Edit, ...]
    before: IamReport
    proof: IamReport | None
    rejected: tuple[Rejected, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    reason: str = ""
    shortening: int = 0
    """How many of the last edits only make the document shorter: it allows the same without them."""
    proposals: tuple[Proposal, ...] = ()
    """What a proposer from outside said, round by round, if there was one."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """One answer of a proposer: accepted, or why not."""

    accepted: bool
    reason: str


def repair(document: Document, spec: Spec, prover: Prover, limit_characters: int | None = None) -> Repair:
    """The smallest edits found that make the document meet the spec, proved by the prover's engines.

    `limit_characters`: longest document, white space not counted. A longer result is made shorter without changing
    what it allows (`shrink`), and refused where that is not enough.
    """
    before = verify(alone(document), spec, Prover(engines=(Engine.ATOMS,)))
    if before.verdict is not Verdict.VIOLATED:
        before = verify(alone(document), spec, prover)
    if before.verdict is Verdict.SATISFIED and _fits(document, limit_characters):
        return Repair(Outcome.UNCHANGED, document, (), before, before)
    rules, contradictions = single_rules(document, spec)
    if contradictions:
        return Repair(Outcome.CONTRADICTION, document, (), before, None, contradictions=contradictions)
    found: tuple[Example, ...] = ()
    refused: tuple[Rejected, ...] = ()
    for _ in range(PROOF_ROUNDS):
        search = Search(document, rules, found)
        search.run()
        edits = needed(document, search.edits, rules)
        repaired = apply_edits(document, edits)
        edits = joined(document, (*edits, *merges(repaired, len(document.statements))))
        refused = (*refused, *search.rejected)
        result = prove_edits(document, edits, spec, prover, limit_characters, before, refused)
        # What engine C alone sees (policy variables) becomes an example like what engine B finds.
        fresh = () if result.proof is None else tuple(map(example_of, result.proof.witnesses))
        if result.outcome is not Outcome.UNKNOWN or not set(fresh) - set(found):
            break
        found, refused = (*found, *fresh), result.rejected
    return result


def prove_edits(
    document: Document,
    edits: tuple[Edit, ...],
    spec: Spec,
    prover: Prover,
    limit_characters: int | None,
    before: IamReport,
    rejected: tuple[Rejected, ...] = (),
) -> Repair:
    """The repair that the edits make, if it is proved: the only way out of this package, whoever proposed them."""
    edits = fitted(edits, document)
    repaired = apply_edits(document, edits)
    proof = verify(alone(repaired), spec, prover)
    if proof.verdict is not Verdict.SATISFIED:
        rejected = (*rejected, *(Rejected(edits, witness) for witness in proof.witnesses[:1]))
        reason = proof.doubts[0].reason if proof.doubts else "no edits were found that meet the spec"
        return Repair(Outcome.UNKNOWN, document, (), before, proof, rejected, reason=reason)
    if limit_characters is None or size_characters(repaired) <= limit_characters:
        return Repair(Outcome.REPAIRED, repaired, edits, before, proof, rejected)
    shrunk = shrink(repaired, limit_characters, prover)
    if shrunk.edits and size_characters(shrunk.document) <= limit_characters:
        proof = verify(alone(shrunk.document), spec, prover)
        if proof.verdict is Verdict.SATISFIED:
            whole = (*edits, *shrunk.edits)
            return Repair(
                Outcome.REPAIRED, shrunk.document, whole, before, proof, rejected, shortening=len(shrunk.edits)
            )
    reason = f"the repaired document has {size_characters(repaired):,} characters, more than {limit_characters:,}"
    if shrunk.edits:
        reason += f"; {size_characters(shrunk.document):,} without what it does not need"
    return Repair(Outcome.TOO_LONG, document, (), before, proof, rejected, reason=reason)


def _fits(document: Document, limit_characters: int | None) -> bool:
    return limit_characters is None or size_characters(document) <= limit_characters
