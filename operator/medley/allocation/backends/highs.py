"""HiGHS, in process: the solver that plans. Handed arrays: a modelling layer took longer than the solve (ADR 0002)."""

from __future__ import annotations

from dataclasses import replace

import highspy
import numpy as np

from medley.allocation.backends.answer import Answer, Options, SolveStatus
from medley.allocation.backends.program import Program

_KINDS = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
INFINITY = highspy.kHighsInf


def solver(**options: str | bool | float) -> highspy.Highs:
    """HiGHS on one thread, silent."""
    made = highspy.Highs()
    settings: dict[str, str | bool | float] = {
        "output_flag": False,
        "threads": 1,
        "mip_heuristic_run_feasibility_jump": False,  # 20 ms of every solve, no gain at this size (solver.md §3)
        **options,
    }
    for name, value in settings.items():
        made.setOptionValue(name, value)
    return made


def minimise(program: Program, options: Options) -> Answer:
    """Solve a program once."""
    highs = solver(mip_rel_gap=options.relative_gap, time_limit=options.time_limit_s)
    highs.passModel(_lp(program))
    highs.run()
    answer = _answer(highs)
    return answer if any(program.whole) else replace(answer, duals=tuple(highs.getSolution().row_dual))


class Master:
    """A program that grows by cuts: its relaxation is solved again and again within bounds, or it once as it is."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.whole = np.flatnonzero(program.whole).astype(np.int32)
        self._highs = solver()
        self._highs.passModel(_lp(program))
        self._columns = len(program.cost)
        self._relaxed = False

    def price(self, costs: np.ndarray) -> None:
        """Replace the objective, one coefficient per column."""
        columns = np.arange(self._columns, dtype=np.int32)
        self._highs.changeColsCost(self._columns, columns, costs)

    def cut(self, lower: float, columns: np.ndarray, values: np.ndarray) -> None:
        """Add lower ≤ Σ values · columns."""
        self._highs.addRow(lower, INFINITY, len(columns), columns, values)

    def relaxation(self, lower: np.ndarray, upper: np.ndarray, time_limit_s: float) -> Answer:
        """Minimise with the whole columns anywhere between bounds; starts from the last such solve."""
        self._highs.changeColsBounds(len(self.whole), self.whole, lower, upper)
        return self._solve(relaxed=True, relative_gap=0.0, time_limit_s=time_limit_s)

    def solve(self, relative_gap: float, time_limit_s: float) -> Answer:
        """Minimise in whole numbers."""
        return self._solve(relaxed=False, relative_gap=relative_gap, time_limit_s=time_limit_s)

    def _solve(self, *, relaxed: bool, relative_gap: float, time_limit_s: float) -> Answer:
        if relaxed is not self._relaxed:
            kinds = np.full(len(self.whole), int(_KINDS[not relaxed]), dtype=np.uint8)
            self._highs.changeColsIntegrality(len(self.whole), self.whole, kinds)
            self._relaxed = relaxed
        self._highs.setOptionValue("mip_rel_gap", relative_gap)
        # HiGHS counts all runs of a model together.
        self._highs.setOptionValue("time_limit", self._highs.getRunTime() + time_limit_s)
        self._highs.run()
        return _answer(self._highs)


class LinearProgram:
    """A linear program of which only right-hand sides change, so that each solve starts where the last ended.

    Columns are compressed: column j has the rows `rows[starts[j]:starts[j + 1]]` with `values` there, and lies in 0..∞.
    """

    def __init__(
        self,
        costs: np.ndarray,
        starts: np.ndarray,
        rows: np.ndarray,
        values: np.ndarray,
        lower: np.ndarray,
        upper: np.ndarray,
    ) -> None:
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(costs), len(lower)
        lp.col_cost_, lp.col_lower_, lp.col_upper_ = costs, np.zeros(len(costs)), np.full(len(costs), INFINITY)
        lp.row_lower_, lp.row_upper_ = lower, upper
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = starts, rows, values
        # Presolve would throw the last basis away, which saves more than it does.
        self._highs = solver(presolve="off")
        self._highs.passModel(lp)

    def bound(self, rows: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        """Change the bounds of rows."""
        self._highs.changeRowsBounds(len(rows), rows, lower, upper)

    def solve(self) -> tuple[float, np.ndarray, np.ndarray] | None:
        """Minimum, values of the columns and duals of the rows; None if there is none."""
        self._highs.run()
        if self._highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        solution = self._highs.getSolution()
        value = float(self._highs.getInfo().objective_function_value)
        return value, np.array(solution.col_value), np.array(solution.row_dual)


def _lp(program: Program) -> highspy.HighsLp:
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(program.cost), len(program.row_lower)
    lp.col_cost_ = np.array(program.cost)
    lp.col_lower_ = np.array(program.lower)
    lp.col_upper_ = np.array(program.upper)
    lp.row_lower_ = np.array(program.row_lower)
    lp.row_upper_ = np.array(program.row_upper)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.array(program.starts, dtype=np.int32)
    lp.a_matrix_.index_ = np.array(program.columns, dtype=np.int32)
    lp.a_matrix_.value_ = np.array(program.values)
    lp.integrality_ = [_KINDS[whole] for whole in program.whole]
    return lp


def _answer(highs: highspy.Highs) -> Answer:
    status = highs.getModelStatus()
    info = highs.getInfo()
    if status == highspy.HighsModelStatus.kInfeasible:
        return Answer(SolveStatus.INFEASIBLE)
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return Answer(SolveStatus.NO_ANSWER)
    finished = status == highspy.HighsModelStatus.kOptimal
    values = tuple(highs.getSolution().col_value)
    # A relaxation has no bound of its own: its optimum is one.
    whole = info.mip_node_count >= 0
    bound = float(info.mip_dual_bound if whole else info.objective_function_value)
    return Answer(SolveStatus.OPTIMAL if finished else SolveStatus.TIME_LIMIT, values, bound)
