"""Vector to category probabilities: a multinomial logistic regression with a temperature."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from router.embed import Vectors

Floats = NDArray[np.float64]
Targets = NDArray[np.int64]
"""[n], each an index into the labels."""


@dataclass(frozen=True, slots=True)
class LinearClassifier:
    """Probabilities are softmax((weights @ vector + bias) / temperature).

    A temperature above 1 makes it less sure of itself (Guo et al., 2017, arXiv 1706.04599, section 4.2).
    """

    labels: tuple[str, ...]
    weights: NDArray[np.float32]
    """[labels, dimension]"""
    bias: NDArray[np.float32]
    """[labels]"""
    temperature: float = 1.0

    def probabilities(self, vector: Vectors) -> Floats:
        """[labels] for one vector. One at a time: a matrix product may round differently for other batch
        sizes."""
        logits = (self.weights @ vector + self.bias).astype(np.float64) / self.temperature
        powers = np.exp(logits - logits.max())
        return np.asarray(powers / powers.sum())


def fit_linear(
    vectors: Vectors, targets: Targets, labels: Sequence[str], *, importance: Floats, strength: float = 3.0
) -> LinearClassifier:
    """Minimises importance-weighted log loss + |weights|^2 / (2 strength). Deterministic: starts from
    zero."""
    count, dimension = len(labels), vectors.shape[1]
    inputs = np.hstack([vectors, np.ones((len(vectors), 1), dtype=np.float32)])
    rows = np.arange(len(targets))

    def loss_and_gradient(flat: Floats) -> tuple[float, Floats]:
        parameters = flat.reshape(count, dimension + 1)
        # float32 halves the time of the two products that are nearly all of it; sums stay in float64.
        log_probabilities = _log_softmax((inputs @ parameters.T.astype(np.float32)).astype(np.float64))
        loss = -float(importance @ log_probabilities[rows, targets])
        error = np.exp(log_probabilities)
        error[rows, targets] -= 1
        gradient = ((error * importance[:, None]).T.astype(np.float32) @ inputs).astype(np.float64)
        weights = parameters[:, :-1]
        gradient[:, :-1] += weights / strength
        return loss + float((weights**2).sum()) / (2 * strength), gradient.ravel()

    start = np.zeros(count * (dimension + 1))
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    parameters = found.x.reshape(count, dimension + 1).astype(np.float32)
    return LinearClassifier(tuple(labels), parameters[:, :-1].copy(), parameters[:, -1].copy())


def calibrated(classifier: LinearClassifier, vectors: Vectors, targets: Targets) -> LinearClassifier:
    """The same decisions with the temperature that fits vectors the classifier was not trained on."""
    logits = vectors.astype(np.float64) @ classifier.weights.T + classifier.bias
    rows = np.arange(len(targets))

    def loss(log_temperature: float) -> float:
        return -float(_log_softmax(logits / np.exp(log_temperature))[rows, targets].mean())

    # A small set that is classified without error would ask for a temperature of zero.
    found = minimize_scalar(loss, bounds=(np.log(0.5), np.log(8.0)), method="bounded")
    return replace(classifier, temperature=round(float(np.exp(found.x)), 4))


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
