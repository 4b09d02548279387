"""Prompts to learn from as numbers: embedded, weighed, parted into folds; and the doubts that they teach."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from router.arrays import Floats
from router.classifiers.crossfit import FOLDS, Corpus, apart
from router.classifiers.lexicon import Lexicon
from router.classifiers.linear import Readings, log_softmax
from router.classifiers.uncertainty import Signs, Uncertainty, centroids_of, distances_to, entropies
from router.data.dataset import Example, folds
from router.data.plain_prompts import plain_prompts
from router.decision import GENERAL
from router.embedders.cache import EmbeddingCache
from router.errors import DatasetError
from router.progress import Progress

PLAIN_IMPORTANCE = 10.0
"""Plain prompts are few and look like what people send. With 1 instead of 10, 91 instead of 96 % of those
kept out of training had the right category; the data's accuracy moved by 0.1 points."""
DOUBTED = 0.05
"""Share of the prompts."""


def labelled_of(data: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """The data's labelled prompts with the shipped plain ones of ``general`` and of the categories the data
    has, and the data's prompts without a label."""
    labelled = [example for example in data if example.category is not None]
    if not labelled:
        raise DatasetError("no line has a category, so there is nothing to learn")
    wanted = {example.category for example in labelled} | {GENERAL}
    plain = [example for example in plain_prompts() if example.category in wanted]
    return labelled + plain, [example for example in data if example.category is None]


def read(
    examples: Sequence[Example], embeddings: EmbeddingCache, lexicon: Lexicon, progress: Progress
) -> Readings:
    blocks = []
    for start in range(0, len(examples), 100):
        block = examples[start : start + 100]
        blocks.append(embeddings.embed([example.prompt for example in block]))
        progress("embedding", start + len(block), len(examples))
    grams = lexicon.matrix([example.prompt for example in examples])
    return Readings(np.concatenate(blocks), grams, lexicon)


def corpus_of(
    examples: Sequence[Example],
    labels: Sequence[str],
    experts: Sequence[str],
    embeddings: EmbeddingCache,
    lexicon: Lexicon,
    progress: Progress,
) -> Corpus:
    plain = np.array([example.kind == "plain" for example in examples])
    # Together they never count more than the data, so that a small data set is not drowned.
    share = min(PLAIN_IMPORTANCE, (~plain).sum() / max(1, plain.sum()))
    index_of = {label: index for index, label in enumerate(labels)}
    return Corpus(
        read(examples, embeddings, lexicon, progress),
        np.array([index_of[example.category or GENERAL] for example in examples]),
        np.where(plain, share, 1.0),
        plain,
        folds(examples, FOLDS),
        np.array([[example.scores.get(name, np.nan) for name in experts] for example in examples]).reshape(
            len(examples), len(experts)
        ),
    )


def doubts_of(corpus: Corpus, logits: Floats, seed: int) -> tuple[Uncertainty, NDArray[np.bool_]]:
    """Fits the doubts, and says whether each prompt is doubted when it is not trained on."""

    def distances(others: Corpus, readings: Readings) -> Floats:
        return distances_to(landmarks_of(others, seed), readings.vectors)

    def oddities(others: Corpus, readings: Readings) -> Floats:
        assert others.readings.lexicon is not None
        return others.readings.lexicon.oddities(readings.grams)

    signs = Signs(
        entropies(np.exp(log_softmax(logits))),
        apart(corpus, distances),
        apart(corpus, oddities),
    )
    uncertainty = Uncertainty.of(
        landmarks_of(corpus, seed), signs, importance=corpus.importance, doubted=DOUBTED
    )
    return uncertainty, uncertainty.surprises(signs) > uncertainty.max_surprise


def landmarks_of(corpus: Corpus, seed: int) -> NDArray[np.float32]:
    """Thirty-two centroids for each category, and every plain prompt: those are spread too thin to have a
    centre."""
    plain = corpus.plain
    centroids = centroids_of(corpus.vectors[~plain], corpus.targets[~plain], each=32, seed=seed)
    return np.concatenate([centroids, corpus.vectors[plain]]).astype(np.float16).astype(np.float32)
