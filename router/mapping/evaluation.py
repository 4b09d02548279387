"""Evaluation of a composition beside the experts it is made of, on graded prompts.

No score stands alone: beside the composition are each single expert, the blind mix (the best single expert,
or mixture by lot of two, that costs the same on average), the map read at the true categories, and the
per-prompt oracle. Intervals are 95 %, by bootstrap over prompts; differences are paired, on the same
resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.arrays import Floats
from router.data.dataset import Example
from router.errors import DatasetError
from router.mapping.finer import blind
from router.mapping.metrics import Estimate

_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """A way to answer the prompts."""

    name: str
    active: float
    """Billions of parameters of the expert that answers, on average."""
    score: Estimate
    """Mean grade, in points."""


@dataclass(frozen=True, slots=True)
class MapEvaluation:
    prompts: int
    """Graded for every expert of the map's score table; only these are compared."""
    left_out: int
    """Prompts without a grade of one of these experts."""
    embedder: float | None
    """Billions of parameters of the embedder, which every routed prompt also passes; None where unknown."""
    composition: Row
    """With the categories that the router predicts."""
    true_categories: Row | None
    """The same map read at the labels; None where no prompt has one."""
    singles: tuple[Row, ...]
    """Cheapest first."""
    blind: Row
    """At the composition's average active parameters."""
    blind_with_embedder: Row | None
    """At these and the embedder's."""
    oracle: Row
    """The cheapest expert with the best grade, prompt by prompt."""
    over_blind: Estimate
    """Points of the composition over the blind mix."""
    over_blind_with_embedder: Estimate | None
    over_best_single: Estimate
    """Points of the composition over the best single expert of the test."""

    def __str__(self) -> str:
        lines = [
            f"{self.prompts} graded prompts ({self.left_out} left out: an expert has no grade there)",
            "",
        ]
        lines.append(f"{'':44}active B   score [95 %]")
        rows = [
            *self.singles,
            self.blind,
            self.blind_with_embedder,
            self.composition,
            self.true_categories,
            self.oracle,
        ]
        for row in rows:
            if row is not None:
                score = row.score
                lines.append(
                    f"{row.name:44}{row.active:8.2f}   {score.value:.2f} [{score.low:.2f}, {score.high:.2f}]"
                )
        active, embedder = self.composition.active, self.embedder
        with_it = "unknown" if embedder is None else f"{active + embedder:.2f} B"
        lines += ["", f"average active parameters: {active:.2f} B, with the embedder {with_it}"]
        lines += [_difference("composition over the blind mix", self.over_blind)]
        if self.over_blind_with_embedder is not None and self.embedder is not None:
            what = f"... counting the embedder's {self.embedder:g} B"
            lines.append(_difference(what, self.over_blind_with_embedder))
        lines.append(_difference("composition over the best single expert", self.over_best_single))
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, eq=False)
class Grades:
    """Prompts that every expert is graded on."""

    experts: Sequence[str]
    parameters: Floats
    """[experts], in billions."""
    scores: Floats
    """[prompts, experts], in points."""
    rows: NDArray[np.int64]
    """[prompts], which of the examples they are."""

    @classmethod
    def of(cls, examples: Sequence[Example], experts: Mapping[str, float]) -> "Grades":
        """Raises DatasetError when no prompt is graded for all of them."""
        rows = [
            row for row, example in enumerate(examples) if all(name in example.scores for name in experts)
        ]
        if not rows:
            raise DatasetError(
                f"no line has scores of all of {', '.join(experts)}, so nothing can be compared"
            )
        scores = np.array([[100 * examples[row].scores[name] for name in experts] for row in rows])
        return cls(list(experts), np.array(list(experts.values())), scores, np.array(rows))


def evaluate_map(
    grades: Grades,
    left_out: int,
    chosen: Sequence[str],
    at_labels: Sequence[str] | None,
    embedder: float | None,
    *,
    seed: int = 0,
) -> MapEvaluation:
    """``chosen``: the expert of each of the graded prompts. ``at_labels``: what the map has at their true
    categories."""
    count = len(grades.rows)
    weights = _resampled(count, seed)
    means = weights @ grades.scores  # [1 + resamples, experts]; the first row is the test itself

    def row(name: str, experts: NDArray[np.int64]) -> tuple[Row, Floats, Floats]:
        active = weights @ grades.parameters[experts]
        score = weights @ grades.scores[np.arange(count), experts]
        return Row(name, float(active[0]), Estimate.of(score)), active, score

    def mixes(active: Floats) -> Floats:
        return np.array(
            [blind(each, grades.parameters, budget) for each, budget in zip(means, active, strict=True)]
        )

    composition, active, score = row("composition", _indices(grades, chosen))
    mix = mixes(active)
    dearer = None if embedder is None else mixes(active + embedder)
    order = np.argsort(grades.parameters, kind="stable")
    singles = tuple(
        Row(grades.experts[index], float(grades.parameters[index]), Estimate.of(means[:, index]))
        for index in order
    )
    best = int(means[0].argmax())
    cheapest_first = grades.scores[:, order].argmax(axis=1)
    return MapEvaluation(
        prompts=count,
        left_out=left_out,
        embedder=embedder,
        composition=composition,
        true_categories=None
        if at_labels is None
        else row("map at the true categories", _indices(grades, at_labels))[0],
        singles=singles,
        blind=Row("blind mix at the same cost", composition.active, Estimate.of(mix)),
        blind_with_embedder=None
        if dearer is None or embedder is None
        else Row("blind mix, the embedder counted", composition.active + embedder, Estimate.of(dearer)),
        oracle=row("oracle, prompt by prompt", order[cheapest_first])[0],
        over_blind=Estimate.of(score - mix),
        over_blind_with_embedder=None if dearer is None else Estimate.of(score - dearer),
        over_best_single=Estimate.of(score - means[:, best]),
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """Points of one way to choose over another, on the same prompts."""

    score: Estimate
    over_blind: Estimate
    """Difference of what each scores over the blind mix at its own cost."""

    def __str__(self) -> str:
        return (
            _difference("difference in score", self.score)
            + "\n"
            + _difference("difference in what is over the blind mix", self.over_blind)
        )


def difference(grades: Grades, chosen: Sequence[str], other: Sequence[str], *, seed: int = 0) -> Difference:
    """``chosen`` and ``other``: the expert of each of the graded prompts, in two ways."""
    count = len(grades.rows)
    weights = _resampled(count, seed)
    means, scores, mixes = weights @ grades.scores, [], []
    for experts in (_indices(grades, chosen), _indices(grades, other)):
        scores.append(weights @ grades.scores[np.arange(count), experts])
        active = weights @ grades.parameters[experts]
        mixes.append(
            [blind(each, grades.parameters, budget) for each, budget in zip(means, active, strict=True)]
        )
    over = [score - np.array(mix) for score, mix in zip(scores, mixes, strict=True)]
    return Difference(Estimate.of(scores[0] - scores[1]), Estimate.of(over[0] - over[1]))


def _resampled(count: int, seed: int) -> Floats:
    """[1 + resamples, prompts], weights that add up to 1; the first row is the test itself."""
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), _RESAMPLES)
    return np.vstack([np.ones(count), drawn]) / count


def _indices(grades: Grades, experts: Sequence[str]) -> NDArray[np.int64]:
    index_of = {name: index for index, name in enumerate(grades.experts)}
    unknown = sorted(set(experts) - set(index_of))
    if unknown:
        raise DatasetError(f"the map chooses {unknown[0]!r}, which the score table does not have")
    return np.array([index_of[name] for name in experts])


def _difference(what: str, points: Estimate) -> str:
    return f"{what:52}   {points.value:+.2f} [{points.low:+.2f}, {points.high:+.2f}] points"
