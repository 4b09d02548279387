"""Explanations of a choice of expert: ``POST /v1/coe/route`` and ``coe route --explain``. Nothing is run."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict

from router.composition import Choice, Composition, RoutedBy
from router.decision import Decision
from router.mapping.expert_mapping import ExpertMapping
from router.mapping.one_step import expected_at
from router.mapping.score_table import ScoreTable
from router.router import Router
from server.routing.eligibility import Reason, why


class _Piece(BaseModel):
    model_config = ConfigDict(frozen=True)


class RuledOut(_Piece):
    """An expert that cannot take the request, and why."""

    expert: str
    reason: Reason
    message: str


class Scored(_Piece):
    """An expert in a row of the scores. ``score`` goes from 0 to 1. ``prompts``: how many were graded."""

    expert: str
    score: float
    standard_error: float
    parameters_billion: float
    prompts: int


class Expected(_Piece):
    """An expert where a prompt chooses in one step. ``score``: expected on the prompt, from 0 to 1.
    ``price``: what its size must be worth; the greatest difference is chosen."""

    expert: str
    score: float
    price: float


@dataclass(frozen=True, slots=True)
class MapSource:
    """A map and what it was made from: scores, where the artifact has them. ``experts``: all that may be
    chosen."""

    scores: ScoreTable | None
    mapping: ExpertMapping
    experts: Collection[str]

    @classmethod
    def of(cls, router: Router, experts: Collection[str]) -> Self:
        return cls(router.artifact.scores, router.artifact.mapping, experts)

    @classmethod
    def of_composition(cls, composition: Composition) -> Self:
        return cls.of(composition.router, composition.experts)

    def row(self, cluster: str) -> tuple[Scored, ...] | None:
        """Returns the cluster's row of scores, best first; None where the table has none, or knows an expert
        by none of these names: then the map was given by hand."""
        scores = self.scores
        if scores is None or cluster not in scores.categories or not {*self.experts} <= {*scores.experts}:
            return None
        return tuple(
            Scored(
                expert=each.expert,
                score=each.score,
                standard_error=each.standard_error,
                parameters_billion=each.parameters,
                prompts=each.prompts,
            )
            for each in scores.row(cluster)
        )

    def expected(self, decision: Decision) -> tuple[Expected, ...] | None:
        """Returns what the prompt of a decision chooses by, best first; None in two steps."""
        price, scores = self.mapping.price, self.scores
        if price is None or scores is None:
            return None
        sizes = scores.size_of()
        at = expected_at(scores, decision.cluster, decision.expected, self.mapping.finer)
        found = [
            Expected(expert=name, score=at[name], price=price * sizes[name])
            for name in at
            if name in self.mapping.among
        ]
        return tuple(sorted(found, key=lambda each: each.price - each.score))


class Decided(_Piece):
    """The decision of a composition's router. ``alone``: the category of the last user turn by itself, if an
    earlier turn or the client did not say another. ``row``: what the map was solved from at ``cluster``, best
    first; null where the artifact has no scores of the map's experts. ``fixed``: whether the row's expert was
    fixed by hand, whatever the scores are. ``expected``: what a prompt chooses by in one step, best first;
    null in two steps. ``seconds``: spent deciding."""

    category: str
    cluster: str
    confidence: float
    uncertain: bool
    sticky: bool
    alone: str
    probabilities: Mapping[str, float]
    row: tuple[Scored, ...] | None
    fixed: bool
    expected: tuple[Expected, ...] | None
    seconds: float

    @classmethod
    def of(cls, choice: Choice, source: MapSource | None) -> "Decided":
        decision = choice.decision
        return cls(
            category=decision.category,
            cluster=decision.cluster,
            confidence=decision.confidence,
            uncertain=decision.uncertain,
            sticky=choice.sticky,
            alone=choice.alone.category,
            probabilities=decision.probabilities,
            row=None if source is None else source.row(decision.cluster),
            fixed=source is not None and decision.cluster in source.mapping.fixed,
            expected=None if source is None else source.expected(decision),
            seconds=decision.seconds,
        )


class Explanation(_Piece):
    """Explanation of a request for ``model``. ``decided``: null where the client named the expert.
    ``eligible``: the experts that may answer."""

    model: str
    expert: str
    routed_by: RoutedBy
    decided: Decided | None
    eligible: tuple[str, ...]
    ruled_out: tuple[RuledOut, ...]

    @classmethod
    def of(
        cls,
        model: str,
        choice: Choice | None,
        experts: Collection[str],
        ruled_out: Mapping[str, Reason],
        source: MapSource | None = None,
    ) -> "Explanation":
        """Explains a choice. ``experts``: those that ``model`` can choose, eligible or not; without a choice
        ``model`` is one of them."""
        return cls(
            model=model,
            expert=model if choice is None else choice.decision.expert,
            routed_by="expert" if choice is None else choice.by,
            decided=None if choice is None else Decided.of(choice, source),
            eligible=tuple(name for name in experts if name not in ruled_out),
            ruled_out=tuple(
                RuledOut(expert=name, reason=reason, message=f"{name} {why(reason)}")
                for name, reason in ruled_out.items()
            ),
        )

    def lines(self) -> Iterator[str]:
        """Yields the explanation as lines of text."""
        yield f"expert      {self.expert}"
        yield f"routed by   {self.routed_by}"
        if self.decided is not None:
            yield from _said(self.decided)
        yield f"eligible    {', '.join(self.eligible)}"
        for each in self.ruled_out:
            yield f"ruled out   {each.message}"


def _said(decided: Decided) -> Iterator[str]:
    doubt = " (uncertain)" if decided.uncertain else ""
    yield f"category    {decided.category}{doubt}"
    if decided.cluster != decided.category:
        yield f"cluster     {decided.cluster}"
    if decided.alone != decided.category:
        yield f"by itself   {decided.alone}"
    yield f"confidence  {decided.confidence:.3f}"
    for category, probability in decided.probabilities.items():
        if probability >= 0.001:
            yield f"  {probability:6.3f}  {category}"
    if decided.row is not None and decided.fixed:
        yield "fixed       by hand, whatever the scores are"
    for each in decided.row or ():
        yield (
            f"score       {each.score:.3f} +- {each.standard_error:.3f}  {each.expert} "
            f"({each.parameters_billion:g} B, {each.prompts} prompts)"
        )
    for one in decided.expected or ():
        left = one.score - one.price
        yield f"expected    {one.score:.3f} - {one.price:.3f} for its size = {left:.3f}  {one.expert}"
    yield f"decided in  {decided.seconds * 1e3:.1f} ms"
