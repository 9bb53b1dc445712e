"""How answers of the policy engine look: the JSON objects of the command contract, and text for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from medley.cli import policy_report
from medley.policy.iam.document import Document, Statement
from medley.policy.iam.evaluate import StatementRef
from medley.policy.iam.policyset import Layer, PolicySet
from medley.policy.iam.request import Request
from medley.policy.verify import IamReport, Witness


def request_object(request: Request) -> dict[str, Any]:
    """A request; `principal` null: anonymous."""
    caller = request.caller
    return {
        "action": request.action,
        "resource": request.resource,
        "principal": None if caller is None else {caller.type.value: caller.id},
        "context": {key: list(values) for key, values in request.context},
    }


def request_text(request: Request) -> str:
    """A request on one line."""
    parts = [request.action, "on", request.resource]
    if request.caller is not None:
        parts.extend(("as", request.caller.id))
    for key, values in request.context:
        parts.append(f"[{key} = {', '.join(values) if any(values) else '(empty)'}]")
    return " ".join(parts)


def statement_object(ref: StatementRef, policies: PolicySet) -> dict[str, Any]:
    """Where a statement is: `document` is identity, boundary or resource, `index` counts from 0."""
    statement = statement_at(policies, ref)
    return {"document": ref.layer.value, "index": ref.statement, "sid": statement.sid, "effect": statement.effect.value}


def statement_at(policies: PolicySet, ref: StatementRef) -> Statement:
    """The statement that a reference names."""
    return document_at(policies, ref).statements[ref.statement]


def document_at(policies: PolicySet, ref: StatementRef) -> Document:
    """The document that a reference names."""
    if ref.layer is Layer.IDENTITY:
        return policies.identity[ref.document]
    document = policies.boundary if ref.layer is Layer.BOUNDARY else policies.resource
    assert document is not None
    return document


def statement_text(ref: StatementRef, policies: PolicySet) -> str:
    """A statement by number and Sid: `Statement[2] (ReadBucket)`."""
    statement = statement_at(policies, ref)
    place = "" if ref.layer is Layer.IDENTITY else f"{ref.layer.value} policy "
    return f"{place}Statement[{ref.statement}]" + (f" ({statement.sid})" if statement.sid else "")


def witness_object(witness: Witness, policies: PolicySet) -> dict[str, Any]:
    """A broken rule with the request that breaks it."""
    return {
        "rule": witness.rule.id,
        "side": witness.rule.side.value,
        "part": witness.part,
        "request": request_object(witness.request),
        "decision": witness.decision.value,
        "statements": [statement_object(ref, policies) for ref in witness.statements],
        "reason": witness.rule.reason,
        "source": witness.rule.source,
    }


def report_object(report: IamReport, policies: PolicySet) -> dict[str, Any]:
    """The JSON of `verify`."""
    return policy_report.report_object(report, lambda witness: witness_object(witness, policies))


def report_lines(report: IamReport, policies: PolicySet) -> Iterable[str]:
    """The answer of `verify` for people."""
    return policy_report.report_lines(
        report, lambda witness: request_text(witness.request), lambda witness: _because(witness, policies)
    )


def _because(witness: Witness, policies: PolicySet) -> str:
    if witness.statements:
        return ", by " + ", ".join(statement_text(ref, policies) for ref in witness.statements)
    return ": no statement allows it" if not witness.decision.allowed else ""
