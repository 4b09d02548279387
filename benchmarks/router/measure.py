"""``coe bench router``: how long a decision takes on one core with each embedder, beside its limit.

A router without finer categories is measured as it is, and with as many as training makes of graded prompts.

An artifact with a quick stage is measured as it is too, as ``cascade``. How many prompts that reads twice
depends on the prompts.

The limit of an embedder with a model is that model alone, on tokens made before; of any other, its embedding
alone; of a cascade, that of its quick stage. Decisions and limits take turns, so that what else the machine
does weighs on both. Times are of this thread on the core, so that a busy machine counts little; the wall
clock's stand beside them.
"""

import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from benchmarks.router.clusters import clustered, rows_of
from benchmarks.router.report import Report, Row, Throughput
from router.arrays import Vectors
from router.artifacts.artifact import Artifact
from router.artifacts.manifest import EmbedderRecord
from router.classifiers.classifier import Classifier, LinearClassifier
from router.classifiers.linear import Linear
from router.classifiers.neighbours import NeighbourClassifier
from router.classifiers.uncertainty import Uncertainty
from router.data.plain_prompts import plain_prompts
from router.decision import GENERAL
from router.embedders.embedder import Embedder
from router.embedders.minilm import MiniLmOnnx
from router.embedders.model_files import TOKENIZER
from router.embedders.registry import embedder_of, embedders
from router.progress import Progress
from router.router import Router

LENGTHS = (20, 200, 2000)
"""Tokens of a prompt."""
BATCH = 200
"""Tokens of the prompts that are decided batched."""
TOGETHER = 16
"""Prompts of a batch."""
CASCADE = "cascade"
"""The artifact as it is, if it has a quick stage."""
WARMING = 3
"""Decisions before the first one that counts."""


def measure(folder: Path, decisions: int, seed: int, progress: Progress) -> Report:
    """``folder``: the artifact whose categories, landmarks and map are used. ``decisions``: of each embedder,
    length and number of rows. Raises ArtifactError and EmbedderError.
    """
    load_average, artifact = os.getloadavg()[0], Artifact.read(folder)
    artifacts = [artifact] if artifact.clusters else [artifact, clustered(artifact, seed)]
    prompts = {length: prompts_of(length, decisions + WARMING, seed) for length in LENGTHS}
    rows: list[Row] = []
    batches: list[Throughput] = []
    with one_core():
        contestants = [
            Contestant.alone(measured, opened())
            for opened, measured in product(embedders().values(), artifacts)
        ]
        if artifact.quick is not None:
            contestants.append(Contestant.cascade(artifact))
        total = len(contestants) * (len(LENGTHS) + 1)
        for each in contestants:
            for length, texts in prompts.items():
                progress(f"{each.name}, {length} tokens", len(rows) + len(batches), total)
                rows.append(latency(each, length, texts))
            progress(f"{each.name}, batched", len(rows) + len(batches), total)
            batches.append(throughput(each, prompts[BATCH]))
    progress("done", total, total)
    return Report(
        cores=os.cpu_count() or 1,
        load_average=load_average,
        default=artifact.embedder.name if artifact.quick is None else CASCADE,
        decisions=decisions,
        batch_tokens=BATCH,
        rows=tuple(rows),
        batches=tuple(batches),
    )


class Timed:
    """An Embedder that says how long another one took for its last call."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.seconds = 0.0

    @property
    def name(self) -> str:
        return self.embedder.name

    @property
    def sha256(self) -> str:
        return self.embedder.sha256

    @property
    def dimension(self) -> int:
        return self.embedder.dimension

    def embed(self, texts: Sequence[str]) -> Vectors:
        began = time.thread_time()
        vectors = self.embedder.embed(texts)
        self.seconds += time.thread_time() - began
        return vectors


@dataclass(frozen=True, slots=True)
class Contestant:
    """A router, and the embedders that it may ask, the one that reads every prompt first."""

    name: str
    decider: Router
    embedders: tuple[Timed, ...]

    @classmethod
    def alone(cls, artifact: Artifact, embedder: Embedder) -> "Contestant":
        timed = Timed(embedder)
        return cls(embedder.name, router_on(artifact, timed), (timed,))

    @classmethod
    def cascade(cls, artifact: Artifact) -> "Contestant":
        assert artifact.quick is not None
        quick, slow = Timed(embedder_of(artifact.quick.embedder)), Timed(embedder_of(artifact.embedder))
        return cls(CASCADE, Router(artifact, slow, quick=quick), (quick, slow))

    def embedding_of_last(self) -> float:
        """Seconds that embedding took since this was asked."""
        seconds = sum(each.seconds for each in self.embedders)
        for each in self.embedders:
            each.seconds = 0.0
        return seconds


def router_on(artifact: Artifact, embedder: Embedder) -> Router:
    """The artifact's router on any embedder. Where it was trained on another one its numbers are repeated or
    cut to the dimension: how long a decision takes depends on how many they are, not on what they say."""
    dimension, clusters = embedder.dimension, artifact.clusters
    if clusters is not None:
        expected = replace(
            clusters.expected,
            linear=_read_from(clusters.expected.linear, dimension),
            landmarks=_resized(clusters.expected.landmarks, dimension),
        )
        clusters = replace(clusters, expected=expected)
    fitted = replace(
        artifact,
        embedder=EmbedderRecord(name=embedder.name, dimension=dimension, sha256=embedder.sha256),
        classifier=_classifier_on(artifact.classifier, dimension),
        uncertainty=_doubts_on(artifact.uncertainty, dimension),
        clusters=clusters,
        quick=None,
    )
    return Router(fitted, embedder)


def _classifier_on(classifier: Classifier, dimension: int) -> Classifier:
    if isinstance(classifier, LinearClassifier):
        return replace(classifier, logits=_read_from(classifier.logits, dimension))
    assert isinstance(classifier, NeighbourClassifier)
    return replace(classifier, vectors=_resized(classifier.vectors, dimension))


def _doubts_on(doubts: Uncertainty, dimension: int) -> Uncertainty:
    added = tuple(replace(each, examples=_resized(each.examples, dimension)) for each in doubts.added)
    return replace(doubts, landmarks=_resized(doubts.landmarks, dimension), added=added)


def _read_from(linear: Linear, dimension: int) -> Linear:
    return replace(linear, weights=_resized(linear.weights, dimension))


def _resized(rows: Vectors, dimension: int) -> Vectors:
    return np.resize(rows, (len(rows), dimension))


def prompts_of(length: int, count: int, seed: int) -> list[str]:
    """``count`` texts, each of shipped plain prompts of one category in random order, cut to ``length``
    tokens of MiniLM's vocabulary."""
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    texts, choose = defaultdict[str, list[str]](list), random.Random(seed)
    for example in plain_prompts():
        texts[example.category or GENERAL].append(example.prompt)
    made = []
    for _ in range(count):
        text = " ".join(choose.choices(texts[choose.choice(sorted(texts))], k=length))
        end = tokenizer.encode(text, add_special_tokens=False).offsets[length - 1][1]
        made.append(text[:end])
    return made


def latency(contestant: Contestant, length: int, prompts: Sequence[str]) -> Row:
    whole, embedding, limits, wall = [], [], [], []
    for prompt in prompts:
        limits.append(limit(contestant.embedders[0].embedder, prompt))
        contestant.embedding_of_last()
        began, asked = time.thread_time(), time.perf_counter()
        contestant.decider.decide(prompt)
        whole.append(time.thread_time() - began)
        wall.append(time.perf_counter() - asked)
        embedding.append(contestant.embedding_of_last())
    counted = (tuple(each[WARMING:]) for each in (whole, embedding, limits, wall))
    return Row(contestant.name, rows_of(contestant.decider.artifact), length, *counted)


def throughput(contestant: Contestant, prompts: Sequence[str]) -> Throughput:
    limits = sum(limit(contestant.embedders[0].embedder, prompt) for prompt in prompts)
    began = time.thread_time()
    for place in range(0, len(prompts), TOGETHER):
        batch = prompts[place : place + TOGETHER]
        for prompt, decided in zip(batch, contestant.decider.decide_quickly(batch), strict=True):
            decided or contestant.decider.decide(prompt)
    seconds, rows = time.thread_time() - began, rows_of(contestant.decider.artifact)
    return Throughput(contestant.name, rows, len(prompts) / seconds, len(prompts) / limits)


def limit(embedder: Embedder, prompt: str) -> float:
    """Seconds."""
    if isinstance(embedder, MiniLmOnnx):
        tokens = embedder.tokens_of(prompt)
        began = time.thread_time()
        embedder.vector_of(tokens)
    else:
        began = time.thread_time()
        embedder.embed([prompt])
    return time.thread_time() - began


@contextmanager
def one_core() -> Iterator[None]:
    """This thread, and those it starts, compute on one of the cores they may use."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
