"""Rules that no document can meet together: a request that the floor wants and the ceiling forbids.

Nothing else contradicts: without such a request, the statements of the floor's rules beside denies of the ceiling's
rules are a solution (`construct`). A document without Principal elements cannot tell callers apart, so there the rules
are compared as if they named none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from medley.policy.answers import Empty, Found
from medley.policy.atoms.product import find
from medley.policy.clauses import CALLER, All, Builder, Clause, Question
from medley.policy.iam.document import Document, DocumentKind
from medley.policy.iam.request import Request
from medley.policy.membership import lies_in
from medley.policy.prove import find_by_smt
from medley.policy.spec.spec import Rule, Side, Spec

MOST = 20
"""Contradictions named; one is enough to refuse."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A floor rule and a ceiling rule that share a request. `proved`: Z3 found one too."""

    floor: Rule
    ceiling: Rule
    witness: Request
    proved: bool
    callers_ignored: bool
    """They share it because the document, an identity policy, cannot tell their callers apart."""


def single_rules(document: Document, spec: Spec) -> tuple[tuple[Rule, ...], tuple[Contradiction, ...]]:
    """The rules with one part each, and what contradicts.

    A ceiling rule of several parts becomes the rule of one of them that the floor does not need, rather one that the
    document does not allow anyway. Where the document cannot name callers, the rules of the result do not either.
    """
    callers = document.kind is DocumentKind.RESOURCE
    rules = tuple(rule if callers else without_callers(rule) for rule in spec.rules)
    originals = {id(rule): original for rule, original in zip(rules, spec.rules, strict=True)}
    floor = [rule for rule in rules if rule.side is Side.FLOOR]
    single: list[Rule] = []
    found: list[Contradiction] = []
    for rule in rules:
        if len(rule.parts) == 1:
            single.append(rule)
            continue
        parts = [
            replace(rule, parts=(part,), statements=(statement,))
            for part, statement in zip(rule.parts, rule.statements, strict=True)
        ]
        clashes = [_clash(floor, [part]) for part in parts]
        free = [part for part, clash in zip(parts, clashes, strict=True) if clash is None]
        if free:
            single.append(next((part for part in free if not _allows_some(document, part)), free[0]))
        elif clashes[0] is not None:
            found.append(_contradiction(floor, rule, parts[0], clashes[0], originals))
    ceiling = [rule for rule in single if rule.side is Side.CEILING]
    while len(found) < MOST:
        witness = _clash(floor, ceiling)
        if witness is None:
            break
        worst = next(rule for rule in ceiling if lies_in(rule.parts[0], witness))
        found.append(_contradiction(floor, worst, worst, witness, originals))
        ceiling.remove(worst)
    return tuple(single), tuple(found)


def _allows_some(document: Document, rule: Rule) -> bool:
    builder = Builder()
    both = All((builder.clause(rule.parts[0]), builder.allowed(document)))
    return not isinstance(find(builder.question(both)), Empty)


def without_callers(rule: Rule) -> Rule:
    """The rule for every caller, as a document without Principal elements reads it."""
    return replace(
        rule,
        parts=tuple(
            replace(part, tests=tuple(test for test in part.tests if test.dimension != CALLER)) for part in rule.parts
        ),
        statements=tuple(replace(statement, principal=None) for statement in rule.statements),
    )


def _clash(floor: list[Rule], ceiling: list[Rule]) -> Request | None:
    answer = find(_together([rule.parts[0] for rule in floor], [rule.parts[0] for rule in ceiling]))
    return answer.witness if isinstance(answer, Found) else None


def _together(first: list[Clause], second: list[Clause]) -> Question:
    builder = Builder()
    return builder.question(All((builder.any_of(first), builder.any_of(second))))


def _contradiction(
    floor: list[Rule], named: Rule, part: Rule, witness: Request, originals: dict[int, Rule]
) -> Contradiction:
    wanted = next(rule for rule in floor if lies_in(rule.parts[0], witness))
    proved = isinstance(find_by_smt(_together([wanted.parts[0]], [part.parts[0]]), 5000), Found)
    first, second = originals[id(wanted)], originals.get(id(named), named)
    ignored = all(_clash([first], [replace(second, parts=(other,))]) is None for other in second.parts)
    return Contradiction(wanted, named, witness, proved, ignored)
