"""How good a router is on labelled prompts it has not seen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.dataset import Example
from router.errors import DatasetError
from router.pipeline import Router

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval, by bootstrap over prompts."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class CategoryResult:
    prompts: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    prompts: int
    accuracy: Estimate
    """Share of prompts whose most probable category is the label."""
    macro_f1: Estimate
    expected_calibration_error: float
    """Mean gap between confidence and accuracy over 15 bins of confidence, weighted by prompts."""
    coverage: float
    """Share of prompts the router is certain of."""
    accuracy_when_certain: float
    expert_accuracy: Estimate
    """Share of prompts that reach the expert the map names for their label, uncertain ones included."""
    categories: dict[str, CategoryResult]

    def __str__(self) -> str:
        lines = [
            f"prompts                 {self.prompts}",
            f"accuracy                {self.accuracy}",
            f"macro F1                {self.macro_f1}",
            f"calibration error       {self.expected_calibration_error:.3f}",
            f"coverage                {self.coverage:.3f}",
            f"accuracy when certain   {self.accuracy_when_certain:.3f}",
            f"right expert            {self.expert_accuracy}",
            "",
            f"{'category':24}prompts  precision  recall  F1",
        ]
        for name, result in self.categories.items():
            lines.append(
                f"{name:24}{result.prompts:7}  {result.precision:9.3f}  {result.recall:6.3f}  {result.f1:.3f}"
            )
        return "\n".join(lines)


def evaluate(
    router: Router, examples: Sequence[Example], *, seed: int = 0, progress: Progress = lambda *_: None
) -> Evaluation:
    """Prompts without a category are skipped. Raises DatasetError when a category is not one of the
    router's."""
    labelled = [(example, _label(router, example)) for example in examples if example.category is not None]
    if not labelled:
        raise DatasetError("no line has a category, so there is nothing to compare with")
    decisions = []
    for index, (example, _) in enumerate(labelled, 1):
        decisions.append(router.decide(example.prompt))
        progress("deciding", index, len(labelled))
    index_of = {name: index for index, name in enumerate(router.categories)}
    truth = np.array([index_of[label] for _, label in labelled])
    predicted = np.array([index_of[next(iter(decision.probabilities))] for decision in decisions])
    confidence = np.array([decision.confidence for decision in decisions])
    certain = np.array([not decision.uncertain for decision in decisions])
    right = predicted == truth
    right_expert = np.array(
        [
            decision.expert == router.artifact.mapping[label]
            for decision, (_, label) in zip(decisions, labelled, strict=True)
        ]
    )
    return Evaluation(
        prompts=len(labelled),
        accuracy=_bootstrap(lambda rows: float(right[rows].mean()), len(right), seed),
        macro_f1=_bootstrap(lambda rows: _macro_f1(truth[rows], predicted[rows]), len(right), seed),
        expected_calibration_error=_calibration_error(confidence, right),
        coverage=float(certain.mean()),
        accuracy_when_certain=float(right[certain].mean()) if certain.any() else 0.0,
        expert_accuracy=_bootstrap(lambda rows: float(right_expert[rows].mean()), len(right), seed),
        categories={
            router.categories[index]: _category_result(truth, predicted, index) for index in np.unique(truth)
        },
    )


def _label(router: Router, example: Example) -> str:
    label = router.artifact.training.renamed.get(example.category or "", example.category or "")
    if label not in router.categories:
        raise DatasetError(
            f"{example.id}: the router has no category {label!r}; "
            f"it has: {', '.join(sorted(router.categories))}"
        )
    return label


def _category_result(truth: NDArray[np.int64], predicted: NDArray[np.int64], index: int) -> CategoryResult:
    hits = int(((truth == index) & (predicted == index)).sum())
    actual, claimed = int((truth == index).sum()), int((predicted == index).sum())
    return CategoryResult(
        prompts=actual,
        precision=hits / claimed if claimed else 0.0,
        recall=hits / actual if actual else 0.0,
        f1=2 * hits / (actual + claimed) if actual + claimed else 0.0,
    )


def _macro_f1(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    present = np.unique(truth)
    return float(np.mean([_category_result(truth, predicted, index).f1 for index in present]))


def _calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [
        abs(confidence[bins == index].mean() - right[bins == index].mean()) * (bins == index).mean()
        for index in np.unique(bins)
    ]
    return float(np.sum(gaps))


def _bootstrap(statistic: Callable[[NDArray[np.int64]], float], count: int, seed: int) -> Estimate:
    random = np.random.default_rng(seed)
    samples = [statistic(random.integers(count, size=count)) for _ in range(1000)]
    low, high = np.quantile(samples, [0.025, 0.975])
    return Estimate(statistic(np.arange(count)), float(low), float(high))
