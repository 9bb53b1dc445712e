"""What a plan carries of what is asked for: two plans' costs are comparable only where neither carries less."""

from __future__ import annotations

from dataclasses import dataclass

from medley.allocation.check import losses_not_survived, overloaded
from medley.allocation.problem import Allocation, Outcome, Problem
from medley.allocation.routing import steer
from medley.model.workload import Bucket

SAME = 1e-4
"""Part of the demand below which a difference is none: the search for the largest part stops there."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What one plan carries.

    Attributes:
        served: part of the whole request rate, 0 to 1; sizes that are left out count as not served.
        unserved: sizes that are left out.
        survives: the loss that is asked for, if any.
        possible: there is a plan at all.
    """

    served: float
    unserved: frozenset[Bucket]
    survives: bool
    possible: bool

    def less_than(self, other: Coverage) -> bool:
        """Whether something is missing that the other carries."""
        return (
            (other.possible and not self.possible)
            or self.served < other.served - SAME
            or not self.unserved <= other.unserved
            or (other.survives and not self.survives)
        )


def coverage(problem: Problem, plan: Allocation) -> Coverage:
    """What a plan of the problem carries."""
    unserved = frozenset(item.bucket for item in plan.unserved)
    possible = plan.outcome is not Outcome.IMPOSSIBLE
    total = sum(bucket.rate_rps for bucket in problem.buckets)
    left_out = sum(bucket.rate_rps for bucket in unserved)
    part = (total - left_out) / total if total > 0.0 else 1.0
    return Coverage(
        part * plan.served_fraction if possible else 0.0, unserved, possible and _survives(problem, plan), possible
    )


def _survives(problem: Problem, plan: Allocation) -> bool:
    """Where no plan survives the loss, the engine plans without; only the re-check of the plan tells."""
    if problem.survive_loss_of is None:
        return True
    steering, replicas = steer(problem), dict(plan.replicas)
    contingency = {name: dict(rows) for name, rows in plan.contingency}
    return not overloaded(
        problem, steering, replicas, dict(plan.shares), plan.served_fraction
    ) and not losses_not_survived(problem, steering, replicas, contingency, plan.served_fraction)
