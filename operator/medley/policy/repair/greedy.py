"""From a document that decides examples wrongly to one that decides all rightly: best plan first, then other starts.

A plan's score is the number of examples it puts right, less twice those it puts wrong, less its cost (`candidates`).
Each step takes the plan with the best score. What the first step takes decides most of what follows, so where the
answer is short the next best first steps are tried too, and the answer with the smallest cost in all is kept.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

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
BROKEN_WEIGHT = 2
"""Of an example that a plan puts wrong against one that it puts right."""
STARTS = 4
"""First steps that are tried."""
SHORT = 6
"""Plans of an answer up to which other first steps are tried."""


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
    starts = _ranked(document, board, spelling, STARTS)
    start = Answer(document, (), 0.0, 0, not starts and not _wrong(document, board))
    if not starts:
        return start
    best = _finish(_after(start, starts[0]), board, spelling, float("inf"))
    if not best.solved or best.steps > SHORT:
        return best
    for plan in starts[1:]:
        other = _finish(_after(start, plan), board, spelling, best.cost)
        if other.solved and other.cost < best.cost:
            best = other
    return best


def _finish(answer: Answer, board: Board, spelling: Mapping[str, str], bound: float) -> Answer:
    """The answer with best plans added until all goes right, none helps, or it costs as much as the bound."""
    while answer.cost < bound:
        ranked = _ranked(answer.document, board, spelling, 1)
        if not ranked:
            return Answer(answer.document, answer.edits, answer.cost, answer.steps, not _wrong(answer.document, board))
        answer = _after(answer, ranked[0])
    return answer


def _after(answer: Answer, plan: Plan) -> Answer:
    edits, cost = plan
    changed = apply_edits(answer.document, edits)
    return Answer(changed, (*answer.edits, *edits), answer.cost + cost, answer.steps + 1, False)


def _wrong(document: Document, board: Board) -> int:
    masks = ((statement.effect, board.statement(statement)) for statement in document.statements)
    return board.wrong(board.allowed(masks))


def _ranked(document: Document, board: Board, spelling: Mapping[str, str], most: int) -> list[Plan]:
    """Plans that put more right than wrong, best first; of those that give the same statement the first."""
    statements = document.statements
    masks = [board.statement(statement) for statement in statements]
    others = _Others(statements, masks)
    allowed = others.allow_all & ~others.deny_all
    wrong = board.wrong(allowed)
    view = View(document, board, masks, allowed, spelling)
    seen: set[tuple[int, Statement | None]] = set()
    found: list[tuple[float, float, int, Plan]] = []
    for number in _spread(wrong, PROBED):
        for edits, cost in plans(view, number):
            index = edits[0].statement
            for changed in _changed_statement(statements, edits):
                if (index, changed) in seen:
                    continue
                seen.add((index, changed))
                mask = 0 if changed is None else board.statement(changed)
                still = board.wrong(others.allowed_with(index, changed, mask))
                gain = (wrong & ~still).bit_count() - BROKEN_WEIGHT * (still & ~wrong).bit_count()
                if gain >= 1:
                    found.append((COST_WEIGHT * cost - gain, cost, len(found), (edits, cost)))
    return [plan for *_, plan in heapq.nsmallest(most, found)]


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
