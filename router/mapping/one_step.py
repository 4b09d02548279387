"""One step in the place of two: each prompt goes to the expert that is expected to score best on it, less a
price for its size.

What is expected is told by the prompt's own text (``router.mapping.expected_scores``), and not by the mean of
its row of the map. The price is the lowest that keeps a budget on average over the training's prompts, each
of them expected by a predictor that had not seen it. It is the price of the budget in the linear program
whose rows are single prompts, so no choice within the budget is expected to score more than its bound says.

The category is told as before. In ``general``, where a prompt goes that the router does not trust, the row's
means are expected; so they are of an expert that came after the predictor. A row that is fixed keeps its
expert.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from router.arrays import Floats
from router.decision import GENERAL
from router.errors import MappingError
from router.mapping.expert_mapping import ExpertMapping
from router.mapping.milp import SWEEP, Budgets, Solution, check_fit, free_experts, ranks, solve
from router.mapping.score_table import ScoreTable

_ROUNDS = 60
"""Halvings in search of a price."""


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Holds the scores expected on the training's graded prompts, by predictors that had not seen them."""

    experts: tuple[str, ...]
    """Names, in the order of the predictor's outputs; an empty one where the expert is gone."""
    scores: NDArray[np.float16]
    """[prompts, experts]"""
    rows: NDArray[np.int32]
    """[prompts], their places in the score table."""

    def renamed(self, names: Mapping[str, str]) -> "Predictions":
        """Returns them with experts called otherwise."""
        return replace(self, experts=tuple(names.get(name, name) for name in self.experts))


def expected_at(
    table: ScoreTable, row: str, said: Mapping[str, float], finer: Mapping[str, str]
) -> dict[str, float]:
    """Returns the score that each expert of the table is expected to get on a prompt at ``row``; none where
    the table has no such row. ``said``: by the prompt's own text, as far as it tells. ``finer``: finer
    category to its label."""
    if row not in table.categories:
        return {}
    means = dict(zip(table.experts, map(float, table.means[table.categories.index(row)]), strict=True))
    if finer.get(row, row) == GENERAL:
        return means
    return {name: said.get(name, mean) for name, mean in means.items()}


def best_at(
    mapping: ExpertMapping,
    table: ScoreTable,
    row: str,
    said: Mapping[str, float],
    eligible: Collection[str] | None,
) -> str | None:
    """Returns the eligible expert that is expected to score best less the price; that of the map where the
    row is fixed and it is eligible. None: there is none, or the table has no such row. Equal ones: the
    cheapest, then the one named first."""
    assert mapping.price is not None
    fixed = not mapping.fixed.isdisjoint({row, mapping.finer.get(row, row)})
    if fixed and (eligible is None or mapping[row] in eligible):
        return mapping[row]
    expected = expected_at(table, row, said, mapping.finer)
    size = dict(zip(table.experts, map(float, table.parameters), strict=True))
    able = [name for name in mapping.among if name in expected and (eligible is None or name in eligible)]
    able.sort(key=size.__getitem__)
    return max(able, key=lambda name: expected[name] - (mapping.price or 0.0) * size[name], default=None)


def solve_price(
    table: ScoreTable,
    predictions: Predictions,
    finer: Mapping[str, str],
    budgets: Budgets,
    fixed: Mapping[str, str] | None = None,
) -> Solution:
    """The lowest price that keeps the budget of active parameters; without one there is no price. Within a
    budget of all parameters are the experts of the best map of two steps, and those that fit beside them, the
    best first.

    ``fixed``: row of the table to the expert that it must have. Raises MappingError where nothing fits.
    """
    fixed = fixed or {}
    kept = table.experts
    if budgets.total is not None:
        kept = _fitting(table, solve(table, budgets, fixed=fixed), budgets.total)
    return _Market.of(table, predictions, finer, fixed, kept).solution(budgets.active)


def _fitting(table: ScoreTable, best: Solution, total: float) -> tuple[str, ...]:
    kept, left = [*best.kept], total - best.total
    for place in np.argsort(-(table.shares @ table.means), kind="stable"):
        name, size = table.experts[place], float(table.parameters[place])
        if name not in kept and size <= left * (1 + 1e-9):
            kept.append(name)
            left -= size
    return tuple(kept)


def priced(table: ScoreTable, predictions: Predictions, mapping: ExpertMapping) -> Solution:
    """Says what the choice at a mapping's price is worth, and costs."""
    assert mapping.price is not None
    fixed = {row: mapping[row] for row in mapping.fixed if row in table.categories}
    return _Market.of(table, predictions, mapping.finer, fixed, mapping.among).at(mapping.price)


def prices(
    table: ScoreTable,
    predictions: Predictions,
    finer: Mapping[str, str],
    total: float | None = None,
    fixed: Mapping[str, str] | None = None,
) -> list[Solution]:
    """The solution at each budget of active parameters, in even steps from the cheapest choice to the best,
    ascending, those that are the same only once. Raises MappingError where nothing fits."""
    best = solve_price(table, predictions, finer, Budgets(total=total), fixed)
    market = _Market.of(table, predictions, finer, fixed or {}, best.among)
    found: list[Solution] = []
    for budget in np.linspace(market.least, best.active, SWEEP):
        solution = best if budget >= best.active else market.solution(float(budget))
        if not found or solution.active > found[-1].active:
            found.append(solution)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Market:
    """Prompts with what is expected of each, and what experts cost."""

    table: ScoreTable
    finer: Mapping[str, str]
    expected: Floats
    """[prompts, experts], minus infinity for an expert that a prompt may not have; cheapest first."""
    weights: Floats
    """[prompts], adding up to 1: a row's share in equal parts."""
    order: NDArray[np.int64]
    """[experts], their places in the table."""
    free: NDArray[np.bool_]
    """[rows, experts of the table]"""

    @classmethod
    def of(
        cls,
        table: ScoreTable,
        predictions: Predictions,
        finer: Mapping[str, str],
        fixed: Mapping[str, str],
        kept: Collection[str],
    ) -> "_Market":
        free = free_experts(table, fixed)
        free &= np.array([name in kept for name in table.experts]) | (free.sum(axis=1) == 1)[:, None]
        # A row without a graded prompt may come up: it counts as one that has its means.
        empty = np.setdiff1d(np.arange(len(table.categories)), predictions.rows)
        rows = np.concatenate([predictions.rows, empty])
        expected = table.means[rows].copy()
        trusted = np.array([finer.get(row, row) != GENERAL for row in table.categories])[predictions.rows]
        for place, name in enumerate(predictions.experts):
            if name in table.experts:
                told = np.flatnonzero(trusted)
                expected[told, table.experts.index(name)] = predictions.scores[told, place]
        expected[~free[rows]] = -np.inf
        order = np.argsort(ranks(table))
        counts = np.bincount(rows, minlength=len(table.categories))
        return cls(table, finer, expected[:, order], (table.shares / counts)[rows], order, free)

    @property
    def sizes(self) -> Floats:
        """[experts], ascending."""
        return self.table.parameters[self.order]

    @property
    def least(self) -> float:
        """Active parameters of the cheapest choice."""
        return self._active(np.isfinite(self.expected).argmax(axis=1))

    def solution(self, budget: float | None) -> Solution:
        """Raises MappingError where nothing fits."""
        check_fit(self.table, Budgets(budget), self.free)
        return self.at(0.0 if budget is None else self._price(budget), budget)

    def at(self, price: float, budget: float | None = None) -> Solution:
        """``budget``: that the price was found for; None: what it costs."""
        chosen = self._chosen(price)
        active = self._active(chosen)
        score = float(self.weights @ self.expected[np.arange(len(chosen)), chosen])
        of_row = np.where(self.free, self.table.means - price * self.table.parameters, -np.inf)
        best = self.order[of_row[:, self.order].argmax(axis=1)]
        worth = float(self.weights @ (self.expected - price * self.sizes).max(axis=1))
        among = sorted({*np.unique(self.order[chosen]), *np.unique(best)})
        return Solution(
            experts={
                row: self.table.experts[place] for row, place in zip(self.table.categories, best, strict=True)
            },
            score=score,
            standard_error=self.table.error_of(best),
            bound=max(score, worth + price * (active if budget is None else budget)),
            active=active,
            total=float(self.table.parameters[among].sum()),
            price=price,
            among=tuple(self.table.experts[place] for place in among),
        )

    def _price(self, budget: float) -> float:
        """The lowest price that keeps the budget. At the highest one looked at, a difference in size is worth
        more than any in score."""
        if self._active(self._chosen(0.0)) <= budget:
            return 0.0
        steps = np.diff(np.unique(self.sizes))
        low, high = 0.0, 4.0 / float(steps.min(initial=np.inf)) if len(steps) else 0.0
        for _ in range(_ROUNDS):
            price = (low + high) / 2
            low, high = (price, high) if self._active(self._chosen(price)) > budget else (low, price)
        return high

    def _chosen(self, price: float) -> NDArray[np.int64]:
        """[prompts], places in ``order``."""
        return np.asarray((self.expected - price * self.sizes).argmax(axis=1))

    def _active(self, chosen: NDArray[np.int64]) -> float:
        return float(self.weights @ self.sizes[chosen])


def no_predictions() -> MappingError:
    """Words the error of one step where nothing is predicted of single prompts."""
    return MappingError(
        "the router cannot choose in one step: it keeps no scores expected of single prompts. Train it again "
        "on graded prompts; where it makes no finer categories of them, two steps are all there is"
    )
