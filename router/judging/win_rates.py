"""Scores of each prompt from judged pairs, and statistics of experts and judge."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from router.judging.verdicts import JudgedPair
from router.mapping.metrics import Estimate

Scores = Mapping[str, Mapping[str, float]]
"""Prompt id to expert to its share of points."""


@dataclass(frozen=True, slots=True)
class WinRate:
    rate: Estimate
    """Mean over prompts, with its 95 % interval by bootstrap over prompts."""
    prompts: int


@dataclass(frozen=True, slots=True)
class JudgeReport:
    experts: Mapping[str, WinRate]
    """Best first; an expert without a score on any prompt is not in it."""
    pairs: int
    judged: int
    same: int
    """Pairs of equal answers, which are ties without a call."""
    ties: int
    """Judged pairs without a winner."""
    swayed: int
    """Judged pairs whose verdict changed when the answers changed places."""
    favoured_first: int
    """Swayed pairs in which both calls chose the answer shown first."""
    unreadable: int
    """Calls without a verdict in their reply."""
    refused: int
    """Calls that the judge's endpoint refused."""
    unanswered: int
    """Pairs of which an expert gave no answer."""


def scores(pairs: Sequence[JudgedPair], reference: str | None = None) -> dict[str, dict[str, float]]:
    """An expert's mean over its pairs on each prompt: 1 for a win, 0.5 for a tie, 0 for a loss.

    An expert that gave no answer is out of that prompt, and has no score on it. Nor has an expert of which
    a pair could not be judged: a mean over fewer opponents is another measure. ``reference`` ties with
    itself: its score is 0.5, so that it stands on the scale of the others, which are measured against it.
    """
    points: defaultdict[str, defaultdict[str, list[float | None]]] = defaultdict(lambda: defaultdict(list))
    for judged in pairs:
        if judged.readings is not None:
            won = judged.points()
            points[judged.example][judged.pair.first].append(won)
            points[judged.example][judged.pair.second].append(None if won is None else 1 - won)
    found = {}
    for example, experts in points.items():
        means = {name: sum(of) / len(of) for name, of in experts.items() if _all_known(of)}
        if reference is not None:
            means.pop(reference, None)
            means |= {reference: 0.5} if means else {}
        if means:
            found[example] = means
    return found


def _all_known(points: list[float | None]) -> TypeGuard[list[float]]:
    return None not in points


def report(pairs: Sequence[JudgedPair], scored: Scores, seed: int = 0) -> JudgeReport:
    read = [judged for judged in pairs if judged.read and not judged.same]
    swayed = [judged for judged in read if judged.swayed]
    readings = [reading for judged in pairs for reading in judged.readings or ()]
    return JudgeReport(
        experts=_win_rates(scored, seed),
        pairs=len(pairs),
        judged=len(read),
        same=sum(judged.same for judged in pairs),
        ties=sum(judged.points() == 0.5 for judged in read),
        swayed=len(swayed),
        favoured_first=sum(judged.readings == ("A", "A") for judged in swayed),
        unreadable=readings.count("unreadable"),
        refused=readings.count("refused"),
        unanswered=sum(judged.readings is None for judged in pairs),
    )


def _win_rates(scored: Scores, seed: int) -> dict[str, WinRate]:
    of: defaultdict[str, list[float]] = defaultdict(list)
    for experts in scored.values():
        for name, score in experts.items():
            of[name].append(score)
    rates = {name: WinRate(_interval(np.array(values), seed), len(values)) for name, values in of.items()}
    return dict(sorted(rates.items(), key=lambda item: -item[1].rate.value))


def _interval(values: NDArray[np.float64], seed: int) -> Estimate:
    random = np.random.default_rng(seed)
    means = [values[random.integers(len(values), size=len(values))].mean() for _ in range(1000)]
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high))
