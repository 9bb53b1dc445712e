"""Merges a user's own IAM statements into a generated identity policy: verified, repaired before use, or refused.

What the result has to meet is not the generated spec's ceiling, which leaves no room for more, but

    floor    what the service needs, and what the user asks for outright: statements that name actions and resources
             without any wildcard, and no condition but values of keys
    ceiling  what the part keeps shut whatever a user adds (`Part.outer`), and the ceilings that the caller names

A statement with wildcards asks for no request in particular: what of it lies beyond the ceiling is cut off, by a Deny
where that suffices. Refused, with a request that shows why: what is asked for outright and lies beyond (a
contradiction), a statement of which nothing would be left, and a Deny that takes away what the service needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from medley.model.errors import UserError
from medley.policy.answers import Empty, Engine
from medley.policy.atoms.product import find
from medley.policy.clauses import All, Builder, Not, statement_clause
from medley.policy.generate.check import document_of
from medley.policy.generate.part import Json, Part, yaml_text
from medley.policy.iam.document import Document, Effect, Sense, Statement
from medley.policy.iam.evaluate import Evaluator
from medley.policy.iam.parse import statement_of
from medley.policy.iam.policyset import alone
from medley.policy.iam.render import document_value, statement_value
from medley.policy.iam.request import Request
from medley.policy.iam.values import text_of
from medley.policy.json_text import read_json
from medley.policy.kind import PolicyKind
from medley.policy.membership import lies_in
from medley.policy.prove import Proved, Prover
from medley.policy.realistic import realistic
from medley.policy.repair.contradictions import single_rules
from medley.policy.repair.edits import EditKind, add_statement, apply_edit
from medley.policy.repair.repair import Outcome, Repair, prove_edits, repair
from medley.policy.spec.read import read_spec
from medley.policy.spec.spec import Side, Spec
from medley.policy.verify import Verdict, Verification, Witness, verify

MAX_STATEMENTS = 16
"""Of one service's own."""


class MergeOutcome(Enum):
    """What became of the user's statements."""

    ACCEPTED = "Accepted"
    """Taken as they are."""
    REPAIRED = "Repaired"
    """Taken with edits."""
    REFUSED = "Refused"
    UNKNOWN = "Unknown"
    """Not proved within the limits: not to be used."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The part with its merged document and the spec that it meets, and how it came about.

    For REFUSED and UNKNOWN `part` is the generated one, without any of the user's statements; `reason` and, where there
    is one, `witness` say why.
    """

    outcome: MergeOutcome
    part: Part
    repair: Repair
    reason: str = ""
    witness: Request | None = None

    @property
    def usable(self) -> bool:
        """Whether `part` holds the user's statements, proved."""
        return self.outcome in (MergeOutcome.ACCEPTED, MergeOutcome.REPAIRED)


def merge_statements(
    part: Part,
    statements: Sequence[Json | str],
    prover: Prover,
    ceilings: Mapping[str, str] | None = None,
    field: str = "spec.access.statements",
) -> Merged:
    """The part with the statements (JSON values, or their text) in its document.

    Raises:
        UserError: the part is no identity policy, a statement is none, names a principal, or has a Sid of ours.
    """
    if part.kind is not PolicyKind.IAM_IDENTITY:
        raise UserError(f"{part.name.value} is no identity policy", field=field, fix="Add to pod-policy")
    base = document_of(part, part.document_text)
    own = _read(statements, base, field)
    merged = replace(base, statements=(*base.statements, *own))
    value: Json = {
        "floor": [*part.spec["floor"], *_wishes(own)],
        "ceiling": [*part.outer],
    }
    spec = read_spec(yaml_text([value]), part.title)
    spec = spec.with_ceilings([read_spec(text, name) for name, text in (ceilings or {}).items()])
    limit = None if part.limit is None else part.limit.value
    found = _cut_off(merged, spec, prover, limit) or repair(merged, spec, prover, limit)
    if found.outcome in (Outcome.REPAIRED, Outcome.UNCHANGED):
        for number, statement in enumerate(own):
            lost = _loss(statement, base, found, len(base.statements) + number)
            if lost is not None:
                witness = _witness_of(statement, found)
                why = f"{field}[{number}]: {lost}" + (f" ({witness.rule.id})" if witness is not None else "")
                return Merged(MergeOutcome.REFUSED, part, found, why, None if witness is None else witness.request)
        outcome = MergeOutcome.ACCEPTED if found.outcome is Outcome.UNCHANGED else MergeOutcome.REPAIRED
        return Merged(outcome, replace(part, document=document_value(found.document), spec=value), found)
    if found.outcome is Outcome.CONTRADICTION:
        first = found.contradictions[0]
        why = f"{first.floor.id} asks for what the ceiling {first.ceiling.id} forbids"
        if first.ceiling.reason:
            why += f": {first.ceiling.reason}"

        def still(other: Request) -> bool:
            return lies_in(first.floor.parts[0], other) and any(lies_in(p, other) for p in first.ceiling.parts)

        return Merged(MergeOutcome.REFUSED, part, found, why, realistic(first.witness, still))
    outcome = MergeOutcome.REFUSED if found.outcome is Outcome.TOO_LONG else MergeOutcome.UNKNOWN
    return Merged(outcome, part, found, found.reason)


def _cut_off(merged: Document, spec: Spec, prover: Prover, limit: int | None) -> Repair | None:
    """The document with a Deny for each ceiling rule that it breaks, proved; None: that is not all that is wrong.

    The smallest edit would often be to take the user's statement out. This keeps all of it that may be kept.
    """
    by_atoms = Prover(engines=(Engine.ATOMS,))
    before = verify(alone(merged), spec, by_atoms)
    rules, contradictions = single_rules(merged, spec)
    if before.verdict is not Verdict.VIOLATED or contradictions:
        return None
    broken = verify(alone(merged), Spec(rules), by_atoms).witnesses
    if any(witness.rule.side is Side.FLOOR for witness in broken):
        return None
    document, edits = merged, []
    for witness in broken:
        # One Deny often shuts what other rules are about.
        if not isinstance(Verification(alone(document), by_atoms).ask([witness.rule]), Proved):
            edits.append(add_statement(replace(witness.rule.statements[0], effect=Effect.DENY)))
            document = apply_edit(document, edits[-1])
    result = prove_edits(merged, tuple(edits), spec, prover, limit, before)
    return result if result.outcome is Outcome.REPAIRED else None


def _loss(statement: Statement, base: Document, found: Repair, index: int) -> str | None:
    """Why a user's statement, which stood at `index`, says nothing any more, though it did; None: it still does."""
    if statement.effect is Effect.DENY:
        kept: list[int | None] = list(range(len(base.statements) + MAX_STATEMENTS))
        for edit in found.edits:
            if edit.kind is EditKind.REMOVE_STATEMENT:
                kept.pop(edit.statement)
        return None if index in kept else "it denies what the service needs"
    builder = Builder()
    gives = All(
        (builder.clause(statement_clause(statement, base.has_variables)), Not(builder.allowed(base)))
    )  # beyond what is generated
    if isinstance(find(builder.question(gives)), Empty):
        return None
    still = builder.question(All((gives, builder.allowed(found.document))))
    return "nothing of it lies inside the ceiling" if isinstance(find(still), Empty) else None


def _witness_of(statement: Statement, found: Repair) -> Witness | None:
    """A broken rule that the statement is to blame for, as far as one is known."""
    alone_allows = Evaluator(Document((replace(statement, effect=Effect.ALLOW),)))
    side = Side.CEILING if statement.effect is Effect.ALLOW else Side.FLOOR
    return next(
        (w for w in found.before.witnesses if w.rule.side is side and alone_allows.allows(w.request)),
        None,
    )


def _read(statements: Sequence[Json | str], base: Document, field: str) -> list[Statement]:
    if len(statements) > MAX_STATEMENTS:
        raise UserError(f"has {len(statements)}, more than {MAX_STATEMENTS}", field=field, fix="Join some")
    taken = {statement.sid for statement in base.statements}
    out = []
    for number, given in enumerate(statements):
        path = f"{field}[{number}]"
        value = read_json(given, path) if isinstance(given, str) else given
        # A value that came with a custom resource may hold what JSON cannot; the reader takes JSON.
        statement = statement_of(read_json(json.dumps(value), path), path)
        if statement.principal is not None:
            raise UserError("goes with a role: it names no principal", field=f"{path}.Principal", fix="Leave it out")
        if statement.resource is None:
            raise UserError("has no Resource", field=path, fix="Name what it is for")
        if statement.sid is not None and statement.sid in taken:
            raise UserError(f"{statement.sid!r} is taken", field=f"{path}.Sid", fix="Use another, or none")
        taken.add(statement.sid)
        out.append(statement)
    return out


def _wishes(own: Sequence[Statement]) -> list[Json]:
    """Floor rules for what is asked for outright."""
    rules: list[Json] = []
    for number, statement in enumerate(own):
        keys = _keys(statement)
        if statement.effect is Effect.ALLOW and _literal(statement) and keys is not None:
            value = statement_value(statement)
            rule: Json = {"id": f"own-{number + 1}", "action": value["Action"], "resource": value["Resource"]}
            rules.append({**rule, **({"context": keys} if keys else {}), "reason": "the user asks for it"})
    return rules


def _literal(statement: Statement) -> bool:
    assert statement.resource is not None
    elements = (statement.action, statement.resource)
    if any(element.sense is Sense.NOT_IN for element in elements):
        return False
    return not any(mark in item for element in elements for item in element.items for mark in ("*", "?", "${"))


def _keys(statement: Statement) -> dict[str, Any] | None:
    """The values that keys must have; None: its conditions say something else."""
    out: dict[str, Any] = {}
    for condition in statement.conditions:
        if str(condition.operator) != "StringEquals" or len(condition.values) != 1 or condition.key in out:
            return None
        text = text_of(condition.values[0])
        if "/" in text or "${" in text:
            return None
        out[condition.key] = text
    return out
