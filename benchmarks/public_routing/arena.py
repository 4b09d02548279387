"""``coe bench public-routing --routerarena``: whether a router decides alike on altered prompts, and what its
order of the prompts gains between two models that it was not trained on.

Robustness is the share of altered prompts that go where the original goes. A router that always chooses the
same expert has all of it, so the entropy of the choice stands beside it. For the score, prompts on which the
artifact's best expert is expected to gain most over its worst one go to the stronger of the published models
first; the blind mix sends as many prompts there by lot.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.public_routing.gap import Recovered, recovered
from benchmarks.public_routing.router_arena import read_arena
from router.arrays import Floats
from router.data.dataset import read_examples
from router.decision import Decision
from router.errors import DatasetError, MappingError
from router.mapping.metrics import Estimate, bootstrap
from router.progress import Progress
from router.router import Router

RUN = 13
"""Words in a row that a prompt has in common with one of the training, if it is left out of the score."""


@dataclass(frozen=True, slots=True)
class Robustness:
    """``what``: the category, or a map's budget. ``same``: share of the altered prompts that go where the
    original goes. ``entropy``: of the choice, in bits. ``most``: share of the prompts that the commonest
    choice gets. ``active``: billions of parameters of the expert that answers, on average."""

    what: str
    same: Estimate
    entropy: float
    most: float
    active: float | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A published model: its points, and dollars for a thousand prompts."""

    name: str
    score: float
    cost: float


@dataclass(frozen=True, slots=True)
class ArenaReport:
    """``doubted``: shares of the originals and of the altered prompts. ``left_out``: prompts that the
    artifact's training has, of those that are graded. ``only_weaker``: prompts that the weaker of both models
    alone got right."""

    embedder: str
    altered: int
    doubted: tuple[float, float]
    robustness: tuple[Robustness, ...]
    weak: Model
    strong: Model
    left_out: int
    only_weaker: int
    gained: Recovered

    def json(self) -> dict[str, Any]:
        return asdict(self)


def measure_arena(
    checkout: Path,
    router: Router,
    budgets: Sequence[float],
    trained_on: Path | None,
    seed: int,
    progress: Progress,
) -> ArenaReport:
    """``budgets``: in billions of active parameters. ``trained_on``: the file of the artifact's training.
    Raises DatasetError, MappingError, EmbedderError."""
    arena = read_arena(checkout)
    known = _runs([each.prompt for each in read_examples(trained_on)]) if trained_on else set()
    total = len(arena.prompts) + len(arena.altered)
    decisions: dict[str, Decision] = {}
    for number, text in enumerate([*arena.prompts.values(), *arena.altered.values()]):
        progress("deciding", number, total)
        decisions[text] = router.decide(text)
    progress("deciding", total, total)
    pairs = [(decisions[arena.prompts[index]], decisions[text]) for index, text in arena.altered.items()]
    unseen = np.array([known.isdisjoint(_runs([text])) for text in arena.prompts.values()])
    if not unseen.any():
        raise DatasetError(f"{trained_on} has every prompt of {checkout}, so nothing is left to score")
    means = arena.scores[unseen].mean(axis=0)
    weak, strong = int(means.argmin()), int(means.argmax())
    wanted = _wanted(router, [decisions[text] for text in arena.prompts.values()])

    def model(place: int) -> Model:
        cost = 1000 * arena.costs[unseen, place].mean()
        return Model(arena.models[place], float(100 * means[place]), float(cost))

    scores = arena.scores[unseen]
    return ArenaReport(
        embedder=router.embedder.name,
        altered=len(pairs),
        doubted=(
            float(np.mean([before.uncertain for before, _ in pairs])),
            float(np.mean([after.uncertain for _, after in pairs])),
        ),
        robustness=tuple(_robustness(router, pairs, budgets, seed)),
        weak=model(weak),
        strong=model(strong),
        left_out=int((~unseen).sum()),
        only_weaker=int(((scores[:, weak] == 1) & (scores[:, strong] == 0)).sum()),
        gained=recovered(wanted[unseen], scores[:, weak], scores[:, strong], seed),
    )


def _robustness(
    router: Router, pairs: Sequence[tuple[Decision, Decision]], budgets: Sequence[float], seed: int
) -> list[Robustness]:
    categories = [(before.category, after.category) for before, after in pairs]
    likeliest = [(before.likeliest, after.likeliest) for before, after in pairs]
    sizes = {} if router.artifact.scores is None else router.artifact.scores.size_of()
    found = [
        _same("category", categories, {}, seed),
        _same("category without doubt", likeliest, {}, seed),
        _same("artifact", _experts(router, pairs), sizes, seed),
    ]
    for budget in budgets:
        found.append(_same(f"{budget:g} B", _experts(router.under(budget), pairs), sizes, seed))
    return found


def _experts(router: Router, pairs: Sequence[tuple[Decision, Decision]]) -> list[tuple[str, str]]:
    return [(router.mapped(before).expert, router.mapped(after).expert) for before, after in pairs]


def _same(what: str, choices: Sequence[tuple[str, str]], sizes: Mapping[str, float], seed: int) -> Robustness:
    alike = np.array([float(before == after) for before, after in choices])
    before = [first for first, _ in choices]
    shares = np.unique(before, return_counts=True)[1] / len(before)
    return Robustness(
        what,
        bootstrap(lambda rows: float(100 * alike[rows].mean()), len(alike), seed),
        float(-(shares * np.log2(shares)).sum()) + 0.0,
        float(shares.max()),
        float(np.mean([sizes[name] for name in before])) if sizes else None,
    )


def _wanted(router: Router, decisions: Sequence[Decision]) -> Floats:
    """[n] how much more the best expert of the artifact is expected to score than the worst."""
    table = router.artifact.scores
    if table is None:
        raise MappingError("the artifact has no scores; train it with --experts")
    order = np.argsort(table.shares @ table.means)
    worst, best = table.experts[order[0]], table.experts[order[-1]]
    expected = [router.scores_at(each.cluster, each.expected) for each in decisions]
    return np.array([scores.get(best, 0.0) - scores.get(worst, 0.0) for scores in expected])


def _runs(prompts: Sequence[str]) -> set[int]:
    """Hashes of the runs of words; of a shorter prompt, of all its words."""
    found: set[int] = set()
    for prompt in prompts:
        words = re.findall(r"\w+", prompt.lower())
        length = min(RUN, len(words))
        found.update(hash(tuple(words[place : place + length])) for place in range(len(words) - length + 1))
    return found
