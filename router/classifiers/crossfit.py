"""Everything learnt, once with all prompts and once more for each fold without it.

What is said of prompts by a model that has not seen them is what the temperature, the doubts, the score table
and the reported accuracy are taken from, so no prompt is lost to a part that only measures.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from router.arrays import Floats, Targets, Vectors
from router.classifiers.lexicon import Lexicon
from router.classifiers.linear import Readings

FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Prompts to learn from. The plain ones are among them."""

    readings: Readings
    targets: Targets
    """[n], each an index into the labels; -1 for one without a label."""
    importance: Floats
    """[n], how much each counts in fitting."""
    plain: NDArray[np.bool_]
    folds: NDArray[np.int64]
    """[n], 0 to FOLDS - 1."""
    grades: Floats
    """[n, experts], NaN for not graded."""

    def __getitem__(self, rows: NDArray[np.bool_]) -> "Corpus":
        return Corpus(
            self.readings[rows],
            self.targets[rows],
            self.importance[rows],
            self.plain[rows],
            self.folds[rows],
            self.grades[rows],
        )

    @property
    def vectors(self) -> Vectors:
        return self.readings.vectors


def apart(corpus: Corpus, learn: Callable[[Corpus, Readings], Floats]) -> Floats:
    """[n, ...]: for each fold, what ``learn`` says of its prompts after learning from the other folds, which
    the lexicon too has learned from alone."""
    said: list[Floats] = []
    rows: list[NDArray[np.int64]] = []
    for fold in range(FOLDS):
        inside = corpus.folds == fold
        if inside.any():
            part = relearned(corpus, ~inside)
            said.append(learn(part[~inside], part.readings[inside]))
            rows.append(np.flatnonzero(inside))
    together = np.concatenate(said)
    placed = np.empty_like(together)
    placed[np.concatenate(rows)] = together
    return placed


def relearned(corpus: Corpus, seen: NDArray[np.bool_]) -> Corpus:
    """All prompts, with grams as they are weighed by a lexicon of the data's prompts that are ``seen``."""
    if corpus.readings.lexicon is None:
        return corpus
    lexicon = Lexicon.of_grams(corpus.readings.grams[seen & ~corpus.plain])
    return replace(corpus, readings=corpus.readings.weighed_by(lexicon))
