"""Compositions as they are told: categories, their experts, what was seen of them; the frontier of maps."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from router.composition import Composition
from router.mapping.one_step import priced
from router.mapping.score_table import ScoreTable
from server.observation.story import Story


def composition_of(name: str, composition: Composition, stories: Iterable[Story]) -> dict[str, Any]:
    """Tells a composition. ``share``: of the prompts that the map was solved for; null where the artifact has
    no scores. ``seen``: of the requests whose stories are kept."""
    artifact = composition.router.artifact
    scores, mapping = artifact.scores, artifact.mapping
    seen = _seen(name, stories)
    shares: dict[str, float] = defaultdict(float)
    for row, share in zip(scores.categories, scores.shares, strict=True) if scores is not None else ():
        shares[artifact.finer.get(row, row)] += float(share)
    categories = [
        {
            "category": label,
            "expert": mapping[label],
            "finer": {row: mapping[row] for row in mapping.rows_of(label) if row != label},
            "share": shares.get(label) if scores is not None else None,
            "seen": seen.get(label, _NOTHING),
        }
        for label in composition.router.categories
    ]
    return {
        "name": name,
        "experts": list(composition.experts),
        "embedder": artifact.embedder.name,
        "steps": artifact.steps,
        "categories": categories,
        "in_use": None if scores is None else in_use(composition, scores),
    }


def frontier_of(composition: Composition) -> list[dict[str, Any]]:
    """Tells the best maps, from the cheapest to the best. Takes up to seconds. Raises MappingError."""
    return [
        {
            "active_billion": solution.active,
            "total_billion": solution.total,
            "score": solution.score,
            "standard_error": solution.standard_error,
            "experts": dict(sorted(solution.experts.items())),
        }
        for solution in composition.frontier
    ]


def in_use(composition: Composition, scores: ScoreTable) -> dict[str, float] | None:
    """Tells the expected score and cost of the map in use; None where it has an expert without scores."""
    artifact = composition.router.artifact
    mapping = artifact.mapping
    if mapping.price is not None and artifact.predictions is not None:
        solution = priced(scores, artifact.predictions, mapping)
        return {"score": solution.score, "active_billion": solution.active}
    chosen = [mapping[row] for row in scores.categories]
    if not {*chosen} <= {*scores.experts}:
        return None
    columns = [scores.experts.index(expert) for expert in chosen]
    return {
        "score": float(
            sum(scores.shares[row] * scores.means[row, column] for row, column in enumerate(columns))
        ),
        "active_billion": float(scores.shares @ scores.parameters[columns]),
    }


_NOTHING = {"requests": 0, "confidence": None, "uncertain": 0}


def _seen(name: str, stories: Iterable[Story]) -> dict[str, dict[str, Any]]:
    """Counts the decisions by category, with their mean confidence."""
    counted: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for story in stories:
        decision = None if story.route is None else story.route.decision
        if decision is not None and story.route is not None and story.route.composition == name:
            counted[decision.category].append((decision.confidence, decision.uncertain))
    return {
        category: {
            "requests": len(each),
            "confidence": sum(confidence for confidence, _ in each) / len(each),
            "uncertain": sum(uncertain for _, uncertain in each),
        }
        for category, each in counted.items()
    }
