"""The score that each expert is expected to get on a prompt, from its reading.

Least squares on the grades: linear in the prompt's vector and grams, and in its likeness to landmarks, by
which prompts alike in topic share what is known of them (a Gaussian kernel by Nystroem's method: Williams and
Seeger, 2001). Most of a grade is luck: a fiftieth of the differences between experts can be known, so the
penalty is strong."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.arrays import Floats, Vectors
from router.classifiers.lexicon import Reading
from router.classifiers.linear import Linear, Readings, fit_ridge

_STRENGTH = 48.0
LANDMARKS = 1000
_NARROWNESS = 1.2
"""The likeness of two vectors is exp(-this times the square of their distance)."""
_VECTOR, _LIKENESS = 0.7, 2.5
"""How much a vector and its likeness to landmarks count beside the grams, before the penalty."""


@dataclass(frozen=True, slots=True, eq=False)
class ExpectedScores:
    linear: Linear
    """[experts] outputs."""
    landmarks: Vectors
    """[landmarks, dimension], rounded to float16, so that a file of those gives the same decisions."""
    weights: NDArray[np.float32]
    """[experts, landmarks]"""

    def values(self, reading: Reading) -> Floats:
        """[experts] for one prompt."""
        likeness = _likeness(self.landmarks @ reading.vector)
        return np.asarray(self.linear.values(reading) + self.weights @ likeness, dtype=np.float64)

    def many(self, readings: Readings) -> Floats:
        """[n, experts], the same but for the last bits."""
        likeness = _likeness(readings.vectors @ self.landmarks.T)
        return np.asarray(self.linear.many(readings) + likeness @ self.weights.T, dtype=np.float64)


def fit_expected(readings: Readings, grades: Floats, levels: Floats) -> ExpectedScores:
    """``grades``: [n, experts], NaN for not graded. ``levels``: [experts], what each scores on all prompts;
    nothing else is expected where nothing is known.

    How easy a prompt is, is fitted on all prompts, and what an expert does better than the others on those
    that it was graded on with another. Fitted each by itself, experts graded on different prompts would be
    told apart by the luck of those that the other has not: ease varies far more than advantage.
    """
    spread = np.unique(np.linspace(0, len(readings) - 1, LANDMARKS).astype(int))
    landmarks = readings.vectors[spread].astype(np.float16).astype(np.float32)
    whitening = _whitening(landmarks)
    likeness = _LIKENESS * (_likeness(readings.vectors @ landmarks.T) @ whitening)
    everything = Readings(np.hstack([_VECTOR * readings.vectors, likeness]), readings.grams)
    dimension = readings.vectors.shape[1]
    targets = _ease_and_advantages(grades - levels)
    weights = np.zeros((targets.shape[1], everything.vectors.shape[1]), dtype=np.float32)
    gram_weights = np.zeros((readings.grams.shape[1], targets.shape[1]), dtype=np.float32)
    known = ~np.isnan(targets)
    for mask in np.unique(known[:, known.any(axis=0)], axis=1).T:
        alike = np.flatnonzero((known == mask[:, None]).all(axis=0))
        rows = np.flatnonzero(mask)
        fitted = fit_ridge(everything[rows], targets[np.ix_(rows, alike)], strength=_STRENGTH)
        weights[alike], gram_weights[:, alike] = fitted.weights, fitted.gram_weights
    weights, gram_weights = weights[1:] + weights[:1], gram_weights[:, 1:] + gram_weights[:, :1]
    return ExpectedScores(
        Linear(_VECTOR * weights[:, :dimension], levels.astype(np.float32), gram_weights.astype(np.float16)),
        landmarks,
        _LIKENESS * (weights[:, dimension:] @ whitening.T),
    )


def _ease_and_advantages(over_levels: Floats) -> Floats:
    """[n, 1 + experts]: the mean of a prompt's grades over their levels, and each one over that mean. An
    expert that was graded alone has no advantage to tell."""
    graded = ~np.isnan(over_levels)
    count = graded.sum(axis=1)
    ease = np.where(count > 0, np.nansum(over_levels, axis=1) / np.maximum(count, 1), np.nan)
    advantages = np.where((graded & (count > 1)[:, None]), over_levels - ease[:, None], np.nan)
    return np.column_stack([ease, advantages])


def _likeness(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.exp(np.float32(-2 * _NARROWNESS) * (1 - cosines)))


def _whitening(landmarks: Vectors) -> NDArray[np.float32]:
    """[landmarks, landmarks]: likenesses times this have the kernel's inner products."""
    values, axes = np.linalg.eigh(_likeness(landmarks @ landmarks.T).astype(np.float64))
    return np.asarray(axes / np.sqrt(np.maximum(values, 1e-6)), dtype=np.float32)
