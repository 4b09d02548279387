"""Makes training data, and counts, out of what was kept. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from router.data.dataset import Example
from server.feedback.records import Kept

CONFIRMS = 0.5
"""Score above which the decided category counts as right."""


def example_of(kept: Kept) -> Example | None:
    """Makes the example of a decision; None: no text of it is kept. Its category is the client's, else the
    decided one if a good score confirms it and the router did not doubt it."""
    if not kept.prompt:
        return None
    confirmed = kept.score is not None and kept.score > CONFIRMS and not kept.uncertain
    category = kept.correction or (kept.category if confirmed else None)
    scores = {} if kept.score is None else {kept.expert: kept.score}
    return Example(f"feedback/{kept.name}", kept.prompt, category, scores)


@dataclass(frozen=True, slots=True)
class Row:
    """Decisions of one category that went to one expert. ``score``: the mean of those given."""

    category: str
    expert: str
    decisions: int
    uncertain: int
    scored: int
    score: float | None
    corrected: int


@dataclass(frozen=True, slots=True)
class ExportCounts:
    """Counts of decisions. ``first`` and ``last``: seconds since 1970. ``texts``: decisions whose prompt's
    text is kept."""

    decisions: int
    first: float | None
    last: float | None
    texts: int
    different: int
    outcomes: tuple[tuple[str, int], ...]
    rows: tuple[Row, ...]


def counts_of(kept: Iterable[Kept]) -> ExportCounts:
    """Counts decisions, which come in the order of time."""
    everything = list(kept)
    groups: dict[tuple[str, str], list[Kept]] = {}
    for each in everything:
        groups.setdefault((each.category, each.expert), []).append(each)
    return ExportCounts(
        decisions=len(everything),
        first=everything[0].at if everything else None,
        last=everything[-1].at if everything else None,
        texts=sum(each.prompt is not None for each in everything),
        different=len({each.digest for each in everything}),
        outcomes=tuple(sorted(Counter(each.outcome or "not ended" for each in everything).items())),
        rows=tuple(_row(*names, group) for names, group in sorted(groups.items())),
    )


def _row(category: str, expert: str, group: Sequence[Kept]) -> Row:
    scores = [each.score for each in group if each.score is not None]
    return Row(
        category=category,
        expert=expert,
        decisions=len(group),
        uncertain=sum(each.uncertain for each in group),
        scored=len(scores),
        score=sum(scores) / len(scores) if scores else None,
        corrected=sum(each.correction is not None for each in group),
    )
