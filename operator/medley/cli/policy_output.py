"""How answers of the policy engine look: the JSON objects of the command contract, and text for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from medley.cli import policy_report
from medley.policy.iam.evaluate import StatementRef
from medley.policy.iam.policyset import PolicySet
from medley.policy.iam.request import Request
from medley.policy.verify import IamReport, Witness
from medley.policy.words import request_text, statement_at, statement_text


def request_object(request: Request) -> dict[str, Any]:
    """A request; `principal` null: anonymous."""
    caller = request.caller
    return {
        "action": request.action,
        "resource": request.resource,
        "principal": None if caller is None else {caller.type.value: caller.id},
        "context": {key: list(values) for key, values in request.context},
    }


def statement_object(ref: StatementRef, policies: PolicySet) -> dict[str, Any]:
    """Where a statement is: `document` is identity, boundary or resource, `index` counts from 0."""
    statement = statement_at(policies, ref)
    return {"document": ref.layer.value, "index": ref.statement, "sid": statement.sid, "effect": statement.effect.value}


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
