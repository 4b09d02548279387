"""The seam from the reading of a prompt to category probabilities: linear, or by neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy

from router.arrays import Floats, Targets
from router.classifiers.lexicon import Reading
from router.classifiers.linear import Linear, Readings, fit_softmax, log_softmax


class Classifier(Protocol):
    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def temperature(self) -> float: ...

    def probabilities(self, reading: Reading) -> Floats:
        """[labels], softmax(logits / temperature). One prompt at a time: a matrix product may round
        differently for other batch sizes."""
        ...

    def logits_of(self, readings: Readings) -> Floats:
        """[n, labels]."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LinearClassifier:
    """Probabilities are softmax(logits / temperature).

    A temperature above 1 makes it less sure of itself (Guo et al., 2017, arXiv 1706.04599, section 4.2).
    """

    labels: tuple[str, ...]
    logits: Linear
    temperature: float = 1.0

    def logits_of(self, readings: Readings) -> Floats:
        return self.logits.many(readings)

    def probabilities(self, reading: Reading) -> Floats:
        return np.asarray(np.exp(log_softmax(self.logits.values(reading)[None] / self.temperature))[0])


def fit_linear(
    readings: Readings, targets: Targets, labels: Sequence[str], *, importance: Floats
) -> LinearClassifier:
    """Fits a classifier with a temperature of 1."""
    logits = fit_softmax(readings, targets, len(labels), importance=importance)
    return LinearClassifier(tuple(labels), logits)


def temperature_for(logits: Floats, targets: Targets) -> float:
    """Finds the temperature that fits ``logits``, [n, labels], of prompts that the classifier was not trained
    on."""
    rows = np.arange(len(targets))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(logits / np.exp(log_temperature))[rows, targets].mean())

    # A small set that is classified without error would ask for a temperature of zero.
    found = scipy.optimize.minimize_scalar(loss, bounds=(np.log(0.5), np.log(8.0)), method="bounded")
    return round(float(np.exp(found.x)), 4)
