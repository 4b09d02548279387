"""The rivals of ``coe bench routers`` and their settings, chosen by the area under their curves.

Each setting is tried on the same random fifths of the training prompts, fitted to the rest of them, where no
near twin of the fifth is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.routers.contest import Contestant, Graded, Pool, graded
from benchmarks.routers.curve import Curves, area
from benchmarks.routers.label_routers import Labelled, PricedClusters, WeighedClusters
from benchmarks.routers.two_model_routers import MatrixFactorisation, SimilarityWeighted
from router.arrays import Vectors
from router.data.dataset import Example, split
from router.progress import Progress

CLUSTERS = (8, 16, 32, 64, 128)
ROUNDS = 3
"""Random fifths."""
TwoModels = MatrixFactorisation | SimilarityWeighted


@dataclass(frozen=True, slots=True)
class Family:
    """A way to route and the settings to choose from."""

    name: str
    candidates: Sequence[Contestant]


def families(strong: str, seed: int) -> list[Family]:
    """The rivals, the plain reference first."""
    return [
        Family("labels, price", [Labelled()]),
        Family(
            "k-means, price",
            [PricedClusters(clusters, prior, seed) for clusters in CLUSTERS for prior in (0.0, 20.0)],
        ),
        Family(
            "k-means, alpha",
            [WeighedClusters(clusters, nearest, seed) for clusters in CLUSTERS for nearest in (1, 4)],
        ),
        Family(
            "matrix factorisation",
            [
                MatrixFactorisation(strong, dimension, noise, draws, rate, seed=seed)
                for dimension in (16, 128)
                for noise in (0.0, 0.1)
                for draws in (False, True)
                for rate in (3e-4, 3e-3)
            ],
        ),
        Family(
            "similarity-weighted",
            [
                SimilarityWeighted(strong, base, draws)
                for base in (10.0, 100.0, 1000.0, 10000.0)
                for draws in (False, True)
            ],
        ),
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Round:
    fitting: Graded
    validation: Graded


class Tuning:
    """Chooses settings, and never sees a test prompt."""

    def __init__(
        self, pool: Pool, train: Sequence[Example], vectors: Mapping[str, Vectors], progress: Progress
    ) -> None:
        """Raises DatasetError where a fifth of ``train`` is too little."""
        self._pool = pool
        self._rounds = [_round(pool, train, vectors, number) for number in range(ROUNDS)]
        self._progress = progress

    def contestants(self, family: Family) -> Iterator[tuple[str, Contestant]]:
        """The best candidate by name; where it chooses between two models, also the best pair, if another."""
        best = self._best(family.name, family.candidates)
        yield family.name, best
        if isinstance(best, MatrixFactorisation | SimilarityWeighted):
            paired = self._best(f"{family.name}, pairs", _pairs(best, self._pool))
            if paired != best:
                yield f"{family.name}, best pair", paired

    def _best(self, name: str, candidates: Sequence[Contestant]) -> Contestant:
        """The one with the greatest area; of equals the first."""
        if len(candidates) == 1:
            return candidates[0]
        areas = []
        for number, candidate in enumerate(candidates):
            self._progress(f"tuning {name}", number, len(candidates))
            areas.append(sum(_area(candidate, each) for each in self._rounds))
        return candidates[areas.index(max(areas))]


def _round(pool: Pool, train: Sequence[Example], vectors: Mapping[str, Vectors], number: int) -> _Round:
    """Other ids, so that a part of a split is split anew."""
    parts = split([replace(example, id=f"tuning {number}/{example.id}") for example in train])
    validation = graded(pool, [*parts.calibration, *parts.held_out], "validation")
    fitting = graded(pool, parts.fit, "tuning")
    return _Round(Graded.of(pool, fitting, vectors), Graded.of(pool, validation, vectors))


def _area(candidate: Contestant, on: _Round) -> float:
    choices = candidate.fit(on.fitting).choices(on.validation.prompts, on.validation.vectors)
    return float(area(Curves.over(on.validation, 0, 0).of(choices))[0])


def _pairs(router: TwoModels, pool: Pool) -> list[TwoModels]:
    """Returns the router between the cheapest expert and each of the others."""
    return [replace(router, strong=name) for name in pool.names[1:]]
