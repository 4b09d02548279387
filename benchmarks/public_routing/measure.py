"""``coe bench public-routing``: what the router's predictions recover of a gap, on published grades.

Each prompt is predicted by a model that learned from the other four fifths of its set, near twins in one
fold; the order is by how much more the strong model is expected to score. Nothing was tuned on these sets.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.public_routing.gap import Recovered, recovered
from benchmarks.public_routing.grades import SETS, STRONG, WEAK, graded
from router.arrays import Floats
from router.classifiers.crossfit import FOLDS, Corpus, apart
from router.classifiers.lexicon import Lexicon
from router.classifiers.linear import Readings
from router.data.dataset import Example, folds
from router.embedders.cache import EmbeddingCache
from router.embedders.embedder import Embedder
from router.mapping.expected_scores import fit_expected
from router.progress import Progress


@dataclass(frozen=True, slots=True)
class Report:
    """Set and order to what is recovered. ``subjects``: calls by the mean gap of the prompt's subject."""

    embedder: str
    rows: dict[str, dict[str, Recovered]]

    def json(self) -> dict[str, Any]:
        return asdict(self)


def measure(checkout: Path, embedder: Embedder, cache: Path | None, seed: int, progress: Progress) -> Report:
    """Raises DatasetError, EmbedderError."""
    rows: dict[str, dict[str, Recovered]] = {}
    for name in SETS:
        examples = graded(checkout, name)
        grades = np.array([[example.scores[WEAK], example.scores[STRONG]] for example in examples])
        fold_of = folds(examples, FOLDS)
        orders = {"ours": _ours(examples, grades, fold_of, embedder, cache, progress)}
        if name == "mmlu":
            orders["subjects"] = _subjects(examples, grades, fold_of)
        rows[name] = {
            order: recovered(wanted, grades[:, 0], grades[:, 1], seed) for order, wanted in orders.items()
        }
    return Report(embedder.name, rows)


def _ours(
    examples: Sequence[Example],
    grades: Floats,
    fold_of: "np.ndarray[tuple[int], np.dtype[np.int64]]",
    embedder: Embedder,
    cache: Path | None,
    progress: Progress,
) -> Floats:
    """[n] how much more the strong model is expected to score."""
    prompts, vectors = [example.prompt for example in examples], EmbeddingCache(embedder, cache)
    blocks = []
    try:
        for start in range(0, len(prompts), 200):
            blocks.append(vectors.embed(prompts[start : start + 200]))
            progress("embedding", min(start + 200, len(prompts)), len(prompts))
    finally:
        vectors.close()
    lexicon = Lexicon.of(prompts)
    readings = Readings(np.concatenate(blocks), lexicon.matrix(prompts), lexicon)
    count = len(prompts)
    corpus = Corpus(
        readings,
        np.zeros(count, dtype=np.int64),
        np.ones(count),
        np.zeros(count, dtype=np.bool_),
        fold_of,
        grades,
    )
    done = iter(range(1, FOLDS + 1))

    def predicted(others: Corpus, those: Readings) -> Floats:
        progress("predicting", next(done), FOLDS)
        return fit_expected(others.readings, others.grades, others.grades.mean(axis=0)).many(those)

    scores = apart(corpus, predicted)
    return np.asarray(scores[:, 1] - scores[:, 0])


def _subjects(
    examples: Sequence[Example], grades: Floats, fold_of: "np.ndarray[tuple[int], np.dtype[np.int64]]"
) -> Floats:
    """[n] the mean gap of the prompt's subject in the other folds."""
    subjects = np.array([example.category for example in examples])
    gap, wanted = grades[:, 1] - grades[:, 0], np.zeros(len(examples))
    for fold in range(FOLDS):
        for subject in np.unique(subjects):
            mine = (subjects == subject) & (fold_of == fold)
            others = (subjects == subject) & (fold_of != fold)
            wanted[mine] = gap[others].mean() if others.any() else gap.mean()
    return wanted
