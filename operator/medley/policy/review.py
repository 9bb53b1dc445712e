"""One review of a live or written policy: verdict, who is to blame, the repair, its proof, all of it in plain texts.

The reconcile of AccessPolicies and whoever else has no terminal asks here. Cases and reviews are values of texts and
numbers, so that a review can run in a process of its own, under a time limit that no solver can ignore.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from medley.model.errors import UserError
from medley.policy import words
from medley.policy.answers import Engine
from medley.policy.ceilings import shipped_ceilings
from medley.policy.iam.document import Document, DocumentKind
from medley.policy.iam.parse import parse_document
from medley.policy.iam.policyset import PolicySet, alone
from medley.policy.iam.render import document_text
from medley.policy.kind import PolicyKind
from medley.policy.localise import localise
from medley.policy.prove import Prover
from medley.policy.rbac import spec as rbac_spec
from medley.policy.rbac import words as rbac_words
from medley.policy.rbac.document import Extent, Manifest
from medley.policy.rbac.edits import edit_text as rbac_edit_text
from medley.policy.rbac.localise import localise as rbac_localise
from medley.policy.rbac.parse import parse_manifest
from medley.policy.rbac.probes import floor_requests
from medley.policy.rbac.render import manifest_text
from medley.policy.rbac.repair import repair as rbac_repair
from medley.policy.rbac.request import Request as RbacRequest
from medley.policy.rbac.roleset import RoleSet
from medley.policy.rbac.verify import require_known
from medley.policy.rbac.verify import verify as rbac_verify
from medley.policy.repair.edits import edit_text
from medley.policy.repair.proposals import repair_with
from medley.policy.repair.repair import Outcome, repair
from medley.policy.spec.read import read_spec
from medley.policy.spec.spec import Rules, Sided
from medley.policy.verify import Report, Verdict, verify
from medley.ports import RepairProposer

BOTH = frozenset({Engine.ATOMS.value, Engine.SMT.value})
"""Engines without which nothing is written (DESIGN §7)."""


class _AnyRule(Sided, Protocol):
    """A rule of either kind of spec."""

    @property
    def id(self) -> str:
        """Its name."""


S = TypeVar("S", bound=Sided)
R = TypeVar("R", bound=_AnyRule)
X = TypeVar("X")


@dataclass(frozen=True, slots=True)
class Case:
    """What is to be reviewed.

    Attributes:
        kind: of the document.
        document: its text; of RBAC the roles with all bindings that give them.
        spec: text of the access spec.
        ceilings: names of shipped ceilings that hold as well.
        beside: texts of other identity policies of the same role, which decide with it and are never changed.
        boundary: text of the permissions boundary; empty: none.
        timeout_ms: for one question to Z3.
    """

    kind: PolicyKind
    document: str
    spec: str
    ceilings: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    boundary: str = ""
    timeout_ms: int = 5000


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken rule, the request that breaks it, and what is to blame, in words."""

    rule: str
    side: str
    request: str
    case: str
    blamed: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """That every rule of the spec holds for a document.

    Attributes:
        rules: how many.
        engines: that each of them was proved by; B: atoms, C: Z3.
        digest: SHA-256 over document, what stands beside it, spec, ceilings and the rules with their engines: who has
            all of these can check what was proved of what.
    """

    rules: int
    engines: tuple[str, ...]
    digest: str

    @property
    def by_both(self) -> bool:
        """Whether both engines proved every rule."""
        return set(self.engines) >= BOTH


@dataclass(frozen=True, slots=True)
class Review:
    """What came out. `proof` is of the document where that is satisfied, else of what is proposed."""

    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    unknown: tuple[str, ...] = ()
    disagreements: tuple[str, ...] = ()
    outcome: Outcome = Outcome.UNKNOWN
    proposed: str = ""
    edits: tuple[str, ...] = ()
    diff: str = ""
    proof: Proof | None = None
    rejected: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    reason: str = ""
    proposals: tuple[str, ...] = ()
    probes: tuple[RbacRequest, ...] = ()
    """Requests of the floor to try on the API server once the document is in force."""
    judged_digest: str = ""
    """SHA-256 of the document, in whatever order and style it was written."""
    proposed_digest: str = ""
    """The same of what is proposed."""

    @property
    def writable(self) -> bool:
        """Whether what is proposed may be written: both engines proved it, and none contradicts another anywhere."""
        return (
            self.outcome is Outcome.REPAIRED
            and self.proof is not None
            and self.proof.by_both
            and not self.disagreements
        )


def review(case: Case, proposer: RepairProposer | None = None) -> Review:
    """Verify; where that fails, localise and repair.

    Args:
        case: what is to be reviewed.
        proposer: asked for edits of IAM documents first; they pass the same proof, or are not used.

    Raises:
        UserError: a document or the spec cannot be read; the message says which and where.
    """
    if case.kind is PolicyKind.RBAC:
        return _roles(case)
    return _iam(case, proposer)


def _ceilings(case: Case, read: Callable[[str, str], Rules[S]]) -> list[Rules[S]]:
    shipped = shipped_ceilings()
    out = []
    for name in dict.fromkeys(case.ceilings):
        if name not in shipped:
            raise UserError(f"{name!r} is not shipped", field="ceilings", fix=f"Shipped: {', '.join(sorted(shipped))}")
        out.append(read(shipped[name], name))
    return out


# IAM.


def _iam(case: Case, proposer: RepairProposer | None) -> Review:
    spec = read_spec(case.spec, "accessSpec").with_ceilings(_ceilings(case, read_spec))
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
        _doubts(before),
        before.disagreements,
        judged_digest=_sha256(document_text(document)),
    )
    if before.verdict is not Verdict.VIOLATED:
        return _as_it_is(found, before, case, document_text(document))
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
    after = document_text(result.document)
    return replace(
        found,
        proposed=after,
        proposed_digest=_sha256(after),
        edits=tuple(edit_text(edit) for edit in result.edits),
        diff=words.text_diff(document_text(document), after, "live", "repaired"),
        proof=_proof(whole, case, after),
    )


# Kubernetes RBAC.


def _roles(case: Case) -> Review:
    spec = rbac_spec.read_spec(case.spec, "accessSpec").with_ceilings(_ceilings(case, rbac_spec.read_spec))
    manifest = replace(parse_manifest(case.document, "document"), extent=Extent.WHOLE)
    roles, prover = RoleSet(manifest), Prover(case.timeout_ms)
    require_known(roles)
    before = rbac_verify(roles, spec, prover)
    found = Review(
        before.verdict,
        tuple(
            Finding(
                witness.rule.id,
                witness.rule.side.value,
                str(witness.request),
                (fault := rbac_localise(roles, witness)).case.value,
                tuple(line.strip() for line in rbac_words.fault_lines(fault))[2:],
                witness.rule.reason,
            )
            for witness in before.witnesses
        ),
        _doubts(before),
        before.disagreements,
        judged_digest=_sha256(_canonical(manifest)),
        probes=tuple(floor_requests(spec, manifest)),
    )
    if before.verdict is not Verdict.VIOLATED:
        return _as_it_is(found, before, case, _canonical(manifest))
    result = rbac_repair(manifest, spec, prover)
    found = replace(
        found,
        outcome=result.outcome,
        reason=result.reason,
        contradictions=tuple(
            f"floor {one.floor.id} needs what ceiling {one.ceiling.id} shuts: {one.witness}"
            for one in result.contradictions
        ),
        rejected=tuple(
            f"{'; '.join(map(rbac_edit_text, one.edits))}: takes away what floor {one.witness.rule.id} needs"
            for one in result.rejected
        ),
    )
    if result.outcome is not Outcome.REPAIRED or result.proof is None:
        return found
    after = manifest_text(result.manifest)
    return replace(
        found,
        proposed=after,
        proposed_digest=_sha256(_canonical(result.manifest)),
        edits=tuple(map(rbac_edit_text, result.edits)),
        diff=words.text_diff(manifest_text(manifest), after, "live", "repaired"),
        proof=_proof(result.proof, case, _canonical(result.manifest)),
        probes=tuple(floor_requests(spec, result.manifest)),
    )


def _canonical(manifest: Manifest) -> str:
    """The same text for the same objects, in whatever order a cluster lists them."""
    return manifest_text(replace(manifest, objects=tuple(sorted(manifest.objects, key=lambda found: found.key))))


# Both.


def _doubts(report: Report[R, X]) -> tuple[str, ...]:
    return tuple(f"{doubt.rule.side.value} {doubt.rule.id}: {doubt.reason}" for doubt in report.doubts)


def _as_it_is(found: Review, report: Report[R, X], case: Case, text: str) -> Review:
    if report.verdict is not Verdict.SATISFIED:
        return found
    return replace(found, outcome=Outcome.UNCHANGED, proof=_proof(report, case, text))


def _proof(report: Report[R, X], case: Case, text: str) -> Proof:
    by_rule = [(rule.id, tuple(sorted(engine.value for engine in engines))) for rule, engines in report.proved]
    shipped = shipped_ceilings()
    parts = {
        "kind": case.kind.value,
        "document": text,
        "beside": case.beside,
        "boundary": case.boundary,
        "spec": case.spec,
        "ceilings": {name: shipped[name] for name in sorted(set(case.ceilings))},
        "proved": sorted(by_rule),
    }
    digest = _sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False))
    return Proof(len(by_rule), _by_all(engines for _, engines in by_rule), digest)


def _sha256(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _by_all(engines: Iterable[Sequence[str]]) -> tuple[str, ...]:
    sets = [set(found) for found in engines]
    return tuple(sorted(set.intersection(*sets))) if sets else ()
