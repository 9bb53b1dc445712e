"""What reviews of both kinds of documents share: ceilings by name, doubts in words, proofs with their digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, TypeVar

from medley.model.errors import UserError
from medley.policy.ceilings import shipped_ceilings
from medley.policy.repair.repair import Outcome
from medley.policy.review.case import Case, Proof, Review
from medley.policy.spec.spec import Rules, Sided
from medley.policy.verify import Report, Verdict


class AnyRule(Sided, Protocol):
    """A rule of either kind of spec."""

    @property
    def id(self) -> str:
        """Its name."""


S = TypeVar("S", bound=Sided)
R = TypeVar("R", bound=AnyRule)
X = TypeVar("X")


def ceilings_of(case: Case, read: Callable[[str, str], Rules[S]]) -> list[Rules[S]]:
    """The shipped ceilings that a case names, read by the reader of its kind.

    Raises:
        UserError: one is not shipped.
    """
    shipped = shipped_ceilings()
    out = []
    for name in dict.fromkeys(case.ceilings):
        if name not in shipped:
            raise UserError(f"{name!r} is not shipped", field="ceilings", fix=f"Shipped: {', '.join(sorted(shipped))}")
        out.append(read(shipped[name], name))
    return out


def require_rules(spec: Rules[S]) -> None:
    """Refuses a spec that says nothing: everything would meet it.

    Raises:
        UserError: it has no rules.
    """
    if not spec.rules:
        raise UserError("has no rules", field="accessSpec", fix="Give floor, ceiling or ceilings")


def doubts(report: Report[R, X]) -> tuple[str, ...]:
    """Rules that could not be decided, in words."""
    return tuple(f"{doubt.rule.side.value} {doubt.rule.id}: {doubt.reason}" for doubt in report.doubts)


def as_it_is(found: Review, report: Report[R, X], case: Case, text: str) -> Review:
    """The review of a document that needs no repair, with its proof where it is satisfied."""
    if report.verdict is not Verdict.SATISFIED:
        return found
    return replace(found, outcome=Outcome.UNCHANGED, proof=proof_of(report, case, text))


def proof_of(report: Report[R, X], case: Case, text: str) -> Proof:
    """The proof that a report amounts to, of this text."""
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
    digest = sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False))
    return Proof(len(by_rule), tuple(engine.value for engine in report.engines), digest)


def sha256(text: str) -> str:
    """The digest of a text, with the name of its function."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
