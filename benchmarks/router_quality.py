"""``coe bench routers``: our router and others' on the same test prompts, from the same embeddings.

Rivals are tuned on a part of the training prompts that shares no question with the rest, by the area under
their curve, and then trained on all of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.label_routers import Labelled, PricedClusters, WeighedClusters
from benchmarks.mapped_artifact import MappedArtifact
from benchmarks.router_contest import Contestant, Graded, Pool, graded
from benchmarks.router_curve import Curves, area
from benchmarks.router_standings import Entry, Report, report
from benchmarks.two_model_routers import MatrixFactorisation, SimilarityWeighted
from router.artifact import Artifact
from router.dataset import Example, split
from router.embed import Embedder, MiniLmOnnx, Vectors
from router.embed_endpoint import embedder_of
from router.embedding_cache import EmbeddingCache
from router.errors import DatasetError
from router.pipeline import Router

BLOCK = 100
"""Prompts embedded between two looks at the progress."""
CLUSTERS = (8, 16, 32, 64, 128)
Progress = Callable[[str, int, int], None]
TwoModels = MatrixFactorisation | SimilarityWeighted


@dataclass(frozen=True, slots=True)
class Family:
    """A way to route and the settings to choose from."""

    name: str
    candidates: Sequence[Contestant]


@dataclass(frozen=True, slots=True)
class Trial:
    """What is compared with what. Raises DatasetError where training and test share a prompt."""

    train: Sequence[Example]
    test: Sequence[Example]
    pool: Pool
    strong: str | None = None
    """Who answers in a two-model router beside the cheapest; None: who has the best mean in training."""
    budgets: Sequence[float] = ()
    """At which gains are reported, in billions."""
    resamples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.strong is not None and self.strong not in self.pool.names[1:]:
            raise DatasetError(
                f"{self.strong!r} is not an expert to put beside {self.pool.names[0]!r}, the cheapest; "
                f"choose one of {', '.join(self.pool.names[1:])}"
            )
        known = {example.prompt for example in self.train}
        for example in self.test:
            if example.prompt in known:
                raise DatasetError(
                    f"test prompt {example.id!r} is a training prompt too; leave it out of one"
                )


def measure_folder(trial: Trial, folder: Path | None, cache: Path | None, progress: Progress) -> Report:
    """``folder``: of the artifact that is compared, if any. ``cache``: a file that keeps embeddings between
    runs. Raises what ``measure`` does."""
    artifact = None if folder is None else Artifact.read(folder)
    embedder = EmbeddingCache(MiniLmOnnx() if artifact is None else embedder_of(artifact.embedder), cache)
    try:
        return measure(trial, embedder, artifact, progress)
    finally:
        embedder.close()


def measure(trial: Trial, embedder: Embedder, artifact: Artifact | None, progress: Progress) -> Report:
    """``embedder`` is everybody's; it is the artifact's where there is one.

    Raises DatasetError, EmbedderError, MappingError, and ArtifactError for an artifact of another embedder.
    """
    pool = trial.pool
    train, test = graded(pool, trial.train, "training"), graded(pool, trial.test, "test")
    ours = None if artifact is None else MappedArtifact.of(Router(artifact, embedder), pool)
    vectors = _embedded([*train, *test], embedder, progress)
    fitting, validation = _tuning_parts(pool, train, vectors)
    bench = _Bench(Graded.of(pool, train, vectors), Graded.of(pool, test, vectors), fitting, validation)
    entries = [] if ours is None else [bench.entry("ours", ours)]
    rivals = families(trial.strong or _strongest(bench.train), trial.seed)
    for number, family in enumerate(rivals):
        progress(f"tuning {family.name}", number, len(rivals))
        entries.extend(bench.entries(family))
    progress("comparing", len(rivals), len(rivals))
    curves = Curves.over(bench.test, trial.resamples, trial.seed, trial.budgets)
    return report(curves, entries, len(train))


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
                MatrixFactorisation(strong, dimension, noise, draws, seed=seed)
                for dimension in (8, 32, 128)
                for noise in (0.0, 0.05, 0.1)
                for draws in (False, True)
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
class _Bench:
    train: Graded
    test: Graded
    fitting: Graded
    """The training prompts without ``validation``."""
    validation: Graded

    def entries(self, family: Family) -> Iterator[Entry]:
        """The best candidate; and where it chooses between two models, the best pair if it is another."""
        best = self.tuned(family.candidates)
        yield self.entry(family.name, best)
        if isinstance(best, MatrixFactorisation | SimilarityWeighted):
            paired = self.tuned(_pairs(best, self.train.pool))
            if paired != best:
                yield self.entry(f"{family.name}, best pair", paired)

    def tuned(self, candidates: Sequence[Contestant]) -> Contestant:
        """The one with the greatest area on ``validation``; of equals the first."""
        if len(candidates) == 1:
            return candidates[0]
        curves = Curves.over(self.validation, 0, 0)

        def reached(candidate: Contestant) -> float:
            chooser = candidate.fit(self.fitting)
            return float(
                area(curves.of(chooser.choices(self.validation.prompts, self.validation.vectors)))[0]
            )

        return max(candidates, key=reached)

    def entry(self, name: str, contestant: Contestant) -> Entry:
        chooser = contestant.fit(self.train)
        return Entry(name, repr(contestant), chooser.choices(self.test.prompts, self.test.vectors))


def _strongest(train: Graded) -> str:
    """The dearer expert with the best mean."""
    return train.pool.names[1 + int(train.scores.mean(axis=0)[1:].argmax())]


def _pairs(router: TwoModels, pool: Pool) -> list[TwoModels]:
    """The same router between the cheapest expert and each of the others."""
    return [replace(router, strong=name) for name in pool.names[1:]]


def _tuning_parts(
    pool: Pool, train: Sequence[Example], vectors: Mapping[str, Vectors]
) -> tuple[Graded, Graded]:
    """Four fifths to fit on and the rest. Other ids, so that a part of a split is split anew."""
    parts = split([replace(example, id=f"tuning/{example.id}") for example in train])
    validation = graded(pool, [*parts.calibration, *parts.held_out], "validation")
    return Graded.of(pool, parts.fit, vectors), Graded.of(pool, validation, vectors)


def _embedded(examples: Sequence[Example], embedder: Embedder, progress: Progress) -> dict[str, Vectors]:
    prompts = list(dict.fromkeys(example.prompt for example in examples))
    found: dict[str, Vectors] = {}
    for start in range(0, len(prompts), BLOCK):
        block = prompts[start : start + BLOCK]
        progress("embedding", start, len(prompts))
        found |= dict(zip(block, embedder.embed(block), strict=True))
    return found
