"""Explanations of a choice of expert: ``POST /v1/coe/route`` and ``coe route --explain``. Nothing is run."""

from collections.abc import Collection, Iterator, Mapping

from pydantic import BaseModel, ConfigDict

from router.composition import Choice, RoutedBy
from router.mapping.score_table import ScoreTable
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


class Decided(_Piece):
    """The decision of a composition's router. ``alone``: the category of the last user turn by itself, if an
    earlier turn or the client did not say another. ``row``: what the map was solved from at ``cluster``, best
    first; null where the artifact has no scores of the map's experts. ``seconds``: spent deciding."""

    category: str
    cluster: str
    confidence: float
    uncertain: bool
    sticky: bool
    alone: str
    probabilities: Mapping[str, float]
    row: tuple[Scored, ...] | None
    seconds: float

    @classmethod
    def of(cls, choice: Choice, scores: ScoreTable | None, experts: Collection[str]) -> "Decided":
        decision = choice.decision
        return cls(
            category=decision.category,
            cluster=decision.cluster,
            confidence=decision.confidence,
            uncertain=decision.uncertain,
            sticky=choice.sticky,
            alone=choice.alone.category,
            probabilities=decision.probabilities,
            row=None if scores is None else _row(scores, decision.cluster, experts),
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
        scores: ScoreTable | None = None,
    ) -> "Explanation":
        """Explains a choice. ``experts``: those that ``model`` can choose, eligible or not; without a choice
        ``model`` is one of them."""
        return cls(
            model=model,
            expert=model if choice is None else choice.decision.expert,
            routed_by="expert" if choice is None else choice.by,
            decided=None if choice is None else Decided.of(choice, scores, experts),
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


def _row(scores: ScoreTable, cluster: str, experts: Collection[str]) -> tuple[Scored, ...] | None:
    """Returns the cluster's row of scores, best first; None where the table has none, or knows an expert by
    none of these names: then the map was given by hand."""
    if cluster not in scores.categories or not {*experts} <= {*scores.experts}:
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
    for each in decided.row or ():
        yield (
            f"score       {each.score:.3f} +- {each.standard_error:.3f}  {each.expert} "
            f"({each.parameters_billion:g} B, {each.prompts} prompts)"
        )
    yield f"decided in  {decided.seconds * 1e3:.1f} ms"
