"""A stage of a router: a classifier on one embedder, and what it says of prompts it has not learned from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.arrays import Floats
from router.classifiers.classifier import Classifier
from router.classifiers.crossfit import Corpus
from router.classifiers.learner import Learner, cross_fitted
from router.classifiers.linear import log_softmax
from router.classifiers.uncertainty import Uncertainty
from router.progress import Progress
from router.training.corpus import doubts_of


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    classifier: Classifier
    """Fitted on all prompts."""
    uncertainty: Uncertainty
    logits: Floats
    """[n, labels] of the prompts, each from training without it."""
    doubted: NDArray[np.bool_]
    """[n]"""

    @property
    def confidence(self) -> Floats:
        """[n], of the most probable label."""
        return np.asarray(np.exp(log_softmax(self.logits)).max(axis=1))

    def alone(self, limits: Floats | float) -> NDArray[np.bool_]:
        """[n], whether it is sure of a prompt: as confident as the limit, [n] or one for all, and without a
        doubt."""
        return np.asarray((self.confidence >= limits) & ~self.doubted)

    def or_else(self, other: "Stage", limits: Floats | float) -> tuple[Floats, NDArray[np.bool_]]:
        """[n, labels] and [n]: logits and doubts of both as a cascade, in which this one decides alone where
        it is sure."""
        alone = self.alone(limits)
        logits = np.where(alone[:, None], self.logits, other.logits)
        return logits, np.where(alone, False, other.doubted)


def fit_stage(learner: Learner, corpus: Corpus, seed: int, progress: Progress) -> Stage:
    """Fits a classifier and its doubts, and says of each prompt what they say without it."""
    classifier, logits = cross_fitted(learner, corpus, progress)
    uncertainty, doubted = doubts_of(corpus, logits, seed)
    return Stage(classifier, uncertainty, logits, doubted)
