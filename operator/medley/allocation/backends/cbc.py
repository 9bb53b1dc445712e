"""CBC through PuLP: the second opinion that tests compare with. Gives no bound."""

from __future__ import annotations

import math

import pulp

from medley.allocation.backends.answer import Answer, Options, SolveStatus
from medley.allocation.backends.program import Program


def minimise(program: Program, options: Options) -> Answer:
    """Solve on one thread, in a process of its own."""
    model = pulp.LpProblem("medley", pulp.LpMinimize)
    variables = [
        model.add_variable(
            f"x{j}", lower, None if math.isinf(upper) else upper, pulp.LpInteger if whole else pulp.LpContinuous
        )
        for j, (lower, upper, whole) in enumerate(zip(program.lower, program.upper, program.whole, strict=True))
    ]
    model += pulp.lpSum(cost * variable for cost, variable in zip(program.cost, variables, strict=True) if cost)
    for row, (lower, upper) in enumerate(zip(program.row_lower, program.row_upper, strict=True)):
        span = slice(program.starts[row], program.starts[row + 1])
        total = pulp.lpSum(
            value * variables[column] for column, value in zip(program.columns[span], program.values[span], strict=True)
        )
        if lower == upper:
            model += total == lower
        else:
            if not math.isinf(lower):
                model += total >= lower
            if not math.isinf(upper):
                model += total <= upper
    solver = pulp.PULP_CBC_CMD(msg=False, timeLimit=options.time_limit_s, gapRel=options.relative_gap, threads=1)
    try:
        model.solve(solver)
    except pulp.PulpSolverError:
        return Answer(SolveStatus.NO_ANSWER)
    if model.status == pulp.constants.LpStatusInfeasible:
        return Answer(SolveStatus.INFEASIBLE)
    if model.status != pulp.constants.LpStatusOptimal:
        return Answer(SolveStatus.NO_ANSWER)
    finished = model.sol_status == pulp.constants.LpSolutionOptimal
    values = tuple(float(variable.varValue or 0.0) for variable in variables)
    return Answer(SolveStatus.OPTIMAL if finished else SolveStatus.TIME_LIMIT, values)
