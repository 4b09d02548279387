"""Vector to category probabilities by its nearest neighbours, and labels for prompts that have none.

The authors' way (Composition of Experts, arXiv 2408.08808): a labelled seed, whose labels spread to the
unlabelled prompts near it, and for a new prompt the votes of the nearest of them all. Prompts that stay
doubtful stay unlabelled.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.arrays import Floats, Targets, Vectors
from router.classifiers.lexicon import Reading
from router.classifiers.linear import Readings

Distributions = NDArray[np.float32]
"""[n, labels], each row sums to one, or to zero where nothing is known."""

_SHARPNESS = 7
"""A neighbour's vote counts its similarity to this power. With MiniLM on the routing data 1 lost a point of
accuracy, and so did 20."""
_EVERY_LABEL = 0.06
"""Share of the votes that goes to all labels alike: neighbours that agree do not make certain. With 0.02 the
calibrated probabilities were off by 2.0 instead of 1.3 points."""
_BLOCK = 512
"""Vectors compared at once with all others."""


@dataclass(frozen=True, slots=True)
class NeighbourClassifier:
    """Probabilities are the votes of the ``k`` nearest, to the power of 1 / temperature and then made to sum
    to one."""

    labels: tuple[str, ...]
    vectors: Vectors
    """[n, dimension], rounded to float16, so that a file of those gives the same decisions. Kept in float32,
    because products of float16 took five times as long."""
    distributions: Distributions
    """Rounded likewise. No row is zero."""
    k: int
    temperature: float = 1.0

    def probabilities(self, reading: Reading) -> Floats:
        """[labels] for one prompt, of which only the vector is read."""
        votes = _votes((self.vectors @ reading.vector)[None], self.distributions, self.k)[0]
        powers = votes ** (1 / self.temperature)
        return np.asarray(powers / powers.sum())

    def logits_of(self, readings: Readings) -> Floats:
        """[n, labels], the logarithms of the votes."""
        blocks = [
            _votes(readings.vectors[start : start + _BLOCK] @ self.vectors.T, self.distributions, self.k)
            for start in range(0, len(readings), _BLOCK)
        ]
        return np.asarray(np.log(np.concatenate(blocks)))


def fit_neighbours(
    vectors: Vectors, distributions: Distributions, labels: Sequence[str], *, k: int = 15
) -> NeighbourClassifier:
    """Keeps the vectors whose label is known, or partly known."""
    known = distributions.any(axis=1)
    return NeighbourClassifier(tuple(labels), _rounded(vectors[known]), _rounded(distributions[known]), k)


def certain(targets: Targets, labels: int) -> Distributions:
    """Distributions of known labels."""
    return np.eye(labels, dtype=np.float32)[targets]


def propagate(
    seed: Vectors,
    targets: Targets,
    unlabelled: Vectors,
    *,
    labels: int,
    k: int = 15,
    rounds: int = 5,
    min_agreement: float = 0.5,
) -> Distributions:
    """Spreads the seed's labels to the unlabelled vectors; a row is zero where its label stays doubtful.

    In each round the ``k`` nearest of the seed, and of the vectors that earlier rounds decided, vote on the
    others. A vector is decided when one label gets ``min_agreement`` of the votes, which it hands on as they
    are. Ends early when a round decides nothing.
    """
    given = certain(targets, labels)
    found = np.zeros((len(unlabelled), labels), dtype=np.float32)
    for _ in range(rounds):
        decided = found.any(axis=1)
        holders = np.vstack([seed, unlabelled[decided]])
        held = np.vstack([given, found[decided]])
        before = decided.sum()
        waiting = np.flatnonzero(~decided)
        for start in range(0, len(waiting), _BLOCK):
            block = waiting[start : start + _BLOCK]
            votes = _votes(unlabelled[block] @ holders.T, held, k)
            agreed = votes.max(axis=1) >= min_agreement
            found[block[agreed]] = votes[agreed]
        if found.any(axis=1).sum() == before:
            break
    return found


def _votes(similarities: Vectors, distributions: Distributions, k: int) -> Floats:
    """[m, labels] from [m, n] similarities; each row sums to one and has no zero."""
    k = min(k, similarities.shape[1])
    nearest = np.argpartition(-similarities, k - 1, axis=1)[:, :k]
    weights = np.take_along_axis(similarities, nearest, axis=1).astype(np.float64)
    weights = np.maximum(weights, 0.01) ** _SHARPNESS
    weights /= weights.sum(axis=1, keepdims=True)
    votes = np.einsum("mk,mkl->ml", weights, distributions[nearest])
    return np.asarray((1 - _EVERY_LABEL) * votes + _EVERY_LABEL / distributions.shape[1])


def _rounded(numbers: Vectors) -> Vectors:
    return numbers.astype(np.float16).astype(np.float32)
