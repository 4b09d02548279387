"""Categories finer than the labels: inside a label, prompts on which the experts are expected to do alike.

Grouping what is alike in topic (k-means over embeddings, as Avengers does, arXiv 2505.19797) says little of
which expert answers best: most of what tells a hard prompt from an easy one of the same topic is how it is
put. So the score of every expert is predicted first, and k-means groups what was predicted. The map is read
at the group, so routing keeps its two steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from router.arrays import Floats
from router.classifiers.lexicon import Reading
from router.mapping.expected_scores import ExpectedScores

EASE = 0.2
"""Weight of the experts' mean beside their differences: which expert answers best depends on these alone."""
_ROUNDS = 25


@dataclass(frozen=True, eq=False)
class Clusters:
    expected: ExpectedScores
    """One output for each expert of the score table."""
    names: tuple[str, ...]
    """Such as ``math/2``: label and number."""
    centroids: NDArray[np.float32]
    """[names, experts + 1]: differences from the experts' mean, and ``EASE`` of it."""

    def of(self, label: str, reading: Reading) -> str:
        """The finer category of a prompt of ``label``; the label itself where it has none."""
        return self.at(label, self.expected.values(reading)) if label in self._places else label

    def at(self, label: str, scores: Floats) -> str:
        """The finer category of a prompt of ``label`` whose expected ``scores``, [experts], are known."""
        return self._nearest(label, points_of(scores[None]))[0] if label in self._places else label

    def rows(self, labels: Sequence[str], scores: Floats) -> list[str]:
        """[n] the finer category of each prompt, from its label and its expected ``scores``, [n, experts]."""
        rows, points = np.array(labels, dtype=object), points_of(scores)
        for label in set(labels) & set(self._places):
            inside = np.flatnonzero(rows == label)
            rows[inside] = self._nearest(label, points[inside])
        return list(rows)

    @cached_property
    def labels(self) -> dict[str, str]:
        """Finer category to its label."""
        return {name: name.rpartition("/")[0] for name in self.names}

    @cached_property
    def _places(self) -> dict[str, NDArray[np.int64]]:
        """Label to the indices of its finer categories."""
        of_each = np.array(list(self.labels.values()), dtype=object)
        return {label: np.flatnonzero(of_each == label) for label in set(of_each)}

    def _nearest(self, label: str, points: Floats) -> list[str]:
        places = self._places[label]
        return [self.names[place] for place in places[nearest(points, self.centroids[places])]]


def cluster(expected: ExpectedScores, labels: Sequence[str], scores: Floats, *, size: int) -> Clusters:
    """``labels``, [n], and ``scores``, [n, experts], of prompts whose expected scores were predicted without
    their grades; ``size`` of them make a cluster. Deterministic."""
    points, of_prompt = points_of(scores), np.array(labels)
    names: list[str] = []
    centroids = []
    for label in sorted(set(labels)):
        inside = points[of_prompt == label]
        count = round(len(inside) / size)
        if count >= 2:
            centroids.append(_k_means(inside, count))
            names += [f"{label}/{number}" for number in range(count)]
    stacked = np.concatenate(centroids) if centroids else np.empty((0, points.shape[1]))
    return Clusters(expected, tuple(names), stacked.astype(np.float32))


def points_of(scores: Floats) -> Floats:
    """[n, experts] to [n, experts + 1], the space that clusters are in."""
    ease = scores.mean(axis=1, keepdims=True)
    return np.hstack([scores - ease, EASE * ease])


def nearest(points: Floats, centroids: NDArray[np.float32] | Floats) -> NDArray[np.int64]:
    """[n] the index of each point's centroid."""
    return np.asarray(((centroids**2).sum(axis=1) - 2 * points @ centroids.T).argmin(axis=1))


def _k_means(points: Floats, count: int) -> Floats:
    """Lloyd's rounds, begun at even steps along the direction in which the points differ most."""
    centred = points - points.mean(axis=0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    order = np.argsort(centred @ direction, kind="stable")
    centroids = points[order[((np.arange(count) + 0.5) / count * len(points)).astype(int)]].copy()
    for _ in range(_ROUNDS):
        owner = nearest(points, centroids)
        for index in np.unique(owner):
            centroids[index] = points[owner == index].mean(axis=0)
    return np.asarray(centroids)
