"""The contestant that is ours: an artifact's categories, with the best map at each of a series of budgets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from benchmarks.routers.contest import Choices, Graded, Pool
from router.arrays import Vectors
from router.errors import MappingError
from router.mapping.milp import frontier
from router.mapping.score_table import ScoreTable
from router.router import Router

SWEEP = 150
"""Budgets, close together where they are small: the first categories that leave the cheapest expert count."""


@dataclass(frozen=True, slots=True, eq=False)
class MappedArtifact:
    """Trained before, so that it is its own chooser. It decides by the served ``Router``."""

    router: Router
    table: ScoreTable
    pool: Pool

    @classmethod
    def of(cls, router: Router, pool: Pool) -> Self:
        """Raises MappingError where the artifact has no scores, or of other experts than the pool's."""
        table = router.artifact.scores
        if table is None:
            raise MappingError(
                "the artifact keeps no scores, so no map can be solved; train it with --experts"
            )
        if set(table.experts) != set(pool.names):
            raise MappingError(
                f"the artifact chooses among {', '.join(sorted(table.experts))}, "
                f"and --experts names {', '.join(sorted(pool.names))}"
            )
        return cls(router, table, pool)

    def fit(self, train: Graded) -> Self:
        return self

    def choices(self, prompts: Sequence[str], vectors: Vectors) -> Choices:
        decisions = [*map(self.router.decide, prompts)]
        index = {name: number for number, name in enumerate(self.pool.names)}
        budgets = np.geomspace(self.table.parameters.min(), self.table.parameters.max(), SWEEP)
        made, artifact = [], self.router.artifact
        for solution in frontier(self.table, budgets.tolist()):
            mapped = self.router.with_artifact(artifact.with_solution(solution)).mapped
            made.append([index[mapped(decision).expert] for decision in decisions])
        return np.array(made, dtype=np.int64)

    def __repr__(self) -> str:
        return f"<MappedArtifact {len(self.table.categories)} categories>"
