"""What each expert is expected to score on a prompt, from all that is read of it.

Least squares on the grades: linear in the prompt's vector and grams, and in its likeness to landmarks, by
which prompts alike in topic share what is known of them (a Gaussian kernel by Nystroem's method: Williams and
Seeger, 2001). Most of a grade is luck: a fiftieth of who does better can be known, so the penalty is strong.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.embed import Vectors
from router.lexicon import Reading
from router.linear import Floats, Linear, Readings, fit_ridge

_STRENGTH = 48.0
_LANDMARKS = 1000
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

    Each expert is fitted on the prompts that it was graded on.
    """
    spread = np.unique(np.linspace(0, len(readings) - 1, _LANDMARKS).astype(int))
    landmarks = readings.vectors[spread].astype(np.float16).astype(np.float32)
    whitening = _whitening(landmarks)
    likeness = _LIKENESS * (_likeness(readings.vectors @ landmarks.T) @ whitening)
    everything = Readings(np.hstack([_VECTOR * readings.vectors, likeness]), readings.grams)
    dimension, experts = readings.vectors.shape[1], len(levels)
    weights = np.empty((experts, everything.vectors.shape[1]), dtype=np.float32)
    gram_weights = np.empty((readings.grams.shape[1], experts), dtype=np.float16)
    graded = ~np.isnan(grades)
    for mask in np.unique(graded, axis=1).T:
        alike = np.flatnonzero((graded == mask[:, None]).all(axis=0))
        rows = np.flatnonzero(mask)
        over_level = grades[np.ix_(rows, alike)] - levels[alike]
        fitted = fit_ridge(everything[rows], over_level, strength=_STRENGTH)
        weights[alike], gram_weights[:, alike] = fitted.weights, fitted.gram_weights
    return ExpectedScores(
        Linear(_VECTOR * weights[:, :dimension], levels.astype(np.float32), gram_weights),
        landmarks,
        _LIKENESS * (weights[:, dimension:] @ whitening.T),
    )


def _likeness(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.exp(np.float32(-2 * _NARROWNESS) * (1 - cosines)))


def _whitening(landmarks: Vectors) -> NDArray[np.float32]:
    """[landmarks, landmarks]: likenesses times this have the kernel's inner products."""
    values, axes = np.linalg.eigh(_likeness(landmarks @ landmarks.T).astype(np.float64))
    return np.asarray(axes / np.sqrt(np.maximum(values, 1e-6)), dtype=np.float32)
