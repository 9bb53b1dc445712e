"""Checks documents against an access spec: every rule is a question, and every answer has a proof or a witness."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Generic, TypeVar

from medley.policy.answers import Engine
from medley.policy.clauses import All, Builder, Formula, Not
from medley.policy.iam.evaluate import Evaluator, StatementRef
from medley.policy.iam.policyset import PolicySet
from medley.policy.iam.request import Decision, Request
from medley.policy.membership import lies_in
from medley.policy.prove import Outcome, Proved, Prover, Refuted, Unproved
from medley.policy.realistic import realistic
from medley.policy.spec.spec import Rule, Side, Spec

R = TypeVar("R")
X = TypeVar("X")

BATCH = 25
"""Rules that are proved together: one question instead of one each. Where that fails, each is asked by itself."""
BATCH_TIMEOUT_MS = 300
"""Limit of such a question to Z3: many texts on one string can be hard together and easy one by one."""


class Verdict(Enum):
    """Of a check of documents against a spec."""

    SATISFIED = "Satisfied"
    VIOLATED = "Violated"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Witness:
    """A request that breaks a rule, with the decision on it and the statements that decided.

    A rule of several parts has a witness for each of them.
    """

    rule: Rule
    request: Request
    decision: Decision
    statements: tuple[StatementRef, ...]
    part: int = 0


@dataclass(frozen=True, slots=True)
class Doubt(Generic[R]):
    """A rule that could not be decided."""

    rule: R
    reason: str
    disagreement: str = ""


@dataclass(frozen=True, slots=True)
class Report(Generic[R, X]):
    """The verdict, with its reasons; of rules R and their witnesses X."""

    verdict: Verdict
    witnesses: tuple[X, ...]
    doubts: tuple[Doubt[R], ...]
    proved: tuple[tuple[R, tuple[Engine, ...]], ...]
    """Rules that hold, with the engines that proved it."""
    disagreements: tuple[str, ...] = ()
    """Answers of engines that contradict each other: bugs to report."""

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines that proved every rule that holds."""
        return tuple(engine for engine in Engine if self.proved and all(engine in by for _, by in self.proved))


IamReport = Report[Rule, Witness]


def verdict_of(witnesses: Sequence[object], doubts: Sequence[object]) -> Verdict:
    """What broken rules and rules that could not be decided amount to."""
    return Verdict.VIOLATED if witnesses else Verdict.UNKNOWN if doubts else Verdict.SATISFIED


def verify(policies: PolicySet, spec: Spec, prover: Prover) -> IamReport:
    """The documents against every rule of the spec."""
    return Verification(policies, prover).run(spec.rules)


class Verification:
    """Asks the rules; keeps the evaluator of the documents."""

    def __init__(self, policies: PolicySet, prover: Prover) -> None:
        self.policies = policies
        self.evaluator = Evaluator(policies)
        self._prover = prover

    def run(self, rules: Iterable[Rule]) -> IamReport:
        """The verdict on these rules."""
        witnesses: list[Witness] = []
        doubts: list[Doubt[Rule]] = []
        proved: list[tuple[Rule, tuple[Engine, ...]]] = []
        disagreements: list[str] = []
        pending: list[Rule] = []
        for rule in rules:
            quick = self._by_sample(rule)
            if quick is not None:
                witnesses.append(quick)
            elif len(rule.parts) == 1:
                pending.append(rule)
            else:
                self._several_parts(rule, witnesses, doubts, proved)
        for side in Side:
            todo = [rule for rule in pending if rule.side is side]
            for start in range(0, len(todo), BATCH):
                self._batch(todo[start : start + BATCH], witnesses, doubts, proved, disagreements)
        disagreements.extend(doubt.disagreement for doubt in doubts if doubt.disagreement)
        order = {id(rule): number for number, rule in enumerate(rules)}
        witnesses.sort(key=lambda witness: order.get(id(witness.rule), 0))
        return Report(
            verdict_of(witnesses, doubts), tuple(witnesses), tuple(doubts), tuple(proved), tuple(disagreements)
        )

    def _by_sample(self, rule: Rule) -> Witness | None:
        """A sample that breaks the rule, found by the evaluator alone."""
        if len(rule.parts) > 1:
            return None
        for sample in rule.samples:
            if self.evaluator.allows(sample) is (rule.side is Side.CEILING):
                return self._witness(rule, sample)
        return None

    def _batch(
        self,
        rules: list[Rule],
        witnesses: list[Witness],
        doubts: list[Doubt[Rule]],
        proved: list[tuple[Rule, tuple[Engine, ...]]],
        disagreements: list[str],
    ) -> None:
        left = list(rules)
        while left:
            together = self.ask(left)
            if isinstance(together, Proved):
                proved.extend((rule, together.engines) for rule in left)
                return
            if isinstance(together, Refuted):
                broken = next((rule for rule in left if lies_in(rule.parts[0], together.witness)), None)
                if broken is not None:
                    witnesses.append(self._witness(broken, together.witness))
                    disagreements.extend([together.disagreement] if together.disagreement else [])
                    left.remove(broken)
                    continue
            if len(left) == 1:
                doubts.append(_doubt(left[0], together))
                return
            for rule in left:
                self._batch([rule], witnesses, doubts, proved, disagreements)
            return

    def ask(self, rules: Sequence[Rule]) -> Outcome[Request]:
        """Whether all these rules, of one side and one part each, hold."""
        builder = Builder()
        regions = builder.any_of(rule.parts[0] for rule in rules)
        allowed = builder.allowed(self.policies)
        side = rules[0].side
        wrong: Formula = Not(allowed) if side is Side.FLOOR else allowed
        question = builder.question(All((regions, wrong)))
        clauses = [rule.parts[0] for rule in rules]

        def confirm(witness: Request) -> bool:
            if self.evaluator.allows(witness) is (side is Side.FLOOR):
                return False
            return any(lies_in(clause, witness) for clause in clauses)

        prover = self._prover
        if len(rules) > 1:
            prover = replace(prover, timeout_ms=min(prover.timeout_ms, BATCH_TIMEOUT_MS))
        return prover.prove(question, confirm)

    def _several_parts(
        self,
        rule: Rule,
        witnesses: list[Witness],
        doubts: list[Doubt[Rule]],
        proved: list[tuple[Rule, tuple[Engine, ...]]],
    ) -> None:
        """A rule that holds as soon as one of its parts has no allowed request."""
        found: list[Request] = []
        unproved: list[Unproved] = []
        for part in rule.parts:
            outcome = self.ask([Rule(rule.id, Side.CEILING, (part,), ())])
            if isinstance(outcome, Proved):
                proved.append((rule, outcome.engines))
                return
            if isinstance(outcome, Refuted):
                found.append(outcome.witness)
            else:
                unproved.append(outcome)
        if unproved:
            doubts.append(_doubt(rule, unproved[0]))
        else:
            witnesses.extend(self._witness(rule, witness, part) for part, witness in enumerate(found))

    def _witness(self, rule: Rule, request: Request, part: int = 0) -> Witness:
        allowed = self.evaluator.allows(request)
        region = rule.parts[part]
        request = realistic(request, lambda other: self.evaluator.allows(other) is allowed and lies_in(region, other))
        decision = self.evaluator.decide(request)
        effects = tuple(self.evaluator.matching(request))
        wanted = "Deny" if decision is Decision.EXPLICIT_DENY else "Allow"
        refs = tuple(ref for ref, effect in effects if effect.value == wanted)
        return Witness(rule, request, decision, refs if decision is not Decision.IMPLICIT_DENY else (), part)


def _doubt(rule: Rule, outcome: Outcome[Request]) -> Doubt[Rule]:
    if isinstance(outcome, Unproved):
        return Doubt(rule, outcome.reason, outcome.disagreement)
    return Doubt(rule, "the witness lies in none of the rules", "an engine's witness lies outside the question")


def within(inner: PolicySet, outer: PolicySet, prover: Prover) -> Outcome[Request]:
    """Whether everything that `inner` allows is allowed by `outer`; a witness is allowed by `inner` alone."""
    builder = Builder()
    question = builder.question(All((builder.allowed(inner), Not(builder.allowed(outer)))))
    a, b = Evaluator(inner), Evaluator(outer)
    return prover.prove(question, lambda request: a.allows(request) and not b.allows(request))
