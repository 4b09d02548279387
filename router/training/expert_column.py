"""An expert more or less in a trained router: a column of its score table, from grades alone.

Categories, finer ones too, stay as they were trained. What the new expert scores in a row is the row's ease
and its advantage there: over all graded prompts, drawn from there to what they say of each label, and from
the label to each row, by as many imagined prompts as in training. A prompt's own ease is what known experts
scored on it beside what they score in its row; where none was graded there, it is the row's.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from router.arrays import Floats
from router.artifacts.artifact import Artifact
from router.data.dataset import Example
from router.errors import DatasetError, MappingError
from router.mapping.score_table import FINER_PRIOR, PRIOR, ScoreTable, errors_of
from router.progress import Progress, silent
from router.router import Router

FEWEST = 10
"""Graded prompts that can say how good an expert is."""


def with_expert(
    router: Router, name: str, parameters: float, graded: Sequence[Example], progress: Progress = silent
) -> Artifact:
    """Adds an expert to the score table. The map stays as it is: solve it again for the expert to answer.

    ``parameters``: in billions. ``graded``: prompts with scores of the expert, and as well of those that the
    table has where it can be: then it is compared on the same prompts. Raises MappingError for a router
    without scores and for a name that is taken, DatasetError for too few prompts.
    """
    artifact = router.artifact
    table = _scored(artifact)
    if name in table.experts:
        raise MappingError(f"the router has scores of {name!r} already; replace it, or choose another name")
    mine = [example for example in graded if name in example.scores]
    if len(mine) < FEWEST:
        raise DatasetError(
            f"{len(mine)} prompts have a score of {name!r}; give {FEWEST} or more, of every category it may "
            "get"
        )
    rows = _rows(router, table, mine, progress)
    advantages = np.array(
        [example.scores[name] - ease for example, ease in zip(mine, _eases(table, rows, mine), strict=True)]
    )
    column, counts = _column(table, artifact, rows, advantages)
    return replace(artifact, scores=_appended(table, name, parameters, column, counts))


def without_expert(artifact: Artifact, name: str) -> Artifact:
    """Takes an expert out of the score table; its rows of the map go to the best of those that are left, and
    what was fixed to it is free. Raises MappingError for an expert that is not in the scores, or alone
    there."""
    table = _scored(artifact)
    if name not in table.experts:
        raise MappingError(f"the router has no scores of {name!r}; it has: {', '.join(table.experts)}")
    if len(table.experts) == 1:
        raise MappingError(f"{name!r} is the only expert of the router")
    kept = [index for index, each in enumerate(table.experts) if each != name]
    left = table.of_experts(kept)
    best = {
        row: left.experts[int(means.argmax())] for row, means in zip(left.categories, left.means, strict=True)
    }
    overall = left.experts[int((left.shares @ left.means).argmax())]
    experts = {
        row: expert if expert != name else best.get(row, overall)
        for row, expert in artifact.mapping.experts.items()
    }
    fixed = {row: expert for row, expert in artifact.fixed.items() if expert != name}
    held = frozenset(row for row in artifact.mapping.fixed if artifact.mapping.experts[row] != name)
    among = tuple(each for each in artifact.mapping.among if each != name)
    predictions = artifact.predictions
    return replace(
        artifact,
        scores=left,
        fixed=fixed,
        mapping=replace(artifact.mapping, experts=experts, fixed=held, among=among),
        predictions=None if predictions is None else predictions.renamed({name: ""}),
    )


def _scored(artifact: Artifact) -> ScoreTable:
    if artifact.scores is None:
        raise MappingError("the router has no scores to compare experts by; train it with --experts")
    return artifact.scores


def _rows(
    router: Router, table: ScoreTable, graded: Sequence[Example], progress: Progress
) -> NDArray[np.int64]:
    """[n], the row of the table that each prompt is routed by."""
    place = {row: index for index, row in enumerate(table.categories)}
    found = []
    for number, example in enumerate(graded, 1):
        found.append(place[router.decide(example.prompt).cluster])
        progress("deciding", number, len(graded))
    return np.array(found, dtype=np.int64)


def _eases(table: ScoreTable, rows: NDArray[np.int64], graded: Sequence[Example]) -> Floats:
    """[n], what the average expert of the table is taken to score on each prompt."""
    eases = table.means.mean(axis=1)
    found = []
    for row, example in zip(rows, graded, strict=True):
        over = [
            example.scores[expert] - table.means[row, column]
            for column, expert in enumerate(table.experts)
            if expert in example.scores
        ]
        found.append(eases[row] + (sum(over) / len(over) if over else 0.0))
    return np.array(found)


def _column(
    table: ScoreTable, artifact: Artifact, rows: NDArray[np.int64], advantages: Floats
) -> tuple[Floats, NDArray[np.int64]]:
    """[rows] of the expert's means and of its graded prompts."""
    labels = np.array([artifact.finer.get(row, row) for row in table.categories])
    overall = float(advantages.mean())
    counts = np.bincount(rows, minlength=len(labels))
    sums = np.bincount(rows, advantages, minlength=len(labels))
    column = np.empty(len(labels))
    for label in np.unique(labels):
        inside = labels == label
        of_label = (sums[inside].sum() + PRIOR * overall) / (counts[inside].sum() + PRIOR)
        finer = np.array([row in artifact.finer for row in table.categories])[inside]
        shrunk = (sums[inside] + FINER_PRIOR * of_label) / (counts[inside] + FINER_PRIOR)
        column[inside] = np.where(finer, shrunk, of_label)
    return np.clip(table.means.mean(axis=1) + column, 0, 1), counts


def _appended(
    table: ScoreTable, name: str, parameters: float, column: Floats, counts: NDArray[np.int64]
) -> ScoreTable:
    return ScoreTable(
        table.categories,
        (*table.experts, name),
        np.append(table.parameters, parameters),
        table.shares,
        np.column_stack([table.means, column]),
        np.column_stack([table.errors, errors_of(column, counts.astype(np.float64))]),
        np.column_stack([table.counts, counts]),
    )
