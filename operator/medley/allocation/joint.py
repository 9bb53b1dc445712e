"""Several services: solved apart where nothing couples them, coordinated by prices where they share what is scarce.

A pool couples the services that list it when it has a limit, nodes of several GPUs, or committed nodes; one-GPU nodes
without limit can be bought by each for itself. Services that must not change are set aside first, with what they use.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from medley.allocation.backends.answer import Options
from medley.allocation.backends.together import solve_together
from medley.allocation.bill import Bill
from medley.allocation.coordination import coordinate
from medley.allocation.ledger import Ledger, Usage, usage_of
from medley.allocation.problem import Allocation, Outcome, Problem
from medley.allocation.shared import Lot, Shared
from medley.allocation.solve import allocate, allocation_of
from medley.model.objects import CapacityType, Pool

TOGETHER, TOGETHER_VARIANTS = 8, 48
"""Services, and variants of all of them, up to which nodes are counted for all at once where prices leave a gap."""

POLISHED = 50
"""Services up to which each is solved once more against what the others leave, to use up the rest of whole nodes."""

Prices = Mapping[tuple[str, CapacityType], float]
"""$ per GPU-hour of shared pools, by pool and capacity type."""


@dataclass(frozen=True, slots=True)
class JointAllocation:
    """The answer for all services.

    Attributes:
        allocations: by service. Where services were coordinated, cost is the share of each, and the bound is the common
            one, split by cost.
        nodes: nodes in use per pool and capacity type, all services together.
        cost_shares: $ per hour by service: its share, by GPUs used, of the nodes bought beyond the committed ones.
        idle_gpus: GPUs on nodes in use that no replica uses, per pool.
        lower_bound_per_hour: proved: the services solved here cannot be served for less together.
        pool_prices: what one more GPU-hour of a shared pool is worth, by pool and capacity type; the list price where
            the pool is not short.
    """

    allocations: tuple[tuple[str, Allocation], ...]
    nodes: tuple[tuple[str, CapacityType, int], ...]
    cost_shares: tuple[tuple[str, float], ...]
    idle_gpus: tuple[tuple[str, int], ...]
    lower_bound_per_hour: float = 0.0
    pool_prices: tuple[tuple[str, CapacityType, float], ...] = ()

    @property
    def total_cost_per_hour(self) -> float:
        """$ per hour of all nodes bought beyond the committed ones."""
        return sum(cost for _, cost in self.cost_shares)


def allocate_all(
    problems: Iterable[Problem],
    pools: Iterable[Pool],
    fixed: Iterable[Usage] = (),
    options: Options | None = None,
    start: Prices | None = None,
) -> JointAllocation:
    """The cheapest allocations of all services together, within what the pools have.

    Args:
        problems: their supplies are replaced by what the pools have left.
        pools: every pool that a problem names.
        fixed: what services use that are not to change; set aside first.
        options: of the solver.
        start: prices to begin with, say `pool_prices` of the last cycle.
    """
    options = options or Options()
    by_name = {pool.name: pool for pool in pools}
    ledger = Ledger(by_name.values())
    for usage in fixed:
        ledger.take(usage)
    ordered = sorted(problems, key=lambda problem: problem.service)
    made = _Joint(by_name, ledger, options, start or {})
    for problem in ordered:
        # What must not be taken away is no capacity for others, whoever is solved first.
        ledger.take(_floor_of(problem))
    for group in _groups(ordered, by_name):
        if len(group) == 1:
            made.alone(group[0])
        else:
            made.together(group)
    settled = ledger.settle([problem.service for problem in ordered])
    bound = made.bound + sum(made.alone_bounds.values())
    return JointAllocation(
        tuple((problem.service, made.allocations[problem.service]) for problem in ordered),
        tuple(settled.nodes),
        tuple(sorted(settled.costs.items())),
        tuple(sorted(settled.idle.items())),
        min(bound, sum(settled.costs[problem.service] for problem in ordered)),
        tuple(sorted((pool, kind, price) for (pool, kind), price in made.prices.items())),
    )


def _floor_of(problem: Problem) -> Usage:
    """What must not be taken away from a service now."""
    return usage_of(problem, {variant.name: variant.at_least for variant in problem.variants})


def _couples(pool: Pool) -> bool:
    """Whether what one service uses of the pool matters to another."""
    capped = pool.max_nodes is not None or any(offering.max_nodes is not None for offering in pool.offerings)
    return capped or pool.gpus_per_node > 1 or pool.committed_nodes > 0


def _groups(problems: Sequence[Problem], pools: Mapping[str, Pool]) -> list[list[Problem]]:
    """Services that are coupled, directly or through others; in the order of their first names."""
    group_of: dict[str, list[Problem]] = {}
    by_pool: dict[str, list[Problem]] = {}
    for problem in problems:
        mine = [problem]
        group_of[problem.service] = mine
        for supply in problem.supplies:
            if not _couples(pools[supply.pool]):
                continue
            other = by_pool.setdefault(supply.pool, mine)
            if other is not mine:
                other += mine
                for member in mine:
                    group_of[member.service] = other
                for name, group in by_pool.items():
                    if group is mine:
                        by_pool[name] = other
                mine = other
    unique = {id(group): sorted(group, key=lambda problem: problem.service) for group in group_of.values()}
    return sorted(unique.values(), key=lambda group: group[0].service)


@dataclass(frozen=True, slots=True)
class _Agreement:
    """Counts by service (None: not all could be placed), a bound of their cost together, and prices of shared GPUs."""

    counts: list[tuple[int, ...]] | None
    bound: float
    prices: tuple[float, ...]


def _charged(problems: Sequence[Problem], shared: Shared, counts: Sequence[tuple[int, ...]]) -> float:
    """$ per hour of several services together, with the cost of getting there."""
    total, taken = 0.0, [0] * len(shared.lots)
    for problem, mine in zip(problems, counts, strict=True):
        total += Bill(shared.freed(problem)).charged_per_hour(mine)
        for lot, row in enumerate(shared.gpus_of(problem)):
            taken[lot] += sum(gpus * count for gpus, count in zip(row, mine, strict=True))
    nodes = shared.cost_per_hour(taken)
    return math.inf if nodes is None else total + nodes


class _Joint:
    """Allocations as they are made."""

    def __init__(self, pools: Mapping[str, Pool], ledger: Ledger, options: Options, start: Prices) -> None:
        self._pools = pools
        self._ledger = ledger
        self._options = options
        self._start = start
        self.allocations: dict[str, Allocation] = {}
        self.alone_bounds: dict[str, float] = {}
        self.bound = 0.0
        self.prices: dict[tuple[str, CapacityType], float] = {}

    def alone(self, problem: Problem) -> Allocation:
        """Solve one service against what is left, and take what it uses."""
        self._ledger.release(problem.service)
        allocation = allocate(self._ledger.rest(problem), self._options)
        self._keep(problem, allocation)
        self.alone_bounds[problem.service] = allocation.lower_bound_per_hour
        return allocation

    def together(self, group: list[Problem]) -> None:
        """Coordinate services; where not all can be placed, those of a higher priority come first."""
        if self._coordinated(group):
            return
        for priority in sorted({problem.priority for problem in group}, reverse=True):
            members = [problem for problem in group if problem.priority == priority]
            # Those that prices would place among their equals, then the others with what is left.
            placed = self._placed(members) if len(members) > 1 else []
            if len(placed) < 2 or not self._coordinated(placed):
                placed = []
            for problem in members:
                if problem not in placed:
                    self.alone(problem)

    def _placed(self, members: list[Problem]) -> list[Problem]:
        """Services that get what they need when capacity is short: leaving out costs each in proportion to its size."""
        for problem in members:
            self._ledger.release(problem.service)
        rests = [self._ledger.rest(problem) for problem in members]
        made = coordinate(rests, _shared(rests, self._pools), self._options)
        for problem in members:
            self._ledger.take(_floor_of(problem))
        return [problem for problem, column in zip(members, made.columns, strict=True) if column is not None]

    def _keep(self, problem: Problem, allocation: Allocation) -> None:
        stays = dict(allocation.replicas)
        if allocation.outcome is Outcome.IMPOSSIBLE:
            stays = {variant.name: max(variant.running, variant.at_least) for variant in problem.variants}
        self._ledger.take(usage_of(problem, stays))
        self.allocations[problem.service] = allocation

    def _coordinated(self, group: list[Problem]) -> bool:
        """Whether a checked plan for all of them was found; then it is taken."""
        for problem in group:
            self._ledger.release(problem.service)
        rests = [self._ledger.rest(problem) for problem in group]
        shared = _shared(rests, self._pools)
        # What is cheapest from nothing gives the bound; what is done also counts the cost of change.
        anew = self._agreed([replace(rest, change_cost=0.0) for rest in rests], shared)
        plans = [anew.counts]
        if any(rest.change_cost > 0.0 and any(v.running for v in rest.variants) for rest in rests):
            plans.append(self._agreed(rests, shared).counts)
        others = "one other service" if len(group) == 2 else f"{len(group) - 1} other services"
        message = f"coordinated with {others} on shared pools; the bound is theirs together"
        for counts in sorted(filter(None, plans), key=lambda counts: _charged(rests, shared, counts)):
            found: dict[str, Allocation] = {}
            for problem, rest, mine in zip(group, rests, counts, strict=True):
                made = allocation_of(rest, mine, self._options, message)
                if made is None:
                    break
                found[problem.service] = made
                self._ledger.take(usage_of(problem, dict(made.replicas)))
            if len(found) == len(group) and not self._ledger.exceeded():
                self._take(group, found, anew.bound)
                self.prices |= dict(zip(shared.keys, anew.prices, strict=True))
                return True
        for problem in group:
            self._ledger.take(_floor_of(problem))
        return False

    def _agreed(self, problems: list[Problem], shared: Shared) -> _Agreement:
        """What services agree on by prices; where that leaves a gap and they are few, by counting nodes together."""
        start = [self._start.get(key) for key in shared.keys]
        known = [price for price in start if price is not None]
        made = coordinate(problems, shared, self._options, known if len(known) == len(start) else None)
        counts = [column.counts for column in made.columns if column is not None]
        placed = counts if len(counts) == len(problems) else None
        size = sum(len(problem.variants) for problem in problems)
        gap = math.inf if placed is None else _charged(problems, shared, placed) / max(made.bound, 1e-9) - 1.0
        if gap <= self._options.relative_gap or len(problems) > TOGETHER or size > TOGETHER_VARIANTS:
            return _Agreement(placed, made.bound, made.prices)
        limit_s = self._options.time_limit_s * len(problems)
        both, found = solve_together(problems, shared, placed, replace(self._options, time_limit_s=limit_s))
        return _Agreement(both or placed, max(made.bound, found.bound if both else -math.inf), made.prices)

    def _take(self, group: list[Problem], made: dict[str, Allocation], bound: float) -> None:
        """Improve what the whole nodes allow, then write down what each pays."""
        names = [problem.service for problem in group]
        still = all(problem.change_cost <= 0.0 for problem in group)
        if still and len(group) <= POLISHED and self._total(names) > bound * (1 + self._options.relative_gap):
            for problem in group:
                made[problem.service] = self._improved(problem, made[problem.service], names)
        total = self._total(names)
        bound = min(max(bound, 0.0), total)
        self.bound += bound
        costs = self._ledger.settle(names).costs
        for name in names:
            part = bound / total if total > 0 else 1.0
            self.allocations[name] = replace(
                made[name], cost_per_hour=costs[name], lower_bound_per_hour=costs[name] * part
            )

    def _improved(self, problem: Problem, current: Allocation, names: list[str]) -> Allocation:
        """What the service would take of what the others leave, if that makes all together cheaper."""
        before = self._total(names)
        self._ledger.release(problem.service)
        other = allocate(self._ledger.rest(problem), self._options)
        if other.outcome in (Outcome.OPTIMAL, Outcome.INCUMBENT, Outcome.FALLBACK) and other.served_fraction == 1.0:
            self._ledger.take(usage_of(problem, dict(other.replicas)))
            if self._total(names) < before - 1e-9:
                return replace(other, messages=(*current.messages, *other.messages))
        self._ledger.take(usage_of(problem, dict(current.replicas)))
        return current

    def _total(self, names: list[str]) -> float:
        """$ per hour of some services together."""
        costs = self._ledger.settle(names).costs
        return sum(costs[name] for name in names)


def _shared(problems: Sequence[Problem], pools: Mapping[str, Pool]) -> Shared:
    """What several services may use of the pools that couple them."""
    users: dict[str, int] = {}
    for problem in problems:
        for supply in problem.supplies:
            users[supply.pool] = users.get(supply.pool, 0) + 1
    supplies = {
        supply.pool: supply
        for problem in problems
        for supply in problem.supplies
        if users[supply.pool] > 1 and _couples(pools[supply.pool])
    }
    lots = [
        Lot(
            supply.pool,
            kind,
            supply.gpus_per_node,
            price,
            supply.spare(kind),
            supply.committed(kind),
            dict(supply.available).get(kind),
        )
        for _, supply in sorted(supplies.items())
        for kind, price in supply.prices
    ]
    return Shared(tuple(lots), {name: supply.nodes_left for name, supply in sorted(supplies.items())})
