"""Proposes a composition: a map from categories to experts, guessed from names or left to a scored
artifact."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experts.survey.candidate import Adapter
from experts.survey.names import words
from router.artifacts.artifact import Artifact
from router.decision import GENERAL
from router.settings import EMBEDDED
from server.proposal.draft import Draft

MEANT = {
    "code": {"code", "coder", "coding", "codestral", "starcoder", "programming", "python", "sql", "dev"},
    "computer science": {"code", "coder", "coding", "codestral", "starcoder", "programming"},
    "math": {"math", "maths", "mathstral", "mathematics", "numina"},
    "law": {"law", "legal", "lawyer", "saul"},
    "health": {"health", "med", "medical", "medicine", "meditron", "clinical", "bio"},
    "biology": {"bio", "biology", "med", "medicine"},
    "economics": {"economics", "finance", "fin"},
    "business": {"business", "finance", "fin", "sales", "marketing"},
    "reasoning": {"reasoning", "reason", "think", "thinking", "r1"},
    "instruction following": {"instruction"},
}
"""Words in an expert's name that tell the category it was made for, beside the category's own words."""
ANYTHING = {"general", "base", "chat", "instruct", "it"}


@dataclass(frozen=True, slots=True)
class Composed:
    """``fields``: of the composition. ``comments``: above its map. ``guessed``: category to the expert that
    was guessed for it; empty where the user said it, or the map is solved from scores."""

    fields: Mapping[str, Any]
    comments: tuple[str, ...]
    guessed: Mapping[str, str] = field(default_factory=dict)


def composed(
    draft: Draft,
    artifact: Path | None = None,
    folder: Path = Path(),
    answers: Mapping[str, str] = {},
) -> Composed | None:
    """Proposes a composition of a draft's experts; None where none generates. ``artifact``: a router of the
    user's own. ``answers``: category to expert, as the user said. Raises ArtifactError."""
    names = draft.generating
    if not names:
        return None
    router = Artifact.read(artifact or EMBEDDED)
    given = "embedded" if artifact is None else _shown(artifact, folder)
    # The scores of the router that ships are of the embedded experts, whatever others are called.
    if artifact is not None and router.scores is not None and (renamed := _scored(router, draft)):
        total = sum(router.scores.parameters[router.scores.experts.index(name)] for name in renamed)
        fields: dict[str, Any] = {"artifact": given}
        if any(theirs != ours for theirs, ours in renamed.items()):
            fields["experts"] = {theirs: ours for theirs, ours in renamed.items() if theirs != ours}
        fields["total_params"] = f"{math.ceil(total * 1000)}M"
        return Composed(fields, ("The map is solved from the artifact's scores when the gateway starts.",))
    if artifact is not None and {*router.mapping.names()} <= {*names}:
        return Composed({"artifact": given}, ("The map is the artifact's.",))
    mapping = dict(answers) or _guessed(router.classifier.labels, draft)
    whence = "As you said" if answers else "Guessed from the experts' names"
    lines = (
        "Category to the expert that answers it: yours to fill in. What is not named goes to general's.",
        f"{whence}; coe router train and coe router map find one by scores.",
    )
    return Composed({"artifact": given, "mapping": mapping}, lines, {} if answers else mapping)


def general_of(draft: Draft) -> str:
    """Guesses the expert for everything without one of its own: one whose name says so and nothing else, else
    the largest."""
    names = draft.generating
    meant = [name for name in names if not _purposes(name)]
    plain = [name for name in meant if words(name) & {"general", "base"}] or [
        name for name in meant if words(name) & ANYTHING
    ]
    return max(plain or meant or names, key=lambda name: _parameters(draft, name))


def categories_of(artifact: Path | None) -> tuple[str, ...]:
    """Lists a router's categories, ``general`` first. Raises ArtifactError."""
    labels = Artifact.read(artifact or EMBEDDED).classifier.labels
    return (GENERAL, *(label for label in labels if label != GENERAL))


def _guessed(categories: Sequence[str], draft: Draft) -> dict[str, str]:
    general = general_of(draft)
    found = {GENERAL: general}
    for category in categories:
        meant = {*MEANT.get(category, ()), *words(category)}
        fitting = [name for name in draft.generating if words(name) & meant and name != general]
        if fitting:
            found[category] = max(fitting, key=lambda name: _parameters(draft, name))
    return found


def _purposes(name: str) -> list[str]:
    return [category for category, meant in MEANT.items() if words(name) & meant]


def _parameters(draft: Draft, name: str) -> int:
    each = draft.found[name]
    return each.weights.parameters if isinstance(each, Adapter) else each.parameters


def _scored(router: Artifact, draft: Draft) -> dict[str, str]:
    """Maps names of experts in an artifact's scores to those here that are the same model."""
    assert router.scores is not None
    found = {}
    for theirs in router.scores.experts:
        for ours in draft.generating:
            source = draft.found[ours].place.source
            here = {ours, source.huggingface, source.folder.name if source.folder else None}
            here |= {source.url.rpartition("/")[2]} if source.url else set()
            if theirs in here or theirs.rpartition("/")[2].lower() in {str(name).lower() for name in here}:
                found[theirs] = ours
                break
    return found


def _shown(artifact: Path, folder: Path) -> str:
    resolved = artifact.expanduser().resolve()
    return str(resolved.relative_to(folder)) if resolved.is_relative_to(folder) else str(resolved)
