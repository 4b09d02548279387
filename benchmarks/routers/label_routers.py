"""The rivals that put a prompt into a group and know how good each expert is in it: clusters, or the labels.

Clusters with a performance-efficiency weight are Avengers and Avengers-Pro (arXiv 2505.19797 and 2508.12631).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from benchmarks.routers.contest import Choices, Graded, by_price
from router.arrays import Floats, Targets, Vectors
from router.classifiers.linear import Linear, Readings, fit_softmax
from router.classifiers.uncertainty import centroids_of
from router.decision import GENERAL

WEIGHTS = np.linspace(0, 1, 101)
"""Weights of performance against efficiency."""
STARTS = 3
"""Runs of k-means; the tightest clusters are kept."""


def group_means(groups: Targets, count: int, scores: Floats, prior: float) -> Floats:
    """[groups, experts], drawn towards the means over all prompts by ``prior`` imagined prompts; those of all
    prompts where a group has none."""
    members = np.bincount(groups, minlength=count).astype(np.float64)
    totals = np.stack([np.bincount(groups, column, minlength=count) for column in scores.T], axis=1)
    empty = members == 0
    imagined = np.where(empty, 1.0, prior)[:, None]
    return np.asarray((totals + imagined * scores.mean(axis=0)) / (members[:, None] + imagined))


def k_means(vectors: Vectors, clusters: int, seed: int) -> Vectors:
    """[clusters, dimension]: the tightest of several starts."""
    one = np.zeros(len(vectors), dtype=np.int64)
    found = [centroids_of(vectors, one, each=clusters, seed=seed + start) for start in range(STARTS)]
    return max(found, key=lambda centroids: float((vectors @ centroids.T).max(axis=1).sum()))


@dataclass(frozen=True, slots=True)
class PricedClusters:
    """k-means, mean scores of each cluster, and a price per parameter."""

    clusters: int = 64
    prior: float = 20.0
    """Imagined prompts that draw a cluster's means towards those of all."""
    seed: int = 0

    def fit(self, train: Graded) -> "Priced":
        centroids = k_means(train.vectors, self.clusters, self.seed)
        groups = (train.vectors @ centroids.T).argmax(axis=1)
        means = group_means(groups, len(centroids), train.scores, self.prior)
        return Priced(centroids, np.zeros(len(centroids), dtype=np.float32), means, train.pool.parameters)


@dataclass(frozen=True, slots=True)
class Labelled:
    """The plain reference: logistic regression from vectors alone to the labels, the means of each, a price
    per parameter."""

    prior: float = 20.0

    def fit(self, train: Graded) -> "Priced":
        named = [example.category or GENERAL for example in train.examples]
        labels = sorted(set(named))
        groups = np.array([labels.index(name) for name in named])
        logits = self._logits(train.vectors, groups, len(labels))
        means = group_means(groups, len(labels), train.scores, self.prior)
        return Priced(logits.weights, logits.bias, means, train.pool.parameters)

    def _logits(self, vectors: Vectors, groups: Targets, labels: int) -> Linear:
        without_grams = Readings(vectors, csr_array((len(vectors), 1), dtype=np.float32))
        return fit_softmax(without_grams, groups, labels, importance=np.ones(len(vectors)))


@dataclass(frozen=True, slots=True, eq=False)
class Priced:
    """The group with the greatest product, and its means."""

    weights: Vectors
    """[groups, dimension]."""
    bias: Vectors
    """[groups]."""
    means: Floats
    """[groups, experts]."""
    parameters: Floats

    def choices(self, prompts: Sequence[str], vectors: Vectors) -> Choices:
        groups = (vectors @ self.weights.T + self.bias).argmax(axis=1)
        return by_price(self.means, self.parameters)[:, groups]


@dataclass(frozen=True, slots=True)
class WeighedClusters:
    """Avengers-Pro: k-means; in each cluster an expert's worth is alpha times its mean score plus 1 - alpha
    times its cheapness, each scaled to 0 to 1 within the cluster, summed over the clusters nearest to the
    prompt."""

    clusters: int = 64
    nearest: int = 4
    seed: int = 0

    def fit(self, train: Graded) -> "Weighed":
        centroids = k_means(train.vectors, self.clusters, self.seed)
        groups = (train.vectors @ centroids.T).argmax(axis=1)
        means = group_means(groups, len(centroids), train.scores, 0.0)
        sizes = train.pool.parameters
        efficiency = (sizes[-1] - sizes) / (sizes[-1] - sizes[0])
        return Weighed(centroids, _scaled(means), efficiency, min(self.nearest, len(centroids)))


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    centroids: Vectors
    performance: Floats
    """[clusters, experts], the worst of a cluster is 0 and its best is 1."""
    efficiency: Floats
    """[experts], the dearest is 0 and the cheapest is 1."""
    nearest: int

    def choices(self, prompts: Sequence[str], vectors: Vectors) -> Choices:
        order = np.argsort(-(vectors @ self.centroids.T), axis=1, kind="stable")[:, : self.nearest]
        performance = self.performance[order].mean(axis=1)
        return np.stack(
            [(a * performance + (1 - a) * self.efficiency).argmax(axis=1) for a in WEIGHTS], dtype=np.int64
        )


def _scaled(means: Floats) -> Floats:
    low, high = means.min(axis=1, keepdims=True), means.max(axis=1, keepdims=True)
    spread = np.where(high > low, high - low, 1.0)
    return np.where(high > low, (means - low) / spread, 1.0)
