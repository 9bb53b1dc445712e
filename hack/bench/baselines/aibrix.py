"""(b) AIBrix's GPU optimizer: Mélange's ILP in hundredths of a GPU, then each type rounded up by itself.

Its autoscaler counts in hundredths, so the ILP sees a hundred times the load at a hundredth of the price and solves
near the linear relaxation; what is deployed is the ceiling per type. Slice factor 4, its default.
"""

from __future__ import annotations

import math
from dataclasses import replace

from ..table import Plan, Table
from .melange import melange

SLICE_FACTOR = 4


def aibrix(table: Table, time_limit_s: float, *, limit_is_cpu: bool = True) -> Plan:
    """Replicas after rounding up."""
    fine = replace(table, loads=table.loads * 100.0, prices=table.prices / 100.0)
    plan = melange(fine, SLICE_FACTOR, time_limit_s, limit_is_cpu=limit_is_cpu, name="aibrix")
    if not plan.counts:
        return plan
    counts = tuple(math.ceil(count / 100.0 - 1e-9) for count in plan.counts)
    return replace(plan, counts=counts, cost=table.cost(counts), note=f"before rounding {plan.cost:.4f}")
