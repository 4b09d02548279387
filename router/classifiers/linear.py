"""Linear functions of what is read of a prompt: of its vector and of its grams. How they are fitted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from router.arrays import Floats, Targets, Vectors
from router.classifiers.lexicon import Lexicon, Reading


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """Many prompts, a row each."""

    vectors: Vectors
    """[n, dimension]"""
    grams: "scipy.sparse.csr_array"
    """[n, buckets]"""
    lexicon: Lexicon | None = None
    """The one that weighs the grams; None: they are never weighed anew."""

    def __getitem__(self, rows: NDArray[Any]) -> "Readings":
        return Readings(self.vectors[rows], self.grams[rows], self.lexicon)

    def __add__(self, other: "Readings") -> "Readings":
        """``other``: weighed by the same lexicon."""
        grams = scipy.sparse.vstack([self.grams, other.grams], format="csr")
        return Readings(np.vstack([self.vectors, other.vectors]), grams, self.lexicon)

    def weighed_by(self, lexicon: Lexicon | None) -> "Readings":
        """The same prompts with grams as ``lexicon`` weighs them."""
        if lexicon is None or self.lexicon is None or lexicon is self.lexicon:
            return self
        return Readings(self.vectors, lexicon.reweighed(self.grams, self.lexicon), lexicon)

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """``outputs`` numbers for a prompt: weights @ vector + gram_weights @ grams + bias."""

    weights: NDArray[np.float32]
    """[outputs, dimension]"""
    bias: NDArray[np.float32]
    """[outputs]"""
    gram_weights: NDArray[np.float16]
    """[buckets, outputs]: a prompt's buckets are rows, and rows are what is read fast."""

    def values(self, reading: Reading) -> Floats:
        """[outputs] for one prompt. One at a time: a matrix product may round differently for other batch
        sizes."""
        from_grams = reading.grams.weights @ self.gram_weights[reading.grams.buckets].astype(np.float32)
        return np.asarray(self.weights @ reading.vector + from_grams + self.bias, dtype=np.float64)

    def several(self, readings: Sequence[Reading]) -> Floats:
        """[n, outputs], the same but for the last bits; for as many as are decided at once."""
        buckets = np.concatenate([reading.grams.buckets for reading in readings])
        weights = np.concatenate([reading.grams.weights for reading in readings])
        starts = np.cumsum([0, *(len(reading.grams.buckets) for reading in readings[:-1])])
        from_grams = np.add.reduceat(weights[:, None] * self.gram_weights[buckets].astype(np.float32), starts)
        vectors = np.stack([reading.vector for reading in readings])
        return np.asarray(vectors @ self.weights.T + from_grams + self.bias, dtype=np.float64)

    def many(self, readings: Readings) -> Floats:
        """[n, outputs], the same but for the last bits."""
        from_grams = readings.grams @ self.gram_weights.astype(np.float32)
        return np.asarray(readings.vectors @ self.weights.T + from_grams + self.bias, dtype=np.float64)


def fit_softmax(
    readings: Readings, targets: Targets, labels: int, *, importance: Floats, strength: float = 10.0
) -> Linear:
    """Logits of a multinomial logistic regression: minimises importance-weighted log loss
    + |weights|^2 / (2 strength). Deterministic: starts from zero.
    """
    dimension = readings.vectors.shape[1]
    dense = np.hstack([readings.vectors, np.ones((len(readings), 1), dtype=np.float32)])
    used, grams = _compact(readings.grams)
    turned = grams.T.tocsr()
    rows = np.arange(len(targets))
    penalty = np.append(np.full(dimension, 1 / strength), 0.0)[:, None]

    def loss_and_gradient(flat: Floats) -> tuple[float, Floats]:
        weights, gram_weights = _unpacked(flat, labels, dimension)
        # float32 halves the time of the products that are nearly all of it; sums stay in float64.
        logits = dense @ weights.astype(np.float32) + grams @ gram_weights.astype(np.float32)
        log_probabilities = log_softmax(logits.astype(np.float64))
        error = np.exp(log_probabilities)
        error[rows, targets] -= 1
        error = (error * importance[:, None]).astype(np.float32)
        gradient = np.concatenate(
            [
                ((dense.T @ error).astype(np.float64) + penalty * weights).ravel(),
                ((turned @ error).astype(np.float64) + gram_weights / strength).ravel(),
            ]
        )
        size = float((penalty * weights**2).sum() + (gram_weights**2).sum() / strength)
        return size / 2 - float(importance @ log_probabilities[rows, targets]), gradient

    start = np.zeros((dimension + 1 + len(used)) * labels)
    found = scipy.optimize.minimize(
        loss_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": 150, "ftol": 1e-6}
    )
    weights, gram_weights = _unpacked(found.x, labels, dimension)
    return _linear(weights[:-1], weights[-1], used, gram_weights, readings.grams.shape[1])


def fit_ridge(readings: Readings, targets: Floats, *, strength: float) -> Linear:
    """Least squares with |weights|^2 * strength, by conjugate gradients (Hestenes and Stiefel, 1952).

    ``targets``: [n, outputs]. There is no bias: targets are what is left over a level known otherwise, and
    where nothing is known of a prompt, that level is what to expect.
    """
    used, grams = _compact(readings.grams)
    turned = grams.T.tocsr()
    dense = readings.vectors
    dimension = dense.shape[1]

    def times(weights: NDArray[np.float32]) -> NDArray[np.float32]:
        predicted = dense @ weights[:dimension] + grams @ weights[dimension:]
        product = np.vstack([dense.T @ predicted, turned @ predicted]) + np.float32(strength) * weights
        return np.asarray(product)

    target = targets.astype(np.float32)
    residual = np.vstack([dense.T @ target, turned @ target])
    weights, direction = np.zeros_like(residual), residual.copy()
    before = (residual**2).sum(axis=0)
    goal = before * 1e-8
    for _ in range(60):
        if (before <= goal).all():
            break
        product = times(direction)
        step = before / np.maximum((direction * product).sum(axis=0), 1e-30)
        weights += step * direction
        residual -= step * product
        after = (residual**2).sum(axis=0)
        direction = residual + after / np.maximum(before, 1e-30) * direction
        before = after
    level = np.zeros(targets.shape[1])
    return _linear(weights[:dimension], level, used, weights[dimension:], readings.grams.shape[1])


def log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _compact(grams: "scipy.sparse.csr_array") -> tuple[NDArray[np.int64], "scipy.sparse.csr_array"]:
    """The buckets that occur, and the matrix of them alone."""
    used = np.unique(grams.indices)
    place = np.zeros(grams.shape[1], dtype=np.int32)
    place[used] = np.arange(len(used), dtype=np.int32)
    compact = scipy.sparse.csr_array(
        (grams.data, place[grams.indices], grams.indptr), shape=(grams.shape[0], len(used))
    )
    return used.astype(np.int64), compact


def _unpacked(flat: Floats, outputs: int, dimension: int) -> tuple[Floats, Floats]:
    """[dimension + 1, outputs], the last row being the bias, and [used, outputs]."""
    both = flat.reshape(-1, outputs)
    return both[: dimension + 1], both[dimension + 1 :]


def _linear(
    weights: NDArray[Any], bias: NDArray[Any], used: NDArray[np.int64], compact: NDArray[Any], buckets: int
) -> Linear:
    gram_weights = np.zeros((buckets, compact.shape[1]), dtype=np.float16)
    gram_weights[used] = compact
    return Linear(np.ascontiguousarray(weights.T, dtype=np.float32), bias.astype(np.float32), gram_weights)
