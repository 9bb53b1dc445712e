"""Questions about all requests: what one set of roles allows and another does not, what lies in a region.

The questions go to the engines of IAM (`prove`): B over classes of texts, C through Z3. A, the evaluator, confirms
every request that they find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from medley.policy.answers import Values
from medley.policy.atoms.product import count_kinds
from medley.policy.clauses import All, AnyOf, Builder, Clause, Formula, Not, Question, Strings
from medley.policy.prove import Outcome, Proved, Prover, Refuted
from medley.policy.rbac.callers import Callers
from medley.policy.rbac.dimensions import (
    CALLER,
    GROUP,
    NAME,
    NAMESPACE,
    ON_PATH,
    ON_RESOURCE,
    PATH,
    RESOURCE,
    SUBRESOURCE,
    VERB,
    ill_formed,
    listed,
    one_of,
    path_test,
    resource_tests,
)
from medley.policy.rbac.evaluate import Evaluator
from medley.policy.rbac.realistic import realistic
from medley.policy.rbac.request import Caller, Request
from medley.policy.rbac.roleset import EVERYWHERE, Grant, RoleSet, applies_to


class Space:
    """The requests that a question is about, with the callers that its role sets tell apart."""

    def __init__(self, role_sets: Iterable[RoleSet], named: Iterable[Caller] = ()) -> None:
        self.callers = Callers(tuple(role_sets), named)
        self.builder = Builder()

    def allowed(self, roles: RoleSet) -> AnyOf:
        """A formula that says that the roles allow the request."""
        return self.builder.any_of(clause for grant in roles.grants() for clause in self.clauses(grant))

    def clauses(self, grant: Grant) -> Iterator[Clause]:
        """The clauses of a grant, of which one holds where it allows."""
        rule = grant.rule
        tests = [self.callers.test(lambda caller: applies_to(grant.binding, caller)), *listed(VERB, rule.verbs)]
        if grant.scope != EVERYWHERE:
            tests.append(one_of(NAMESPACE, (grant.scope,)))
        if rule.non_resource_urls:
            yield Clause((*tests, ON_PATH, path_test(rule.non_resource_urls)))
            return
        tests.extend((ON_RESOURCE, *listed(GROUP, rule.api_groups)))
        if rule.resource_names:
            tests.append(one_of(NAME, rule.resource_names))
        for alternative in resource_tests(rule.resources):
            yield Clause((*tests, *alternative))

    def question(self, formula: Formula) -> Question:
        """Whether there is a request, such as the API server makes them, for which the formula holds."""
        wrong = self.builder.any_of(ill_formed(self.callers.texts))
        return self.builder.question(All((formula, Not(wrong))))

    def request(self, values: Values) -> Request:
        """The request that an engine found; a dimension that no test looks at has something harmless."""

        def value(dimension: str, default: str = "") -> str:
            return values.get(dimension, (default,))[0]

        caller, verb, path = self.callers.caller(value(CALLER)), value(VERB, "get"), value(PATH)
        if path:
            return Request(caller, verb, path=path)
        return Request(caller, verb, value(GROUP), value(RESOURCE), value(SUBRESOURCE), value(NAME), value(NAMESPACE))

    def prove(self, prover: Prover, formula: Formula, confirm: Callable[[Request], bool]) -> Outcome[Request]:
        """Whether no request makes the formula true; a witness that somebody could send, where there is one."""
        question = self.question(formula)
        outcome = prover.prove_as(question, confirm, self.request)
        if isinstance(outcome, Refuted):
            witness = realistic(outcome.witness, confirm, texts_named(question))
            return Refuted(witness, outcome.engine, outcome.disagreement)
        return outcome


def texts_named(question: Question) -> frozenset[str]:
    """Texts that the tests of a question name outright."""
    return frozenset(
        glob.literal
        for clause in question.clauses
        for test in clause.tests
        if isinstance(test.values, Strings)
        for glob in test.values.globs
        if glob.literal is not None
    )


def within(inner: RoleSet, outer: RoleSet, prover: Prover) -> Outcome[Request]:
    """Whether everything that `inner` allows is allowed by `outer`; a witness is allowed by `inner` alone."""
    space = Space((inner, outer))
    a, b = Evaluator(inner), Evaluator(outer)
    formula = All((space.allowed(inner), Not(space.allowed(outer))))
    return space.prove(prover, formula, lambda request: a.allows(request) and not b.allows(request))


def equivalent(one: RoleSet, other: RoleSet, prover: Prover) -> bool | None:
    """Whether the two allow the same requests. None: not known within the limits."""
    answers = within(one, other, prover), within(other, one, prover)
    if any(isinstance(answer, Refuted) for answer in answers):
        return False
    return True if all(isinstance(answer, Proved) for answer in answers) else None


def kinds_gained(before: RoleSet, after: RoleSet) -> int | None:
    """How many kinds of requests, which the roles tell apart, `after` allows and `before` does not."""
    space = Space((before, after))
    return count_kinds(space.question(All((space.allowed(after), Not(space.allowed(before))))))
