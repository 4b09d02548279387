"""The seam of ``coe bench routers``: prompts graded for every expert, and ways to choose one for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from router.arrays import Floats, Vectors
from router.data.dataset import Example
from router.errors import DatasetError

Choices = NDArray[np.int64]
"""[trade-offs, prompts], the chosen expert's index in the pool."""

FEWEST = 20
"""Prompts that a part needs."""
PRICES = np.concatenate([[0.0], np.geomspace(1e-3, 100.0, 240)])
"""Prices, in score, of all the parameters that the dearest expert has over the cheapest."""


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The experts, cheapest first."""

    names: tuple[str, ...]
    parameters: Floats
    """[experts], in billions, ascending."""

    @classmethod
    def of(cls, sizes: Mapping[str, float]) -> "Pool":
        """``sizes``: in billions. Raises DatasetError for fewer than two sizes."""
        names = sorted(sizes, key=lambda name: sizes[name])
        if len({sizes[name] for name in names}) < 2:
            raise DatasetError("experts of one size have no trade-off between quality and cost; name more")
        return cls(tuple(names), np.array([sizes[name] for name in names]))


@dataclass(frozen=True, slots=True, eq=False)
class Graded:
    """Prompts that every expert of the pool was graded on."""

    pool: Pool
    examples: tuple[Example, ...]
    vectors: Vectors
    scores: Floats
    """[prompts, experts], 0 to 1."""

    @property
    def prompts(self) -> tuple[str, ...]:
        return tuple(example.prompt for example in self.examples)

    @classmethod
    def of(cls, pool: Pool, examples: Sequence[Example], vectors: Mapping[str, Vectors]) -> "Graded":
        """``examples``: all graded. ``vectors``: of each prompt."""
        rows = [vectors[example.prompt] for example in examples]
        scores = [[example.scores[name] for name in pool.names] for example in examples]
        return cls(pool, tuple(examples), np.array(rows), np.array(scores, dtype=np.float64))


def graded(pool: Pool, examples: Sequence[Example], part: str) -> list[Example]:
    """Keeps the examples with a grade of every expert. Raises DatasetError where they are too few."""
    found = [example for example in examples if all(name in example.scores for name in pool.names)]
    if len(found) < FEWEST:
        raise DatasetError(
            f"the {part} part has {len(found)} prompts graded for all of {', '.join(pool.names)}; "
            f"it needs at least {FEWEST}"
        )
    return found


class Chooser(Protocol):
    """A way to route, trained. It sees prompts and never their grades."""

    def choices(self, prompts: Sequence[str], vectors: Vectors) -> Choices:
        """For a series of trade-offs between quality and cost, which expert each prompt goes to."""
        ...


class Contestant(Protocol):
    """A way to route with its settings, before training."""

    def fit(self, train: Graded) -> Chooser:
        """Trains a chooser, which depends on the training prompts alone."""
        ...


def by_price(expected: Floats, parameters: Floats) -> Choices:
    """For each price the expert with the best expected score less its price; of equals the cheapest.

    ``expected``: [prompts, experts]. ``parameters``: [experts], ascending.
    """
    costs = (parameters - parameters[0]) / (parameters[-1] - parameters[0])
    return np.stack([(expected - price * costs).argmax(axis=1) for price in PRICES])
