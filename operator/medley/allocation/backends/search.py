"""Branch and bound over counts, with the rows of the decomposition added where they are needed.

A general solver spends 2 to 15 ms on a program of a dozen whole numbers, most of it before its first node, and would
have to start again after each row. Here one tree is enough: a node is a re-solve of the relaxation within other bounds
(0.1 ms), and a row found anywhere holds everywhere. Rounding each node up gives plans on the way, so that bound and
best plan close in from both sides.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable

import numpy as np

from medley.allocation.backends.answer import Answer, Options, SolveStatus
from medley.allocation.backends.decomposition import Decomposition, Found

NODES = 20_000
"""At most; some hundred are needed for the hardest instances of the benchmark."""

OFTEN = 6
"""Each of the first so many nodes is rounded up to a plan, and then one in so many: it takes as long as the node."""

ROUNDS = 60
"""Rounds of rows at one node at most."""

RELAXATION_GAP = 3e-4
"""The first relaxation is at rest when what it lacks costs less than this share of it."""

WHOLE = 1e-6
"""How far from a whole number counts as whole."""

Judge = Callable[[tuple[int, ...]], float | None]
"""The objective of counts, in $ per hour; None if they break a limit."""

Node = tuple[float, int, np.ndarray, np.ndarray]
"""Bound, order, and the bounds of the whole columns."""


def cheapest(problem: Decomposition, options: Options, judge: Judge, start: tuple[int, ...] | None = None) -> Found:
    """The cheapest counts that carry the traffic, within the gap; `start`: counts that do, to begin with."""
    if not problem.steered and start is None:
        return problem.counts_alone(options)
    tree = _Tree(problem, options, judge)
    if start is not None:
        tree.offer(start)
    return tree.run()


class _Tree:
    """One search."""

    def __init__(self, problem: Decomposition, options: Options, judge: Judge) -> None:
        self._of = problem
        self._judge = judge
        self._gap = options.relative_gap
        self._deadline = time.perf_counter() + options.time_limit_s
        self._best: tuple[int, ...] | None = None
        self._cost = math.inf
        self._found: list[tuple[int, ...]] = []
        self._carried: dict[tuple[int, ...], bool] = {}
        self._order = itertools.count()
        self._nodes = 0
        whole = problem.master.whole
        program = problem.program
        self._root = np.array(program.lower)[whole], np.array(program.upper)[whole]
        # Counts of replicas come first: with them whole, whole nodes follow.
        weight = dict(zip(problem.count, problem.prices.tolist(), strict=True))
        self._weights = np.array([weight.get(column, 1e-6) for column in whole.tolist()])

    def run(self) -> Found:
        """Best bound first, until bound and best plan meet."""
        first = self._rest()
        if first is None:
            return Found(SolveStatus.INFEASIBLE)
        # What a pruned node might have cost belongs to the bound as well.
        pruned = math.inf
        open_nodes: list[Node] = [(first.bound, next(self._order), *self._root)]
        for _ in range(NODES):
            bound = min(pruned, open_nodes[0][0] if open_nodes else math.inf)
            if not open_nodes or self._good_enough(open_nodes[0][0]):
                if self._best is None:
                    return Found(SolveStatus.INFEASIBLE)
                return self._answer(SolveStatus.OPTIMAL, min(bound, self._cost))
            if time.perf_counter() >= self._deadline:
                return self._answer(SolveStatus.TIME_LIMIT, bound)
            parent, _, lower, upper = heapq.heappop(open_nodes)
            answer = self._settled(lower, upper)
            if answer is None:
                continue
            if answer.status is not SolveStatus.OPTIMAL:
                return self._answer(SolveStatus.TIME_LIMIT, bound)
            value = max(parent, answer.bound)
            if self._good_enough(value):
                pruned = min(pruned, value)
                continue
            for child in self._children(answer, lower, upper):
                heapq.heappush(open_nodes, (value, next(self._order), *child))
        return Found(
            SolveStatus.TIME_LIMIT, self._best, bound=min(pruned, open_nodes[0][0] if open_nodes else math.inf)
        )

    def _answer(self, status: SolveStatus, bound: float) -> Found:
        return Found(status, self._best, bound=bound, others=tuple(self._found[:-1]))

    @property
    def _left_s(self) -> float:
        return max(0.01, self._deadline - time.perf_counter())

    def _good_enough(self, bound: float) -> bool:
        return self._best is not None and self._cost <= bound + self._gap * abs(bound) + 1e-9

    def _rest(self) -> Answer | None:
        """Bring the relaxation to rest: rows are added until hardly anything is lacking; None if it is infeasible."""
        answer = self._of.master.relaxation(*self._root, self._left_s)
        for _ in range(ROUNDS):
            if not answer.values:
                return None if answer.status is SolveStatus.INFEASIBLE else answer
            count = np.array([answer.values[column] for column in self._of.count])
            lacking, cost = self._of.separate(answer)
            if cost <= RELAXATION_GAP * max(answer.bound, float(count @ self._of.prices), 1e-9):
                self._offer_completed(count, lacking)
                break
            if time.perf_counter() >= self._deadline:
                break
            answer = self._of.master.relaxation(*self._root, self._left_s)
        return answer

    def _settled(self, lower: np.ndarray, upper: np.ndarray) -> Answer | None:
        """The relaxation of a node, after rows for as long as it is whole and lacks something; None if infeasible."""
        for _ in range(ROUNDS):
            answer = self._of.master.relaxation(lower, upper, self._left_s)
            if not answer.values:
                return None if answer.status is SolveStatus.INFEASIBLE else answer
            if self._good_enough(answer.bound) or self._branching(answer) is not None:
                self._nodes += 1
                if self._nodes <= OFTEN or self._nodes % OFTEN == 0:
                    count = np.array([answer.values[column] for column in self._of.count])
                    self._offer_completed(count, np.zeros(len(count)))
                return answer
            counts = self._of.counts(answer)
            lacking = self._of.lacking(counts)
            self._carried[counts] = lacking is None
            if lacking is None:
                self.offer(counts)
                return answer
            self._offer_completed(np.array(counts, dtype=float), lacking)
        return answer

    def _branching(self, answer: Answer) -> int | None:
        """The whole column to branch on: where rounding is dearest; None if all are whole."""
        point = np.array(answer.values)[self._of.master.whole]
        away = np.abs(point - np.round(point))
        if float(away.max(initial=0.0)) <= WHOLE:
            return None
        return int((np.where(away > WHOLE, away, 0.0) * self._weights).argmax())

    def _children(self, answer: Answer, lower: np.ndarray, upper: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        number = self._branching(answer)
        if number is None:
            return []
        value = answer.values[int(self._of.master.whole[number])]
        below, above = upper.copy(), lower.copy()
        below[number], above[number] = math.floor(value), math.floor(value) + 1
        return [(lower, below), (above, upper)]

    def _offer_completed(self, count: np.ndarray, lacking: np.ndarray) -> None:
        """Offer a point rounded up, with what it lacks."""
        upper = [self._of.program.upper[column] for column in self._of.count]
        rounded = np.minimum(np.ceil(count + lacking - WHOLE), upper)
        self.offer(tuple(int(value) for value in rounded))

    def offer(self, counts: tuple[int, ...]) -> None:
        """Take counts as the best plan if they are cheaper, once trimmed, and carry everything.

        Rows decide on the way; the linear program, which takes far longer, only on what would be taken.
        """
        cost = self._judge(counts)
        if cost is None or not self._of.passes(counts):
            return
        for _ in range(ROUNDS):
            trimmed, less = self._trimmed(counts, cost)
            if less >= self._cost - 1e-9 * abs(self._cost):
                return
            if self._carries(trimmed):
                self._best, self._cost = trimmed, less
                self._found.append(trimmed)
                return
            # The row just found keeps it from being trimmed that far again.
            if not self._of.passes(counts):
                return

    def _trimmed(self, counts: tuple[int, ...], cost: float) -> tuple[tuple[int, ...], float]:
        """Counts less what no row asks for, the dearest first, with their cost."""
        floors = self._of.floors
        for j in np.argsort(-self._of.prices, kind="stable").tolist():
            while counts[j] > floors[j]:
                fewer = (*counts[:j], counts[j] - 1, *counts[j + 1 :])
                less = self._judge(fewer)
                if less is None or less > cost or self._carried.get(fewer) is False or not self._of.passes(fewer):
                    break
                counts, cost = fewer, less
        return counts, cost

    def _carries(self, counts: tuple[int, ...]) -> bool:
        """Whether counts carry the traffic in every stage; if not, the row that says why is there afterwards."""
        if counts not in self._carried:
            self._carried[counts] = self._of.passes(counts) and self._of.lacking(counts) is None
        return self._carried[counts]
