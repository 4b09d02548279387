"""A trained router as a folder: ``manifest.json`` and one file of arrays. Numbers only, no prompt.

The arrays' file carries its hash in its name and the manifest is replaced last, so a reader beside a writer
sees the old router or the new one. The same training gives the same bytes.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from router.arrays import Floats
from router.artifacts.files import check_shapes, read_verified
from router.artifacts.manifest import (
    MANIFEST,
    CrossValidated,
    EmbedderRecord,
    Manifest,
    OneStepRecord,
    Scored,
    TrainingRecord,
    read_manifest,
)
from router.artifacts.quick import Quick
from router.artifacts.stage_arrays import Arrays, doubts_of, linear_of, of_doubts, of_linear
from router.atomic_file import replace_file
from router.classifiers.classifier import Classifier, LinearClassifier
from router.classifiers.lexicon import Lexicon
from router.classifiers.neighbours import NeighbourClassifier
from router.classifiers.uncertainty import Uncertainty
from router.errors import ArtifactError, MappingError
from router.mapping.budget_solver import Solver, Steps
from router.mapping.clusters import Clusters
from router.mapping.expected_scores import ExpectedScores
from router.mapping.expert_mapping import ExpertMapping
from router.mapping.milp import Solution
from router.mapping.one_step import Predictions, priced
from router.mapping.score_table import ScoreTable


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    embedder: EmbedderRecord
    lexicon: Lexicon
    classifier: Classifier
    uncertainty: Uncertainty
    mapping: ExpertMapping
    training: TrainingRecord
    cross_validated: CrossValidated
    scores: ScoreTable | None = None
    clusters: Clusters | None = None
    fixed: Mapping[str, str] = field(default_factory=dict)
    """Category to the expert that every map solved from the scores has for it."""
    quick: Quick | None = None
    """Reads a prompt first, and its readings tell the finer categories; None: every prompt is read by
    ``embedder`` alone."""
    predictions: Predictions | None = None
    """Predicted scores of the training's prompts, to solve one step from; None where there are no finer
    categories, and in artifacts of earlier versions."""

    @property
    def finer(self) -> Mapping[str, str]:
        """Finer category to its label."""
        return {} if self.clusters is None else self.clusters.labels

    @property
    def active_parameters(self) -> float | None:
        """Billions of parameters of the expert that answers, on average, by the map and the score table; None
        without scores."""
        table = self.scores
        if table is None:
            return None
        if self.mapping.price is not None and self.predictions is not None:
            return priced(table, self.predictions, self.mapping).active
        size = table.size_of()
        return sum(share * size[self.mapping[row]] for row, share in table.share_of().items())

    @property
    def steps(self) -> Steps:
        """Whether the map chooses the expert, or each prompt by itself."""
        return "two" if self.mapping.price is None else "one"

    def solver(
        self,
        experts: Collection[str] | None = None,
        total: float | None = None,
        min_margin: float = 0.0,
        fixed: Mapping[str, str] | None = None,
        steps: Steps | None = None,
    ) -> Solver:
        """Solves maps from the scores. ``experts``: those that a map may choose; None: all. ``fixed``: beside
        what the artifact has. ``steps``: None: as the artifact's."""
        if experts is None:
            experts = () if self.scores is None else self.scores.experts
        return Solver(
            self.scores,
            experts,
            total,
            min_margin,
            self.finer,
            {**self.fixed, **(fixed or {})},
            self.predictions,
            steps or self.steps,
        )

    def told(self, scores: Floats) -> dict[str, float]:
        """Returns the ``scores`` that the predictor of finer categories expects, [experts], by name."""
        names = () if self.predictions is None else self.predictions.experts
        return {name: float(score) for name, score in zip(names, scores, strict=True) if name}

    def with_solution(self, solution: Solution) -> "Artifact":
        """Returns the artifact with a map that was solved from its scores."""
        return replace(self, mapping=self.solver().mapping(solution))

    @property
    def _experts(self) -> set[str]:
        return {*self.mapping.names(), *(() if self.scores is None else self.scores.experts)}

    def knows(self, expert: str) -> bool:
        """Says whether an expert is in the map or in the scores."""
        return expert in self._experts

    def renamed(self, names: Mapping[str, str]) -> "Artifact":
        """Returns the artifact with experts called otherwise. Raises MappingError as ``Router.with_names``
        does."""
        known = self._experts
        if unknown := sorted(names.keys() - known):
            raise MappingError(f"the router has no expert {unknown[0]!r}; it has: {', '.join(sorted(known))}")
        given = [names.get(name, name) for name in known]
        if twice := sorted(name for name in set(given) if given.count(name) > 1):
            raise MappingError(f"two experts of the router would be called {twice[0]!r}")
        mapping = {row: names.get(name, name) for row, name in self.mapping.experts.items()}
        scores = self.scores
        if scores is not None:
            scores = replace(scores, experts=tuple(names.get(name, name) for name in scores.experts))
        return replace(
            self,
            mapping=replace(
                self.mapping,
                experts=mapping,
                among=tuple(names.get(name, name) for name in self.mapping.among),
            ),
            scores=scores,
            predictions=None if self.predictions is None else self.predictions.renamed(names),
            fixed={category: names.get(name, name) for category, name in self.fixed.items()},
        )

    def write(self, folder: Path) -> None:
        """Creates the folder, or replaces the artifact in it. Raises ArtifactError when that is not
        possible."""
        arrays = save({name: np.ascontiguousarray(array) for name, array in self._arrays().items()})
        digest = hashlib.sha256(arrays).hexdigest()
        name = f"arrays-{digest[:12]}.safetensors"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            replace_file(folder / name, arrays, mode=0o644)
            manifest = self._manifest({name: digest}).model_dump_json(indent=2).encode() + b"\n"
            replace_file(folder / MANIFEST, manifest, mode=0o644)
            for stale in folder.glob("arrays-*.safetensors"):
                if stale.name != name:
                    stale.unlink()
        except OSError as error:
            raise ArtifactError(f"{folder} cannot be written: {error.strerror}") from error

    def _arrays(self) -> Arrays:
        arrays: dict[str, NDArray[Any]] = {
            "rarity": self.lexicon.rarity.astype(np.float16),
            **of_doubts("", self.uncertainty, self._added),
        }
        if self.quick is not None:
            arrays |= self.quick.arrays(self._added)
        match self.classifier:
            case LinearClassifier(logits=logits):
                arrays |= of_linear("logits", logits)
            case NeighbourClassifier(vectors=vectors, distributions=distributions):
                arrays["vectors"] = vectors.astype(np.float16)
                arrays["distributions"] = distributions.astype(np.float16)
        if self.clusters is not None:
            expected = self.clusters.expected
            arrays |= of_linear("expected", expected.linear)
            arrays["expected.landmarks"] = expected.landmarks.astype(np.float16)
            arrays["expected.likeness"] = expected.weights
            arrays["centroids"] = self.clusters.centroids
        if self.predictions is not None:
            arrays["predictions.scores"] = self.predictions.scores
            arrays["predictions.rows"] = self.predictions.rows
        if self.scores is not None:
            arrays |= {f"scores.{name}": getattr(self.scores, name) for name in _TABLE}
        return arrays

    @property
    def _added(self) -> tuple[str, ...]:
        labels = self.classifier.labels
        return labels[len(labels) - len(self.uncertainty.added) :]

    def _manifest(self, files: Mapping[str, str]) -> Manifest:
        linear = isinstance(self.classifier, LinearClassifier)
        table = self.scores
        return Manifest(
            format=2,
            embedder=self.embedder,
            categories=self.classifier.labels,
            classifier="linear" if linear else "neighbours",
            temperature=self.classifier.temperature,
            neighbours=getattr(self.classifier, "k", None),
            max_surprise=self.uncertainty.max_surprise,
            added=dict(zip(self._added, (each.reach for each in self.uncertainty.added), strict=True)),
            quick=None if self.quick is None else self.quick.described(self._added),
            mapping=dict(self.mapping.experts),
            fixed=dict(self.fixed),
            scored=None if table is None else Scored(experts=table.experts, rows=table.categories),
            clusters=() if self.clusters is None else self.clusters.names,
            predicted=() if self.predictions is None else self.predictions.experts,
            one_step=None
            if self.mapping.price is None
            else OneStepRecord(price=self.mapping.price, experts=self.mapping.among),
            training=self.training,
            cross_validated=self.cross_validated,
            files=dict(files),
        )

    @classmethod
    def read(cls, folder: Path) -> "Artifact":
        """Raises ArtifactError that says which file is wrong and how."""
        manifest = read_manifest(folder)
        contents = {name: read_verified(folder / name, digest) for name, digest in manifest.files.items()}
        arrays: dict[str, NDArray[Any]] = {}
        for name, content in contents.items():
            try:
                arrays |= load(content)
            except SafetensorError as error:
                raise ArtifactError(f"{folder / name} is not a safetensors file: {error}") from error
        check_shapes(folder, manifest, arrays)
        try:
            return cls._assembled(manifest, arrays)
        except MappingError as error:
            raise ArtifactError(f"{folder}: {error}") from error

    @classmethod
    def _assembled(cls, manifest: Manifest, arrays: Arrays) -> "Artifact":
        classifier: Classifier
        if manifest.neighbours is not None:
            classifier = NeighbourClassifier(
                manifest.categories,
                arrays["vectors"].astype(np.float32),
                arrays["distributions"].astype(np.float32),
                manifest.neighbours,
                manifest.temperature,
            )
        else:
            classifier = LinearClassifier(
                manifest.categories, linear_of("logits", arrays), manifest.temperature
            )
        scored, table = manifest.scored, None
        if scored is not None:
            numbers = {name: arrays[f"scores.{name}"] for name in _TABLE}
            table = ScoreTable(categories=scored.rows, experts=scored.experts, **numbers)
        clusters = None
        if manifest.clusters:
            landmarks = arrays["expected.landmarks"].astype(np.float32)
            expected = ExpectedScores(linear_of("expected", arrays), landmarks, arrays["expected.likeness"])
            clusters = Clusters(expected, manifest.clusters, arrays["centroids"])
        return cls(
            manifest.embedder,
            Lexicon(arrays["rarity"].astype(np.float32)),
            classifier,
            doubts_of("", arrays, manifest.max_surprise, manifest.added),
            _mapping(manifest, {} if clusters is None else clusters.labels),
            manifest.training,
            manifest.cross_validated,
            table,
            clusters,
            manifest.fixed,
            None if manifest.quick is None else Quick.of(manifest.quick, manifest.categories, arrays),
            Predictions(manifest.predicted, arrays["predictions.scores"], arrays["predictions.rows"])
            if manifest.predicted
            else None,
        )


_TABLE = ("parameters", "shares", "means", "errors", "counts")


def _mapping(manifest: Manifest, finer: Mapping[str, str]) -> ExpertMapping:
    fixed = {row for row in manifest.mapping if not {row, finer.get(row)}.isdisjoint(manifest.fixed)}
    one = manifest.one_step
    price, among = (None, ()) if one is None else (one.price, one.experts)
    return ExpertMapping(manifest.mapping, finer, frozenset(fixed), price, among)
