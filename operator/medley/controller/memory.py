"""What is remembered between cycles. Lost on restart, on purpose: then nothing shrinks until it is known again."""

from __future__ import annotations

from collections import deque

from medley.cycle.decision import Decision
from medley.model.objects import CapacityType, ServiceKey
from medley.model.workload import Knowledge, Workload
from medley.planning.stabilisation import PastPlan


class Memory:
    """Known demand and plans of the last while, and the last known workload, per service; prices of shared pools."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._past: dict[ServiceKey, deque[PastPlan]] = {}
        self._last: dict[ServiceKey, Workload] = {}
        self.pool_prices: tuple[tuple[str, CapacityType, float], ...] = ()

    def past(self, key: ServiceKey) -> tuple[PastPlan, ...]:
        """Cycles that knew the demand, oldest first."""
        return tuple(self._past.get(key, ()))

    def last_known(self, key: ServiceKey) -> Workload | None:
        """The last known workload."""
        return self._last.get(key)

    def remember(self, decision: Decision, at_s: float) -> None:
        """Keep what a cycle wanted, not what it asked for: what is kept for calm would renew itself for ever.

        Args:
            decision: of this cycle.
            at_s: unix time of the snapshot.
        """
        self.pool_prices = decision.pool_prices
        keys = {service.key for service in decision.services}
        for gone in set(self._past) - keys:
            del self._past[gone]
            self._last.pop(gone, None)
        for service in decision.services:
            workload = service.workload
            if workload.knowledge is Knowledge.UNKNOWN:
                continue
            past = self._past.setdefault(service.key, deque())
            allocation = service.allocation
            single = (allocation.best_single_cost_per_hour if allocation else None) or 0.0
            past.append(PastPlan(at_s, service.wanted, single))
            while past and at_s - past[0].at_s > self._keep_s:
                past.popleft()
            if workload.buckets:
                self._last[service.key] = workload
