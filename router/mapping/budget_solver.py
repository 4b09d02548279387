"""A map for a budget, out of the scores that a router's artifact carries."""

from collections.abc import Collection
from dataclasses import dataclass

from router.errors import MappingError
from router.mapping.expert_mapping import ExpertMapping
from router.mapping.milp import Budgets, solve
from router.mapping.score_table import ScoreTable


@dataclass(frozen=True, slots=True)
class Solver:
    """``scores``: the artifact's; None: it has none. ``experts``: those that a map may choose. ``total``:
    billions of parameters of all experts of a map, None: any number. ``min_margin``: in points, as in
    ``solve``."""

    scores: ScoreTable | None
    experts: Collection[str]
    total: float | None = None
    min_margin: float = 0.0

    def map(self, active: float | None) -> ExpertMapping:
        """The best one. ``active``: billions of parameters of the expert that answers, on average; None: any
        number. Takes up to seconds. Raises MappingError where there is none."""
        if self.scores is None:
            raise MappingError(
                "the router's artifact has no scores to solve a map from; train it with graded prompts: "
                "coe router train --experts"
            )
        table = restricted(self.scores, self.experts)
        solution = solve(table, Budgets(active, self.total), self.min_margin)
        return ExpertMapping.solved(solution.experts, table.share_of())


def restricted(table: ScoreTable, experts: Collection[str]) -> ScoreTable:
    """Without the experts that are not among ``experts``. Raises MappingError when none is left."""
    kept = [index for index, name in enumerate(table.experts) if name in experts]
    if not kept:
        raise MappingError(
            f"the scores are of {', '.join(table.experts)}, and none of them is configured here"
        )
    return ScoreTable(
        table.categories,
        tuple(table.experts[index] for index in kept),
        table.parameters[kept],
        table.shares,
        table.means[:, kept],
        table.errors[:, kept],
        table.counts[:, kept],
    )
