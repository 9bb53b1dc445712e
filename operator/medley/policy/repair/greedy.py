"""From a document that decides examples wrongly to one that decides all rightly: best plan first, then other starts.

A plan's score is the number of examples it puts right, less twice those it puts wrong, less its cost (`candidates`).
Each step takes the plan with the best score. What the first step takes decides most of what follows, so where the
answer is short the next best first steps are tried too, and steps that put more wrong on the way (`BROKEN_WEIGHTS`);
the answer with the smallest cost in all is kept.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from medley.model.errors import UserError
from medley.policy.iam.document import Document, Effect, Statement
from medley.policy.repair.board import Board
from medley.policy.repair.candidates import plans
from medley.policy.repair.edits import Edit, EditKind, apply_edits, apply_to_statement
from medley.policy.repair.view import Plan, View

PROBED = 5
"""Wrong examples whose plans are compared at each step."""
COST_WEIGHT = 0.9
"""Of a plan's cost against an example put right."""
BROKEN_WEIGHTS = (2.0, 0.5)
"""Of an example that a plan puts wrong against one that it puts right: first wary, then daring."""
STARTS = 6
"""First steps that are tried."""
SHORT = 6
"""Plans of an answer up to which other answers are tried."""
SPARE = 2
"""Plans that another answer may have more than the best so far, or where there is none, than examples go wrong."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A document, the edits that lead to it, their cost, and whether all examples go right."""

    document: Document
    edits: tuple[Edit, ...]
    cost: float
    steps: int
    solved: bool


def improve(document: Document, board: Board, spelling: Mapping[str, str]) -> Answer:
    """The cheapest answer found. `spelling`: of condition keys, by their lower case."""
    wrong = _wrong(document, board)
    start = Answer(document, (), 0.0, 0, not wrong)
    if start.solved:
        return start
    most_steps = wrong.bit_count() + SPARE
    wary, *daring = [_Steps(board, spelling, weight) for weight in BROKEN_WEIGHTS]
    starts = wary.ranked(document, STARTS)
    best = wary.finish(_after(start, starts[0]), float("inf"), most_steps) if starts else start
    if best.solved and best.steps > SHORT:
        return best
    others = [(wary, _after(start, plan)) for plan in starts[1:]] if best.solved else []
    for steps, first in (*others, *((other, start) for other in daring)):
        bound, most = (best.cost, best.steps + SPARE) if best.solved else (float("inf"), most_steps)
        answer = steps.finish(first, bound, most)
        if answer.solved and answer.cost < bound:
            best = answer
    return best


def _after(answer: Answer, plan: Plan) -> Answer:
    edits, cost = plan
    changed = apply_edits(answer.document, edits)
    return Answer(changed, (*answer.edits, *edits), answer.cost + cost, answer.steps + 1, False)


def _wrong(document: Document, board: Board) -> int:
    masks = ((statement.effect, board.statement(statement)) for statement in document.statements)
    return board.wrong(board.allowed(masks))


class _Steps:
    """Steps with one weight of examples put wrong."""

    def __init__(self, board: Board, spelling: Mapping[str, str], broken_weight: float) -> None:
        self._board = board
        self._spelling = spelling
        self._broken_weight = broken_weight

    def finish(self, answer: Answer, bound: float, most: int) -> Answer:
        """The answer with best plans added until all goes right, none helps, or cost or number of plans is too high."""
        while answer.cost < bound and answer.steps <= most:
            ranked = self.ranked(answer.document, 1)
            if not ranked:
                return replace(answer, solved=not _wrong(answer.document, self._board))
            answer = _after(answer, ranked[0])
        return answer

    def ranked(self, document: Document, most: int) -> list[Plan]:
        """Plans that put more right than wrong, best first; of those that give the same statement the first."""
        board, statements = self._board, document.statements
        masks = [board.statement(statement) for statement in statements]
        others = _Others(statements, masks)
        allowed = others.allow_all & ~others.deny_all
        wrong = board.wrong(allowed)
        view = View(document, board, masks, allowed, self._spelling)
        found: list[tuple[float, float, int, Plan, Statement | None]] = []
        for number in _spread(wrong, PROBED):
            for edits, cost in plans(view, number):
                index = edits[0].statement
                for changed in _changed_statement(statements, edits):
                    mask = 0 if changed is None else board.statement(changed)
                    still = board.wrong(others.allowed_with(index, changed, mask))
                    gain = (wrong & ~still).bit_count() - self._broken_weight * (still & ~wrong).bit_count()
                    if gain >= 1:
                        found.append((COST_WEIGHT * cost - gain, cost, len(found), (edits, cost), changed))
        out: dict[tuple[int, Statement | None], Plan] = {}
        for *_, plan, changed in heapq.nsmallest(PROBED * most if most > 1 else 1, found):
            out.setdefault((plan[0][0].statement, changed), plan)
        return list(out.values())[:most]


class _Others:
    """For each statement, what the other statements allow and deny together."""

    def __init__(self, statements: Sequence[Statement], masks: Sequence[int]) -> None:
        self._without: list[tuple[int, int]] = []
        totals = [(0, 0)]
        for statement, mask in zip(statements, masks, strict=True):
            totals.append(_with(totals[-1], statement.effect, mask))
        self.allow_all, self.deny_all = totals[-1]
        after = (0, 0)
        for index in range(len(statements) - 1, -1, -1):
            allow, deny = totals[index]
            self._without.append((allow | after[0], deny | after[1]))
            after = _with(after, statements[index].effect, masks[index])
        self._without.reverse()

    def allowed_with(self, index: int, changed: Statement | None, mask: int) -> int:
        """Examples allowed with a changed statement in the place of one; index -1: beside all; None: without it."""
        pair = (self.allow_all, self.deny_all) if index < 0 else self._without[index]
        allow, deny = pair if changed is None else _with(pair, changed.effect, mask)
        return allow & ~deny


def _with(pair: tuple[int, int], effect: Effect, mask: int) -> tuple[int, int]:
    allow, deny = pair
    return (allow | mask, deny) if effect is Effect.ALLOW else (allow, deny | mask)


def _changed_statement(statements: Sequence[Statement], edits: tuple[Edit, ...]) -> Iterator[Statement | None]:
    """The statement after the edits, None if it is removed; nothing where they cannot be applied or change nothing."""
    first = edits[0]
    if first.kind is EditKind.REMOVE_STATEMENT:
        yield None
        return
    if first.kind is EditKind.ADD_STATEMENT:
        yield first.added
        return
    changed = statements[first.statement]
    try:
        for edit in edits:
            changed = apply_to_statement(changed, edit)
    except UserError:
        return
    if changed != statements[first.statement]:
        yield changed


def _spread(mask: int, most: int) -> list[int]:
    """Positions of set bits, at most so many, spread over all of them."""
    numbers = [number for number in range(mask.bit_length()) if mask >> number & 1]
    if len(numbers) <= most:
        return numbers
    return [numbers[len(numbers) * n // most] for n in range(most)]
