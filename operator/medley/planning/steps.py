"""The next safe step from what runs to what is wanted: make before break."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from medley.allocation.check import limits_broken
from medley.allocation.problem import Problem


@dataclass(frozen=True, slots=True)
class VariantState:
    """Replicas of one variant now.

    Attributes:
        desired: asked for.
        ready: Ready.
        present: pods that are there at all, draining ones included: their nodes must stay.
        pool: where they run, as their labels say; empty if they do not.
        gpus: of one replica.
    """

    name: str
    desired: int
    ready: int
    present: int = 0
    pool: str = ""
    gpus: int = 1


@dataclass(frozen=True, slots=True)
class Step:
    """Replicas to ask for now, and why that is not yet the target."""

    replicas: tuple[tuple[str, int], ...]
    waiting_for: str = ""


def next_step(problem: Problem, target: Mapping[str, int], current: Mapping[str, VariantState]) -> Step:
    """What to ask for now on the way to `target`.

    Growth is asked for at once. Nothing that is Ready shrinks until all that grows is Ready; what has been asked for
    and does not serve yet is let go at once, or the targets of several cycles would add up. (What was needed lately is
    part of the target: see `stabilisation`.) If limits or budget have no
    room for both, capacity that is to go makes room first: a limit is never exceeded in the middle of a plan. Replicas
    that drain still run, and count against limits; they are not asked for again.
    """
    now = {name: state.desired for name, state in current.items()}
    there = {name: max(state.desired, state.present) for name, state in current.items()}
    names = sorted({*target, *now})
    both = {name: max(target.get(name, 0), there.get(name, 0)) for name in names}
    serving = {name: min(state.desired, state.ready) for name, state in current.items()}
    kept = {name: max(target.get(name, 0), serving.get(name, 0)) for name in names}
    grows = [name for name in names if target.get(name, 0) > (current[name].ready if name in current else 0)]
    shrinks = [name for name in names if there.get(name, 0) > target.get(name, 0)]
    if not grows or not shrinks:
        return Step(tuple((name, target.get(name, 0)) for name in names))
    known = {variant.name for variant in problem.variants}
    if not limits_broken(_without_maximum(problem), {name: count for name, count in both.items() if name in known}):
        later = [name for name in names if kept[name] > target.get(name, 0)]
        waiting = f"{', '.join(later)} shrinks once {', '.join(grows)} is Ready" if later else ""
        return Step(tuple(kept.items()), waiting)
    fewer = {name: min(target.get(name, 0), now.get(name, 0)) for name in names}
    if sum(fewer.values()) < problem.min_replicas:
        # Floor before budget: there is no way to the target that keeps both, so what runs stays.
        return Step(
            tuple((name, now.get(name, 0)) for name in names),
            f"no room for {', '.join(grows)} beside {', '.join(shrinks)}, and minReplicas forbids to shrink first; "
            "raise limits or maxHourlyCost",
        )
    return Step(
        tuple(fewer.items()),
        f"no room for both: {', '.join(shrinks)} shrinks first, then {', '.join(grows)} grows",
    )


def _without_maximum(problem: Problem) -> Problem:
    """Maximums of a variant, and of Spot, do not hold for what is on its way out; pool limits and the budget do."""
    variants = tuple(replace(v, max_replicas=None) for v in problem.variants)
    return replace(problem, variants=variants, max_spot_fraction=None)
