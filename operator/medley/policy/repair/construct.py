"""What the search leaves open, closed by the rules' own statements.

A broken floor rule gets its statement with Allow, and denies that meet it are removed; a broken ceiling rule gets its
statement with Deny. As long as no floor rule meets a ceiling rule this ends with every rule in force: a deny of a
ceiling rule meets no floor rule, so it is never removed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from medley.policy.answers import Engine, Found
from medley.policy.atoms.product import find
from medley.policy.clauses import All, Builder, statement_clause
from medley.policy.iam.document import Document, DocumentKind, Effect, Principals, Statement
from medley.policy.iam.policyset import alone
from medley.policy.prove import Prover
from medley.policy.repair.edits import Edit, add_statement, apply_edit, remove_statement
from medley.policy.spec.spec import Rule, Side
from medley.policy.verify import Verification


def construct(document: Document, rules: tuple[Rule, ...]) -> Iterator[Edit]:
    """Edits after which the rules, which do not contradict each other, hold."""
    named = document.kind is DocumentKind.RESOURCE
    for _ in range(2 * len(rules) + 2):
        check = Verification(alone(document), Prover(engines=(Engine.ATOMS,)))
        witnesses = check.run(rules).witnesses
        if not witnesses:
            return
        for witness in witnesses:
            for edit in _edits(document, witness.rule, named=named):
                document = apply_edit(document, edit)
                yield edit


def _edits(document: Document, rule: Rule, *, named: bool) -> list[Edit]:
    statement = rule.statements[0]
    if named and statement.principal is None:
        statement = replace(statement, principal=Principals(()))
    if rule.side is Side.CEILING:
        return [add_statement(replace(statement, effect=Effect.DENY))]
    meeting = [index for index, found in enumerate(document.statements) if _meets(document, found, rule)]
    return [*(remove_statement(index) for index in reversed(meeting)), add_statement(statement)]


def _meets(document: Document, statement: Statement, rule: Rule) -> bool:
    """Whether a deny matches some request of the rule; where that is not known, it is taken to."""
    if statement.effect is Effect.ALLOW:
        return False
    builder = Builder()
    both = All((builder.clause(statement_clause(statement, document.has_variables)), builder.clause(rule.parts[0])))
    question = builder.question(both)
    answer = find(question)
    return isinstance(answer, Found) or type(answer).__name__ == "Unknown"
