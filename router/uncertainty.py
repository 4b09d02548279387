"""When not to believe the classifier: it is unsure, or the prompt is far from everything it has seen.

Confidence alone is a weak alarm: a softmax extrapolates, and out-of-domain prompts can score higher
confidence than in-domain ones. So the distance to what was seen counts as well.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.embed import Vectors
from router.linear import Targets


@dataclass(frozen=True, slots=True)
class Uncertainty:
    landmarks: NDArray[np.float32]
    """[any number, dimension], of length one: centroids of what was seen, and single prompts of it."""
    min_confidence: float
    max_distance: float
    """Distances are 1 - cosine: 0 is the same direction, 1 unrelated."""

    def distance(self, vector: Vectors) -> float:
        """To the nearest landmark."""
        return 1.0 - float((self.landmarks @ vector).max())

    def doubts(self, confidence: float, vector: Vectors) -> bool:
        return confidence < self.min_confidence or self.distance(vector) > self.max_distance


def centroids_of(vectors: Vectors, targets: Targets, *, each: int, seed: int) -> NDArray[np.float32]:
    """Up to ``each`` centroids for every category that occurs: spherical k-means, ten rounds."""
    random = np.random.default_rng(seed)
    found = [_spherical_k_means(vectors[targets == target], each, random) for target in np.unique(targets)]
    return np.concatenate(found)


def _spherical_k_means(vectors: Vectors, count: int, random: np.random.Generator) -> NDArray[np.float32]:
    centroids = vectors[random.choice(len(vectors), min(count, len(vectors)), replace=False)].copy()
    for _ in range(10):
        nearest = (vectors @ centroids.T).argmax(axis=1)
        for index in np.unique(nearest):
            total = vectors[nearest == index].sum(axis=0)
            centroids[index] = total / np.linalg.norm(total)
    return centroids


def thresholds_from(
    landmarks: NDArray[np.float32],
    distances: NDArray[np.float64],
    confidences: NDArray[np.float64],
    *,
    importance: NDArray[np.float64],
    unsure_share: float,
    far_share: float,
) -> Uncertainty:
    """Thresholds that doubt these shares of prompts that neither a classifier nor landmarks were fitted to,
    each counted by its importance. A confidence above one half is never doubted: that category is likelier
    than all others together.
    """
    return Uncertainty(
        landmarks,
        min_confidence=min(round(_quantile(confidences, importance, unsure_share), 4), 0.5),
        max_distance=round(_quantile(distances, importance, 1.0 - far_share), 4),
    )


def _quantile(values: NDArray[np.float64], importance: NDArray[np.float64], share: float) -> float:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(importance[order]) / importance.sum()
    return float(values[order][np.searchsorted(reached, share)])
