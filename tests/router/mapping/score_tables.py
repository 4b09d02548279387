"""A score table for the embedded router: a large expert is better at maths and law, a small one cheap."""

from collections.abc import Sequence

import numpy as np

from router.mapping.score_table import ScoreTable


def table(categories: Sequence[str], experts: Sequence[str] = ("general", "math", "law")) -> ScoreTable:
    """The first expert has 1 B parameters and scores 0.5 everywhere. Each other one has 10 B more than the
    one before, and scores 0.9 in the category of its name and 0.4 elsewhere."""
    means = np.full((len(categories), len(experts)), 0.4)
    means[:, 0] = 0.5
    for column, name in enumerate(experts[1:], 1):
        means[[row for row, category in enumerate(categories) if category.split("/")[0] == name], column] = (
            0.9
        )
    return ScoreTable(
        tuple(categories),
        tuple(experts),
        parameters=np.linspace(1.0, 1.0 + 10.0 * (len(experts) - 1), len(experts)),
        shares=np.full(len(categories), 1 / len(categories)),
        means=means,
        errors=np.full(means.shape, 0.01),
        counts=np.full(means.shape, 100),
    )
