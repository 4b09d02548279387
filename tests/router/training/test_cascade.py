from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from scipy.sparse import csr_array

from router.arrays import Vectors
from router.artifacts.artifact import Artifact
from router.classifiers.crossfit import Corpus
from router.classifiers.linear import Readings
from router.embedders.embedder import Embedder
from router.embedders.static import StaticMiniLm
from router.errors import ArtifactError
from router.router import Router
from router.training.add_category import with_category
from router.training.cascade import AT_MOST, LIMITS, NEVER, quick_stage
from router.training.stage import Stage
from router.training.train import train
from tests.router.hashed_words import HashedWords
from tests.router.training.test_training import SIZES, prompts

COOKING = "whisk butter and flour, then roast"
STRANGE = "qwrtz 9#! zxcvb §§ mnbvc"


class Counted(HashedWords):
    """The same vectors, and how many texts were read."""

    def __init__(self) -> None:
        self.read = 0

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.read += len(texts)
        return super().embed(texts)


@cache
def cascade() -> Router:
    """Trained once: static first, words by hash where that is not sure."""
    with TemporaryDirectory() as folder:
        return train(prompts(), Path(folder), experts=SIZES, embedder=HashedWords(), quick=StaticMiniLm())


def on(embedder: Embedder) -> Router:
    return Router(cascade().artifact, embedder)


def test_a_prompt_that_the_quick_stage_is_sure_of_is_read_once() -> None:
    slow = Counted()
    decision = on(slow).decide(COOKING)
    assert (decision.category, slow.read) == ("cooking", 0)


def test_a_prompt_that_the_quick_stage_doubts_is_judged_by_the_other() -> None:
    slow = Counted()
    decision = on(slow).decide(STRANGE)
    artifact = cascade().artifact
    alone = Router(replace(artifact, quick=None, clusters=None), HashedWords()).decide(STRANGE)
    assert slow.read == 1
    assert (decision.category, decision.probabilities) == (alone.category, alone.probabilities)


def test_an_empty_prompt_is_doubted() -> None:
    assert cascade().decide(" ").uncertain


def test_a_cascade_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    cascade().artifact.write(tmp_path)
    before, after = cascade(), Router(Artifact.read(tmp_path), HashedWords())
    for prompt in (COOKING, STRANGE, "anchor the rudder"):
        assert replace(after.decide(prompt), seconds=0) == replace(before.decide(prompt), seconds=0)
    read, written = after.artifact.quick, cascade().artifact.quick
    assert read is not None
    assert written is not None
    assert read.difference == written.difference


def test_a_cascade_is_not_opened_with_another_quick_embedder() -> None:
    with pytest.raises(ArtifactError, match="minilm-static-384"):
        Router(cascade().artifact, HashedWords(), quick=HashedWords())


def test_a_category_that_is_added_is_told_by_both_stages() -> None:
    chess = ["zugzwang fianchetto skewer", "castling gambit skewer", "endgame castling zugzwang"]
    made = with_category(cascade(), "chess", chess, "chat")
    quick = made.artifact.quick
    assert quick is not None
    reading = made.read(chess[0], made.quick_embedder)
    assert quick.classifier.labels[quick.classifier.probabilities(reading).argmax()] == "chess"
    assert made.decide(chess[0]).category == "chess"


def test_the_artifact_says_how_much_the_quick_stage_decides_and_what_that_costs() -> None:
    quick = cascade().artifact.quick
    assert quick is not None
    value, low, high = quick.difference
    assert 0 < quick.alone <= 1
    assert -AT_MOST <= low <= value <= high


def limits_where(right: Sequence[bool]) -> tuple[float, float] | None:
    """The limits of a stage that is as sure as it can be, and ``right`` about each of a number of short
    prompts, beside a stage that always is."""
    quick, count = cascade().artifact.quick, len(right)
    assert quick is not None
    targets, doubted = np.arange(count) % 2, np.zeros(count, dtype=np.bool_)
    said = np.where(right, targets, 1 - targets)
    first, second = (
        Stage(quick.classifier, quick.uncertainty, 40.0 * np.eye(2)[labels], doubted)
        for labels in (said, targets)
    )
    readings = Readings(np.zeros((count, 1), dtype=np.float32), csr_array((count, 1), dtype=np.float32))
    plain = np.arange(count) < 0
    corpus = Corpus(readings, targets, np.ones(count), plain, targets, np.empty((count, 0)))
    found = quick_stage(quick.embedder, first, second, corpus, np.full(count, 9), ["a", "b"], 0)
    return None if found is None else (found.short_limit, found.longer_limit)


def test_a_stage_that_is_as_good_decides_alone_what_it_was_measured_on() -> None:
    assert limits_where([True] * 400) == (LIMITS[0], NEVER)


def test_a_stage_that_is_sure_and_wrong_never_decides_alone() -> None:
    assert limits_where([True] * 390 + [False] * 10) is None
