"""How a classifier is fitted, whichever kind it is, and what it says of prompts that it has not seen."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from router.arrays import Floats
from router.classifiers.classifier import Classifier, fit_linear, temperature_for
from router.classifiers.crossfit import FOLDS, Corpus, apart
from router.classifiers.linear import Readings
from router.classifiers.neighbours import certain, fit_neighbours, propagate
from router.decision import GENERAL
from router.progress import Progress

Kind = Literal["linear", "neighbours"]

SPREAD_IMPORTANCE = 0.5
"""Importance of a prompt whose label was spread to it from its neighbours."""


@dataclass(frozen=True, slots=True)
class Learner:
    kind: Kind
    labels: tuple[str, ...]
    unlabelled: Readings | None

    def fit(self, corpus: Corpus) -> Classifier:
        spread = None if self.unlabelled is None else self._spread(corpus)
        if self.kind == "neighbours":
            vectors = corpus.vectors[~corpus.plain | (corpus.targets == self.labels.index(GENERAL))]
            targets = corpus.targets[~corpus.plain | (corpus.targets == self.labels.index(GENERAL))]
            known = certain(targets, len(self.labels))
            if spread is not None and self.unlabelled is not None:
                vectors = np.vstack([vectors, self.unlabelled.vectors])
                known = np.vstack([known, spread])
            return fit_neighbours(vectors, known, self.labels)
        readings, targets, importance = corpus.readings, corpus.targets, corpus.importance
        if spread is not None and self.unlabelled is not None:
            decided = np.flatnonzero(spread.any(axis=1))
            more = self.unlabelled[decided].weighed_by(readings.lexicon)
            readings = readings + more
            targets = np.concatenate([targets, spread[decided].argmax(axis=1)])
            importance = np.concatenate([importance, np.full(len(decided), SPREAD_IMPORTANCE)])
        return fit_linear(readings, targets, self.labels, importance=importance)

    def _spread(self, corpus: Corpus) -> NDArray[np.float32]:
        assert self.unlabelled is not None
        seed = ~corpus.plain
        return propagate(
            corpus.vectors[seed],
            corpus.targets[seed],
            self.unlabelled.vectors,
            labels=len(self.labels),
        )


def cross_fitted(learner: Learner, corpus: Corpus, progress: Progress) -> tuple[Classifier, Floats]:
    """The classifier, and its logits of each prompt from training without it, at its temperature."""
    done = iter(range(1, FOLDS + 2))
    progress("classifying", 0, FOLDS + 1)

    def fit(part: Corpus) -> Classifier:
        made = learner.fit(part)
        progress("classifying", next(done), FOLDS + 1)
        return made

    logits = apart(corpus, lambda others, readings: fit(others).logits_of(readings))
    temperature = temperature_for(logits, corpus.targets)
    classifier = fit(corpus)
    progress("classifying", FOLDS + 1, FOLDS + 1)
    return replace(classifier, temperature=temperature), logits / temperature  # type: ignore[type-var]
