"""The router itself: read, classify, doubt, map. What training returns and the gateway loads."""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from router.arrays import Floats
from router.artifacts.artifact import Artifact
from router.artifacts.manifest import EmbedderRecord
from router.classifiers.lexicon import Reading
from router.decision import GENERAL, SLIGHT, Decision
from router.embedders.embedder import Embedder
from router.embedders.registry import PARAMETERS, embedder_of
from router.errors import ArtifactError, NoEligibleError
from router.mapping.budget_solver import Steps
from router.mapping.expert_mapping import ExpertMapping
from router.mapping.one_step import best_at, expected_at
from router.mapping.score_table import ExpertScore


@dataclass(frozen=True, slots=True)
class _Judged:
    """Reading of a prompt. ``finer``: the reading that tells its finer category."""

    chances: Floats
    doubted: bool
    finer: Reading


@dataclass(frozen=True, slots=True)
class Explained:
    """``row``: the experts at the decision's ``cluster``, best first; none where the artifact has no
    scores."""

    decision: Decision
    row: tuple[ExpertScore, ...]


class Router:
    """Immutable, and safe to call from several threads. A decision is CPU work of milliseconds: keep it off
    the event loop.
    """

    def __init__(
        self,
        artifact: Artifact,
        embedder: Embedder,
        *,
        quick: Embedder | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """``quick``: of the artifact's quick stage; the one that ships, where it is left out. Raises
        ArtifactError when the artifact was trained on another embedder, EmbedderError."""
        _check_same(artifact.embedder, embedder)
        self.artifact = artifact
        self.embedder = embedder
        self.quick_embedder: Embedder | None = None
        if artifact.quick is not None:
            self.quick_embedder = quick or embedder_of(artifact.quick.embedder)
            _check_same(artifact.quick.embedder, self.quick_embedder)
        self._clock = clock
        self._expert_of = {category: artifact.mapping[category] for category in self.categories}

    @classmethod
    def load(cls, folder: Path | str, *, threads: int = 1) -> "Router":
        """Verifies every file of an artifact's folder. Raises ArtifactError or EmbedderError."""
        artifact = Artifact.read(Path(folder))
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

    def under(
        self, active: float | None = None, total: float | None = None, steps: Steps | None = None
    ) -> "Router":
        """The same router with the best map for a budget in billions of parameters: ``active``, of the expert
        that answers on average, ``total``, of all experts of the map; None: any number. ``steps``: whether
        the map chooses, or each prompt by itself; None: as before. Takes up to seconds. Raises MappingError
        where the artifact has no scores, or no map fits."""
        return self.with_map(self.artifact.solver(total=total, steps=steps).map(active))

    def save(self, folder: Path | str) -> None:
        """Writes the artifact, with this map. Raises ArtifactError."""
        self.artifact.write(Path(folder))

    def predict(self, prompts: Iterable[str]) -> list[str]:
        """The expert of each prompt."""
        return [self.decide(prompt).expert for prompt in prompts]

    def predict_proba(self, prompts: Iterable[str]) -> Floats:
        """[prompts, categories], in the order of ``categories``."""
        return np.array([self._judged(prompt).chances for prompt in prompts])

    def explain(self, prompt: str) -> Explained:
        """The decision for a prompt, and the scores that its row of the map was solved from."""
        decision, scores = self.decide(prompt), self.artifact.scores
        return Explained(decision, () if scores is None else scores.row(decision.cluster))

    def scores_at(self, row: str, expected: Mapping[str, float]) -> Mapping[str, float]:
        """The score from 0 to 1 that each expert is expected to get on a prompt at ``row`` of the map; none
        where the artifact has no scores. ``expected``: of its decision."""
        table, mapping = self.artifact.scores, self.artifact.mapping
        return {} if table is None else expected_at(table, row, expected, mapping.finer)

    def expert_at(self, row: str, expected: Mapping[str, float]) -> str:
        """The expert of a prompt at ``row`` of the map, if all can take it. ``expected``: of its decision."""
        return self._able_at(row, expected, None) or self.artifact.mapping[row]

    def _able_at(
        self, row: str, expected: Mapping[str, float], eligible: Collection[str] | None
    ) -> str | None:
        table, mapping = self.artifact.scores, self.artifact.mapping
        if mapping.price is not None and table is not None:
            best = best_at(mapping, table, row, expected, eligible)
            if best is not None:
                return best
        expert = mapping[row]
        return expert if eligible is None or expert in eligible else None

    def with_artifact(self, artifact: Artifact) -> "Router":
        """``artifact`` with the same embedder."""
        return Router(artifact, self.embedder, quick=self.quick_embedder, clock=self._clock)

    def decide(self, prompt: str, eligible: Collection[str] | None = None) -> Decision:
        """``eligible`` names the experts that can take the request; absent means all.

        When the mapped expert is not among them, the expert of ``general`` takes over, then those of the
        other categories, most probable first; in one step, the next best. Raises NoEligibleError when none is
        left.
        """
        started = self._clock()
        decision = self._placed(self._judged(prompt))
        return replace(self.mapped(decision, eligible), seconds=self._clock() - started)

    def _placed(self, judged: _Judged) -> Decision:
        """The decision without its expert."""
        probabilities, clusters = self._ranked(judged.chances), self.artifact.clusters
        best, confidence = next(iter(probabilities.items()))
        category = GENERAL if judged.doubted else best
        cluster, expected = category, dict[str, float]()
        if clusters is not None and self.artifact.mapping.price is None:
            cluster = clusters.of(category, judged.finer)
        elif clusters is not None:
            scores = clusters.expected.values(judged.finer)
            cluster, expected = clusters.at(category, scores), self.artifact.told(scores)
        return Decision(category, cluster, confidence, probabilities, judged.doubted, "", {}, 0.0, expected)

    def decide_quickly(self, prompts: Sequence[str]) -> list[Decision | None]:
        """Decides prompts together: the decision of each that the quick stage is sure of, as ``decide`` gives
        it but for the last bits of its probabilities, and None for each that is to be decided by itself.
        ``seconds`` are a prompt's share."""
        started, quick = self._clock(), self.artifact.quick
        if quick is None or self.quick_embedder is None or not prompts:
            return [None for _ in prompts]
        lexicon = self.artifact.lexicon
        grams, vectors = lexicon.many(prompts), self.quick_embedder.embed(prompts)
        readings = [Reading(vector, each) for vector, each in zip(vectors, grams, strict=True)]
        chances, sure = quick.are_sure([*map(len, prompts)], readings, [*map(lexicon.oddity, grams)])
        found: list[Decision | None] = []
        for place, prompt in enumerate(prompts):
            if not sure[place] or not prompt.strip():
                found.append(None)
                continue
            found.append(self.mapped(self._placed(_Judged(chances[place], False, readings[place]))))
        share = (self._clock() - started) / len(prompts)
        return [decision and replace(decision, seconds=share) for decision in found]

    def _judged(self, prompt: str) -> _Judged:
        """Reads a prompt quickly, if there is a quick stage, and again where that is not sure."""
        artifact, grams = self.artifact, self.artifact.lexicon.grams(prompt)
        quick, oddity, first = artifact.quick, artifact.lexicon.oddity(grams), None
        empty = not prompt.strip()
        if quick is not None and self.quick_embedder is not None:
            first = Reading(self.quick_embedder.embed([prompt])[0], grams)
            chances = quick.classifier.probabilities(first)
            if not empty and quick.is_sure(len(prompt), chances, first, oddity):
                return _Judged(chances, False, first)
        reading = Reading(self.embedder.embed([prompt])[0], grams)
        chances = artifact.classifier.probabilities(reading)
        doubted = empty or artifact.uncertainty.doubts(chances, reading.vector, oddity)
        return _Judged(chances, doubted, first or reading)

    def mapped(
        self, decision: Decision, eligible: Collection[str] | None = None, *, prefer: str | None = None
    ) -> Decision:
        """The same decision with the expert that this router's mapping has at its ``cluster``, or the first
        eligible one, as ``decide`` says. ``prefer``: an expert that comes before. Raises NoEligibleError."""
        preferred = prefer is not None and (eligible is None or prefer in eligible)
        expert = prefer if prefer is not None and preferred else self._first_eligible(decision, eligible)
        return replace(decision, expert=expert, others=self._others(expert, decision.probabilities))

    def cluster_in(self, label: str, prompt: str, decision: Decision) -> str:
        """The finer category of ``prompt`` if its category were ``label``. ``decision``: the prompt's own,
        which spares reading it again where the label is what was decided."""
        clusters = self.artifact.clusters
        if clusters is None or label == decision.category:
            return decision.cluster if clusters is not None else label
        return clusters.of(label, self.read(prompt, self.quick_embedder or self.embedder))

    @property
    def embedder_parameters(self) -> float | None:
        """Billions that read a prompt, on average over the training's; None where they are not known."""
        endpoint, quick = self.artifact.embedder.endpoint, self.artifact.quick
        size = PARAMETERS.get(self.artifact.embedder.name) if endpoint is None else endpoint.parameters_b
        if size is None or quick is None:
            return size
        return PARAMETERS[quick.embedder.name] + (1 - quick.alone) * size

    def read(self, prompt: str, embedder: Embedder | None = None) -> Reading:
        """Embeds a prompt, by the embedder of the last stage if none is given, and counts its grams."""
        return Reading((embedder or self.embedder).embed([prompt])[0], self.artifact.lexicon.grams(prompt))

    def _ranked(self, probabilities: Iterable[float]) -> dict[str, float]:
        pairs = zip(self.categories, map(float, probabilities), strict=True)
        return dict(sorted(pairs, key=lambda pair: -pair[1]))

    def _others(self, chosen: str, probabilities: Mapping[str, float]) -> dict[str, float]:
        chances: defaultdict[str, float] = defaultdict(float)
        for category, probability in probabilities.items():
            chances[self._expert_of[category]] += probability
        return {name: chance for name, chance in chances.items() if name != chosen and chance >= SLIGHT}

    def _first_eligible(self, decision: Decision, eligible: Collection[str] | None) -> str:
        for row in (decision.cluster, GENERAL, *decision.probabilities):
            expert = self._able_at(row, decision.expected, eligible)
            if expert is not None:
                return expert
        raise NoEligibleError(
            f"none of the router's experts ({', '.join(self.experts)}) can take this request"
        )

    def __repr__(self) -> str:
        return (
            f"<Router {self.embedder.name}: {len(self.categories)} categories -> {', '.join(self.experts)}>"
        )


def _check_same(record: EmbedderRecord, embedder: Embedder) -> None:
    if embedder.sha256 != record.sha256:
        raise ArtifactError(
            f"the router was trained on embedder {record.name} ({record.sha256[:12]}...), and this is "
            f"{embedder.name} ({embedder.sha256[:12]}...); train it again"
        )
