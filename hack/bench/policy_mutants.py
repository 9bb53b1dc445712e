"""Mutants by somebody else's rules: the three mutation operators of Quacky, re-written from its samples/mutate.py.

| Quacky's type | what becomes of a statement |
|---|---|
| 1, change effect | of a Deny: Resource becomes NotResource and Action NotAction, or the other way round |
| 2, remove conditions | the Condition element goes |
| 3, lists into wildcards | a list of resources: the first, its last segment `*`; of actions: the first's `service:*` |

Source: vlab-cs-ucsb/quacky cf8dfd3, samples/mutate.py (Eiers et al., ICSE 2022). There every combination over all
statements is written, most of them equal; here the seed draws one combination in which something changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from medley.policy.iam.document import Document, Effect, Form, Patterns, Sense, Statement

Mutation = Callable[[Statement], Statement]


def change_effect(statement: Statement) -> Statement:
    """Type 1. An Allow stays as it is, as there."""
    if statement.effect is Effect.ALLOW:
        return statement
    resource = None if statement.resource is None else _swapped(statement.resource)
    return replace(statement, action=_swapped(statement.action), resource=resource)


def remove_conditions(statement: Statement) -> Statement:
    """Type 2."""
    return replace(statement, conditions=(), empty_condition=False)


def remove_lists(statement: Statement) -> Statement:
    """Type 3. A resource without colons stays; so does what was written as one text, not as a list."""
    action, resource = statement.action, statement.resource
    if resource is not None and resource.form is Form.LIST and ":" in resource.items[0]:
        head = resource.items[0].rpartition(":")[0]
        resource = replace(resource, items=(f"{head}:*",), form=Form.ONE)
    if action.form is Form.LIST:
        service = action.items[0].partition(":")[0]
        action = replace(action, items=("*" if service == "*" else f"{service}:*",), form=Form.ONE)
    return replace(statement, action=action, resource=resource)


MUTATIONS: tuple[Mutation, ...] = (change_effect, remove_conditions, remove_lists)


def mutants(document: Document, rng: Random, most: int) -> list[Document]:
    """Up to so many distinct mutants; fewer where the operators find nothing to change."""
    found: dict[Document, None] = {}
    for _ in range(6 * most):
        statements = []
        for statement in document.statements:
            changed = statement
            for mutation in MUTATIONS:
                if rng.random() < 0.5:
                    changed = mutation(changed)
            statements.append(changed)
        mutant = replace(document, statements=tuple(statements))
        if mutant != document and len(found) < most:
            found[mutant] = None
    return list(found)


def _swapped(patterns: Patterns) -> Patterns:
    return replace(patterns, sense=Sense.NOT_IN if patterns.sense is Sense.IN else Sense.IN)
