"""Binary programs, solved to their optimum by HiGHS (Huangfu and Hall, 2018).

By its own binding: the HiGHS inside scipy writes a line to standard output whenever it searches a part anew.
"""

from dataclasses import dataclass

import highspy
import numpy as np
import scipy
from numpy.typing import NDArray

from router.arrays import Floats
from router.errors import MappingError


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of constraints: ``lower <= matrix x <= upper``."""

    matrix: "scipy.sparse.csr_array"
    """[rows, variables]"""
    lower: float
    upper: float


@dataclass(frozen=True, slots=True, eq=False)
class Optimum:
    values: NDArray[np.bool_]
    """[variables]"""
    bound: float
    """No values give more."""


def maximise(objective: Floats, allowed: NDArray[np.bool_], constraints: list[Rows]) -> Optimum:
    """Finds the values with the greatest objective; those not ``allowed`` are 0, and both are [variables]. It
    stops at an absolute gap of 1e-6 and takes one thread. Raises MappingError where HiGHS finds no
    optimum."""
    matrix = scipy.sparse.csr_array(scipy.sparse.vstack([rows.matrix for rows in constraints]))
    counts = [rows.matrix.shape[0] for rows in constraints]
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(objective), sum(counts)
    lp.col_cost_ = -objective
    lp.col_lower_, lp.col_upper_ = np.zeros(len(objective)), allowed.astype(np.float64)
    lp.row_lower_ = np.repeat([rows.lower for rows in constraints], counts)
    lp.row_upper_ = np.repeat([rows.upper for rows in constraints], counts)
    lp.integrality_ = [highspy.HighsVarType.kInteger] * len(objective)
    entries = lp.a_matrix_
    entries.format_ = highspy.MatrixFormat.kRowwise
    entries.start_, entries.index_, entries.value_ = matrix.indptr, matrix.indices, matrix.data
    solver = highspy.Highs()
    solver.silent()
    for option, value in (("mip_rel_gap", 0.0), ("threads", 1)):
        solver.setOptionValue(option, value)
    solver.passModel(lp)
    solver.run()
    status = solver.getModelStatus()
    if status == highspy.HighsModelStatus.kInfeasible:
        raise MappingError("no map fits both budgets and what is fixed")
    if status != highspy.HighsModelStatus.kOptimal:
        raise MappingError(f"the mapping was not solved: {solver.modelStatusToString(status)}")
    values = np.array(solver.getSolution().col_value) > 0.5
    return Optimum(values, -solver.getInfo().mip_dual_bound)
