"""A chart of what a service costs over its rate: whole steps by mix, beside the best single GPU type, and the saving.

Cost is a step function of the rate: a plan carries every rate up to the one at which one more replica is needed. So a
plan holds to the left of the rate that it was made for, and where two neighbouring plans differ, rates between them are
planned as well, until the edge is finer than a line is wide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medley.allocation.backends.answer import Options
from medley.allocation.problem import Allocation, Outcome, Problem
from medley.allocation.solve import allocate
from medley.model.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 60
SPAN = (0.1, 4.0)
"""From and to this many times the present rate."""

HALVINGS = 2
"""How often the interval in which a step lies is halved."""

OPTIONS = Options(relative_gap=1e-4, time_limit_s=0.5)
"""Finer than plans need to be, or steps within the gap would go up and down."""

COLOURS = ("#3b6fb6", "#d9822b", "#3a9a5b", "#b5484b", "#7d5ba6", "#8a6d3b", "#c76aa0", "#6f7f8f", "#a3a832", "#3aa6b0")
SINGLE = "#444444"
SAVING = "#2f7d4f"

LETTER = 0.0125
"""Width of a letter of a label, as a part of the panel's."""


@dataclass(frozen=True, slots=True)
class Point:
    """The plan at one rate."""

    rate_rps: float
    allocation: Allocation

    @property
    def mix(self) -> str:
        """Variants in use."""
        return " + ".join(name for name, count in self.allocation.replicas if count) or "nothing"

    @property
    def counts(self) -> str:
        """Replicas, in the order of the variants in `mix`."""
        return "+".join(str(count) for _, count in self.allocation.replicas if count)

    @property
    def full(self) -> bool:
        """Whether all of the demand is carried."""
        return self.allocation.outcome not in (Outcome.BEST_EFFORT, Outcome.IMPOSSIBLE)

    @property
    def saving(self) -> float:
        """Part of the best single GPU type's cost that the plan saves, 0 to 1; 0 where no type can do it alone."""
        single = self.allocation.best_single_cost_per_hour
        return 1.0 - self.allocation.cost_per_hour / single if single and self.full else 0.0


@dataclass(frozen=True, slots=True)
class Tread:
    """Neighbouring rates with the same replicas, in req/s."""

    start_rps: float
    end_rps: float
    point: Point


def costs_over_rate(problem: Problem) -> list[Point]:
    """Plans at rates around the present one, each from nothing running; closer where the plan changes."""
    now = sum(bucket.rate_rps for bucket in problem.buckets)

    def at(factor: float) -> Point:
        buckets = tuple(replace(bucket, rate_rps=bucket.rate_rps * factor) for bucket in problem.buckets)
        return Point(now * factor, allocate(replace(problem, buckets=buckets, change_cost=0.0), OPTIONS))

    points = [at(factor) for factor in sorted({1.0, *np.linspace(*SPAN, POINTS).tolist()})]
    for _ in range(HALVINGS):
        finer = points[:1]
        for before, after in pairwise(points):
            if _differ(before, after):
                finer.append(at((before.rate_rps + after.rate_rps) / 2.0 / now))
            finer.append(after)
        points = finer
    return points


def _differ(one: Point, other: Point) -> bool:
    before, after = one.allocation, other.allocation
    return (
        before.replicas != after.replicas
        or before.best_single_cost_per_hour != after.best_single_cost_per_hour
        or one.full != other.full
    )


def treads(points: Sequence[Point]) -> list[Tread]:
    """Each plan from the rate above which it is needed to the last one that it was found for."""
    found: list[Tread] = []
    start = points[0].rate_rps
    for number, point in enumerate(points):
        last = number + 1 == len(points)
        if last or points[number + 1].allocation.replicas != point.allocation.replicas:
            found.append(Tread(start, point.rate_rps, point))
            start = point.rate_rps
    return found


def draw_costs(problems: dict[str, Problem], path: Path, progress: Callable[[str], None]) -> None:
    """Two panels a service: the cost, and what mixing saves.

    Raises:
        UserError: matplotlib is missing, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("matplotlib is not installed", field="--chart", fix="Install medley[plots]") from None
    drawn = {name: problem for name, problem in problems.items() if problem.buckets}
    if not drawn:
        raise UserError("no service has any demand", field="--chart", fix="Give a rate above 0")
    figure = Figure(figsize=(10.0, 6.2 * len(drawn)), layout="constrained")
    panels = figure.subplots(
        2 * len(drawn), 1, squeeze=False, height_ratios=(3.2, 1.0) * len(drawn)
    )[:, 0]  # fmt: skip
    colours: dict[str, str] = {}
    for number, (name, problem) in enumerate(drawn.items()):
        progress(f"medley: {name}: plans at {POINTS} rates and where they change")
        points = costs_over_rate(problem)
        now = sum(bucket.rate_rps for bucket in problem.buckets)
        _draw_cost(panels[2 * number], name, problem, points, colours)
        _draw_saving(panels[2 * number + 1], points)
        for panel in panels[2 * number : 2 * number + 2]:
            panel.axvline(now, color="#222222", lw=0.8)
            panel.set_xlim(0.0, now * SPAN[1])
            panel.tick_params(labelsize=8)
            panel.grid(True, color="#e4e4e4", lw=0.6)
            panel.set_axisbelow(True)
            panel.spines[["top", "right"]].set_visible(False)
        here = next(point for point in points if point.rate_rps >= now * (1 - 1e-9))
        panels[2 * number].annotate(
            f"now: {now:.3g} req/s\n{_saving_text(here)}", (now, 1.0), xycoords=("data", "axes fraction"),
            xytext=(4, -4), textcoords="offset points", va="top", fontsize=9,
        )  # fmt: skip
    try:
        figure.savefig(path, dpi=120, format="png")
    except OSError as error:
        raise UserError(f"cannot be written: {error}", field=str(path), fix="Give another path") from None


def _saving_text(point: Point) -> str:
    plan = point.allocation
    if not point.full:
        return "limits do not allow all"
    if plan.best_single_cost_per_hour is None:
        return "no single GPU type can do it"
    saved = plan.best_single_cost_per_hour - plan.cost_per_hour
    return f"mixing saves {saved:.2f} $/h ({point.saving:.0%})" if saved > 1e-6 else "mixing saves nothing"


def _draw_cost(panel: Axes, name: str, problem: Problem, points: list[Point], colours: dict[str, str]) -> None:
    rates = [point.rate_rps for point in points]
    costs = [point.allocation.cost_per_hour for point in points]
    singles = [point.allocation.best_single_cost_per_hour for point in points]
    panel.fill_between(
        rates, [point.allocation.lower_bound_per_hour for point in points], costs, step="pre", color="#9aa5b1",
        alpha=0.5, lw=0,
    )  # fmt: skip
    panel.plot(
        rates, [np.nan if cost is None else cost for cost in singles], drawstyle="steps-pre", color=SINGLE, ls="--",
        lw=1.2, label="best single GPU type",
    )  # fmt: skip
    panel.plot(rates, costs, drawstyle="steps-pre", color="#9aa5b1", lw=0.9)
    steps = treads(points)
    for mix in dict.fromkeys(step.point.mix for step in steps):
        colour = colours.setdefault(mix, COLOURS[len(colours) % len(COLOURS)])
        own = [step for step in steps if step.point.mix == mix]
        panel.hlines(
            [step.point.allocation.cost_per_hour for step in own], [step.start_rps for step in own],
            [step.end_rps for step in own], color=colour, lw=3.2, label=mix,
        )  # fmt: skip
        _label_counts(panel, own, rates[-1], colour)
    short = [point for point in points if not point.full]
    if short:
        panel.plot(
            [point.rate_rps for point in short], [point.allocation.cost_per_hour for point in short],
            ls=":", color="black", lw=1.6, label="limits do not allow all",
        )  # fmt: skip
    most = max(cost for cost in (*costs, *singles) if cost is not None)
    # Room for what is said at the present rate.
    panel.set_ylim(0.0, 1.2 * most or 1.0)
    panel.set_ylabel("cost, $/h")
    panel.set_title(f"{name}: cheapest plan over rate, routing {problem.routing.value}", loc="left", fontsize=11)
    panel.legend(
        fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0), alignment="left",
        title="variants in use;\nreplicas at the steps, in this order",
    ).get_title().set_fontsize(8)  # fmt: skip


def _label_counts(panel: Axes, own: list[Tread], whole_rps: float, colour: str) -> None:
    """Replicas below each tread that is wide enough; of each mix at least the widest, above it where it is narrow."""
    widest = max(own, key=lambda step: step.end_rps - step.start_rps)
    for step in own:
        fits = (step.end_rps - step.start_rps) / whole_rps >= LETTER * len(step.point.counts)
        if fits or step is widest:
            panel.annotate(
                step.point.counts, ((step.start_rps + step.end_rps) / 2, step.point.allocation.cost_per_hour),
                xytext=(0, -3) if fits else (0, 9), textcoords="offset points", ha="center" if fits else "right",
                va="top" if fits else "bottom", fontsize=7.5, color=colour,
            )  # fmt: skip


def _draw_saving(panel: Axes, points: list[Point]) -> None:
    rates = [point.rate_rps for point in points]
    saved = [point.saving * 100.0 for point in points]
    panel.fill_between(rates, saved, step="pre", color=SAVING, alpha=0.35, lw=0)
    panel.plot(rates, saved, drawstyle="steps-pre", color=SAVING, lw=1.0)
    panel.set_ylim(0.0, max(10.0, 1.15 * max(saved)))
    panel.set_ylabel("mixing saves, %", fontsize=9)
    panel.set_xlabel("rate, req/s (same mix of sizes)")
