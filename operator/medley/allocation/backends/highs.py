"""HiGHS, in process: the solver that plans. Handed arrays: a modelling layer took longer than the solve (ADR 0002)."""

from __future__ import annotations

import highspy
import numpy as np

from medley.allocation.backends.answer import Answer, Options, SolveStatus
from medley.allocation.backends.program import Program

_KINDS = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)


def minimise(program: Program, options: Options) -> Answer:
    """Solve on one thread."""
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
    solver = highspy.Highs()
    for name, value in (
        ("output_flag", False),
        ("threads", 1),
        ("time_limit", options.time_limit_s),
        ("mip_rel_gap", options.relative_gap),
        ("mip_heuristic_run_feasibility_jump", False),  # 20 ms of every solve, and no gain at this size (solver.md §3)
    ):
        solver.setOptionValue(name, value)
    solver.passModel(lp)
    solver.run()
    status = solver.getModelStatus()
    info = solver.getInfo()
    has_point = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    if status == highspy.HighsModelStatus.kInfeasible:
        return Answer(SolveStatus.INFEASIBLE)
    if not has_point:
        return Answer(SolveStatus.NO_ANSWER)
    finished = status == highspy.HighsModelStatus.kOptimal
    values = tuple(solver.getSolution().col_value)
    return Answer(SolveStatus.OPTIMAL if finished else SolveStatus.TIME_LIMIT, values, float(info.mip_dual_bound))
