"""The quick stage of a cascade: it reads a prompt first, and decides alone where it is sure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.arrays import Floats
from router.artifacts.manifest import EmbedderRecord, QuickRecord
from router.artifacts.stage_arrays import Arrays, doubts_of, linear_of, of_doubts, of_linear
from router.classifiers.classifier import LinearClassifier
from router.classifiers.lexicon import Reading
from router.classifiers.linear import log_softmax
from router.classifiers.uncertainty import Uncertainty

NARROW = 1e-3
"""Tolerance of a probability, or in bits of surprise: a thousand times what the order of a sum may change."""
SHORT = 200
"""Characters up to which a prompt is short."""


@dataclass(frozen=True, slots=True, eq=False)
class Quick:
    """A classifier on a cheap embedder, with doubts of its own."""

    embedder: EmbedderRecord
    classifier: LinearClassifier
    uncertainty: Uncertainty
    short_limit: float
    """Confidence from which on it decides alone, if it has no doubt, about prompts of at most ``SHORT``
    characters; over 1 where it never does."""
    longer_limit: float
    """The same for longer ones."""
    alone: float
    """Share of the training's prompts that it decides alone."""
    difference: tuple[float, float, float]
    """Points of prompts that get their category, over the other stage alone: value, and its 95 % interval."""

    def is_sure(self, length: int, chances: Floats, reading: Reading, oddity: float) -> bool:
        """Says whether a prompt of so many characters whose categories have these ``chances`` needs no second
        reading."""
        limit = self.short_limit if length <= SHORT else self.longer_limit
        sure = float(chances.max()) >= limit
        return sure and not self.uncertainty.doubts(chances, reading.vector, oddity)

    def are_sure(
        self, lengths: Sequence[int], readings: Sequence[Reading], oddities: Sequence[float]
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """``is_sure`` of prompts of so many characters at once: [n, labels], their chances, and [n], whether
        they surely need no second reading. What is within ``NARROW`` of a limit is not sure: there the last
        bits of a product of matrices might say otherwise than those of a prompt by itself."""
        scaled = self.classifier.logits.several(readings) / self.classifier.temperature
        chances = np.asarray(np.exp(log_softmax(scaled)))
        first, *others = np.sort(chances, axis=1).T[::-1]
        sure = first >= self.limits_of(np.array(lengths)) + NARROW
        if others:
            sure &= first - others[0] > NARROW
        rows = np.flatnonzero(sure)
        if len(rows):
            vectors = np.stack([readings[row].vector for row in rows])
            odd = np.array([oddities[row] for row in rows])
            sure[rows] = ~self.uncertainty.may_doubt(chances[rows], vectors, odd, NARROW)
        return chances, sure

    def limits_of(self, lengths: NDArray[np.int64]) -> Floats:
        """[n], the limit for each of prompts of so many characters."""
        return np.where(lengths <= SHORT, self.short_limit, self.longer_limit)

    def arrays(self, added: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Its numbers, as an artifact's file names them."""
        numbers = of_doubts("quick.", self.uncertainty, added)
        return numbers | of_linear("quick.logits", self.classifier.logits)

    def described(self, added: Sequence[str]) -> QuickRecord:
        """Describes it for a manifest."""
        return QuickRecord(
            embedder=self.embedder,
            temperature=self.classifier.temperature,
            max_surprise=self.uncertainty.max_surprise,
            added=dict(zip(added, (each.reach for each in self.uncertainty.added), strict=True)),
            short_limit=self.short_limit,
            longer_limit=self.longer_limit,
            alone=self.alone,
            difference=self.difference,
        )

    @classmethod
    def of(cls, record: QuickRecord, labels: tuple[str, ...], arrays: Arrays) -> "Quick":
        """Makes it of what ``arrays`` and ``described`` gave."""
        return cls(
            record.embedder,
            LinearClassifier(labels, linear_of("quick.logits", arrays), record.temperature),
            doubts_of("quick.", arrays, record.max_surprise, record.added),
            record.short_limit,
            record.longer_limit,
            record.alone,
            record.difference,
        )
