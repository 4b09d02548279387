"""A map for a budget, out of the scores that a router's artifact carries."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from router.errors import MappingError
from router.mapping.expert_mapping import ExpertMapping, unknown_category
from router.mapping.milp import Budgets, Solution, frontier, solve
from router.mapping.one_step import Predictions, no_predictions, prices, solve_price
from router.mapping.score_table import ScoreTable
from router.progress import Progress, silent

Steps = Literal["one", "two"]
"""``two``: a prompt has a category, and the map gives it an expert. ``one``: each prompt chooses itself."""


@dataclass(frozen=True, slots=True)
class Solver:
    """``scores``: the artifact's; None: it has none. ``experts``: those that a map may choose. ``total``:
    billions of parameters of all experts of a map, None: any number. ``min_margin``: in points, as in
    ``solve``. ``finer``: finer category to its label. ``fixed``: category to the expert that each map has.
    ``predictions``: of single prompts, which one step is solved from; None: the artifact has none."""

    scores: ScoreTable | None
    experts: Collection[str]
    total: float | None = None
    min_margin: float = 0.0
    finer: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    predictions: Predictions | None = None
    steps: Steps = "two"

    def solve(self, active: float | None) -> Solution:
        """Solves the best map, or the price of one step. ``active``: billions of parameters of the expert
        that answers, on average; None: any number. Takes up to seconds. Raises MappingError where nothing
        fits."""
        table, budgets = self._table(), Budgets(active, self.total)
        rows = fixed_rows(table, self.finer, self.fixed)
        if self.steps == "one":
            return solve_price(table, self._predictions(), self.finer, budgets, rows)
        return solve(table, budgets, self.min_margin, rows)

    def map(self, active: float | None) -> ExpertMapping:
        """Makes the map of what ``solve`` finds."""
        return self.mapping(self.solve(active))

    def mapping(self, solution: Solution) -> ExpertMapping:
        """Makes the map of a solution."""
        table = self._table()
        rows = fixed_rows(table, self.finer, self.fixed)
        return ExpertMapping.solved(
            solution.experts, table.share_of(), self.finer, rows, solution.price, solution.among
        )

    def frontier(self, progress: Progress = silent) -> list[Solution]:
        """Solves the best map at each budget, from the cheapest map to the best. Takes up to seconds. Raises
        MappingError."""
        table = self._table()
        rows = fixed_rows(table, self.finer, self.fixed)
        if self.steps == "one":
            return prices(table, self._predictions(), self.finer, self.total, rows)
        return frontier(table, total=self.total, progress=progress, fixed=rows)

    def _predictions(self) -> Predictions:
        if self.predictions is None:
            raise no_predictions()
        if self.min_margin:
            raise MappingError("a margin between experts goes with two steps; in one step the price is it")
        return self.predictions

    def _table(self) -> ScoreTable:
        if self.scores is None:
            raise MappingError(
                "the router's artifact has no scores to solve a map from; train it with graded prompts: "
                "coe router train --experts"
            )
        return restricted(self.scores, self.experts)


def fixed_rows(table: ScoreTable, finer: Mapping[str, str], fixed: Mapping[str, str]) -> dict[str, str]:
    """Row of ``table`` to its expert: a label in ``fixed`` fixes all its finer categories that are not named
    themselves. Raises MappingError for a category that has no row."""
    found: dict[str, str] = {}
    for category, expert in sorted(fixed.items(), key=lambda item: item[0] in finer):
        rows = [row for row in table.categories if category in (row, finer.get(row))]
        if not rows:
            raise MappingError(unknown_category(category, {*table.categories, *finer.values()}))
        found |= dict.fromkeys(rows, expert)
    return found


def restricted(table: ScoreTable, experts: Collection[str]) -> ScoreTable:
    """Without the experts that are not among ``experts``. Raises MappingError when none is left."""
    kept = [index for index, name in enumerate(table.experts) if name in experts]
    if not kept:
        raise MappingError(
            f"the scores are of {', '.join(table.experts)}, and none of them is configured here"
        )
    return table.of_experts(kept)
