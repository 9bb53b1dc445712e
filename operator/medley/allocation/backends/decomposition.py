"""The allocation problem in the counts alone; the shares are projected out (Benders decomposition).

A program of a few counts proposes; a linear program in the shares (split.py) says whether the traffic fits, and if not,
why not, as a row in the counts. The rows stay valid for any prices and any limits. The cheapest counts are then found
by branching (search.py), the most that can be served by proposing again and again. A program may hold one service, or
several that share nodes (together.py).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medley.allocation.backends.answer import Answer, Options, SolveStatus
from medley.allocation.backends.block import Block, splits
from medley.allocation.backends.counts import Aim, build_counts
from medley.allocation.backends.highs import Master
from medley.allocation.backends.program import Program
from medley.allocation.problem import Problem
from medley.allocation.routing import Steering

ROUNDS = 60
"""Proposals at most where the most that can be served is sought."""


@dataclass(frozen=True, slots=True)
class Found:
    """The best counts found, what they serve, and the bound of the objective.

    Attributes:
        counts: None if none were found.
        served: fraction of the demand.
        bound: $ per hour, or the fraction where the most is sought.
        others: counts found on the way that carry everything within limits, but cost more.
    """

    status: SolveStatus
    counts: tuple[int, ...] | None = None
    served: float = 1.0
    bound: float = -math.inf
    others: tuple[tuple[int, ...], ...] = ()


class Decomposition:
    """A program in the counts of one service or several; can be solved again at other prices with the rows it has."""

    def __init__(self, program: Program, master: Master, blocks: Sequence[Block]) -> None:
        self.program = program
        self.master = master
        self.blocks = tuple(blocks)
        self.count = [column for block in blocks for column in block.built.count]
        self.prices = np.concatenate([block.prices for block in blocks])
        self.floors = [variant.floor for block in blocks for variant in block.problem.variants]
        ends = np.cumsum([len(block.prices) for block in blocks]).tolist()
        self._spans = [slice(end - len(block.prices), end) for block, end in zip(blocks, ends, strict=True)]

    @classmethod
    def of(cls, problem: Problem, steering: Steering, aim: Aim = Aim.CHEAPEST, fraction: float = 1.0) -> Decomposition:
        """The program of one service."""
        built = build_counts(problem, steering, aim, fraction)
        master = Master(built.program)
        return cls(built.program, master, [Block(problem, steering, built, master, fraction)])

    def price(self, costs: np.ndarray) -> None:
        """Charge $ per hour of one replica of each variant, beside what the problem itself charges."""
        objective = np.array(self.program.cost)
        objective[self.count] += costs
        self.master.price(objective)

    @property
    def steered(self) -> bool:
        """Whether there is traffic to split; else the program is all."""
        return any(block.steered for block in self.blocks)

    def counts(self, answer: Answer) -> tuple[int, ...]:
        """Replicas at a point that is whole."""
        return tuple(round(answer.values[column]) for column in self.count)

    def separate(self, answer: Answer) -> tuple[np.ndarray, float]:
        """What a point lacks, per variant and in $ per hour; the rows that say so are added."""
        parts = [block.separate(answer.values) for block in self.blocks]
        return np.concatenate([lacking for lacking, _ in parts]), sum(cost for _, cost in parts)

    def passes(self, counts: tuple[int, ...]) -> bool:
        """A quick no for most counts that lack something."""
        return all(block.passes(counts[span]) for block, span in zip(self.blocks, self._spans, strict=True))

    def lacking(self, counts: tuple[int, ...]) -> np.ndarray | None:
        """Replicas that are lacking per variant; None if nothing is. The rows that say so are added."""
        parts = [block.lacking(counts[span]) for block, span in zip(self.blocks, self._spans, strict=True)]
        if all(part is None for part in parts):
            return None
        return np.concatenate(
            [
                np.zeros(len(block.prices)) if part is None else part
                for block, part in zip(self.blocks, parts, strict=True)
            ]
        )

    def split(self, counts: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Counts by service."""
        return [counts[span] for span in self._spans]

    def counts_alone(self, options: Options) -> Found:
        """The cheapest counts where nobody splits."""
        answer = self.master.solve(options.relative_gap, options.time_limit_s)
        if not answer.values:
            return Found(answer.status)
        return Found(answer.status, self.counts(answer), bound=answer.bound)

    def most(self, options: Options) -> Found:
        """The counts that carry the largest fraction of one service's traffic; the aim must be `Aim.MOST`."""
        (block,) = self.blocks
        deadline = time.perf_counter() + options.time_limit_s
        best, best_served, bound = None, -1.0, 1.0
        seen: set[tuple[int, ...]] = set()
        for _ in range(ROUNDS):
            answer = self.master.solve(1e-6, max(0.01, deadline - time.perf_counter()))
            if not answer.values:
                status = answer.status if best is None else SolveStatus.TIME_LIMIT
                return Found(status, best, best_served, bound)
            bound = min(bound, -answer.bound)
            counts, proposed = self.counts(answer), answer.values[block.built.served]
            if not block.steered:
                return Found(answer.status, counts, min(1.0, max(0.0, proposed)), bound)
            served = _carried(block, counts, proposed)
            if served > best_served:
                best, best_served = counts, served
            if bound - best_served <= max(options.relative_gap, 1e-4) * bound:
                return Found(SolveStatus.OPTIMAL, best, best_served, bound)
            if counts in seen or time.perf_counter() >= deadline:
                break
            seen.add(counts)
        return Found(SolveStatus.TIME_LIMIT, best, best_served, bound)


def _carried(block: Block, counts: tuple[int, ...], proposed: float) -> float:
    """The fraction that counts can carry; where more was proposed, the cut that says so is added."""
    served, stages = 1.0, block.built.stages
    for number, (stage, made) in enumerate(zip(stages, splits(block.traffic, stages, counts), strict=True)):
        if made is None:
            return 0.0
        most = min(1.0, 1.0 / max(made.peak * stage.share, 1e-12))
        served = min(served, most)
        if proposed > most:
            block.cut(number, made.weights, made.spot_weight)
    return served
