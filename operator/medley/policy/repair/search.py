"""The search for edits: an answer on examples, then counterexamples of engine B as new examples, and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from medley.policy.answers import Engine, Found
from medley.policy.atoms.product import find
from medley.policy.clauses import All, Builder, Clause
from medley.policy.iam.document import Document
from medley.policy.iam.evaluate import Evaluator
from medley.policy.iam.policyset import alone
from medley.policy.iam.request import Request, ascii_lower
from medley.policy.membership import lies_in
from medley.policy.prove import Prover
from medley.policy.realistic import realistic
from medley.policy.repair.board import Board, Example
from medley.policy.repair.construct import construct
from medley.policy.repair.edits import Edit, apply_edit
from medley.policy.repair.greedy import improve
from medley.policy.spec.spec import Rule, Side
from medley.policy.verify import Verification, Witness

ROUNDS = 12
"""Rounds of edits and counterexamples before the rest is constructed."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A candidate that engine B refused: the edits, and the request that speaks against them."""

    edits: tuple[Edit, ...]
    witness: Witness


@dataclass
class Search:
    """The state of a search: the document so far, the edits that made it, what was refused on the way.

    Every round starts from the document that was given, so that no edit is there to undo another.
    """

    given: Document
    rules: tuple[Rule, ...]
    known: tuple[Example, ...] = ()
    """Examples from elsewhere: counterexamples of a proof."""
    document: Document = field(init=False)
    edits: list[Edit] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.document = self.given
        statements = (*(found for rule in self.rules for found in rule.statements), *self.given.statements)
        keys = (condition.key for statement in statements for condition in statement.conditions)
        self._spelling = {ascii_lower(key): key for key in keys}

    def run(self) -> None:
        """Edits until engine B finds nothing wrong; constructs what the search cannot reach."""
        wrong = self._wrong()
        if not wrong and not self.known:
            return
        examples = dict.fromkeys(
            Example(sample, rule.side is Side.FLOOR) for rule in self.rules for sample in rule.samples
        )
        examples.update(dict.fromkeys((*self.known, *self._examples_of_sets())))
        examples.update(dict.fromkeys(example_of(witness) for witness in wrong))
        for _ in range(ROUNDS):
            board = Board(list(examples), variables=self.given.has_variables)
            answer = improve(self.given, board, self._spelling)
            self.document, self.edits = answer.document, list(answer.edits)
            wrong = self._wrong()
            if not wrong:
                return
            self.rejected.append(Rejected(tuple(self.edits), wrong[0]))
            fresh = [example for example in map(example_of, wrong) if example not in examples]
            examples.update(dict.fromkeys(fresh))
            if not answer.solved or not fresh:
                break
        for edit in construct(self.document, self.rules):
            self._take(edit)

    def _examples_of_sets(self) -> Iterator[Example]:
        """For each floor rule that lists no requests, one that is allowed now: edits must keep it."""
        evaluator = Evaluator(self.given)
        for rule in self.rules:
            if rule.side is Side.CEILING or rule.samples:
                continue
            region = rule.parts[0]
            builder = Builder()
            wanted = All((builder.clause(region), builder.allowed(self.given)))
            answer = find(builder.question(wanted))
            if isinstance(answer, Found):
                yield Example(realistic(answer.witness, _still_allowed(evaluator, region)), True)

    def _take(self, edit: Edit) -> None:
        self.document = apply_edit(self.document, edit)
        self.edits.append(edit)

    def _wrong(self) -> tuple[Witness, ...]:
        """Rules that engine B finds broken. Floor rules of listed requests are decided by the evaluator."""
        check = Verification(alone(self.document), Prover(engines=(Engine.ATOMS,)))
        return check.run(self.rules).witnesses


def _still_allowed(evaluator: Evaluator, region: Clause) -> Callable[[Request], bool]:
    return lambda request: evaluator.allows(request) and lies_in(region, request)


def example_of(witness: Witness) -> Example:
    """A broken rule's request, as the rule wants it decided."""
    return Example(witness.request, witness.rule.side is Side.FLOOR)
