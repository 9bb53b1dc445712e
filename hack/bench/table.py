"""A problem as plain matrices: what baselines, the reference optimum and the re-check work on."""

from __future__ import annotations

import hashlib
import math
import resource
import time
from dataclasses import dataclass, field

import numpy as np

from medley.allocation.problem import Problem


@dataclass(frozen=True, slots=True)
class Table:
    """One-GPU nodes, a split per bucket.

    Attributes:
        loads: GPUs that all the traffic of a bucket would take on a type; inf where it cannot be served.
        prices: $/h of one GPU.
        least: fewest replicas by type.
        most: most replicas by type; inf: no limit.
    """

    loads: np.ndarray
    prices: np.ndarray
    least: np.ndarray
    most: np.ndarray
    min_replicas: int = 1

    @property
    def able(self) -> np.ndarray:
        """Which pairs of bucket and type can be served."""
        return np.asarray(np.isfinite(self.loads))

    @property
    def types(self) -> int:
        """GPU types."""
        return int(self.loads.shape[1])

    @property
    def buckets(self) -> int:
        """Buckets."""
        return int(self.loads.shape[0])

    @property
    def digest(self) -> str:
        """Names the numbers, so that results for other ones (a new roofline, a new price) are not mixed in."""
        parts = (self.loads, self.prices, self.least, self.most, np.array([self.min_replicas]))
        text = "|".join(" ".join(f"{value:.9g}" for value in part.ravel()) for part in parts)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def cost(self, counts: tuple[int, ...]) -> float:
        """$ per hour."""
        return float(sum(price * count for price, count in zip(self.prices, counts, strict=True)))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a solver answers.

    Attributes:
        status: optimal, limit (stopped with a plan), none (stopped without) or infeasible.
        counts: replicas by type; empty without a plan.
        shares: by bucket, the share of each type; None where the solver says nothing of it.
        bound: a lower bound on the cost, $/h.
    """

    solver: str
    status: str
    counts: tuple[int, ...] = ()
    shares: np.ndarray | None = field(default=None, compare=False)
    cost: float = math.inf
    bound: float = 0.0
    note: str = ""


def table_of(problem: Problem) -> Table:
    """The matrices of a problem with one-GPU nodes, read from its declared values only."""
    loads = np.full((len(problem.buckets), len(problem.variants)), np.inf)
    prices, least, most = [], [], []
    for j, variant in enumerate(problem.variants):
        supply = next(supply for supply in problem.supplies if supply.pool == variant.pool)
        if supply.gpus_per_node != 1 or variant.gpus != 1:
            raise ValueError("the benchmark compares on one-GPU nodes")
        for b, bucket in enumerate(problem.buckets):
            rate = variant.throughput[b].rate_rps * variant.derating
            if rate > 0:
                loads[b, j] = bucket.rate_rps * problem.demand_factor / rate
        prices.append(dict(supply.prices)[variant.capacity_type])
        least.append(variant.min_replicas)
        limits = [limit for limit in (variant.max_replicas, supply.nodes_left) if limit is not None]
        # A type that serves nothing at all does not count as a replica (minReplicas asks for ones that serve).
        serves = variant.usable or variant.min_replicas > 0
        most.append(min(limits, default=math.inf) if serves else 0)
    return Table(loads, np.array(prices), np.array(least), np.array(most), problem.min_replicas)


def cpu_s() -> float:
    """CPU seconds of this process, its threads and its finished children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
