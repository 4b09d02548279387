"""Doubt about the classifier: three signs of it, and how surprising they are together.

Confidence alone is a weak alarm: a softmax extrapolates, and prompts of a kind never seen can score higher
than known ones. So how far a prompt is from what was seen counts as well, and how rare what it is written
with is: a vector knows little of puzzles in code, and their symbols give them away. Each sign says how few of
the known prompts show as much of it; the product of these shares (Fisher, 1932) is what is doubted.
docs/benchmarks/router.md compares it with each sign alone.

A category added later has no prompts of its own among the known ones. What is near its examples is its own
and is believed; all else is judged by what was trained, as before.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from router.arrays import Floats, Targets, Vectors

BITS = np.arange(9)
"""A sign of so many bits is shown, or exceeded, by a share of 2 ** -bits of the known prompts."""
_EVEN_CHOICE = 4
"""Bits, at most, of a prompt that two labels are equally likely for. Where all that is known is easily told
apart, none of it has an entropy to speak of, and the least bit of one would be a surprise."""


@dataclass(frozen=True, slots=True)
class Signs:
    """Three signs of many prompts, [n] each: the greater, the less the prompt is like those seen in
    training."""

    entropies: Floats
    """Entropy of the probabilities, in nats."""
    distances: Floats
    """To the nearest landmark, 1 - cosine: 0 is the same direction, 1 unrelated."""
    oddities: Floats
    """See ``Lexicon.oddity``."""

    @property
    def each(self) -> tuple[Floats, Floats, Floats]:
        return self.entropies, self.distances, self.oddities


@dataclass(frozen=True, slots=True, eq=False)
class Added:
    """A category that was added to a trained router."""

    examples: NDArray[np.float32]
    """[any number, dimension], of length one."""
    reach: float
    """How far from the nearest of them a prompt may be, 1 - cosine."""

    def has(self, vector: Vectors) -> bool:
        return float(distances_to(self.examples, vector[None])[0]) <= self.reach


@dataclass(frozen=True, slots=True, eq=False)
class Uncertainty:
    landmarks: NDArray[np.float32]
    """[any number, dimension], of length one: centroids of what was seen, and single prompts of it."""
    known: Floats
    """[3, bits], ascending: the sign that this many bits stand for."""
    max_surprise: float
    """Bits."""
    added: tuple[Added, ...] = ()
    """The last ones of the classifier's labels."""

    @classmethod
    def of(cls, landmarks: NDArray[np.float32], signs: Signs, *, importance: Floats, doubted: float) -> Self:
        """Doubts this share of prompts that neither a classifier nor landmarks were fitted to, whose signs
        these are, each counted by its importance."""
        known = np.array(
            [[_quantile(sign, importance, 1.0 - 2.0**-bits) for bits in BITS] for sign in signs.each]
        )
        known[0] = np.maximum(known[0], np.log(2) / _EVEN_CHOICE * BITS)
        free = cls(landmarks, known, np.inf)
        limit = _quantile(free.surprises(signs), importance, 1.0 - doubted)
        return cls(landmarks, known, round(limit, 4))

    def surprises(self, signs: Signs) -> Floats:
        """[n], bits."""
        bits = [_bits(sign, known) for sign, known in zip(signs.each, self.known, strict=True)]
        return np.asarray(np.sum(bits, axis=0), dtype=np.float64)

    def doubts(self, probabilities: Floats, vector: Vectors, oddity: float) -> bool:
        """Says whether a prompt is doubted. One of an added category is when it is far from the examples and
        a surprise to what was trained; any other exactly as before categories were added."""
        trained = len(probabilities) - len(self.added)
        place = int(probabilities.argmax()) - trained
        if place >= 0 and self.added[place].has(vector):
            return False
        among = probabilities[:trained] / max(probabilities[:trained].sum(), 1e-300)
        signs = Signs(entropies(among[None]), distances_to(self.landmarks, vector[None]), np.array([oddity]))
        return float(self.surprises(signs)[0]) > self.max_surprise

    def may_doubt(
        self, probabilities: Floats, vectors: Vectors, oddities: Floats, margin: float
    ) -> NDArray[np.bool_]:
        """[n], whether each of several prompts is doubted, or is within ``margin`` bits of it. [n, labels],
        [n, dimension] and [n]. Those likeliest of an added category all may be."""
        trained = probabilities.shape[1] - len(self.added)
        among = probabilities[:, :trained]
        among = among / np.maximum(among.sum(axis=1, keepdims=True), 1e-300)
        signs = Signs(entropies(among), distances_to(self.landmarks, vectors), oddities)
        doubted = self.surprises(signs) > self.max_surprise - margin
        return np.asarray(doubted | (probabilities.argmax(axis=1) >= trained))

    @property
    def seen(self) -> NDArray[np.float32]:
        """[any number, dimension]: the landmarks, and the examples of what was added."""
        return np.concatenate([self.landmarks, *(each.examples for each in self.added)])


def distances_to(landmarks: NDArray[np.float32], vectors: Vectors) -> Floats:
    """[n] from [n, dimension]: 1 - cosine to the nearest landmark."""
    return np.asarray(1.0 - (vectors @ landmarks.T).max(axis=1), dtype=np.float64)


def entropies(probabilities: Floats) -> Floats:
    """[n] from [n, labels], in nats."""
    return np.asarray(-(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=1))


def _bits(sign: Floats, known: Floats) -> Floats:
    """Beyond what was seen they grow as they did on average from the median on."""
    slope = max((known[-1] - known[1]) / (len(known) - 2), 1e-6)
    beyond = np.maximum(sign - known[-1], 0.0) / slope
    return np.asarray(np.interp(sign, known, BITS) + beyond)


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


def _quantile(values: Floats, importance: Floats, share: float) -> float:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(importance[order]) / importance.sum()
    return float(values[order][np.searchsorted(reached, share)])
