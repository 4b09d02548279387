"""Labelled prompts to a router: embed, fit, calibrate, group, map, measure, write.

The same data and seed give the same bytes on one machine. Another BLAS, or another number of
its threads, adds in another order and moves the last bits.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from router.arrays import Floats
from router.artifacts.artifact import Artifact
from router.artifacts.manifest import CrossValidated, TrainingRecord
from router.classifiers.crossfit import Corpus
from router.classifiers.learner import Kind, Learner
from router.classifiers.lexicon import Lexicon
from router.classifiers.linear import Readings, log_softmax
from router.data.dataset import Example
from router.decision import GENERAL
from router.embedders.cache import EmbeddingCache
from router.embedders.embedder import Embedder
from router.embedders.minilm import MiniLmOnnx
from router.embedders.registry import record_of
from router.errors import MappingError
from router.mapping.expert_mapping import ExpertMapping
from router.mapping.metrics import calibration_error, macro_f1
from router.mapping.milp import Budgets, solve
from router.progress import Progress
from router.router import Router
from router.training.cascade import quick_stage
from router.training.corpus import corpus_of, labelled_of, read
from router.training.scoring import check_parted, scored
from router.training.stage import fit_stage


def train(
    data: Sequence[Example],
    out: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    experts: Mapping[str, float] | None = None,
    unlabelled: Sequence[Example] = (),
    classifier: Kind = "linear",
    seed: int = 0,
    description: str = "",
    embedder: Embedder | None = None,
    quick: Embedder | None = None,
    finer: bool = True,
    cache: Path | None = None,
    progress: Progress = lambda *_: None,
) -> Router:
    """Writes the artifact to ``out`` and returns the router read back from it.

    The second step is ``mapping`` (category to expert), or the best map over ``experts`` (name to billions of
    parameters) by the data's scores, with finer categories where they help. Prompts without a category, in
    ``data`` or ``unlabelled``, get one from their neighbours where these agree. ``quick`` reads prompts
    first and decides alone where it is sure enough; finer categories are told by its readings, and without
    ``finer`` there are none. ``cache`` is a file that keeps embeddings between runs. Raises DatasetError,
    MappingError, EmbedderError or ArtifactError; then nothing is written.
    """
    examples, without = labelled_of(data)
    without = [*without, *(replace(example, category=None) for example in unlabelled)]
    labels = tuple(sorted({example.category or GENERAL for example in examples}))
    if mapping is None and not experts:
        raise MappingError("the training names no expert: give a mapping, or experts that the data grades")
    given = None if mapping is None else ExpertMapping.given(mapping, labels)
    embedder = embedder or MiniLmOnnx()
    material = _Material(examples, without, labels, tuple(experts or ()), cache, progress)
    corpus, more = material.read_by(embedder)
    check_parted(corpus.folds[~corpus.plain], "labelled")
    stage, first = fit_stage(Learner(classifier, labels, more), corpus, seed, progress), None
    logits, doubted = stage.logits, stage.doubted
    if quick is not None:
        quick_corpus, more = material.read_by(quick)
        quickly = fit_stage(Learner("linear", labels, more), quick_corpus, seed, progress)
        lengths = np.array([len(example.prompt) for example in examples])
        first = quick_stage(record_of(quick), quickly, stage, corpus, lengths, labels, seed)
        if first is not None:
            logits, doubted = quickly.or_else(stage, first.limits_of(lengths))
            corpus = quick_corpus
    best = logits.argmax(axis=1)
    routed = [GENERAL if doubt else labels[index] for doubt, index in zip(doubted, best, strict=True)]
    table, clusters, predictions = None, None, None
    if given is None and experts:
        table, clusters, predictions = scored(corpus, routed, experts, labels, progress, finer=finer)
        label_of = {} if clusters is None else clusters.labels
        given = ExpertMapping.solved(solve(table, Budgets()).experts, table.share_of(), label_of)
    assert given is not None
    Artifact(
        record_of(embedder),
        material.lexicon,
        stage.classifier,
        stage.uncertainty,
        given,
        _record(data, unlabelled, corpus, seed=seed, description=description),
        _measured(corpus, logits, doubted),
        table,
        clusters,
        quick=first,
        predictions=predictions,
    ).write(out)
    return Router(Artifact.read(out), embedder, quick=quick)


@dataclass(frozen=True)
class _Material:
    """The prompts to learn from, to be read by one embedder or by two."""

    examples: Sequence[Example]
    without: Sequence[Example]
    """Prompts without a category."""
    labels: Sequence[str]
    experts: Sequence[str]
    cache: Path | None
    progress: Progress

    @cached_property
    def lexicon(self) -> Lexicon:
        return Lexicon.of(example.prompt for example in self.examples if example.kind == "data")

    def read_by(self, embedder: Embedder) -> tuple[Corpus, Readings | None]:
        """The labelled prompts, and the readings of those that are not."""
        embeddings = EmbeddingCache(embedder, self.cache)
        try:
            corpus = corpus_of(
                self.examples, self.labels, self.experts, embeddings, self.lexicon, self.progress
            )
            more = read(self.without, embeddings, self.lexicon, self.progress) if self.without else None
        finally:
            embeddings.close()
        return corpus, more


def _record(
    data: Iterable[Example], unlabelled: Iterable[Example], corpus: Corpus, *, seed: int, description: str
) -> TrainingRecord:
    digest = hashlib.sha256()
    for example in (*data, *unlabelled):
        line = [example.id, example.prompt, example.category, sorted(example.scores.items())]
        digest.update(json.dumps(line).encode())
    return TrainingRecord(
        description=description,
        data_sha256=digest.hexdigest(),
        seed=seed,
        prompts=int((~corpus.plain).sum()),
        plain=int(corpus.plain.sum()),
    )


def _measured(corpus: Corpus, logits: Floats, doubted: NDArray[np.bool_]) -> CrossValidated:
    """Measures on the data's prompts; the plain ones are not among them."""
    data = ~corpus.plain
    truth, predicted = corpus.targets[data], logits[data].argmax(axis=1)
    right, certain_of = predicted == truth, ~doubted[data]
    confidence = np.exp(log_softmax(logits[data])).max(axis=1)
    return CrossValidated(
        accuracy=round(float(right.mean()), 4),
        macro_f1=round(macro_f1(truth, predicted), 4),
        expected_calibration_error=round(calibration_error(confidence, right), 4),
        coverage=round(float(certain_of.mean()), 4),
        accuracy_when_certain=round(float(right[certain_of].mean()), 4) if certain_of.any() else 0.0,
    )
