"""Several services on shared nodes as one program, for groups small enough: exact, where prices leave a gap.

A price per GPU cannot say that half a node costs a whole one. With few services, the nodes can be counted for all of
them at once; each service keeps its own rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from medley.allocation.backends.answer import Options
from medley.allocation.backends.block import Block
from medley.allocation.backends.counts import Aim, build_counts
from medley.allocation.backends.decomposition import Decomposition, Found
from medley.allocation.backends.highs import Master
from medley.allocation.backends.program import INFINITY, Program, Terms
from medley.allocation.backends.search import cheapest
from medley.allocation.bill import Bill
from medley.allocation.problem import Problem
from medley.allocation.routing import steer
from medley.allocation.shared import Shared


def add_lots(program: Program, shared: Shared, used: Sequence[Terms], *, whole: bool) -> list[int]:
    """Nodes of each lot for the GPUs `used` of it, their cost and limits; returns the row of each lot's GPUs."""
    rows: list[int] = []
    nodes: dict[str, Terms] = {}
    for lot, terms in zip(shared.lots, used, strict=True):
        node = program.column(0.0, INFINITY if lot.available is None else float(lot.available), whole=whole)
        bought = program.column(0.0, INFINITY, cost=lot.price)
        program.row(-float(lot.committed), [(bought, 1.0), (node, -1.0)], INFINITY)
        rows.append(len(program.row_lower))
        program.row(-INFINITY, [*terms, (node, -float(lot.gpus_per_node))], float(lot.spare))
        nodes.setdefault(lot.pool, []).append((node, 1.0))
    for pool, taken in nodes.items():
        left = shared.nodes_left[pool]
        if left is not None:
            program.row(-INFINITY, taken, float(left))
    return rows


def solve_together(
    problems: Sequence[Problem], shared: Shared, start: Sequence[tuple[int, ...]] | None, options: Options
) -> tuple[list[tuple[int, ...]] | None, Found]:
    """Counts of each service (None: none were found), and the answer as a whole; `start`: counts to begin with."""
    free = [shared.freed(problem) for problem in problems]
    gpus = [shared.gpus_of(problem) for problem in problems]
    steerings = [steer(problem) for problem in free]
    program = Program()
    built = [
        build_counts(problem, steering, Aim.CHEAPEST, program=program)
        for problem, steering in zip(free, steerings, strict=True)
    ]
    used: list[Terms] = [
        [
            (column, float(number))
            for part, rows in zip(built, gpus, strict=True)
            for column, number in zip(part.count, rows[lot], strict=True)
            if number
        ]
        for lot in range(len(shared.lots))
    ]
    add_lots(program, shared, used, whole=True)
    master = Master(program)
    blocks = [
        Block(problem, steering, part, master, 1.0)
        for problem, steering, part in zip(free, steerings, built, strict=True)
    ]
    whole = Decomposition(program, master, blocks)
    bills = [Bill(problem) for problem in free]

    def judge(counts: tuple[int, ...]) -> float | None:
        total, taken = 0.0, [0] * len(shared.lots)
        for bill, rows, mine in zip(bills, gpus, whole.split(counts), strict=True):
            cost = bill.judged(mine)
            if cost is None:
                return None
            total += cost
            for lot, row in enumerate(rows):
                taken[lot] += sum(number * count for number, count in zip(row, mine, strict=True))
        nodes = shared.cost_per_hour(taken)
        return None if nodes is None else total + nodes

    first = None if start is None else tuple(count for counts in start for count in counts)
    found = cheapest(whole, options, judge, first)
    return (None if found.counts is None else whole.split(found.counts)), found
