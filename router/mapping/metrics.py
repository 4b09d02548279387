"""How right probabilities and labels are, with intervals."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Statistic = Callable[[NDArray[np.int64]], float]
"""From the rows of a resampled test set to a number."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval, by bootstrap over prompts."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> "Estimate":
        """``values``: of the test itself, then of its resamples."""
        low, high = np.quantile(values[1:], [0.025, 0.975])
        return cls(float(values[0]), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class CategoryResult:
    prompts: int
    precision: float
    recall: float
    f1: float

    @classmethod
    def of(cls, truth: NDArray[np.int64], predicted: NDArray[np.int64], index: int) -> "CategoryResult":
        hits = int(((truth == index) & (predicted == index)).sum())
        actual, claimed = int((truth == index).sum()), int((predicted == index).sum())
        return cls(
            prompts=actual,
            precision=hits / claimed if claimed else 0.0,
            recall=hits / actual if actual else 0.0,
            f1=2 * hits / (actual + claimed) if actual + claimed else 0.0,
        )


def macro_f1(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Over the labels that occur."""
    present = np.unique(truth)
    return float(np.mean([CategoryResult.of(truth, predicted, index).f1 for index in present]))


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Mean gap between confidence and accuracy over 15 bins of confidence, weighted by prompts."""
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [
        abs(confidence[bins == index].mean() - right[bins == index].mean()) * (bins == index).mean()
        for index in np.unique(bins)
    ]
    return float(np.sum(gaps))


def bootstrap(statistic: Statistic, count: int, seed: int, samples: int = 1000) -> Estimate:
    """A statistic of differences is paired: both sides see the same prompts."""
    random = np.random.default_rng(seed)
    found = [statistic(random.integers(count, size=count)) for _ in range(samples)]
    return Estimate.of(np.array([statistic(np.arange(count)), *found]))
