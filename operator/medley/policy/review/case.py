"""What a review is asked, and what it says: values of texts and numbers."""

from __future__ import annotations

from dataclasses import dataclass

from medley.policy.answers import Engine
from medley.policy.generate.part import Part
from medley.policy.kind import PolicyKind
from medley.policy.rbac.document import Extent
from medley.policy.rbac.request import Request as RbacRequest
from medley.policy.repair.repair import Outcome
from medley.policy.verify import Verdict

BOTH = frozenset({Engine.ATOMS.value, Engine.SMT.value})
"""Engines without which nothing is written (DESIGN §7)."""


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
        wanted: text of the IAM document that should be in force, where the spec leaves room for others: it is what is
            proposed, once it is proved. Empty: whatever meets the spec is right.
        extent: of RBAC, whether the document has all bindings of its roles; else roles without any are read as given to
            everybody.
        part: that is generated; with `statements`, JSON texts of a user's own, it gives `spec` and `wanted`.
        statements: these.
    """

    kind: PolicyKind
    document: str
    spec: str
    ceilings: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    boundary: str = ""
    timeout_ms: int = 5000
    wanted: str = ""
    extent: Extent = Extent.WHOLE
    part: Part | None = None
    statements: tuple[str, ...] = ()


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
