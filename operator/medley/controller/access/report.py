"""What an AccessPolicy's status says of a review, and of what was done about it. Pure: values in, status out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from medley.actuation.status import conditions
from medley.cycle.decision import Finding as Condition
from medley.cycle.decision import Truth
from medley.policy.repair.repair import Outcome
from medley.policy.review import Review
from medley.policy.verify import Verdict

Json = dict[str, Any]
MOST_COUNTEREXAMPLES = 16
MOST_EDITS = 64
LONGEST_DOCUMENT = 131_072
"""In characters: what a status has room for."""
LONGEST_DIFF = 65_536
LONGEST_LINE = 2048


class Done(Enum):
    """What was done about a review: the reason of the condition Written."""

    NOTHING_TO_DO = "NothingToDo"
    PROPOSED = "Proposed"
    WRITTEN = "Written"
    CHECKED = "Checked"
    ROLLED_BACK = "RolledBack"
    NOT_PROVED = "NotProved"
    CONTRADICTION = "Contradiction"
    NO_WRITER = "WriterNotInstalled"
    NO_CONSENT = "NoConsent"
    HELD = "Held"
    CONTESTED = "Contested"
    FAILED = "WriteFailed"
    UNKNOWN = "Unknown"

    @property
    def truth(self) -> Truth:
        """Whether what is in force is what it should be, as far as writing goes."""
        if self in (Done.NOTHING_TO_DO, Done.WRITTEN, Done.CHECKED):
            return Truth.TRUE
        return Truth.UNKNOWN if self is Done.UNKNOWN else Truth.FALSE


@dataclass(frozen=True, slots=True)
class Previous:
    """What a write replaced."""

    document: str
    replaced_at: str
    digest: str
    checked: bool = False


def previous_of(status: Mapping[str, Any]) -> Previous | None:
    """What the status remembers of the last write."""
    found = status.get("previous")
    if not found:
        return None
    return Previous(found.get("document", ""), found["replacedAt"], found["digest"], bool(found.get("checked")))


def failed_status(reason: str, message: str, generation: int, previous: Mapping[str, Any], now_s: float) -> Json:
    """The status where nothing could be judged; what was written before is not forgotten."""
    found = (
        Condition("Verified", Truth.UNKNOWN, reason, message),
        Condition("Written", Truth.UNKNOWN, Done.UNKNOWN.value, "nothing is written without a verdict"),
    )
    kept = {key: previous[key] for key in ("previous", "held") if key in previous}
    return {
        "observedGeneration": generation,
        "conditions": conditions(found, previous, generation, now_s),
        "verdict": Verdict.UNKNOWN.value,
        **kept,
    }


def status(
    title: str,
    review: Review,
    done: Done,
    message: str,
    *,
    generation: int,
    before: Mapping[str, Any],
    previous: Previous | None,
    held: str,
    now_s: float,
) -> Json:
    """The whole status.

    Args:
        title: what was judged.
        review: of it.
        done: what was done about it.
        message: what to know of that.
        generation: of the spec.
        before: the status so far.
        previous: what the last write replaced.
        held: digest of a document that was taken back.
        now_s: unix time.
    """
    found = (verified(review), Condition("Written", done.truth, done.value, message[:LONGEST_LINE]))
    out: Json = {
        "observedGeneration": generation,
        "conditions": conditions(found, before, generation, now_s),
        "source": title[:LONGEST_LINE],
        "verdict": review.verdict.value,
        "counterexamples": [
            {
                "rule": one.rule[:LONGEST_LINE],
                "side": one.side,
                "request": one.request[:LONGEST_LINE],
                "case": one.case,
                "blamed": _lines(one.blamed, 8),
            }
            for one in review.findings[:MOST_COUNTEREXAMPLES]
        ],
        "unknown": _lines((*review.unknown, *review.disagreements), 16),
    }
    if review.verdict is Verdict.VIOLATED:
        out["repair"] = _repair(review)
    if review.proof is not None:
        of = "Document" if review.verdict is Verdict.SATISFIED else "Proposal"
        proof = review.proof
        out["proof"] = {"of": of, "rules": proof.rules, "engines": list(proof.engines), "digest": proof.digest}
    if previous is not None:
        out["previous"] = {"replacedAt": previous.replaced_at, "digest": previous.digest, "checked": previous.checked}
        if previous.document:
            out["previous"]["document"] = previous.document
    if held:
        out["held"] = held
    return out


def verified(review: Review) -> Condition:
    """Whether the document meets its spec."""
    if review.verdict is Verdict.SATISFIED:
        rules = review.proof.rules if review.proof else 0
        by = " and ".join(review.proof.engines) if review.proof else ""
        return Condition("Verified", Truth.TRUE, "Satisfied", f"{rules} rules proved by {by} (B: atoms, C: Z3)")
    if review.verdict is Verdict.VIOLATED:
        first = review.findings[0]
        more = f" (and {len(review.findings) - 1} more)" if len(review.findings) > 1 else ""
        text = f"{first.side} {first.rule}: {first.request}{more}"
        return Condition("Verified", Truth.FALSE, "Violated", text[:LONGEST_LINE])
    said = (*review.disagreements, *review.unknown)
    return Condition("Verified", Truth.UNKNOWN, "Unknown", "; ".join(said)[:LONGEST_LINE])


def service_condition(bodies: Sequence[tuple[str, Json]]) -> Condition:
    """AccessVerified of a service: the worst of the AccessPolicies (name, status) that are generated for it."""
    order = {Truth.FALSE: 0, Truth.UNKNOWN: 1, Truth.TRUE: 2}
    said = [
        (Truth(item["status"]), item["reason"], f"AccessPolicy {name}: {item['message']}")
        for name, body in bodies
        for item in body["conditions"]
        if item["type"] == "Verified"
    ]
    truth, reason, message = min(said, key=lambda one: order[one[0]])
    return Condition("AccessVerified", truth, reason, message[:LONGEST_LINE])


def _repair(review: Review) -> Json:
    out: Json = {"outcome": review.outcome.value, "rejected": len(review.rejected)}
    if review.outcome is Outcome.REPAIRED:
        out["edits"] = _lines(review.edits, MOST_EDITS)
        out["diff"] = review.diff[:LONGEST_DIFF]
        if len(review.proposed) <= LONGEST_DOCUMENT:
            out["document"] = review.proposed
    if review.contradictions:
        out["contradictions"] = _lines(review.contradictions, 16)
    if review.proposals:
        out["proposals"] = _lines(review.proposals, 8)
    if review.reason:
        out["reason"] = review.reason[:LONGEST_LINE]
    return out


def _lines(texts: Sequence[str], most: int) -> list[str]:
    return [text[:LONGEST_LINE] for text in texts[:most]]
