"""Quality against cost, its area and gains, and intervals by paired bootstrap over the same prompts.

A contestant's curve is its points (average active parameters, mean score) of each trade-off, joined by lines:
between two neighbours a share of the requests goes by each. Every contestant may send everything to the
cheapest expert, and past its last point a curve stays level: the budget need not be spent."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from benchmarks.routers.contest import Choices, Graded, by_price
from router.arrays import Floats

STEPS = 261
"""Budgets of an area, evenly from the cheapest expert to the dearest."""


@dataclass(frozen=True, slots=True)
class Point:
    active: float
    """Billions of parameters of the expert that answers, on average."""
    score: float
    """Mean, in points."""


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Scores that contestants reach on ``test`` and on resamples of it, the same ones for all."""

    test: Graded
    weights: Floats
    """[1 + resamples, prompts], how often each prompt counts; the first row is the test itself."""
    budgets: Floats
    """Budgets of an area, then those asked for."""

    @classmethod
    def over(cls, test: Graded, resamples: int, seed: int, budgets: Sequence[float] = ()) -> "Curves":
        """``budgets``: at which gains are asked for, in billions."""
        prompts = len(test.examples)
        drawn = np.random.default_rng(seed).multinomial(prompts, np.full(prompts, 1 / prompts), resamples)
        parameters = test.pool.parameters
        steps = np.linspace(parameters[0], parameters[-1], STEPS)
        return cls(test, np.vstack([np.ones(prompts), drawn]), np.concatenate([steps, budgets]))

    def of(self, choices: Choices) -> Floats:
        """[1 + resamples, budgets], in points."""
        costs, scores = self._points(choices)
        made = np.empty((len(costs), len(self.budgets)))
        for row, cost, score in zip(made, costs, scores, strict=True):
            order = np.argsort(cost, kind="stable")
            row[:] = np.interp(self.budgets, cost[order], score[order])
        return made

    def frontier(self, choices: Choices) -> tuple[Point, ...]:
        """The points on the test itself, cheapest first."""
        costs, scores = (each[0] for each in self._points(choices))
        return tuple(Point(float(costs[i]), float(scores[i])) for i in np.argsort(costs, kind="stable"))

    def _points(self, choices: Choices) -> tuple[Floats, Floats]:
        """[1 + resamples, trade-offs] each: billions, and points."""
        prompts = len(self.test.examples)
        chosen = np.unique(np.vstack([np.zeros((1, prompts), dtype=np.int64), choices]), axis=0)
        costs = self.test.pool.parameters[chosen]
        scores = 100 * self.test.scores[np.arange(prompts), chosen]
        return np.asarray(self.weights @ costs.T / prompts), np.asarray(self.weights @ scores.T / prompts)

    def blind(self) -> Floats:
        """The floor: the best single expert, or mixture of two by lot, at each budget. Like ``of``.

        It is chosen anew on each resample, with the grades that it is measured on.
        """
        parameters = self.test.pool.parameters
        means = 100 * self.weights @ self.test.scores / len(self.test.examples)
        lines = [np.where(self.budgets >= size, means[:, [e]], -np.inf) for e, size in enumerate(parameters)]
        for low, high in combinations(range(len(parameters)), 2):
            if parameters[low] < parameters[high]:
                share = (self.budgets - parameters[low]) / (parameters[high] - parameters[low])
                mixed = means[:, [low]] + share * (means[:, [high]] - means[:, [low]])
                lines.append(np.where((share >= 0) & (share <= 1), mixed, -np.inf))
        best: Floats = np.max(lines, axis=0)
        return best

    def oracle(self) -> Choices:
        """The ceiling: it knows every grade."""
        return by_price(self.test.scores, self.test.pool.parameters)


def area(values: Floats) -> Floats:
    """[1 + resamples], mean over the budgets from the cheapest expert to the dearest, in points."""
    steps = values[:, :STEPS]
    means: Floats = (steps.sum(axis=1) - (steps[:, 0] + steps[:, -1]) / 2) / (STEPS - 1)
    return means
