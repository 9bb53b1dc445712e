"""Hands a sparse (mixed-integer) linear program to HiGHS; shared by the reference optimum, the re-check and (e)."""

from __future__ import annotations

from dataclasses import dataclass, field

import highspy
import numpy as np


@dataclass(slots=True)
class Model:
    """Columns and rows as they come; minimised."""

    cost: list[float] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    integer: list[bool] = field(default_factory=list)
    row_lower: list[float] = field(default_factory=list)
    row_upper: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    columns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def column(self, cost: float, lower: float, upper: float, *, integer: bool = False) -> int:
        """Add a variable; returns its number."""
        self.cost.append(cost)
        self.lower.append(lower)
        self.upper.append(upper)
        self.integer.append(integer)
        return len(self.cost) - 1

    def row(self, lower: float, upper: float, terms: list[tuple[int, float]]) -> None:
        """Add a constraint."""
        for column, value in terms:
            self.columns.append(column)
            self.values.append(value)
        self.starts.append(len(self.columns))
        self.row_lower.append(lower)
        self.row_upper.append(upper)


@dataclass(frozen=True, slots=True)
class Answer:
    """What HiGHS says: status as in `Plan`, the point if there is one, the dual bound; duals of a linear program."""

    status: str
    point: np.ndarray | None
    objective: float
    bound: float
    row_duals: np.ndarray | None = None


def minimise(
    model: Model, *, time_limit_s: float, relative_gap: float = 0.0, presolve: bool = True, relax: bool = False
) -> Answer:
    """Solve on one thread."""
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(model.cost), len(model.row_lower)
    lp.col_cost_ = np.array(model.cost)
    lp.col_lower_ = np.array(model.lower)
    lp.col_upper_ = np.array(model.upper)
    lp.row_lower_ = np.array(model.row_lower)
    lp.row_upper_ = np.array(model.row_upper)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.array(model.starts, dtype=np.int32)
    lp.a_matrix_.index_ = np.array(model.columns, dtype=np.int32)
    lp.a_matrix_.value_ = np.array(model.values)
    mixed = any(model.integer) and not relax
    if mixed:
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        lp.integrality_ = [kinds[whole] for whole in model.integer]
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    for name, value in (
        ("output_flag", False),
        ("threads", 1),
        ("time_limit", max(0.01, time_limit_s)),
        ("mip_rel_gap", relative_gap),
        ("mip_abs_gap", 1e-7),
        ("mip_heuristic_run_feasibility_jump", False),
        ("presolve", "choose" if presolve else "off"),
    ):
        solver.setOptionValue(name, value)
    solver.passModel(lp)
    solver.run()
    status, info = solver.getModelStatus(), solver.getInfo()
    if status in (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible):
        return Answer("infeasible", None, np.inf, np.inf)
    found = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    optimal = status == highspy.HighsModelStatus.kOptimal
    if mixed:
        bound = float(info.mip_dual_bound)
    else:
        bound = float(info.objective_function_value) if optimal else -np.inf
    if not found:
        return Answer("none", None, np.inf, bound)
    point = np.array(solver.getSolution().col_value)
    duals = None if mixed else np.array(solver.getSolution().row_dual)
    return Answer("optimal" if optimal else "limit", point, float(info.objective_function_value), bound, duals)
