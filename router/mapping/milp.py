"""The mapping as a mixed-integer program: the best map under budgets, exact, with its bound.

For each category c with its share w, and each expert e with its size |e|: binary x[c,e] (c goes to e) and
y[e] (e is kept) maximise the sum of w s x, where every category has one expert, x <= y, the sizes of the kept
experts add up to at most the total budget, and the sum of w |e| x is at most the active one. HiGHS solves it
to a billionth of the score and keeps budgets to a millionth of each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from router.arrays import Floats
from router.errors import MappingError
from router.mapping.highs import Rows, maximise
from router.mapping.score_table import ScoreTable
from router.progress import Progress

POINT = 0.01
"""A point in the unit of scores."""
SWEEP = 40
"""Budgets of a frontier that is asked for without any."""
_SUMS = 10_000
"""Sizes of sets of experts that are looked at: there are twice as many with each expert more."""
_SCALE = 1e6
"""HiGHS stops at an absolute gap of 1e-6, which is 1e-12 of score this way."""
_WITHIN = 1e-9
"""Part of a budget by which sums of its shares may be off."""
_TIE = 1e-9
"""Score an expert is taken to lose for each one that is cheaper, or as cheap and named before it."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """Billions of parameters; None means no limit."""

    active: float | None = None
    """Limit of the expert that answers, on average over the categories' shares."""
    total: float | None = None
    """Limit of all experts of the map together."""


@dataclass(frozen=True, slots=True)
class Solution:
    """A map and what it is worth."""

    experts: dict[str, str]
    """Category to expert."""
    score: float
    """Expected, 0 to 1."""
    standard_error: float
    """As ``ScoreTable.error_of`` has it. It knows nothing of the choice: the best of many noisy means
    looks a little better than it is."""
    bound: float
    """No map within the budgets scores more, margin or not. Where the score is optimal it is greater by less
    than a millionth of a point."""
    active: float
    """Billions of parameters of the expert that answers, on average."""
    total: float
    """Billions of parameters of all experts of the map."""
    price: float | None = None
    """Score that a billion parameters must be worth where each prompt chooses by itself, in one step; None:
    its row of the map chooses."""
    among: tuple[str, ...] = ()
    """The experts that one step chooses among."""

    @property
    def kept(self) -> tuple[str, ...]:
        """The experts that may answer, each once, sorted."""
        return tuple(sorted({*self.experts.values(), *self.among}))


def solve(
    table: ScoreTable, budgets: Budgets, min_margin: float = 0.0, fixed: Mapping[str, str] | None = None
) -> Solution:
    """The best map. Equal scores go to the cheaper expert, then to the one named first.

    ``min_margin``, in points (0.5 is 0.005 of score): in a category an expert is chosen over a cheaper one
    of the map only if it is better by more. The map is solved, the experts it keeps are then the only ones,
    those too near a cheaper one are ruled out category by category, and the rest is solved again.

    ``fixed``: category of the table to the expert that it must have, whatever its score.

    Raises MappingError where no map fits the budgets, for a margin under 0, and for a fixed category or
    expert that the table does not have."""
    free = free_experts(table, fixed or {})
    check_fit(table, budgets, free)
    if not min_margin >= 0:
        raise MappingError(f"the margin must be from 0 points, not {min_margin:g}")
    chosen, bound = _optimum(table, budgets, free)
    if min_margin > 0:
        allowed = _better_by(table, np.unique(chosen), min_margin * POINT) & free
        given = free.sum(axis=1) == 1
        allowed[given] = free[given]
        chosen, _ = _optimum(table, budgets, allowed)
    rows = np.arange(len(table.categories))
    score = float(table.shares @ table.means[rows, chosen])
    return Solution(
        experts={name: table.experts[index] for name, index in zip(table.categories, chosen, strict=True)},
        score=score,
        standard_error=table.error_of(chosen),
        bound=max(bound, score),
        active=float(table.shares @ table.parameters[chosen]),
        total=float(table.parameters[np.unique(chosen)].sum()),
    )


def frontier(
    table: ScoreTable,
    active_budgets: Sequence[float] | None = None,
    total: float | None = None,
    progress: Progress = lambda *_: None,
    fixed: Mapping[str, str] | None = None,
) -> list[Solution]:
    """The best map at each active budget, those that are the same map only once, in ascending order.

    Without budgets it goes from the cheapest map to the best one in even steps. Raises MappingError where no
    map fits the smallest budget.
    """
    best = solve(table, Budgets(total=total), fixed=fixed)
    if active_budgets is None:
        least = table.shares @ table.parameters[_cheapest(table, free_experts(table, fixed or {}))]
        active_budgets = np.linspace(least, best.active, SWEEP).tolist()
    found: list[Solution] = []
    for number, budget in enumerate(sorted(active_budgets)):
        progress("solving", number, len(active_budgets))
        solution = best if budget >= best.active else solve(table, Budgets(budget, total), fixed=fixed)
        if not found or solution.experts != found[-1].experts:
            found.append(solution)
    progress("solving", len(active_budgets), len(active_budgets))
    return found


def total_frontier(
    table: ScoreTable,
    active: float | None = None,
    progress: Progress = lambda *_: None,
    fixed: Mapping[str, str] | None = None,
) -> list[Solution]:
    """The best map at each budget of all parameters kept, those that are the same map only once, from the
    fewest to all that the best map keeps. Raises MappingError where no map fits ``active``."""
    best = solve(table, Budgets(active), fixed=fixed)
    found: list[Solution] = []
    budgets = totals(table, best.total, SWEEP)
    for number, budget in enumerate(budgets):
        progress("solving", number, len(budgets))
        try:
            solution = solve(table, Budgets(active, budget), fixed=fixed)
        except MappingError:
            continue  # what is fixed, or the active budget, wants experts that do not fit together
        if not found or solution.score > found[-1].score:
            found.append(solution)
    progress("solving", len(budgets), len(budgets))
    return found


def totals(table: ScoreTable, most: float, count: int) -> list[float]:
    """Sizes of the sets of experts up to ``most`` billions, ascending, thinned to ``count``. Of many experts
    of unequal sizes not every set's is among them, but ``most`` is."""
    limit = most * (1 + _WITHIN)
    sums = {0.0}
    for size in map(float, table.parameters):
        sums |= {min(round(each + size, 6), most) for each in sums if each + size <= limit}
        if len(sums) > _SUMS:
            sums = {0.0, *_thinned(sorted(sums - {0.0}), _SUMS // 2), most}
    return _thinned(sorted(sums - {0.0}), count)


def _thinned(values: Sequence[float], count: int) -> list[float]:
    places = np.unique(np.linspace(0, len(values) - 1, count).astype(int))
    return [values[place] for place in places]


def free_experts(table: ScoreTable, fixed: Mapping[str, str]) -> NDArray[np.bool_]:
    """[categories, experts] the experts that a category may have: one where it is fixed. Raises
    MappingError."""
    free = np.ones(table.means.shape, dtype=np.bool_)
    for category, expert in fixed.items():
        if category not in table.categories:
            raise MappingError(f"category {category!r} is fixed, and the scores have no such row")
        if expert not in table.experts:
            raise MappingError(
                f"category {category!r} is fixed to {expert!r}; the scores are of {', '.join(table.experts)}"
            )
        free[table.categories.index(category)] = [name == expert for name in table.experts]
    return free


def _cheapest(table: ScoreTable, free: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[categories] the smallest expert, or the one that a category is fixed to."""
    smallest = int(table.parameters.argmin())
    return np.where(free[:, smallest], smallest, free.argmax(axis=1))


def check_fit(table: ScoreTable, budgets: Budgets, free: NDArray[np.bool_]) -> None:
    """One map fits each budget whenever any does: the smallest expert for all that is not fixed, or one that
    is held already."""
    cheapest = _cheapest(table, free)
    held = np.unique(free[free.sum(axis=1) == 1].argmax(axis=1))
    if len(held) == 0:
        held = cheapest[:1]
    needed = {
        "active": (budgets.active, float(table.shares @ table.parameters[cheapest]), np.unique(cheapest)),
        "total": (budgets.total, float(table.parameters[held].sum()), held),
    }
    for name, (budget, size, experts) in needed.items():
        if budget is not None and not budget >= size * (1 - _WITHIN):
            raise MappingError(
                f"no expert fits a budget of {budget:g} B {name} parameters; the smallest feasible one is "
                f"{size:g} B ({', '.join(table.experts[index] for index in experts)})"
            )


def _optimum(
    table: ScoreTable, budgets: Budgets, allowed: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], float]:
    """[categories] the expert of each, and the dual bound of the score."""
    categories, experts = table.means.shape
    ties = np.tile(ranks(table) * _TIE / categories, (categories, 1))
    objective = np.concatenate([(table.shares[:, None] * table.means - ties).ravel(), np.zeros(experts)])
    found = maximise(
        _SCALE * objective,
        np.concatenate([allowed.ravel(), np.ones(experts, dtype=np.bool_)]),
        _constraints(table, budgets),
    )
    chosen = found.values[: categories * experts].reshape(categories, experts).argmax(axis=1)
    # Another map may lose more to ties than the one chosen, and score as much more.
    return chosen, found.bound / _SCALE + float(ties.max(axis=1).sum())


def _constraints(table: ScoreTable, budgets: Budgets) -> list[Rows]:
    """Over x, row by row, and then y."""
    categories, experts = table.means.shape
    each, one = scipy.sparse.identity(categories), np.ones((1, experts))
    no_y = scipy.sparse.csr_array((categories, experts))
    made = [Rows(scipy.sparse.hstack([scipy.sparse.kron(each, one), no_y]), 1.0, 1.0)]
    if budgets.active is not None:
        spent = np.outer(table.shares, table.parameters).ravel() / budgets.active
        row = scipy.sparse.coo_array(np.concatenate([spent, np.zeros(experts)])[None])
        made.append(Rows(row, -np.inf, 1.0))
    if budgets.total is not None:
        held = table.parameters / budgets.total
        row = scipy.sparse.coo_array(np.concatenate([np.zeros(categories * experts), held])[None])
        made.append(Rows(row, -np.inf, 1.0))
        keeps = scipy.sparse.kron(np.ones((categories, 1)), scipy.sparse.identity(experts))
        made.append(
            Rows(scipy.sparse.hstack([scipy.sparse.identity(categories * experts), -keeps]), -np.inf, 0.0)
        )
    return made


def ranks(table: ScoreTable) -> NDArray[np.int64]:
    """[experts], 0 for the cheapest; of those that cost the same, the one named first comes first."""
    found = np.empty(len(table.experts), dtype=np.int64)
    found[np.argsort(table.parameters, kind="stable")] = np.arange(len(table.experts))
    return found


def _better_by(table: ScoreTable, kept: NDArray[np.int64], margin: float) -> NDArray[np.bool_]:
    """[categories, experts] which of ``kept`` no cheaper one left in comes within the margin of."""
    allowed = np.zeros(table.means.shape, dtype=np.bool_)
    place = ranks(table)
    for row, means in zip(allowed, table.means, strict=True):
        for expert in sorted(kept, key=lambda e: (table.parameters[e], -means[e], place[e])):
            row[expert] = not any(
                _near(table, means, int(other), expert, margin) for other in np.flatnonzero(row)
            )
    return allowed


def _near(table: ScoreTable, means: Floats, cheaper: int, dearer: int, margin: float) -> bool:
    """Says whether ``dearer`` is not better by the margin. Of two that cost the same the second never is."""
    same = table.parameters[cheaper] == table.parameters[dearer]
    return bool(same or means[dearer] - means[cheaper] <= margin)
