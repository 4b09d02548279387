"""The rivals that choose between two experts by a threshold, after RouteLLM (arXiv 2406.18665, 4.1 and 4.2).

Both learn from battles: of two experts graded on one prompt the one with the better grade won. They learn
from all pairs of the pool and choose between the cheapest expert and one strong one, which gets the prompts
that it is likely to win.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from benchmarks.routers.contest import Choices, Graded
from router.arrays import Floats, Vectors

Array = TypeVar("Array", Floats, Vectors)

SHARES = np.linspace(0, 1, 101)
"""Shares of the prompts that the weak expert gets."""
BATCH = 64
"""Prompts of a gradient step."""
BLOCK = 256
"""Prompts that are compared at once with all training prompts."""
RIDGE = 1e-3
"""Penalty on a prompt's ratings: keeps that of an expert that never loses finite."""


def battles(scores: Floats, draws: bool) -> Floats:
    """[prompts, experts, experts]: 1 where the first beats the second. ``draws``: equal grades count half
    for each, and not at all otherwise."""
    better = scores[:, :, None] - scores[:, None, :]
    won = np.where(better > 0, 1.0, 0.0)
    if draws:
        won[better == 0] = 0.5
        won[:, np.arange(scores.shape[1]), np.arange(scores.shape[1])] = 0.0
    return won


def by_threshold(win_rates: Floats, strong: int) -> Choices:
    """For each of several thresholds: the strong expert where its win rate reaches it, or the cheapest."""
    thresholds = np.quantile(win_rates, SHARES)
    return np.where(win_rates >= thresholds[:, None], strong, 0)


@dataclass(frozen=True, slots=True)
class MatrixFactorisation:
    """Section 4.2: expert M's rating on prompt q is w . (v_M * (W q + b)), and that of two experts is won by
    Bradley and Terry's model. Fitted by Adam on batches of prompts, with noise on their vectors."""

    strong: str
    dimension: int = 128
    """Dimension of the experts' vectors, each of length one."""
    noise: float = 0.1
    """Standard deviation added to each of a vector's numbers while training."""
    draws: bool = True
    rate: float = 3e-4
    epochs: int = 10
    seed: int = 0

    def fit(self, train: Graded) -> "Ratings":
        random = np.random.default_rng(self.seed)
        won = battles(train.scores, self.draws).astype(np.float32)
        inputs, experts = train.vectors.shape[1], len(train.pool.names)
        adam = _Adam(
            [
                random.normal(0, inputs**-0.5, (self.dimension, inputs)),
                np.zeros(self.dimension),
                random.normal(0, 1, (experts, self.dimension)),
                random.normal(0, self.dimension**-0.5, self.dimension),
            ],
            self.rate,
        )
        for _ in range(self.epochs):
            order = random.permutation(len(won))
            for start in range(0, len(order), BATCH):
                batch = order[start : start + BATCH]
                seen = train.vectors[batch]
                noise = random.standard_normal(seen.shape, dtype=np.float32)
                adam.step(gradients(adam.values, seen + self.noise * noise, won[batch]))
        projection, bias, vectors, weights = adam.values
        ratings = unit(vectors) * weights
        strong = train.pool.names.index(self.strong)
        return Ratings(np.asarray(ratings @ projection), np.asarray(ratings @ bias), strong)


@dataclass(frozen=True, slots=True, eq=False)
class Ratings:
    """The trained factors, multiplied out."""

    weights: Vectors
    """[experts, dimension]."""
    bias: Vectors
    """[experts]."""
    strong: int

    def choices(self, prompts: Sequence[str], vectors: Vectors) -> Choices:
        ratings = (vectors @ self.weights.T + self.bias).astype(np.float64)
        return by_threshold(_won(ratings[:, self.strong] - ratings[:, 0]), self.strong)


class _Adam:
    """Kingma and Ba, arXiv 1412.6980, algorithm 1."""

    def __init__(self, values: Sequence[Floats], rate: float) -> None:
        self.values = [value.astype(np.float32) for value in values]
        self._first = [np.zeros_like(value) for value in self.values]
        self._second = [np.zeros_like(value) for value in self.values]
        self._rate = rate
        self._steps = 0

    def step(self, gradients: Sequence[Vectors]) -> None:
        self._steps += 1
        scale = self._rate * (1 - 0.999**self._steps) ** 0.5 / (1 - 0.9**self._steps)
        for value, first, second, gradient in zip(
            self.values, self._first, self._second, gradients, strict=True
        ):
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient**2 - second)
            value -= scale * first / (np.sqrt(second) + 1e-8)


def gradients(values: Sequence[Array], vectors: Array, won: Array) -> list[Array]:
    """Returns the battles' mean log loss's gradients for the projection, its bias, the experts' vectors and
    the weights."""
    projection, bias, experts, weights = values
    units = unit(experts)
    projected = vectors @ projection.T + bias
    ratings = projected @ (units * weights).T
    expected = _won(ratings[:, :, None] - ratings[:, None, :])
    lost = won.transpose(0, 2, 1)
    of_ratings = (lost * expected - won * (1 - expected)).sum(axis=2) / len(vectors)
    of_projected = of_ratings @ (units * weights)
    of_products = of_ratings.T @ projected
    of_units = of_products * weights
    lengths = np.linalg.norm(experts, axis=1, keepdims=True)
    of_experts = (of_units - units * (of_units * units).sum(axis=1, keepdims=True)) / lengths
    return [
        of_projected.T @ vectors,
        of_projected.sum(axis=0),
        of_experts,
        (of_products * units).sum(axis=0),
    ]


def unit(rows: Array) -> Array:
    """Each row with length one."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=rows.dtype)


def _won(lead: Array) -> Array:
    """How likely the one whose rating is higher by ``lead`` is to win."""
    return np.asarray(1 / (1 + np.exp(-lead)), dtype=lead.dtype)


@dataclass(frozen=True, slots=True)
class SimilarityWeighted:
    """Section 4.1: for each prompt the experts' ratings by Bradley and Terry's model, every training battle
    weighted by ``base`` to the power of its similarity, as a share of the greatest one."""

    strong: str
    base: float = 10.0
    draws: bool = True

    def fit(self, train: Graded) -> "Battles":
        won = battles(train.scores, self.draws)
        return Battles(train.vectors, won, self.base, train.pool.names.index(self.strong))


@dataclass(frozen=True, slots=True, eq=False)
class Battles:
    vectors: Vectors
    won: Floats
    """[training prompts, experts, experts]."""
    base: float
    strong: int

    def choices(self, prompts: Sequence[str], vectors: Vectors) -> Choices:
        blocks = [self._win_rates(vectors[start : start + BLOCK]) for start in range(0, len(vectors), BLOCK)]
        return by_threshold(np.concatenate(blocks), self.strong)

    def _win_rates(self, vectors: Vectors) -> Floats:
        similarities = (vectors @ self.vectors.T).astype(np.float64)
        nearest = similarities.max(axis=1, keepdims=True)
        weights = self.base ** (similarities / nearest - 1)
        won = np.tensordot(weights, self.won, axes=1)
        ratings = bradley_terry(won)
        return _won(ratings[:, self.strong] - ratings[:, 0])


def bradley_terry(won: Floats) -> Floats:
    """[prompts, experts], the likeliest ratings, which add up to 0, by Newton's method.

    ``won``: [prompts, experts, experts], how often (in any unit) the first beat the second.
    """
    won = won / np.maximum(won.sum(axis=(1, 2), keepdims=True), 1e-300)
    met = won + won.transpose(0, 2, 1)
    ratings = np.zeros(won.shape[:2])
    for _ in range(20):
        expected = _won(ratings[:, :, None] - ratings[:, None, :])
        gradient = (won - met * expected).sum(axis=2) - RIDGE * ratings
        steep = met * expected * (1 - expected)
        curvature = -steep
        diagonal = np.arange(won.shape[1])
        curvature[:, diagonal, diagonal] += steep.sum(axis=2) + RIDGE
        ratings = ratings + np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
    return ratings
