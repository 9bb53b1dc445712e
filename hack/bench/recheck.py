"""An independent re-check: do these replicas carry that demand, under some split, inside the limits?

The split is looked for by a linear program and then verified by arithmetic, so that a wrong solver cannot make a bad
plan look good.
"""

from __future__ import annotations

import math

import numpy as np

from .highs import Model, minimise
from .table import Table

ALLOWED_OVERLOAD = 1e-4
"""Relative. Covers solver tolerances and what an allocator may leave out of its load rows as too rare to matter."""


def faults(table: Table, counts: tuple[int, ...], shares: np.ndarray | None = None) -> list[str]:
    """What is wrong with a plan, in words; empty if nothing is."""
    wrong = [
        f"type {j}: {count} replicas outside {table.least[j]:.0f}..{table.most[j]:.0f}"
        for j, count in enumerate(counts)
        if count != int(count) or not table.least[j] <= count <= table.most[j]
    ]
    if sum(counts) < table.min_replicas:
        wrong.append(f"{sum(counts)} replicas, at least {table.min_replicas}")
    split = best_split(table, counts) if shares is None else shares
    if split is None:
        return [*wrong, "no split of the traffic fits the replicas"]
    return wrong + split_faults(table, counts, split)


def split_faults(table: Table, counts: tuple[int, ...], split: np.ndarray) -> list[str]:
    """The same for a given split."""
    wrong = []
    if np.any(split < -1e-7) or np.any(np.abs(split.sum(axis=1) - 1.0) > 1e-5):
        wrong.append("shares of a bucket do not add up to 1")
    if np.any(split[~table.able] > 1e-6):
        wrong.append("traffic for a type that cannot serve it")
    used = (split * np.where(table.able, table.loads, 0.0)).sum(axis=0)
    for j, count in enumerate(counts):
        if used[j] > count * (1 + ALLOWED_OVERLOAD) + 1e-6 or (count == 0 and np.any(split[:, j] > 1e-6)):
            wrong.append(f"type {j}: needs {used[j]:.6f} replicas, has {count}")
    return wrong


def best_split(table: Table, counts: tuple[int, ...]) -> np.ndarray | None:
    """The split with the lowest peak utilisation; None if some bucket has nowhere to go."""
    running = np.array(counts) > 0
    usable = table.able & running
    if not bool(usable.any(axis=1).all()):
        return None
    model = Model()
    peak = model.column(1.0, 0.0, math.inf)
    carried: list[list[tuple[int, float]]] = [[] for _ in counts]
    for b in range(table.buckets):
        row = []
        for j in np.flatnonzero(usable[b]).tolist():
            column = model.column(0.0, 0.0, 1.0)
            row.append((column, 1.0))
            carried[j].append((column, float(table.loads[b, j])))
        model.row(1.0, 1.0, row)
    for count, terms in zip(counts, carried, strict=True):
        if terms:
            # Per replica, so that the coefficients stay near those of the model that made the plan.
            model.row(-math.inf, 0.0, [*terms, (peak, -float(count))])
    answer = minimise(model, time_limit_s=30.0)
    if answer.point is None:
        return None
    split = np.zeros(table.loads.shape)
    split[usable] = np.clip(answer.point[1:], 0.0, 1.0)
    return np.asarray(split / split.sum(axis=1, keepdims=True))
