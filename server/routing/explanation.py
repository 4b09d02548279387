"""Explanations of a choice of expert: ``POST /v1/coe/route`` and ``coe route --explain``. Nothing is run."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict

from router.composition import Choice, Composition, RoutedBy
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


@dataclass(frozen=True, slots=True)
class MapSource:
    """What a map was made from: scores, where the artifact has them, and the rows whose expert was fixed.
    ``experts``: all that may be chosen."""

    scores: ScoreTable | None
    fixed: Collection[str]
    experts: Collection[str]

    @classmethod
    def of(cls, router: Router, experts: Collection[str]) -> Self:
        return cls(router.artifact.scores, router.artifact.mapping.fixed, experts)

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


class Decided(_Piece):
    """The decision of a composition's router. ``alone``: the category of the last user turn by itself, if an
    earlier turn or the client did not say another. ``row``: what the map was solved from at ``cluster``, best
    first; null where the artifact has no scores of the map's experts. ``fixed``: whether the row's expert was
    fixed by hand, whatever the scores are. ``seconds``: spent deciding."""

    category: str
    cluster: str
    confidence: float
    uncertain: bool
    sticky: bool
    alone: str
    probabilities: Mapping[str, float]
    row: tuple[Scored, ...] | None
    fixed: bool
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
            fixed=source is not None and decision.cluster in source.fixed,
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
    yield f"decided in  {decided.seconds * 1e3:.1f} ms"
