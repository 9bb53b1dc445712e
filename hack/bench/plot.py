"""The picture of a run: CPU time by number of variants, and cost over the optimum by rate."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from .figures import ByInstance
from .instances import RATES_RPS
from .results import ENGINE

STYLES = {
    ENGINE: ("Medley", "#1b6ca8", "o"),
    "optimum": ("MILP at gap 0", "#7f7f7f", "."),
    "melange-8": ("Mélange, slice factor 8", "#d1495b", "x"),
    "aibrix": ("AIBrix-style", "#edae49", "^"),
    "wva": ("WVA-style", "#6a4c93", "v"),
    "single": ("best single type", "#2e8b57", "s"),
}


def draw(by_instance: ByInstance, path: Path) -> None:
    """Write the picture."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    _times(left, by_instance)
    _costs(right, by_instance)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _times(axes: Axes, by_instance: ByInstance) -> None:
    order = [2, 4, 8, 16]
    for number, solver in enumerate((ENGINE, "melange-8", "aibrix", "optimum")):
        label, colour, marker = STYLES[solver]
        found = [rows[solver] for rows in by_instance.values() if solver in rows]
        points = [row for row in found if row.kind != "limited" and row.variants in order]
        if not points:
            continue
        at = np.array([order.index(row.variants) for row in points]) + 0.18 * (number - 1.5)
        jitter = np.random.default_rng(0).uniform(-0.05, 0.05, len(points))
        axes.scatter(at + jitter, [row.cpu_ms for row in points], s=12, c=colour, marker=marker, label=label, alpha=0.7)
        for position, variants in enumerate(order):
            values = [row.cpu_ms for row in points if row.variants == variants]
            if values:
                x = position + 0.18 * (number - 1.5)
                axes.hlines(np.median(values), x - 0.08, x + 0.08, color="black", linewidth=1.5)
    axes.set_yscale("log")
    axes.set_xticks(range(len(order)), [str(value) for value in order])
    axes.set_xlabel("GPU types to choose from")
    axes.set_ylabel("CPU time per solve, ms")
    axes.set_title("CPU time (bar: median; Mélange and AIBrix cut off at the limit)", fontsize=9)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)


def _costs(axes: Axes, by_instance: ByInstance) -> None:
    for solver in ("aibrix", "wva", "single", "melange-8", ENGINE):
        label, colour, marker = STYLES[solver]
        pairs = [
            (rows[solver].rate_rps, rows[solver].cost_per_hour / rows["optimum"].cost_per_hour)
            for rows in by_instance.values()
            if solver in rows and "optimum" in rows and rows[solver].kind == "grid"
            if rows[solver].has_plan and rows["optimum"].status == "optimal"
        ]
        if not pairs:
            continue
        rates = sorted({rate for rate, _ in pairs})
        groups = [[ratio for at, ratio in pairs if at == rate] for rate in rates]
        axes.plot(rates, [np.median(group) for group in groups], color=colour, marker=marker, label=label)
        axes.fill_between(
            rates, [min(group) for group in groups], [np.percentile(group, 90) for group in groups],
            color=colour, alpha=0.12, linewidth=0,
        )  # fmt: skip
    axes.set_xscale("log", base=4)
    axes.set_xticks(RATES_RPS, [str(rate) for rate in RATES_RPS])
    axes.set_yscale("log")
    axes.set_yticks([1, 1.1, 1.25, 1.5, 2, 3, 5], ["1", "1.1", "1.25", "1.5", "2", "3", "5"])
    axes.minorticks_off()
    axes.set_xlabel("requests per second")
    axes.set_ylabel("cost / optimum")
    axes.set_title("Cost over the proved optimum (line: median; band: least to p90)", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
