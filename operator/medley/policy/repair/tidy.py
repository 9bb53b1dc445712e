"""Makes a repaired document shorter: statements that differ in one element become one, which changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from medley.policy.iam.document import Document, Form, Patterns, Sense, Statement
from medley.policy.repair.edits import Edit, EditKind, ElementName, apply_edit, remove_statement


def merges(document: Document, first_new: int) -> Iterator[Edit]:
    """Edits that merge the statements from `first_new` on into earlier ones that differ only in Action or Resource."""
    changed = True
    while changed:
        changed = False
        for late in range(len(document.statements) - 1, max(first_new, 1) - 1, -1):
            for early in range(late):
                edits = _merge(document, early, late)
                if edits:
                    for edit in edits:
                        document = apply_edit(document, edit)
                        yield edit
                    changed = True
                    break
            if changed:
                break


def _merge(document: Document, early: int, late: int) -> list[Edit]:
    kept, gone = document.statements[early], document.statements[late]
    if _sorted(replace(kept, action=gone.action)) == _sorted(gone):
        return _union(early, late, ElementName.ACTION, kept.action, gone.action)
    if kept.resource is None or gone.resource is None:
        return []
    if _sorted(replace(kept, resource=gone.resource)) == _sorted(gone):
        return _union(early, late, ElementName.RESOURCE, kept.resource, gone.resource)
    return []


def in_order(document: Document) -> Document:
    """The document with entries and conditions in order: equal where only the order differed."""
    statements = tuple(
        replace(_sorted(found), sid=found.sid, conditions=tuple(sorted(found.conditions, key=repr)))
        for found in document.statements
    )
    return replace(document, statements=statements, form=Form.LIST)


def _sorted(statement: Statement) -> Statement:
    """The statement without its name, its lists in order: equal for statements that match the same by their text."""
    resource = None if statement.resource is None else _patterns(statement.resource)
    return replace(statement, sid=None, action=_patterns(statement.action), resource=resource)


def _patterns(patterns: Patterns) -> Patterns:
    return Patterns(tuple(sorted(patterns.items)), patterns.sense)


def _union(early: int, late: int, element: ElementName, kept: Patterns, gone: Patterns) -> list[Edit]:
    if kept.sense is not Sense.IN or gone.sense is not Sense.IN:
        return []
    added = [Edit(EditKind.ADD, early, element, new=item) for item in gone.items if item not in kept.items]
    return [*added, remove_statement(late)]
