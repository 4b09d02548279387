"""The grades of a set of prompts as sums, and the level of ease and advantages that they say.

A grade is taken to be *ease of the prompt + advantage of the expert + noise*. Advantages are fitted by least
squares on the prompts that several experts were graded on.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.arrays import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """The ease and the advantages believed of a set of prompts."""

    ease: float
    """Score of the average expert."""
    advantages: Floats
    """[experts], over the average expert; adds up to 0."""

    @classmethod
    def of(cls, means: Floats) -> "Level":
        return cls(float(means.mean()), means - means.mean())


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """The grades of a set of prompts as weighted sums: those of a label are its categories' added up.

    The first two are the normal equations ``information @ advantages = gains``, from which the prompts' own
    ease was eliminated.
    """

    information: Floats
    """[experts, experts]."""
    gains: Floats
    """[experts]."""
    prompts: float
    """Graded ones."""
    grades: float
    """Sum over the prompts of the mean grade."""
    graders: Floats
    """[experts], sum over the prompts of an expert's part in the mean grade."""
    seen: Floats
    """[experts], graded prompts, weighted."""
    counts: NDArray[np.int64]
    """[experts], graded prompts."""

    @classmethod
    def of(cls, grades: Floats, weights: Floats) -> "Evidence":
        graded = ~np.isnan(grades)
        some = graded.any(axis=1)
        graded, weights, grades = graded[some], weights[some], np.nan_to_num(grades[some])
        marks = graded.astype(np.float64)
        how_many = marks.sum(axis=1)
        mean = grades.sum(axis=1) / how_many
        # Each prompt is a stratum with an ease of its own, and those with one grade are one together.
        alone = how_many == 1
        strata = np.vstack([marks[~alone] * weights[~alone, None], weights[alone] @ marks[alone]])
        sizes = np.append(how_many[~alone] * weights[~alone], weights[alone].sum())
        totals = np.append(sizes[:-1] * mean[~alone], weights[alone] @ mean[alone])
        filled = sizes > 0
        strata, sizes, totals = strata[filled], sizes[filled], totals[filled]
        seen = weights @ marks
        return cls(
            information=np.diag(seen) - strata.T @ (strata / sizes[:, None]),
            gains=weights @ grades - strata.T @ (totals / sizes),
            prompts=float(weights.sum()),
            grades=float(weights @ mean),
            graders=(weights / how_many) @ marks,
            seen=seen,
            counts=graded.sum(axis=0),
        )

    def __add__(self, other: "Evidence") -> "Evidence":
        return Evidence(
            self.information + other.information,
            self.gains + other.gains,
            self.prompts + other.prompts,
            self.grades + other.grades,
            self.graders + other.graders,
            self.seen + other.seen,
            self.counts + other.counts,
        )

    def level(self) -> Level:
        """Estimates the level from these grades alone. Advantages are only known up to a constant; the
        shortest add up to 0."""
        shortest = np.linalg.lstsq(self.information, self.gains, rcond=None)[0]
        advantages = np.asarray(shortest, dtype=np.float64)
        return Level((self.grades - float(self.graders @ advantages)) / self.prompts, advantages)

    def level_near(self, parent: Level, prior: float) -> Level:
        """Estimates the level from these grades and ``prior`` imagined prompts at the parent's level."""
        information = self.information + prior * np.eye(len(self.gains))
        solved = np.linalg.solve(information, self.gains + prior * parent.advantages)
        advantages = np.asarray(solved, dtype=np.float64)
        grades = self.grades - float(self.graders @ advantages)
        return Level((grades + prior * parent.ease) / (self.prompts + prior), advantages)
