"""The score of each expert in each category, from graded prompts, shrunk where there are few.

Experts may be graded on different prompts, and a missing grade is not a wrong answer. So no expert's own mean
is used: a grade is taken to be *ease of the prompt + advantage of the expert + noise*, and the advantages are
fitted by least squares on the prompts that several experts were graded on. A prompt that only one expert was
graded on says nothing by itself; it is compared with the other such prompts of its category.

A category's ease and advantages are drawn towards its label's as if ``prior`` prompts had said what the label
says, and a label's towards those of all prompts. Where every expert is graded on every prompt this is the
plain mean, shrunk: (sum of n grades + prior * mean of the parent) / (n + prior).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import scipy
from numpy.typing import NDArray

from router.arrays import Floats
from router.errors import MappingError
from router.mapping.evidence import Evidence, Level

PRIOR, FINER_PRIOR = 20.0, 300.0
"""Imagined prompts that say the mean of what is above: of a label, and of a finer category."""
EMPTY = 0.5
"""Prompts that a category without any counts as in the shares: it may come up, and needs its expert."""


@dataclass(frozen=True, slots=True)
class ExpertScore:
    """An expert in a row of the table. ``score`` goes from 0 to 1; ``prompts``: how many were graded."""

    expert: str
    score: float
    standard_error: float
    parameters: float
    """In billions."""
    prompts: int


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTable:
    """The scores that a mapping is solved from. Rows are categories, columns are experts.

    Raises MappingError where the shapes do not match or the shares do not add up to 1.
    """

    categories: tuple[str, ...]
    experts: tuple[str, ...]
    parameters: Floats
    """[experts], in billions."""
    shares: Floats
    """[categories], of the prompts; adds up to 1."""
    means: Floats
    """[categories, experts], expected score from 0 to 1."""
    errors: Floats
    """[categories, experts], standard errors that the graded prompts of a category alone give its means."""
    counts: NDArray[np.int64]
    """[categories, experts], graded prompts."""

    def __post_init__(self) -> None:
        shape = (len(self.categories), len(self.experts))
        if 0 in shape:
            raise MappingError("a score table needs at least one category and one expert")
        wanted = {"parameters": shape[1:], "shares": shape[:1]} | dict.fromkeys(
            ("means", "errors", "counts"), shape
        )
        for name, expected in wanted.items():
            if getattr(self, name).shape != expected:
                found = getattr(self, name).shape
                raise MappingError(f"score table: {name} has shape {found}, expected {expected}")
        for names in (self.categories, self.experts):
            if len(set(names)) < len(names):
                raise MappingError(f"score table: a name comes twice in {', '.join(names)}")
        for expert, size in zip(self.experts, self.parameters, strict=True):
            if not 0 < size < np.inf:
                raise MappingError(f"expert {expert!r} has {size:g} B parameters; give its size in billions")
        if (self.shares < 0).any() or not np.isclose(self.shares.sum(), 1):
            raise MappingError(f"score table: the shares add up to {self.shares.sum():g}, expected 1")
        if not np.isfinite(self.means).all():
            raise MappingError("score table: every category needs a mean score of every expert")

    @classmethod
    def from_grades(
        cls,
        categories_of_prompts: Sequence[str],
        weights: Floats,
        grades: Floats,
        *,
        experts: Sequence[str],
        parameters: Sequence[float],
        categories: Sequence[str],
        parents: Mapping[str, str],
        prior: float = PRIOR,
        expected: Floats | None = None,
        finer_prior: float = FINER_PRIOR,
    ) -> Self:
        """``weights``: [prompts], 1 for a whole prompt. ``grades``: [prompts, experts] from 0 to 1, NaN for
        not graded. ``parents``: a finer category to its label; a category not in it is a label itself.
        ``prior``: imagined prompts, over 0. ``expected``: [prompts, experts], what was predicted of prompts
        that the prediction had not seen; then ``finer_prior`` prompts of a finer category say its mean,
        instead of ``prior`` prompts what the label says.

        An expert without grades in a category has its advantage in the label; a category without graded
        prompts is its label. Raises MappingError for grades that no comparison can be made from.
        """
        _check(categories_of_prompts, weights, grades, experts, categories, prior)
        rows = {name: index for index, name in enumerate(categories)}
        row_of_prompt = np.array([rows[name] for name in categories_of_prompts], dtype=np.int64)
        evidence = [
            Evidence.of(grades[row_of_prompt == row], weights[row_of_prompt == row]) for row in rows.values()
        ]
        overall = sum(evidence[1:], start=evidence[0])
        _check_comparable(overall, experts)
        root = overall.level()
        labels = [parents.get(name, name) for name in categories]
        of_label: dict[str, Evidence] = {}
        for label, part in zip(labels, evidence, strict=True):
            of_label[label] = of_label[label] + part if label in of_label else part
        level_of_label = {label: part.level_near(root, prior) for label, part in of_label.items()}
        levels = []
        for row, (name, label, part) in enumerate(zip(categories, labels, evidence, strict=True)):
            inside = row_of_prompt == row
            if name not in parents:
                levels.append(level_of_label[label])
            elif expected is None or not inside.any():
                levels.append(part.level_near(level_of_label[label], prior))
            else:
                mean = np.average(expected[inside], axis=0, weights=weights[inside])
                levels.append(part.level_near(Level.of(mean), finer_prior))
        means = np.clip([level.ease + level.advantages for level in levels], 0, 1)
        seen = np.array([part.seen for part in evidence])
        prompts = np.bincount(row_of_prompt, weights, minlength=len(categories))
        prompts[prompts == 0] = EMPTY
        return cls(
            tuple(categories),
            tuple(experts),
            np.asarray(parameters, dtype=np.float64),
            prompts / prompts.sum(),
            means,
            errors_of(means, seen),
            np.array([part.counts for part in evidence]),
        )

    def error_of(self, chosen: NDArray[np.int64]) -> float:
        """Returns the standard error of a map's score. ``chosen``: [categories], the index of each expert.

        The rows' own errors, of prompts that are in one row each, and that of the shares. A shrunk mean is
        less uncertain than its own prompts say, by what it borrows of others; but all rows borrow of the same
        prompts, and over all rows that adds up to what the prompts' own errors do.
        """
        rows = np.arange(len(self.categories))
        means, errors = self.means[rows, chosen], self.errors[rows, chosen]
        between = self.shares @ (means - self.shares @ means) ** 2
        prompts = max(1, int(self.counts.max(axis=1).sum()))
        return float(np.sqrt(((self.shares * errors) ** 2).sum() + between / prompts))

    def of_experts(self, columns: Sequence[int]) -> Self:
        """Returns the table of these experts alone, by their places."""
        kept = list(columns)
        return replace(
            self,
            experts=tuple(self.experts[index] for index in kept),
            parameters=self.parameters[kept],
            means=self.means[:, kept],
            errors=self.errors[:, kept],
            counts=self.counts[:, kept],
        )

    def row(self, category: str) -> tuple[ExpertScore, ...]:
        """Returns the experts in a row, best first; none where the table has no such row."""
        if category not in self.categories:
            return ()
        row = self.categories.index(category)
        scored = [
            ExpertScore(
                name,
                float(self.means[row, column]),
                float(self.errors[row, column]),
                float(self.parameters[column]),
                int(self.counts[row, column]),
            )
            for column, name in enumerate(self.experts)
        ]
        return tuple(sorted(scored, key=lambda each: -each.score))

    def size_of(self) -> dict[str, float]:
        """Expert to its parameters, in billions."""
        return dict(zip(self.experts, map(float, self.parameters), strict=True))

    def share_of(self) -> dict[str, float]:
        """Category to its share."""
        return dict(zip(self.categories, map(float, self.shares), strict=True))

    def __repr__(self) -> str:
        graded = int(self.counts.sum())
        return (
            f"<ScoreTable {len(self.categories)} categories x {len(self.experts)} experts, {graded} grades>"
        )


def errors_of(means: Floats, seen: Floats) -> Floats:
    """The standard deviation of Beta(1 + seen * mean, 1 + seen * (1 - mean)), so that a mean of 1 is not
    certain. Of any shape. Imagined prompts are not among those ``seen``: they say again what other rows'
    prompts said."""
    centre = (seen * means + 1) / (seen + 2)
    deviations: Floats = np.sqrt(centre * (1 - centre) / (seen + 3))
    return deviations


def _check(
    categories_of_prompts: Sequence[str],
    weights: Floats,
    grades: Floats,
    experts: Sequence[str],
    categories: Sequence[str],
    prior: float,
) -> None:
    prompts = len(categories_of_prompts)
    if grades.shape != (prompts, len(experts)) or weights.shape != (prompts,):
        raise MappingError(
            f"grades have shape {grades.shape} and weights {weights.shape} "
            f"for {prompts} prompts and {len(experts)} experts"
        )
    if unknown := sorted(set(categories_of_prompts) - set(categories)):
        raise MappingError(f"prompts have category {unknown[0]!r}, and the table has no such row")
    if not prior > 0:
        raise MappingError(f"the prior must be over 0 prompts, not {prior:g}")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise MappingError("a prompt's weight must be a number from 0")
    known = grades[~np.isnan(grades)]
    if ((known < 0) | (known > 1)).any():
        raise MappingError("a grade must be from 0 to 1, or NaN where there is none")


def _check_comparable(overall: Evidence, experts: Sequence[str]) -> None:
    for expert, seen in zip(experts, overall.seen, strict=True):
        if not seen:
            raise MappingError(f"no prompt has a score of expert {expert!r}; grade some, or leave it out")
    groups = scipy.sparse.csgraph.connected_components(np.abs(overall.information) > 0)[1]
    apart = [expert for expert, group in zip(experts, groups, strict=True) if group != groups[0]]
    if apart:
        raise MappingError(
            f"nothing compares {apart[0]!r} with {experts[0]!r}: no prompt was graded for both, nor were "
            "prompts of one category, directly or by way of others; grade some prompts for both"
        )
