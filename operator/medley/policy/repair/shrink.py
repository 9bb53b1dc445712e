"""Makes a document that is too long shorter without changing what it allows: every step is proved.

In this order, until it is short enough: entries that another entry of the same element covers, statements that differ
in one element only, statements that nothing needs, entries that nothing needs. Names (Sid) stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from medley.model.errors import UserError
from medley.policy.answers import Empty, Engine
from medley.policy.atoms.product import find
from medley.policy.clauses import ACTION, RESOURCE, All, Builder, Clause, Not, Strings, Test
from medley.policy.glob import Glob, action_glob, resource_glob
from medley.policy.iam.document import Document, Effect, Patterns
from medley.policy.iam.policyset import alone
from medley.policy.iam.render import size_characters
from medley.policy.prove import Proved, Prover
from medley.policy.repair.edits import Edit, EditKind, ElementName, apply_edit, apply_edits, remove_statement
from medley.policy.repair.tidy import merges
from medley.policy.verify import within

ATOMS = Prover(engines=(Engine.ATOMS,))
MOST_ENTRIES = 500
"""Entries that are tried one by one; a document with more is left as the other steps made it."""


@dataclass(frozen=True, slots=True)
class Shrunk:
    """A document that allows the same, proved both ways by the prover's engines, and the edits that lead to it."""

    document: Document
    edits: tuple[Edit, ...]


def shrink(document: Document, limit_characters: int, prover: Prover) -> Shrunk:
    """A document of at most so many characters that allows the same; a longer one if it cannot be made so short."""
    work = _Shrinking(document, limit_characters)
    for step in (work.covered_entries, work.merge, work.idle_statements, work.idle_entries):
        if not work.short_enough:
            step()
    short, edits = work.document, tuple(work.edits)
    if edits and not (_within(document, short, prover) and _within(short, document, prover)):
        return Shrunk(document, ())
    return Shrunk(short, edits)


class _Shrinking:
    """The document so far. Every step stops as soon as it is short enough."""

    def __init__(self, document: Document, limit_characters: int) -> None:
        self.document = document
        self.edits: list[Edit] = []
        self._limit_characters = limit_characters

    @property
    def short_enough(self) -> bool:
        return size_characters(self.document) <= self._limit_characters

    def _take(self, *edits: Edit) -> None:
        for edit in edits:
            self.document = apply_edit(self.document, edit)
            self.edits.append(edit)

    def covered_entries(self) -> None:
        """Takes out entries that another entry of the same element covers."""
        for index, element, patterns in list(_elements(self.document)):
            globs = {item: _glob(element, item, self.document) for item in patterns.items}
            wildcards = [item for item in globs if "*" in item or "?" in item]
            # An edit cannot name one of two equal entries.
            for wide in wildcards if len(globs) == len(patterns.items) else ():
                for item in list(globs):
                    if self.short_enough:
                        return
                    if item != wide and wide in globs and _covers(element, globs[wide], globs[item]):
                        del globs[item]
                        self._take(Edit(EditKind.REMOVE, index, element, item))

    def merge(self) -> None:
        """Merges statements that differ in Action or Resource alone, where that is shorter."""
        found = list(merges(self.document, 1))
        if size_characters(apply_edits(self.document, found)) < size_characters(self.document):
            self._take(*found)

    def idle_statements(self) -> None:
        """Takes out statements that nothing needs, the last first."""
        for index in range(len(self.document.statements) - 1, -1, -1):
            if not self.short_enough and len(self.document.statements) > 1:
                self._try(remove_statement(index), index)

    def idle_entries(self) -> None:
        """Takes out entries that nothing needs."""
        entries = [
            (index, element, item) for index, element, patterns in _elements(self.document) for item in patterns.items
        ]
        for index, element, item in entries if len(entries) <= MOST_ENTRIES else ():
            if not self.short_enough:
                self._try(Edit(EditKind.REMOVE, index, element, item), index)

    def _try(self, edit: Edit, index: int) -> None:
        """Applies an edit after which the document allows the same, by engine B."""
        try:
            changed = apply_edit(self.document, edit)
        except UserError:
            return
        both = (self.document, changed), (changed, self.document)
        # The direction that can fail first: without part of an Allow less is allowed, without part of a Deny more.
        ordered = both if self.document.statements[index].effect is Effect.ALLOW else both[::-1]
        if all(_within(inner, outer, ATOMS) for inner, outer in ordered):
            self._take(edit)


def _within(inner: Document, outer: Document, prover: Prover) -> bool:
    return isinstance(within(alone(inner), alone(outer), prover), Proved)


def _elements(document: Document) -> Iterator[tuple[int, ElementName, Patterns]]:
    for index, statement in enumerate(document.statements):
        yield index, ElementName.ACTION, statement.action
        if statement.resource is not None:
            yield index, ElementName.RESOURCE, statement.resource


def _glob(element: ElementName, item: str, document: Document) -> Glob:
    return action_glob(item) if element is ElementName.ACTION else resource_glob(item, variables=document.has_variables)


def _covers(element: ElementName, wide: Glob, narrow: Glob) -> bool:
    if wide.variables or narrow.variables:
        return False
    dimension = ACTION if element is ElementName.ACTION else RESOURCE
    builder = Builder()
    one, other = (builder.clause(Clause((Test(dimension, Strings((glob,))),))) for glob in (narrow, wide))
    return isinstance(find(builder.question(All((one, Not(other))))), Empty)
