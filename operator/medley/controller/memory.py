"""What is remembered between cycles. Lost on restart, on purpose: then nothing shrinks until it is known again."""

from __future__ import annotations

from collections import deque

from medley.cycle.decision import Decision
from medley.model.objects import CapacityType, ServiceKey
from medley.model.workload import Knowledge, Workload
from medley.planning.demand import PastDemand


class Memory:
    """Known demand of the last while, and the last known workload, per service; prices of shared pools."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._past: dict[ServiceKey, deque[tuple[float, Workload]]] = {}
        self._last: dict[ServiceKey, Workload] = {}
        self.pool_prices: tuple[tuple[str, CapacityType, float], ...] = ()

    def past(self, key: ServiceKey) -> tuple[PastDemand, ...]:
        """Known demand, oldest first."""
        return tuple(PastDemand(at_s, workload.rate_rps) for at_s, workload in self._past.get(key, ()))

    def peak(self, key: ServiceKey, now_s: float, window_s: float) -> Workload | None:
        """The known workload of the highest rate in the last `window_s` seconds."""
        recent = [workload for at_s, workload in self._past.get(key, ()) if now_s - at_s <= window_s]
        return max(recent, key=lambda workload: workload.rate_rps, default=None)

    def last_known(self, key: ServiceKey) -> Workload | None:
        """The last known workload."""
        return self._last.get(key)

    def remember(self, decision: Decision, at_s: float) -> None:
        """Keep the workloads of a cycle as they were before stabilisation: else a peak would renew itself for ever.

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
            if service.observed.knowledge is Knowledge.UNKNOWN:
                continue
            past = self._past.setdefault(service.key, deque())
            past.append((at_s, service.observed))
            while past and at_s - past[0][0] > self._keep_s:
                past.popleft()
            if service.observed.buckets:
                self._last[service.key] = service.observed
