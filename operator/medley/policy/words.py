"""Requests, statements and faults in words: what people read of the engine's answers on IAM documents."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from medley.policy.iam.document import Document, Statement
from medley.policy.iam.evaluate import StatementRef
from medley.policy.iam.policyset import Layer, PolicySet
from medley.policy.iam.request import Request
from medley.policy.localise import Fault


def request_text(request: Request) -> str:
    """A request on one line."""
    parts = [request.action, "on", request.resource]
    if request.caller is not None:
        parts.extend(("as", request.caller.id))
    for key, values in request.context:
        parts.append(f"[{key} = {', '.join(values) if any(values) else '(empty)'}]")
    return " ".join(parts)


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


def fault_lines(fault: Fault, policies: PolicySet) -> Iterable[str]:
    """A fault for people."""
    witness = fault.witness
    yield f"  {witness.rule.side.value} {witness.rule.id}: {request_text(witness.request)}"
    yield f"    {fault.case.value}"
    for blame in fault.blamed:
        by = [f"{element.name} {', '.join(element.entries)}".rstrip() for element in blame.elements if element.matches]
        yield f"    {statement_text(blame.statement, policies)} matches by {'; '.join(by)}"
    for blame in fault.near:
        lacks = [element.name for element in blame.elements if not element.matches]
        yield f"    {statement_text(blame.statement, policies)} would allow it but for {'; '.join(lacks)}"


def text_diff(before: str, after: str, name: str, new_name: str) -> str:
    """A unified diff of two texts."""
    return "".join(
        difflib.unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), name, new_name)
    )
