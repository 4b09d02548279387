"""How sure a quick stage must be to decide alone, chosen by cross-validation.

A prompt is right if it is routed as its label says, ``general`` being where doubted prompts go. A limit is
the lowest at which the cascade is not worse than the other stage alone by more than ``AT_MOST`` points, and
on the plain prompts by more than ``AT_MOST_PLAIN``, at the lower end of each interval. Short prompts and
longer ones have a limit each: people's own are short, and a second reading of those costs little.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from router.arrays import Floats
from router.artifacts.manifest import EmbedderRecord
from router.artifacts.quick import SHORT, Quick
from router.classifiers.classifier import LinearClassifier
from router.classifiers.crossfit import Corpus
from router.decision import GENERAL
from router.mapping.metrics import Estimate
from router.training.stage import Stage

LIMITS = tuple(round(0.5 + 0.02 * step, 2) for step in range(25))
NEVER = 2.0
"""The limit where none of ``LIMITS`` is good enough: no confidence reaches it."""
AT_MOST = 0.25
"""Points of prompts with the right category: training with other folds moves as many."""
AT_MOST_PLAIN = 1.0
"""They are 600, so that fewer points could not be told from none."""
_RESAMPLES = 1000


def quick_stage(
    embedder: EmbedderRecord,
    quick: Stage,
    other: Stage,
    corpus: Corpus,
    lengths: NDArray[np.int64],
    labels: Sequence[str],
    seed: int,
) -> Quick | None:
    """Returns the quick stage with its limits; None where it is good enough for no prompt. ``lengths``: [n],
    characters of the prompts."""
    assert isinstance(quick.classifier, LinearClassifier)
    short: NDArray[np.bool_] = lengths <= SHORT
    of_short = _limit(quick, other, corpus, short, labels, seed)
    of_longer = _limit(quick, other, corpus, ~short, labels, seed)
    if min(of_short, of_longer) == NEVER:
        return None
    limits = np.where(short, of_short, of_longer)
    found = difference(_change(quick, other, limits, corpus, labels), seed)
    return Quick(
        embedder,
        quick.classifier,
        quick.uncertainty,
        of_short,
        of_longer,
        round(float(quick.alone(limits)[~corpus.plain].mean()), 4),
        (round(found.value, 3), round(found.low, 3), round(found.high, 3)),
    )


def difference(change: NDArray[np.int64], seed: int) -> Estimate:
    """Returns the mean of ``change``, [n] of -1, 0 and 1, in points."""
    counts = np.bincount(change + 1, minlength=3)
    drawn = np.random.default_rng(seed).multinomial(len(change), counts / len(change), _RESAMPLES)
    shares = np.vstack([counts, drawn]) / len(change)
    return Estimate.of(100 * (shares[:, 2] - shares[:, 0]))


def _limit(
    quick: Stage, other: Stage, corpus: Corpus, group: NDArray[np.bool_], labels: Sequence[str], seed: int
) -> float:
    """The limit for the prompts of ``group``, [n]."""
    plain = group & corpus.plain
    for limit in LIMITS if group.any() else ():
        change = _change(quick, other, limit, corpus, labels)
        enough = difference(change[group], seed).low >= -AT_MOST
        if enough and (not plain.any() or difference(change[plain], seed).low >= -AT_MOST_PLAIN):
            return limit
    return NEVER


def _change(
    quick: Stage, other: Stage, limits: Floats | float, corpus: Corpus, labels: Sequence[str]
) -> NDArray[np.int64]:
    """[n]: 1 where only the cascade is right, -1 where only the other stage is."""
    cascade = _right(*quick.or_else(other, limits), corpus, labels)
    return cascade - _right(other.logits, other.doubted, corpus, labels)


def _right(
    logits: Floats, doubted: NDArray[np.bool_], corpus: Corpus, labels: Sequence[str]
) -> NDArray[np.int64]:
    routed = logits.argmax(axis=1)
    if GENERAL in labels:
        routed = np.where(doubted, list(labels).index(GENERAL), routed)
    return np.asarray(routed == corpus.targets, dtype=np.int64)
