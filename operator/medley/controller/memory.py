"""What is remembered between cycles. Lost on restart, on purpose: then nothing shrinks until it is known again."""

from __future__ import annotations

from collections import deque

from medley.cycle.decision import Decision
from medley.model.objects import ServiceKey
from medley.model.workload import Knowledge, Workload
from medley.planning.demand import PastDemand
from medley.workload.known import at_rate


class Memory:
    """Known demand of the last while, and the last known workload, per service."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._past: dict[ServiceKey, deque[PastDemand]] = {}
        self._last: dict[ServiceKey, Workload] = {}

    def past(self, key: ServiceKey) -> tuple[PastDemand, ...]:
        """Known demand, oldest first."""
        return tuple(self._past.get(key, ()))

    def last_known(self, key: ServiceKey) -> Workload | None:
        """The last known workload."""
        return self._last.get(key)

    def remember(self, decision: Decision, observed: dict[ServiceKey, float], at_s: float) -> None:
        """Keep what this cycle learnt.

        Args:
            decision: of this cycle.
            observed: rates as estimated, before they were stabilised: else a peak would renew itself for ever.
            at_s: unix time of the snapshot.
        """
        keys = {service.key for service in decision.services}
        for gone in set(self._past) - keys:
            del self._past[gone]
            self._last.pop(gone, None)
        for service in decision.services:
            if service.workload.knowledge is Knowledge.UNKNOWN:
                continue
            past = self._past.setdefault(service.key, deque())
            rate_rps = observed.get(service.key, service.workload.rate_rps)
            past.append(PastDemand(at_s, rate_rps))
            while past and at_s - past[0].at_s > self._keep_s:
                past.popleft()
            if service.workload.buckets and rate_rps > 0.0:
                self._last[service.key] = at_rate(service.workload, rate_rps)
