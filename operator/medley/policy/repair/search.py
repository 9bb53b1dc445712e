"""The search for edits: best edit first on examples, counterexamples of engine B as new examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from medley.model.errors import UserError
from medley.policy.answers import Engine, Found
from medley.policy.atoms.product import find
from medley.policy.clauses import All, Builder, Clause
from medley.policy.iam.document import Document, Effect, Statement
from medley.policy.iam.evaluate import Evaluator
from medley.policy.iam.policyset import alone
from medley.policy.iam.request import Request, ascii_lower
from medley.policy.membership import lies_in
from medley.policy.prove import Prover
from medley.policy.realistic import realistic
from medley.policy.repair.board import Board, Example
from medley.policy.repair.candidates import Candidates
from medley.policy.repair.construct import construct
from medley.policy.repair.edits import Edit, EditKind, apply_edit, apply_to_statement
from medley.policy.spec.spec import Rule, Side
from medley.policy.verify import Verification, Witness

ROUNDS = 12
"""Rounds of edits and counterexamples before the rest is constructed."""
PROBED = 5
"""Wrong examples whose candidates are compared at each step."""
COST_WEIGHT = 0.9
"""Of an edit's cost against an example put right."""

LARGE = 1e9
"""Above every score."""
BROKEN_WEIGHT = 2
"""Of an example that an edit puts wrong against one that it puts right."""


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
            self.document, self.edits = self.given, []
            solved = self._improve(list(examples))
            wrong = self._wrong()
            if not wrong:
                return
            self.rejected.append(Rejected(tuple(self.edits), wrong[0]))
            fresh = [example for example in map(example_of, wrong) if example not in examples]
            examples.update(dict.fromkeys(fresh))
            if not solved or not fresh:
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

    def _improve(self, examples: Sequence[Example]) -> bool:
        """Applies best edits while one puts more examples right than wrong; whether none is wrong at the end."""
        board = Board(examples, variables=self.document.has_variables)
        while True:
            statements = self.document.statements
            masks = [board.statement(statement) for statement in statements]
            effects = [statement.effect for statement in statements]
            allowed = board.allowed(zip(effects, masks, strict=True))
            wrong = board.wrong(allowed)
            if not wrong:
                return True
            best = self._best(board, masks, allowed, wrong)
            if not best:
                return False
            for edit in best:
                self._take(edit)

    def _best(self, board: Board, masks: list[int], allowed: int, wrong: int) -> tuple[Edit, ...]:
        """The plan with the best score; empty: none puts more right than wrong."""
        statements = self.document.statements
        candidates = Candidates(self.document, board, masks, allowed, self._spelling)
        seen: set[tuple[int, Statement | None]] = set()
        best: tuple[float, float, tuple[Edit, ...]] = (-LARGE, 0.0, ())
        for number in _spread(wrong, PROBED):
            for edits, cost in candidates.plans(number):
                index = edits[0].statement
                changed = _changed_statement(statements, edits)
                if isinstance(changed, _Nothing) or (index, changed) in seen:
                    continue
                seen.add((index, changed))
                still = board.wrong(_allowed_after(board, statements, masks, index, changed))
                gain = (wrong & ~still).bit_count() - BROKEN_WEIGHT * (still & ~wrong).bit_count()
                if gain >= 1:
                    best = max(best, (gain - COST_WEIGHT * cost, -cost, edits), key=lambda item: item[:2])
        return best[2]


def _still_allowed(evaluator: Evaluator, region: Clause) -> Callable[[Request], bool]:
    return lambda request: evaluator.allows(request) and lies_in(region, request)


class _Nothing:
    """An edit that cannot be applied."""


def _changed_statement(statements: Sequence[Statement], edits: tuple[Edit, ...]) -> Statement | _Nothing | None:
    """The statement after the edits; None: it is removed."""
    first = edits[0]
    if first.kind is EditKind.REMOVE_STATEMENT:
        return None
    if first.kind is EditKind.ADD_STATEMENT:
        return first.added
    changed = statements[first.statement]
    try:
        for edit in edits:
            changed = apply_to_statement(changed, edit)
    except UserError:
        return _Nothing()
    return _Nothing() if changed == statements[first.statement] else changed


def _allowed_after(
    board: Board,
    statements: Sequence[Statement],
    masks: Sequence[int],
    index: int,
    changed: Statement | _Nothing | None,
) -> int:
    pairs: list[tuple[Effect, int]] = [
        (statement.effect, mask)
        for number, (statement, mask) in enumerate(zip(statements, masks, strict=True))
        if number != index
    ]
    if isinstance(changed, Statement):
        pairs.append((changed.effect, board.statement(changed)))
    return board.allowed(pairs)


def example_of(witness: Witness) -> Example:
    """A broken rule's request, as the rule wants it decided."""
    return Example(witness.request, witness.rule.side is Side.FLOOR)


def _spread(mask: int, most: int) -> list[int]:
    """Positions of set bits, at most so many, spread over all of them."""
    numbers = [number for number in range(mask.bit_length()) if mask >> number & 1]
    if len(numbers) <= most:
        return numbers
    return [numbers[len(numbers) * n // most] for n in range(most)]
