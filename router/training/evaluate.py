"""Evaluates a router on labelled and graded prompts that it has not seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.data.dataset import Example
from router.decision import Decision
from router.errors import DatasetError
from router.mapping.evaluation import Grades, MapEvaluation, evaluate_map
from router.mapping.metrics import CategoryResult, Estimate, bootstrap, calibration_error, macro_f1
from router.mapping.milp import Solution
from router.progress import Progress
from router.router import Router

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)


@dataclass(frozen=True, slots=True)
class Categories:
    """How well the category was told, on the prompts that have a label."""

    prompts: int
    accuracy: Estimate
    """Share of prompts whose most probable category is the label."""
    macro_f1: Estimate
    expected_calibration_error: float
    coverage: float
    """Share of prompts the router is certain of."""
    accuracy_when_certain: float
    accuracy_at: dict[str, float]
    """Share of prompts kept, the most confident ones, to the accuracy on them."""
    expert_accuracy: Estimate
    """Share of prompts that reach the expert the map names for their label, uncertain ones included."""
    of: dict[str, CategoryResult]

    def __str__(self) -> str:
        lines = [
            f"labelled prompts        {self.prompts}",
            f"accuracy                {self.accuracy}",
            f"macro F1                {self.macro_f1}",
            f"calibration error       {self.expected_calibration_error:.3f}",
            f"coverage                {self.coverage:.3f}",
            f"accuracy when certain   {self.accuracy_when_certain:.3f}",
            "accuracy at coverage    "
            + ", ".join(f"{share}: {accuracy:.3f}" for share, accuracy in self.accuracy_at.items()),
            f"right expert            {self.expert_accuracy}",
            "",
            f"{'category':24}prompts  precision  recall  F1",
        ]
        for name, result in self.of.items():
            lines.append(
                f"{name:24}{result.prompts:7}  {result.precision:9.3f}  {result.recall:6.3f}  {result.f1:.3f}"
            )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Evaluation:
    categories: Categories | None
    """None where no prompt has a label."""
    worth: MapEvaluation | None
    """None where the artifact has no scores, or the prompts have none."""

    def __str__(self) -> str:
        return "\n\n".join(str(part) for part in (self.categories, self.worth) if part is not None)


def evaluate(
    router: Router, examples: Sequence[Example], *, seed: int = 0, progress: Progress = lambda *_: None
) -> Evaluation:
    """Raises DatasetError when a category is not one of the router's, and when there is neither a category
    nor a score to compare with."""
    for example in examples:
        if example.category is not None and example.category not in router.categories:
            known = ", ".join(sorted(router.categories))
            raise DatasetError(
                f"{example.id}: the router has no category {example.category!r}; it has: {known}"
            )
    graded = router.artifact.scores is not None and any(example.scores for example in examples)
    labelled = [row for row, example in enumerate(examples) if example.category is not None]
    if not labelled and not graded:
        raise DatasetError("no line has a category or a score, so there is nothing to compare with")
    decisions = decided(router, examples, progress)
    return Evaluation(
        _categories(router, [examples[row] for row in labelled], [decisions[row] for row in labelled], seed)
        if labelled
        else None,
        map_evaluation(router, examples, decisions, seed=seed) if graded else None,
    )


def decided(router: Router, examples: Sequence[Example], progress: Progress) -> list[Decision]:
    decisions = []
    for index, example in enumerate(examples, 1):
        decisions.append(router.decide(example.prompt))
        progress("deciding", index, len(examples))
    return decisions


def map_evaluation(
    router: Router, examples: Sequence[Example], decisions: Sequence[Decision], *, seed: int = 0
) -> MapEvaluation:
    """``decisions``: of this router, or of one that differs in its map alone. Raises DatasetError."""
    table = router.artifact.scores
    assert table is not None
    grades = Grades.of(examples, dict(zip(table.experts, map(float, table.parameters), strict=True)))
    labels = [examples[row].category for row in grades.rows]
    chosen = [decisions[row] for row in grades.rows]
    at_labels = None
    if all(label is not None for label in labels):
        at_labels = [
            router.expert_at(
                router.cluster_in(label, examples[row].prompt, decisions[row]), decisions[row].expected
            )
            for label, row in zip(labels, grades.rows, strict=True)
            if label is not None
        ]
    return evaluate_map(
        grades,
        len(examples) - len(grades.rows),
        [router.expert_at(decision.cluster, decision.expected) for decision in chosen],
        at_labels,
        router.embedder_parameters,
        seed=seed,
    )


def evaluate_frontier(
    router: Router,
    examples: Sequence[Example],
    solutions: Sequence[Solution],
    *,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> list[MapEvaluation]:
    """Evaluates the router with each solution's map. Prompts are decided once: all solutions are of as many
    steps."""
    with_each = [router.with_artifact(router.artifact.with_solution(each)) for each in solutions]
    decisions = decided(with_each[0], examples, progress)
    found = []
    for number, mapped in enumerate(with_each, 1):
        found.append(map_evaluation(mapped, examples, decisions, seed=seed))
        progress("resampling", number, len(solutions))
    return found


def _categories(
    router: Router, examples: Sequence[Example], decisions: Sequence[Decision], seed: int
) -> Categories:
    index_of = {name: index for index, name in enumerate(router.categories)}
    truth = np.array([index_of[example.category or ""] for example in examples])
    predicted = np.array([index_of[decision.likeliest] for decision in decisions])
    confidence = np.array([decision.confidence for decision in decisions])
    certain = np.array([not decision.uncertain for decision in decisions])
    right = predicted == truth
    right_expert = np.array(
        [
            decision.expert
            == router.expert_at(
                router.cluster_in(example.category or "", example.prompt, decision), decision.expected
            )
            for decision, example in zip(decisions, examples, strict=True)
        ]
    )
    return Categories(
        prompts=len(examples),
        accuracy=bootstrap(lambda rows: float(right[rows].mean()), len(right), seed),
        macro_f1=bootstrap(lambda rows: macro_f1(truth[rows], predicted[rows]), len(right), seed),
        expected_calibration_error=calibration_error(confidence, right),
        coverage=float(certain.mean()),
        accuracy_when_certain=float(right[certain].mean()) if certain.any() else 0.0,
        accuracy_at=_accuracy_at(confidence, right),
        expert_accuracy=bootstrap(lambda rows: float(right_expert[rows].mean()), len(right), seed),
        of={
            router.categories[index]: CategoryResult.of(truth, predicted, index) for index in np.unique(truth)
        },
    )


def _accuracy_at(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> dict[str, float]:
    surest = right[np.argsort(-confidence, kind="stable")]
    return {f"{share:g}": float(surest[: max(1, round(share * len(surest)))].mean()) for share in COVERAGES}
