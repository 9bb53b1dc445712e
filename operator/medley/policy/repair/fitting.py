"""Makes added statements fit where the document is attached, without changing what they match.

A resource policy has a Principal in every statement: where one names none, which matches every caller, it is "*". A
trust policy has no Resource: IAM refuses the element there. A document whose statements all do without is one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from medley.policy.iam.document import Document, DocumentKind, Principals, Sense, Statement
from medley.policy.repair.edits import Edit


def fitted(edits: Iterable[Edit], document: Document) -> tuple[Edit, ...]:
    """The edits, with statements that go into this document as it was given."""
    if document.kind is not DocumentKind.RESOURCE:
        return tuple(edits)
    without_resource = all(statement.resource is None for statement in document.statements)
    return tuple(
        edit if edit.added is None else replace(edit, added=_fitted(edit.added, without_resource=without_resource))
        for edit in edits
    )


def _fitted(statement: Statement, *, without_resource: bool) -> Statement:
    if statement.principal is None:
        statement = replace(statement, principal=Principals(()))
    resource = statement.resource
    everything = resource is not None and resource.sense is Sense.IN and "*" in resource.items
    return replace(statement, resource=None) if without_resource and everything else statement
