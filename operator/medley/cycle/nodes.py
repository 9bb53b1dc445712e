"""How many nodes each pool should have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from medley.cycle.case import Case
from medley.cycle.decision import Claim, PoolDecision, ServiceDecision
from medley.cycle.snapshot import Snapshot
from medley.model.objects import Pool


def pool_decisions(
    decisions: Iterable[ServiceDecision], cases: Iterable[Case], pools: Mapping[str, Pool], snapshot: Snapshot
) -> Iterable[PoolDecision]:
    """Nodes per scalable pool: enough for what is asked for now and for what is still there.

    Only pools that an acting service uses, or that nobody lists any more: watching changes nothing.
    """
    gpus: dict[str, int] = {}
    acting: set[str] = set()
    listed = {spec.pool for case in cases for spec in case.service.variants}
    running = {case.key: {v.name: v for v in case.state.variants} for case in cases}
    for decision in decisions:
        for variant in decision.variants:
            state = running[decision.key].get(variant.name)
            count = max(variant.desired, state.present if state else 0)
            gpus[variant.pool] = gpus.get(variant.pool, 0) + count * variant.gpus
            if decision.act:
                acting.add(variant.pool)
    known = {case.key for case in cases}
    for orphan in (state for state in snapshot.states if state.key not in known):
        # Of a service that is being deleted, or that can no longer be read: its pods still run somewhere.
        for left in orphan.variants:
            name = left.pool if left.pool in pools else ""
            gpus[name] = gpus.get(name, 0) + max(left.desired, left.present) * left.gpus
    unreadable = any(error.object.startswith("LLMService/") for error in snapshot.errors)
    # Of some replicas nobody knows where they run: then no pool may lose a node.
    stray = bool(gpus.get(""))
    for pool in sorted(pools.values(), key=lambda pool: pool.name):
        if pool.scale is None or (pool.name in listed and pool.name not in acting):
            continue
        nodes = math.ceil(gpus.get(pool.name, 0) / pool.gpus_per_node)
        claim = (Claim.GROWING if stray else Claim.ACTING) if pool.name in acting else Claim.IF_OURS
        if claim is Claim.IF_OURS and (stray or unreadable):
            continue  # a service that cannot be read may list the pool
        yield PoolDecision(pool.name, nodes if pool.max_nodes is None else min(nodes, pool.max_nodes), claim)
