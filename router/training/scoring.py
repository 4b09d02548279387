"""The scores of a router's experts: predicted of each prompt, and from there the clusters and the table."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.arrays import Floats
from router.classifiers.crossfit import FOLDS, Corpus, apart
from router.classifiers.linear import Readings
from router.decision import GENERAL
from router.errors import DatasetError, MappingError
from router.mapping.clusters import Clusters, cluster
from router.mapping.expected_scores import ExpectedScores, fit_expected
from router.mapping.finer import SIZE, Graded, finer_help, table_of
from router.mapping.one_step import Predictions
from router.mapping.score_table import ScoreTable
from router.progress import Progress


class Scores(NamedTuple):
    """``clusters`` and ``predictions``: None where finer categories do not help."""

    table: ScoreTable
    clusters: Clusters | None
    predictions: Predictions | None


class Predicted(NamedTuple):
    """Prompts with what is predicted of each without its fold, and the predictor fitted to all of them."""

    graded: Graded
    expected: ExpectedScores


def scored(
    corpus: Corpus,
    routed: Sequence[str],
    experts: Mapping[str, float],
    labels: Sequence[str],
    progress: Progress,
    *,
    finer: bool,
) -> Scores:
    """``routed``: [n], the label of each prompt, ``general`` where it is doubted. Raises DatasetError,
    MappingError."""
    some: NDArray[np.bool_] = np.any(~np.isnan(corpus.grades), axis=1)
    if not some.any():
        raise MappingError(f"no prompt has a score of {', '.join(experts)}; fill them in: coe router judge")
    check_parted(corpus.folds[some], "graded")
    given = [label for label, graded in zip(routed, some, strict=True) if graded]
    return scores_of(predicted(corpus[some], given, experts, progress), labels, finer=finer)


def check_parted(folds: NDArray[np.int64], which: str) -> None:
    """Raises DatasetError where all prompts are in one fold."""
    if (folds == folds[0]).all():
        raise DatasetError(f"the {which} prompts are too few, or all near twins; give some that differ")


def predicted(
    corpus: Corpus, routed: Sequence[str], experts: Mapping[str, float], progress: Progress
) -> Predicted:
    """Predicts the scores of prompts that each have a grade."""
    names, parameters = list(experts), np.array(list(experts.values()), dtype=np.float64)
    progress("predicting scores", 0, FOLDS + 1)
    levels = _levels(corpus.grades, names, parameters)
    done = iter(range(1, FOLDS + 2))

    def without(others: Corpus, readings: Readings) -> Floats:
        progress("predicting scores", next(done), FOLDS + 1)
        return fit_expected(others.readings, others.grades, levels).many(readings)

    graded = Graded(routed, apart(corpus, without), corpus.grades, corpus.folds, names, parameters)
    expected = fit_expected(corpus.readings, corpus.grades, levels)
    progress("predicting scores", FOLDS + 1, FOLDS + 1)
    return Predicted(graded, expected)


def scores_of(made: Predicted, labels: Sequence[str], *, finer: bool) -> Scores:
    """Raises DatasetError for a label that is named like a cluster."""
    graded, clusters = made.graded, None
    if finer and finer_help(graded, labels):
        clusters = cluster(made.expected, graded.labels, graded.scores, size=SIZE)
    if clusters is None:
        return Scores(table_of(graded, None, labels), None, None)
    if set(clusters.names) & set(labels):
        raise DatasetError(f"category {(set(clusters.names) & set(labels)).pop()!r} is named like a cluster")
    table = table_of(graded, clusters, labels)
    place = {row: index for index, row in enumerate(table.categories)}
    rows = [place[row] for row in clusters.rows(graded.labels, graded.scores)]
    return Scores(
        table,
        clusters,
        Predictions(tuple(graded.experts), graded.scores.astype(np.float16), np.array(rows, dtype=np.int32)),
    )


def _levels(grades: Floats, experts: Sequence[str], parameters: Floats) -> Floats:
    """[experts], the score of each on all prompts."""
    whole = ScoreTable.from_grades(
        [GENERAL] * len(grades),
        np.ones(len(grades)),
        grades,
        experts=experts,
        parameters=list(parameters),
        categories=[GENERAL],
        parents={},
    )
    return np.asarray(whole.means[0])
