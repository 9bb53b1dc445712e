"""A chart of what a service costs over its rate: by mix, beside the best single GPU type and the lower bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medley.allocation.problem import Allocation, Outcome, Problem
from medley.allocation.solve import allocate
from medley.model.errors import UserError

POINTS = 72
SPAN = (0.1, 4.0)
"""From and to this many times the present rate."""

COLOURS = ("#3b6fb6", "#d9822b", "#3a9a5b", "#b5484b", "#7d5ba6", "#8a6d3b", "#c76aa0", "#6f7f8f", "#a3a832", "#3aa6b0")


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
    def full(self) -> bool:
        """Whether all of the demand is carried."""
        return self.allocation.outcome not in (Outcome.BEST_EFFORT, Outcome.IMPOSSIBLE)


def costs_over_rate(problem: Problem) -> list[Point]:
    """Plans at rates around the present one, each from nothing running."""
    now = sum(bucket.rate_rps for bucket in problem.buckets)
    points = []
    for factor in np.geomspace(*SPAN, POINTS).tolist():
        buckets = tuple(replace(bucket, rate_rps=bucket.rate_rps * factor) for bucket in problem.buckets)
        points.append(Point(now * factor, allocate(replace(problem, buckets=buckets, change_cost=0.0))))
    return points


def draw_costs(problems: dict[str, Problem], path: Path, progress: Callable[[str], None]) -> None:
    """One panel a service.

    Raises:
        UserError: matplotlib is missing, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter
    except ImportError:
        raise UserError("matplotlib is not installed", field="--chart", fix="Install medley[plots]") from None
    drawn = {name: problem for name, problem in problems.items() if problem.buckets}
    if not drawn:
        raise UserError("no service has any demand", field="--chart", fix="Give a rate above 0")
    figure = Figure(figsize=(9.0, 4.6 * len(drawn)), layout="constrained")
    panels = figure.subplots(len(drawn), 1, squeeze=False)[:, 0]
    colours: dict[str, str] = {}
    for panel, (name, problem) in zip(panels, drawn.items(), strict=True):
        progress(f"medley: {name}: plans at {POINTS} rates")
        points = costs_over_rate(problem)
        now = sum(bucket.rate_rps for bucket in problem.buckets)
        rates = [point.rate_rps for point in points]
        singles = [point.allocation.best_single_cost_per_hour for point in points]
        bounds = [point.allocation.lower_bound_per_hour for point in points]
        panel.fill_between(
            rates, bounds, [point.allocation.cost_per_hour for point in points], color="#9aa5b1", alpha=0.35, lw=0,
            label="between lower bound and plan",
        )  # fmt: skip
        panel.plot(
            rates, [np.nan if cost is None else cost for cost in singles], color="#444444", ls="--", lw=1.3,
            label="best single GPU type",
        )  # fmt: skip
        mixes = list(dict.fromkeys(point.mix for point in points))
        for mix in mixes:
            colour = colours.setdefault(mix, COLOURS[len(colours) % len(COLOURS)])
            own = [point for point in points if point.mix == mix]
            panel.plot(
                [point.rate_rps for point in own],
                [point.allocation.cost_per_hour for point in own],
                ls="", marker="o", ms=5, mew=0.5, mec="white", color=colour, label=mix,
            )  # fmt: skip
        short = [point for point in points if not point.full]
        if short:
            panel.plot(
                [point.rate_rps for point in short], [point.allocation.cost_per_hour for point in short],
                ls="", marker="x", ms=7, color="black", label="limits do not allow all",
            )  # fmt: skip
        panel.axvline(now, color="#222222", lw=0.8)
        panel.annotate(
            f"now: {now:.3g} req/s", (now, 1.0), xycoords=("data", "axes fraction"), xytext=(4, -4),
            textcoords="offset points", va="top", fontsize=9,
        )  # fmt: skip
        panel.set_xscale("log")
        panel.set_yscale("log")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""))
        panel.tick_params(axis="both", which="both", labelsize=8)
        panel.set_xlabel("rate, req/s (same mix of sizes)")
        panel.set_ylabel("cost, $/h")
        panel.set_title(f"{name}: cheapest plan over rate, routing {problem.routing.value}", loc="left", fontsize=11)
        panel.grid(True, which="major", color="#dddddd", lw=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0), title="variants in use")
    try:
        figure.savefig(path, dpi=120, format="png")
    except OSError as error:
        raise UserError(f"cannot be written: {error}", field=str(path), fix="Give another path") from None
