"""Whether finer categories than the labels make a better map: by cross-validation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.arrays import Floats
from router.classifiers.crossfit import FOLDS
from router.mapping.clusters import Clusters
from router.mapping.score_table import ScoreTable

SIZE = 25
"""Prompts of a cluster. Maps read at larger ones scored less at large budgets, at smaller ones no more."""
_PRICES = np.concatenate([[0.0], np.geomspace(1e-5, 0.1, 80), [1e6]])
"""Score that a billion active parameters must be worth. The last leaves only the cheapest."""
_STEPS = 20
"""Budgets of a gain."""


@dataclass(frozen=True, slots=True, eq=False)
class Graded:
    """Prompts, with what was said of them by models that had not seen their fold."""

    labels: Sequence[str]
    """[n], as routed: ``general`` where the router doubts."""
    scores: Floats
    """[n, experts], predicted."""
    grades: Floats
    """[n, experts], NaN for not graded."""
    folds: NDArray[np.int64]
    experts: Sequence[str]
    parameters: Floats
    """[experts], in billions."""

    def __getitem__(self, rows: NDArray[np.int64]) -> "Graded":
        return Graded(
            [self.labels[row] for row in rows],
            self.scores[rows],
            self.grades[rows],
            self.folds[rows],
            self.experts,
            self.parameters,
        )


def table_of(graded: Graded, clusters: Clusters | None, labels: Sequence[str]) -> ScoreTable:
    """Rows are the finer categories, and those of ``labels`` that have none."""
    finer = {} if clusters is None else clusters.labels
    rows = graded.labels if clusters is None else clusters.rows(graded.labels, graded.scores)
    return ScoreTable.from_grades(
        rows,
        np.ones(len(rows)),
        graded.grades,
        experts=graded.experts,
        parameters=list(graded.parameters),
        categories=sorted((set(labels) - set(finer.values())) | set(finer)),
        parents=finer,
        expected=graded.scores,
    )


def finer_help(graded: Graded, labels: Sequence[str]) -> bool:
    """Whether choosing by what was predicted of each prompt scores more, over a mixture of single experts at
    the same cost, than choosing by what its label scores: then the map is read at clusters.

    Predictions of two folds know each other's grades, so clusters made of other folds would flatter
    themselves. Within a fold they do not: there one half says what labels score, and the other half measures
    that and its own predictions.
    """
    complete = np.flatnonzero(~np.isnan(graded.grades).any(axis=1))
    over_labels = 0.0
    for fold in range(FOLDS):
        inside = complete[graded.folds[complete] == fold]
        for half, other in ((inside[::2], inside[1::2]), (inside[1::2], inside[::2])):
            if len(inside) >= 4 * FOLDS:
                over_labels += _over_labels(graded[half], graded[other], labels)
    return over_labels > 0


def _over_labels(half: Graded, other: Graded, labels: Sequence[str]) -> float:
    table = table_of(half, None, labels)
    place = {name: index for index, name in enumerate(table.categories)}
    of_label = table.means[[place[label] for label in other.labels]]
    predicted = mean_gain(other.scores, other.grades, other.parameters)
    return predicted - mean_gain(of_label, other.grades, other.parameters)


def mean_gain(expected: Floats, grades: Floats, parameters: Floats) -> float:
    """Score over the best mixture of two single experts at the same cost, on average over budgets, of taking
    the expert that is ``expected`` to score most, [n, experts], under every price of a parameter."""
    rows = np.arange(len(expected))
    active, score = [], []
    for price in _PRICES:
        chosen = (expected - price * parameters).argmax(axis=1)
        active.append(float(parameters[chosen].mean()))
        score.append(float(grades[rows, chosen].mean()))
    order = np.argsort(active, kind="stable")
    budgets = np.linspace(parameters.min(), max(active), _STEPS)
    reached = np.interp(budgets, np.array(active)[order], np.array(score)[order])
    return float((reached - [blind(grades.mean(axis=0), parameters, budget) for budget in budgets]).mean())


def blind(means: Floats, parameters: Floats, budget: float) -> float:
    """Score of the best single expert within ``budget``, or of the best mixture by lot of two that costs
    just that."""
    best = max(means[parameters <= budget * (1 + 1e-9)], default=-np.inf)
    for low in np.flatnonzero(parameters < budget):
        for high in np.flatnonzero(parameters > budget):
            share = (budget - parameters[low]) / (parameters[high] - parameters[low])
            best = max(best, means[low] + share * (means[high] - means[low]))
    return float(best)
