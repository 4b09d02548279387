"""A category of one's own, from a handful of prompts, in a router that is not trained again.

Only what the new category says of a prompt is fitted; what the others say stays as it is. So they give way to
the new one near its examples, and nowhere else: landmarks of what was seen before are the examples against
it. The landmarks are vectors, so the new category is told by its vectors alone.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy

from router.arrays import Floats, Vectors
from router.classifiers.classifier import LinearClassifier
from router.classifiers.lexicon import Reading
from router.classifiers.linear import Linear
from router.classifiers.uncertainty import Added, Uncertainty, distances_to
from router.errors import DatasetError, MappingError
from router.mapping.score_table import EMPTY, ScoreTable
from router.router import Router

FEWEST = 3
"""Examples that can say what they have in common."""
_STRENGTH = 30.0
_ROUNDING = 0.001
"""How far a prompt may be from an example that is the very same, kept in float16."""


def with_category(router: Router, name: str, prompts: Sequence[str], expert: str) -> Router:
    """``prompts``: examples of the category. ``expert``: the one that answers it.

    Every map that is solved later keeps that expert for it. In the score table it gets what all prompts
    score, since nothing was graded there, and the smallest share. Raises DatasetError for too few prompts,
    and MappingError for a name that is taken or empty, for an expert without scores in a router that has
    some, and for a classifier by neighbours: add the prompts to its data and train it again, which is quick.
    """
    artifact, classifier = router.artifact, router.artifact.classifier
    if not isinstance(classifier, LinearClassifier):
        raise MappingError("only a linear classifier takes a category without training; train it again")
    if not name.strip():
        raise MappingError("a category needs a name")
    if name in artifact.mapping.experts:
        raise MappingError(f"the router has a category {name!r} already; choose another name")
    if artifact.scores is not None and expert not in artifact.scores.experts:
        known = ", ".join(artifact.scores.experts)
        raise MappingError(f"the router has no scores of an expert {expert!r}; it has: {known}")
    if len(prompts) < FEWEST:
        raise DatasetError(f"{len(prompts)} prompts say too little of a category; give {FEWEST} or more")
    made_of, uncertainty = _with_label(
        classifier, artifact.uncertainty, name, [router.read(prompt) for prompt in prompts]
    )
    quick = artifact.quick
    if quick is not None:
        readings = [router.read(prompt, router.quick_embedder) for prompt in prompts]
        quickly, doubts = _with_label(quick.classifier, quick.uncertainty, name, readings)
        quick = replace(quick, classifier=quickly, uncertainty=doubts)
    mapping = replace(
        artifact.mapping,
        experts={**artifact.mapping.experts, name: expert},
        fixed=artifact.mapping.fixed | {name},
    )
    made = replace(
        artifact,
        classifier=made_of,
        uncertainty=uncertainty,
        mapping=mapping,
        scores=None if artifact.scores is None else _with_score(artifact.scores, name),
        fixed={**artifact.fixed, name: expert},
        quick=quick,
    )
    return router.with_artifact(made)


def _with_label(
    classifier: LinearClassifier, uncertainty: Uncertainty, name: str, readings: Sequence[Reading]
) -> tuple[LinearClassifier, Uncertainty]:
    """A stage with one more label, told by the vectors of ``readings``."""
    vectors = np.stack([reading.vector for reading in readings])
    before = np.array([classifier.logits.values(reading) for reading in readings])
    logits = _with_row(classifier, uncertainty.seen, vectors, before)
    made = LinearClassifier((*classifier.labels, name), logits, classifier.temperature)
    return made, replace(uncertainty, added=(*uncertainty.added, _added(vectors)))


def _added(vectors: Vectors) -> Added:
    """A prompt may be as far from the examples as they are from each other; a tenth of them, but at least the
    oddest, may be farther."""
    alone = [
        float(distances_to(np.delete(vectors, row, axis=0), vector[None])[0])
        for row, vector in enumerate(vectors)
    ]
    reach = float(np.quantile(alone, 0.9, method="lower"))
    return Added(vectors.astype(np.float16).astype(np.float32), round(max(reach, _ROUNDING), 4))


def _with_row(classifier: LinearClassifier, landmarks: Vectors, vectors: Vectors, before: Floats) -> Linear:
    """The logits with one more output, which wins on ``vectors`` and loses on ``landmarks``."""
    old = classifier.logits
    others = np.concatenate([before, landmarks @ old.weights.T + old.bias]) / classifier.temperature
    level = np.log(np.exp(others - others.max(axis=1, keepdims=True)).sum(axis=1)) + others.max(axis=1)
    inputs = np.concatenate([vectors, landmarks]).astype(np.float64)
    wanted = np.concatenate([np.ones(len(vectors)), np.zeros(len(landmarks))])
    # Few examples must weigh as much as the many landmarks.
    weight = np.where(wanted == 1, len(landmarks) / len(vectors), 1.0)

    def loss_and_gradient(flat: Floats) -> tuple[float, Floats]:
        margin = inputs @ flat[:-1] + flat[-1] - level
        chance = 1 / (1 + np.exp(-np.clip(margin, -50, 50)))
        error = weight * (chance - wanted)
        gradient = np.append(error @ inputs + flat[:-1] / _STRENGTH, error.sum())
        likelihood = weight @ np.where(wanted == 1, np.logaddexp(0, -margin), np.logaddexp(0, margin))
        return float(likelihood + flat[:-1] @ flat[:-1] / (2 * _STRENGTH)), gradient

    found = scipy.optimize.minimize(
        loss_and_gradient, np.zeros(inputs.shape[1] + 1), jac=True, method="L-BFGS-B"
    )
    row = found.x * classifier.temperature
    return Linear(
        np.vstack([old.weights, row[:-1]]).astype(np.float32),
        np.append(old.bias, row[-1]).astype(np.float32),
        np.hstack([old.gram_weights, np.zeros((len(old.gram_weights), 1), dtype=np.float16)]),
    )


def _with_score(table: ScoreTable, name: str) -> ScoreTable:
    overall = table.shares @ table.means
    share = EMPTY / (EMPTY + max(1, int(table.counts.max(axis=1).sum())))
    return ScoreTable(
        (*table.categories, name),
        table.experts,
        table.parameters,
        np.append(table.shares * (1 - share), share),
        np.vstack([table.means, overall]),
        np.vstack([table.errors, np.full(len(table.experts), 0.5)]),
        np.vstack([table.counts, np.zeros(len(table.experts), dtype=np.int64)]),
    )
