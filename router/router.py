"""The router itself: read, classify, doubt, map. What training returns and the gateway loads."""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from router.artifacts.artifact import Artifact
from router.classifiers.lexicon import Reading
from router.decision import GENERAL, SLIGHT, Decision
from router.embedders.embedder import Embedder
from router.embedders.registry import PARAMETERS, embedder_of
from router.errors import ArtifactError, NoEligibleError
from router.mapping.expert_mapping import ExpertMapping


class Router:
    """Immutable, and safe to call from several threads. A decision is CPU work of milliseconds: keep it off
    the event loop.
    """

    def __init__(
        self, artifact: Artifact, embedder: Embedder, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Raises ArtifactError when the artifact was trained on another embedder."""
        if embedder.sha256 != artifact.embedder.sha256:
            raise ArtifactError(
                f"the router was trained on embedder {artifact.embedder.name} "
                f"({artifact.embedder.sha256[:12]}...), and this is {embedder.name} "
                f"({embedder.sha256[:12]}...); train it again"
            )
        self.artifact = artifact
        self.embedder = embedder
        self._clock = clock
        self._expert_of = {category: artifact.mapping[category] for category in self.categories}

    @classmethod
    def load(cls, folder: Path, *, threads: int = 1) -> "Router":
        """Verifies every file. Raises ArtifactError or EmbedderError."""
        artifact = Artifact.read(folder)
        return cls(artifact, embedder_of(artifact.embedder, threads=threads))

    @property
    def categories(self) -> tuple[str, ...]:
        return self.artifact.classifier.labels

    @property
    def experts(self) -> tuple[str, ...]:
        """The experts that the mapping can choose."""
        return self.artifact.mapping.names()

    def with_mapping(self, experts: Mapping[str, str]) -> "Router":
        """The same router with another second step; categories left out go to the expert of ``general``.

        Raises MappingError for an unknown category or when ``general`` is missing.
        """
        return self.with_map(ExpertMapping.given(experts, self.categories))

    def with_names(self, names: Mapping[str, str]) -> "Router":
        """The same router with experts called otherwise, where ``names`` has their name in the artifact.
        Raises MappingError for one that the artifact does not have, and where two get one name."""
        return self.with_artifact(self.artifact.renamed(names)) if names else self

    def with_map(self, mapping: ExpertMapping) -> "Router":
        """The same router with ``mapping``, which has every category."""
        return self.with_artifact(replace(self.artifact, mapping=mapping))

    def with_artifact(self, artifact: Artifact) -> "Router":
        """``artifact`` with the same embedder."""
        return Router(artifact, self.embedder, clock=self._clock)

    def decide(self, prompt: str, eligible: Collection[str] | None = None) -> Decision:
        """``eligible`` names the experts that can take the request; absent means all.

        When the mapped expert is not among them, the expert of ``general`` takes over, then those of the
        other categories, most probable first. Raises NoEligibleError when none is left.
        """
        started = self._clock()
        artifact = self.artifact
        reading = self.read(prompt)
        chances = artifact.classifier.probabilities(reading)
        probabilities = self._ranked(chances)
        best, confidence = next(iter(probabilities.items()))
        oddity = artifact.lexicon.oddity(reading.grams)
        uncertain = not prompt.strip() or artifact.uncertainty.doubts(chances, reading.vector, oddity)
        category = GENERAL if uncertain else best
        cluster = artifact.clusters.of(category, reading) if artifact.clusters else category
        decision = Decision(category, cluster, confidence, probabilities, uncertain, "", {}, 0.0)
        return replace(self.mapped(decision, eligible), seconds=self._clock() - started)

    def mapped(
        self, decision: Decision, eligible: Collection[str] | None = None, *, prefer: str | None = None
    ) -> Decision:
        """The same decision with the expert that this router's mapping has at its ``cluster``, or the first
        eligible one, as ``decide`` says. ``prefer``: an expert that comes before. Raises NoEligibleError."""
        rows = [decision.cluster, GENERAL, *decision.probabilities]
        preferred = prefer is not None and (eligible is None or prefer in eligible)
        expert = prefer if prefer is not None and preferred else self._first_eligible(rows, eligible)
        return replace(decision, expert=expert, others=self._others(expert, decision.probabilities))

    def cluster_in(self, label: str, prompt: str, decision: Decision) -> str:
        """The finer category of ``prompt`` if its category were ``label``. ``decision``: the prompt's own,
        which spares reading it again where the label is what was decided."""
        clusters = self.artifact.clusters
        if clusters is None or label == decision.category:
            return decision.cluster if clusters is not None else label
        return clusters.of(label, self.read(prompt))

    @property
    def embedder_parameters(self) -> float | None:
        """Billions; None where they are not known."""
        endpoint = self.artifact.embedder.endpoint
        return PARAMETERS.get(self.artifact.embedder.name) if endpoint is None else endpoint.parameters_b

    def read(self, prompt: str) -> Reading:
        """Embeds a prompt and counts its grams."""
        return Reading(self.embedder.embed([prompt])[0], self.artifact.lexicon.grams(prompt))

    def _ranked(self, probabilities: Iterable[float]) -> dict[str, float]:
        pairs = zip(self.categories, map(float, probabilities), strict=True)
        return dict(sorted(pairs, key=lambda pair: -pair[1]))

    def _others(self, chosen: str, probabilities: Mapping[str, float]) -> dict[str, float]:
        chances: defaultdict[str, float] = defaultdict(float)
        for category, probability in probabilities.items():
            chances[self._expert_of[category]] += probability
        return {name: chance for name, chance in chances.items() if name != chosen and chance >= SLIGHT}

    def _first_eligible(self, categories: Iterable[str], eligible: Collection[str] | None) -> str:
        for category in categories:
            expert = self.artifact.mapping[category]
            if eligible is None or expert in eligible:
                return expert
        raise NoEligibleError(
            f"none of the router's experts ({', '.join(self.experts)}) can take this request"
        )

    def __repr__(self) -> str:
        return (
            f"<Router {self.embedder.name}: {len(self.categories)} categories -> {', '.join(self.experts)}>"
        )
