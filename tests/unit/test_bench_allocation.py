"""The allocation benchmark, tiny: baselines give valid plans, and the figures are all there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "hack"))

from bench.allocation import Limits, measure, work  # noqa: E402
from bench.baselines.aibrix import aibrix  # noqa: E402
from bench.baselines.direct import direct  # noqa: E402
from bench.baselines.melange import melange  # noqa: E402
from bench.baselines.single import best_single  # noqa: E402
from bench.baselines.wva import Running, wva, wva_shared  # noqa: E402
from bench.engine import run_engine  # noqa: E402
from bench.figures import figures, goal_lines  # noqa: E402
from bench.instances import Instance, grid_instances, limited_instance, random_instance  # noqa: E402
from bench.optimum import optimum  # noqa: E402
from bench.plot import draw  # noqa: E402
from bench.recheck import faults, split_faults  # noqa: E402
from bench.results import Results, read_rows  # noqa: E402
from bench.table import Table, table_of  # noqa: E402

LIMITS = Limits(published_s=5.0, optimum_s=5.0, wall=True, repeats=1)


@pytest.fixture(scope="module")
def small() -> list[Instance]:
    """2 x 2 buckets, two and four types, 1 and 16 req/s."""
    return [i for i in grid_instances() if i.grid == "2x2" and i.variants < 8 and i.rate_rps in (1.0, 16.0)]


def two_types(**kwargs: object) -> Table:
    """A cheap type for short requests only, and a dear one for all."""
    values: dict[str, object] = {
        "loads": np.array([[0.6, 0.3], [np.inf, 0.5]]),
        "prices": np.array([1.0, 4.0]),
        "least": np.array([0, 0]),
        "most": np.array([np.inf, np.inf]),
    }
    return Table(**(values | kwargs))  # type: ignore[arg-type]


def test_grid_is_the_one_of_the_paper() -> None:
    grid = list(grid_instances())
    assert len({instance.name for instance in grid}) == len(grid) == 96
    assert all(bool(table_of(i.problem).able.any(axis=1).all()) for i in grid if i.rate_rps == 1.0)


def test_instances_repeat_from_their_seed() -> None:
    assert random_instance(3, 1, 8).problem == random_instance(3, 1, 8).problem
    assert limited_instance(3, 1).problem == limited_instance(3, 1).problem
    assert limited_instance(3, 1).problem != limited_instance(4, 1).problem


def test_recheck_finds_what_is_wrong() -> None:
    table = two_types(most=np.array([1.0, 2.0]))
    assert faults(table, (0, 1)) == []
    assert faults(table, (1, 1)) == []
    assert "no split" in faults(table, (1, 0))[0]
    assert "outside" in faults(table, (2, 1))[0]
    assert "needs" in faults(two_types(loads=np.array([[5.0, 3.0], [np.inf, 0.5]])), (1, 1))[0]
    assert "cannot serve" in split_faults(table, (1, 1), np.array([[1.0, 0.0], [1.0, 0.0]]))[0]
    assert "add up" in split_faults(table, (1, 1), np.array([[0.5, 0.0], [0.0, 1.0]]))[0]


def test_optimum_by_hand() -> None:
    # One dear GPU carries 0.8 of its capacity, and the long bucket needs one in any case.
    assert optimum(two_types(), 5.0).counts == (0, 1)
    # Twice the short requests: 0.6 + 0.5 is too much for one dear GPU; two cheap ones cost less than a second dear one.
    doubled = two_types(loads=np.array([[1.2, 0.6], [np.inf, 0.5]]))
    plan = optimum(doubled, 5.0)
    assert plan.status == "optimal"
    assert plan.counts == (1, 1)  # 0.83 of the short ones on the cheap type, the rest beside the long ones
    assert optimum(two_types(most=np.array([9.0, 0.0])), 5.0).status == "infeasible"


def test_baselines_cover_the_demand(small: list[Instance]) -> None:
    for instance in small:
        table = table_of(instance.problem)
        best = optimum(table, 5.0)
        assert best.status == "optimal"
        plans = [melange(table, 1, 5.0), melange(table, 4, 5.0), aibrix(table, 2.0), best_single(table), wva(table)]
        for plan in plans:
            assert faults(table, plan.counts, plan.shares) == [], (instance.name, plan)
            assert plan.cost >= best.cost * (1 - 1e-6), (instance.name, plan)


def test_melange_is_never_below_our_bound(small: list[Instance]) -> None:
    for instance in small:
        table = table_of(instance.problem)
        ours = run_engine(instance.problem, table, repeats=1)
        assert ours.wrong == ()
        for slice_factor in (1, 4, 8):
            plan = melange(table, slice_factor, 5.0)
            assert ours.allocation.lower_bound_per_hour <= plan.cost * (1 + 1e-6)
            assert ours.allocation.cost_per_hour <= plan.cost * (1 + ours.allocation.gap) + 1e-6


def test_wva_charges_a_change_of_type() -> None:
    # The dear type alone serves all; after the long bucket is gone the cheap one would do.
    table = two_types(loads=np.array([[0.6, 0.3]]))
    assert wva(table).counts == (1, 0)
    assert wva(table, Running(1, 4.0)).counts == (1, 0)  # saves 3, costs 0.5
    close = two_types(loads=np.array([[0.6, 0.3]]), prices=np.array([3.9, 4.0]))
    assert wva(close, Running(1, 4.0)).counts == (0, 1)  # would save 0.1, costs 0.79


def test_shared_pools() -> None:
    tables = [two_types(loads=np.array([[0.6, 0.3]])) for _ in range(3)]
    plan = direct(tables, [1.0, 9.0], 5.0)
    assert plan.status == "optimal"
    assert plan.cost == pytest.approx(9.0)
    assert plan.bound >= 9.0 * 0.995
    greedy = wva_shared(tables, [1.0, 9.0])
    assert sorted(row for row in greedy if row is not None) == [(0, 1), (0, 1), (1, 0)]
    assert wva_shared(tables, [1.0, 1.0]).count(None) == 1


def test_figures_of_a_tiny_run(small: list[Instance], tmp_path: Path) -> None:
    results = Results(tmp_path / "allocation.csv", "engine-1")
    instances = [small[-1], limited_instance(0, 1)]
    tasks = [(i, solver) for i in instances for solver in ("medley", "optimum", "wva", "melange-8")]
    work(tasks[:-1], results, "engine-1", LIMITS, None)
    made = figures(results.by_instance())
    assert {"cost_ratio_max", "cpu_ratio_p50", "ms_p95", "gap_max", "infeasible_wrong"} <= set(made)
    assert made["infeasible_wrong"] == made["reference_wrong"] == 0
    assert isinstance(made["cost_ratio_max"], float)
    assert 1 - 1e-6 <= made["cost_ratio_max"] <= 1.005
    json.loads(json.dumps(made))
    assert len(goal_lines(made)) == 9
    draw(results.by_instance(), tmp_path / "allocation.png")
    assert (tmp_path / "allocation.png").stat().st_size > 1000


def test_a_run_is_taken_up_where_it_stopped(small: list[Instance], tmp_path: Path) -> None:
    path = tmp_path / "allocation.csv"
    first = Results(path, "engine-1")
    first.add(measure(small[0], "medley", LIMITS, "engine-1"))
    first.add(measure(small[0], "single", LIMITS, "engine-1"))
    with path.open("a", encoding="utf-8") as file:
        file.write("grid-2x2x2-1,grid,half a l")
    again = Results(path, "engine-1")
    assert again.reused == 2
    assert again.finished(small[0].name, "medley", 0.0, table_of(small[0].problem).digest)
    # Other code of the engine: its own rows are measured again, the baselines are kept.
    other = Results(path, "engine-2")
    digest = table_of(small[0].problem).digest
    assert not other.finished(small[0].name, "medley", 0.0, digest)
    assert other.finished(small[0].name, "single", 0.0, digest)
    assert not other.finished(small[0].name, "single", 0.0, "other")
    assert [row.solver for row in read_rows(path)] == ["single"]


def test_reference_is_not_misled_by_tiny_loads() -> None:
    # HiGHS with presolve calls 14.45 $/h optimal here when loads of 2e-8 stand in its rows.
    table = table_of(limited_instance(0, 210).problem)
    plan = optimum(table, 5.0)
    assert plan.status == "optimal"
    assert plan.cost == pytest.approx(9.7817094)
    assert faults(table, plan.counts) == []
