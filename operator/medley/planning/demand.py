"""How much more than the mean is planned for."""

from __future__ import annotations

from medley.model.objects import Scaling
from medley.model.workload import Workload

MAX_DEMAND_FACTOR = 3.0


def demand_factor(scaling: Scaling, workload: Workload) -> float:
    """max(1 + headroom, 1 + uncertainty of the histogram), capped; for a static workload 1 + headroom."""
    return max(1.0 + scaling.headroom, min(1.0 + workload.uncertainty, MAX_DEMAND_FACTOR))
