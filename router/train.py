"""Labelled prompts to a router: embed, fit, calibrate, map, measure, write.

The same data and seed give the same bytes on one machine. Another BLAS, or another number of
its threads, adds in another order and moves the last bits.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from router.artifact import Artifact, HeldOutMetrics, TrainingRecord
from router.classify import Floats, LinearClassifier, Targets, calibrated, fit_linear
from router.dataset import Example, Kind, Split, plain_copies, split
from router.embed import Embedder, MiniLmOnnx, Vectors
from router.embed_endpoint import record_of
from router.embedding_cache import EmbeddingCache
from router.errors import DatasetError
from router.evaluate import Evaluation, Progress, evaluate
from router.mapping import GENERAL, ExpertMapping
from router.pipeline import Router
from router.plain_prompts import plain_prompts
from router.uncertainty import Uncertainty, centroids_of, thresholds_from


@dataclass(frozen=True, slots=True)
class _Part:
    vectors: Vectors
    targets: Targets
    importance: Floats
    plain: NDArray[np.bool_]


def train(
    data: Sequence[Example],
    out: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    experts: Sequence[str] = (),
    seed: int = 0,
    description: str = "",
    renamed: Mapping[str, str] | None = None,
    embedder: Embedder | None = None,
    cache: Path | None = None,
    progress: Progress = lambda *_: None,
) -> Router:
    """Writes the artifact to ``out`` and returns the router read back from it.

    The second step is ``mapping`` (category to expert), or chosen among ``experts`` by the data's scores.
    ``renamed`` turns categories of the data into others; by default ``other`` becomes ``general``.
    ``cache`` is a file that keeps embeddings between runs. Raises DatasetError, MappingError, EmbedderError
    or ArtifactError; then nothing is written.
    """
    renamed = {"other": GENERAL} if renamed is None else renamed
    examples = _labelled(data, renamed)
    parts = split(examples)
    labels = sorted({example.category or GENERAL for example in examples})
    chosen = _mapping(mapping, experts, (*parts.fit, *parts.calibration), labels)
    embedder = embedder or MiniLmOnnx()
    embeddings = EmbeddingCache(embedder, cache)
    try:
        classifier, uncertainty = _fit(parts, labels, embeddings, seed, progress)
        artifact = Artifact(
            record_of(embedder),
            classifier,
            uncertainty,
            chosen,
            _record(parts, data, seed=seed, description=description, renamed=renamed),
        )
        measured = evaluate(Router(artifact, embeddings), parts.held_out, seed=seed, progress=progress)
    finally:
        embeddings.close()
    replace(artifact, held_out=_metrics(measured)).write(out)
    return Router(Artifact.read(out), embedder)


def _labelled(data: Sequence[Example], renamed: Mapping[str, str]) -> list[Example]:
    """The data's labelled prompts, and the shipped plain ones of ``general`` and of the categories the data
    has."""
    labelled = [
        replace(example, category=renamed.get(example.category, example.category))
        for example in data
        if example.category is not None
    ]
    if not labelled:
        raise DatasetError("no line has a category, so there is nothing to learn")
    wanted = {example.category for example in labelled} | {GENERAL}
    return labelled + [example for example in plain_prompts() if example.category in wanted]


def _mapping(
    given: Mapping[str, str] | None,
    experts: Sequence[str],
    examples: Sequence[Example],
    labels: Sequence[str],
) -> ExpertMapping:
    if given is not None:
        return ExpertMapping.given(given, labels)
    return ExpertMapping.from_scores(examples, experts, labels)


def _fit(
    parts: Split, labels: Sequence[str], embeddings: EmbeddingCache, seed: int, progress: Progress
) -> tuple[LinearClassifier, Uncertainty]:
    importance = _importance(parts.fit)
    fit = _embedded(_with_copies(parts.fit), importance, labels, embeddings, progress)
    calibration = _embedded(parts.calibration, importance, labels, embeddings, progress)
    classifier = fit_linear(fit.vectors, fit.targets, labels, importance=fit.importance)
    classifier = calibrated(classifier, calibration.vectors, calibration.targets)
    confidences = np.array([classifier.probabilities(vector).max() for vector in calibration.vectors])
    uncertainty = thresholds_from(
        _landmarks(fit, seed),
        calibration.vectors,
        confidences,
        importance=calibration.importance,
        unsure_share=0.05,
        far_share=0.03,
    )
    return classifier, uncertainty


def _importance(examples: Sequence[Example]) -> Mapping[Kind, float]:
    """How much an example counts in fitting.

    Plain prompts are few and look like what people send: with 20 instead of 10, 89.2 instead of 86.6 % of
    those kept out of fitting reached the right expert, and benchmark accuracy moved by 0.1 points. Together
    they never count more than the data, so that a small data set is not drowned.
    """
    plain = sum(example.kind == "plain" for example in examples)
    share = (len(examples) - plain) / plain if plain else 0.0
    return {"data": 1.0, "question": 0.5, "sentence": 0.3, "plain": min(20.0, share)}


def _landmarks(fit: _Part, seed: int) -> NDArray[np.float32]:
    """Sixteen centroids for each category, and every plain prompt: those are spread too thin to have a
    centre."""
    plain = fit.plain
    return (
        np.concatenate(
            [centroids_of(fit.vectors[~plain], fit.targets[~plain], each=16, seed=seed), fit.vectors[plain]]
        )
        .astype(np.float16)
        .astype(np.float32)
    )


def _with_copies(examples: Sequence[Example]) -> list[Example]:
    """Each text once: a sentence that opens a hundred prompts is one thing to learn."""
    every = [*examples, *(copy for example in examples for copy in plain_copies(example))]
    return list({(example.prompt, example.category): example for example in reversed(every)}.values())[::-1]


def _embedded(
    examples: Sequence[Example],
    importance: Mapping[Kind, float],
    labels: Sequence[str],
    embeddings: EmbeddingCache,
    progress: Progress,
) -> _Part:
    blocks = []
    for start in range(0, len(examples), 100):
        block = examples[start : start + 100]
        blocks.append(embeddings.embed([example.prompt for example in block]))
        progress("embedding", start + len(block), len(examples))
    return _Part(
        np.concatenate(blocks),
        np.array([labels.index(example.category or GENERAL) for example in examples]),
        np.array([importance[example.kind] for example in examples]),
        np.array([example.kind == "plain" for example in examples]),
    )


def _record(
    parts: Split, data: Sequence[Example], *, seed: int, description: str, renamed: Mapping[str, str]
) -> TrainingRecord:
    digest = hashlib.sha256()
    for example in data:
        line = [example.id, example.prompt, example.category, sorted(example.scores.items())]
        digest.update(json.dumps(line).encode())
    return TrainingRecord(
        description=description,
        data_sha256=digest.hexdigest(),
        seed=seed,
        renamed=dict(renamed),
        fit=len(parts.fit),
        calibration=len(parts.calibration),
        held_out=len(parts.held_out),
    )


def _metrics(measured: Evaluation) -> HeldOutMetrics:
    return HeldOutMetrics(
        accuracy=round(measured.accuracy.value, 4),
        macro_f1=round(measured.macro_f1.value, 4),
        expected_calibration_error=round(measured.expected_calibration_error, 4),
        coverage=round(measured.coverage, 4),
        expert_accuracy=round(measured.expert_accuracy.value, 4),
    )
