"""``coe bench routers``: our router and others' on the same test prompts, from the same embeddings.

Rivals are tuned on training prompts (``router_tuning``) and then trained on all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.routers.contest import Contestant, Graded, Pool, graded
from benchmarks.routers.curve import Curves
from benchmarks.routers.mapped_artifact import MappedArtifact
from benchmarks.routers.standings import Entry, Report, report
from benchmarks.routers.tuning import Tuning, families
from router.arrays import Vectors
from router.artifacts.artifact import Artifact
from router.data.dataset import Example
from router.embedders.cache import EmbeddingCache
from router.embedders.embedder import Embedder
from router.embedders.minilm import MiniLmOnnx
from router.embedders.registry import embedder_of
from router.errors import DatasetError
from router.progress import Progress
from router.router import Router

BLOCK = 100
"""Prompts embedded between two looks at the progress."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Prompts, experts and budgets of a comparison. Raises DatasetError where training and test share a
    prompt, and for budgets that the pool does not have."""

    train: Sequence[Example]
    test: Sequence[Example]
    pool: Pool
    budgets: Sequence[float] = ()
    """At which gains are reported, in billions."""
    resamples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        for budget in self.budgets:
            if not self.pool.parameters[0] <= budget <= self.pool.parameters[-1]:
                raise DatasetError(
                    f"a budget of {budget:g} B is not between the cheapest expert and the dearest, "
                    f"{self.pool.parameters[0]:g} and {self.pool.parameters[-1]:g} B"
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
    """``embedder`` is the one of all contestants; it is the artifact's where there is one.

    Raises DatasetError, EmbedderError, MappingError, and ArtifactError for an artifact of another embedder.
    """
    pool = trial.pool
    train, test = graded(pool, trial.train, "training"), graded(pool, trial.test, "test")
    ours = None if artifact is None else MappedArtifact.of(Router(artifact, embedder), pool)
    vectors = _embedded([*train, *test], embedder, progress)
    learned, tested = Graded.of(pool, train, vectors), Graded.of(pool, test, vectors)
    tuning = Tuning(pool, train, vectors, progress)
    entries = [] if ours is None else [_entry("ours", ours, learned, tested)]
    for family in families(_strongest(learned), trial.seed):
        for name, contestant in tuning.contestants(family):
            progress(f"training {name}", 0, 1)
            entries.append(_entry(name, contestant, learned, tested))
    progress("comparing", 0, 1)
    curves = Curves.over(tested, trial.resamples, trial.seed, trial.budgets)
    return report(curves, entries, len(train))


def _entry(name: str, contestant: Contestant, train: Graded, test: Graded) -> Entry:
    return Entry(name, repr(contestant), contestant.fit(train).choices(test.prompts, test.vectors))


def _strongest(train: Graded) -> str:
    """Names the other expert of a two-model router beside the cheapest: the one with the best mean."""
    return train.pool.names[1 + int(train.scores.mean(axis=0)[1:].argmax())]


def _embedded(examples: Sequence[Example], embedder: Embedder, progress: Progress) -> dict[str, Vectors]:
    prompts = list(dict.fromkeys(example.prompt for example in examples))
    found: dict[str, Vectors] = {}
    for start in range(0, len(prompts), BLOCK):
        block = prompts[start : start + BLOCK]
        progress("embedding", start, len(prompts))
        found |= dict(zip(block, embedder.embed(block), strict=True))
    return found
