"""Says which statement, and which of its elements, makes a request go the wrong way.

| case | the request | who is named |
|---|---|---|
| allowed | must be denied, but is allowed | every Allow that matches it |
| explicit deny | must be allowed, but a Deny matches it | every Deny that matches it |
| implicit deny | must be allowed, but no Allow matches it | nobody; the Allows nearest to it, with what they lack |

The three cases are those of CloudFix (arXiv 2512.09957), there per statement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from medley.policy.glob import action_glob, matcher, resource_glob, substitute
from medley.policy.iam.conditions import condition_test, single_value
from medley.policy.iam.document import Condition, Document, Effect, Sense, Statement
from medley.policy.iam.evaluate import StatementRef
from medley.policy.iam.policyset import PolicySet
from medley.policy.iam.principals import caller_text, principal_globs
from medley.policy.iam.request import Decision, Request, ascii_lower
from medley.policy.verify import Witness

NEAREST = 3
"""Allow statements named for an implicit deny."""


class Case(Enum):
    """How a request goes wrong."""

    ALLOWED = "allowed"
    EXPLICIT_DENY = "explicit deny"
    IMPLICIT_DENY = "implicit deny"


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a statement on one request: does it match, and by which of its entries."""

    name: str
    matches: bool
    entries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Blame:
    """A statement with its elements on the request."""

    statement: StatementRef
    elements: tuple[Element, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """A request that goes wrong. `near`: the statements do not match, but nearly do."""

    witness: Witness
    case: Case
    blamed: tuple[Blame, ...]
    near: tuple[Blame, ...] = ()


def localise(policies: PolicySet, witness: Witness) -> Fault:
    """The statements and elements to look at for one broken rule."""
    request = witness.request
    found = list(_statements(policies))
    if witness.decision is Decision.IMPLICIT_DENY:
        misses = [
            (ref, elements_on(document, statement, request))
            for ref, document, statement in found
            if statement.effect is Effect.ALLOW
        ]
        misses.sort(key=lambda item: sum(not element.matches for element in item[1]))
        near = tuple(Blame(ref, elements) for ref, elements in misses[:NEAREST])
        return Fault(witness, Case.IMPLICIT_DENY, (), near)
    case = Case.ALLOWED if witness.decision is Decision.ALLOWED else Case.EXPLICIT_DENY
    blamed = tuple(
        Blame(ref, elements_on(document, statement, request))
        for ref, document, statement in found
        if ref in witness.statements
    )
    return Fault(witness, case, blamed)


def _statements(policies: PolicySet) -> Iterator[tuple[StatementRef, Document, Statement]]:
    numbers: dict[object, int] = {}
    for layer, document in policies.layers():
        number = numbers[layer] = numbers.get(layer, -1) + 1
        for index, statement in enumerate(document.statements):
            yield StatementRef(layer, number, index), document, statement


def elements_on(document: Document, statement: Statement, request: Request) -> tuple[Element, ...]:
    """Every element of the statement on the request, as the evaluator sees it."""
    context = dict(request.context)
    variables = document.has_variables
    out: list[Element] = []
    action = ascii_lower(request.action)
    hits = tuple(item for item in statement.action.items if matcher((action_glob(item),))(action))
    out.append(_element("Action", statement.action.sense, hits))
    if statement.resource is not None:
        found = []
        for item in statement.resource.items:
            glob = resource_glob(item, variables=variables)
            known = substitute(glob, {key: single_value(context, key) for key in glob.variables})
            if known is not None and matcher((known,))(request.resource):
                found.append(item)
        out.append(_element("Resource", statement.resource.sense, tuple(found)))
    if statement.principal is not None:
        caller = caller_text(request.caller)
        matches = matcher(principal_globs(statement.principal))(caller)
        hits = (caller,) if matches else ()
        out.append(_element("Principal", statement.principal.sense, hits))
    for condition in statement.conditions:
        holds = condition_test(condition, variables=variables)(context)
        out.append(Element(f"Condition {condition_label(condition)}", holds))
    return tuple(out)


def condition_label(condition: Condition) -> str:
    """Operator and key: `StringEquals s3:prefix`."""
    return f"{condition.operator} {condition.key}"


def _element(name: str, sense: Sense, hits: tuple[str, ...]) -> Element:
    return Element(f"{sense.value}{name}", bool(hits) is (sense is Sense.IN), hits)
