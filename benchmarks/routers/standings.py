"""The report of ``coe bench routers``: each contestant's area and gains beside the floor and the ceiling."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.routers.contest import Choices
from benchmarks.routers.curve import STEPS, Curves, Point, area
from router.arrays import Floats
from router.mapping.metrics import Estimate


@dataclass(frozen=True, slots=True)
class Standing:
    """The figures of one contestant. Intervals are at 95 %, by bootstrap over the test prompts, the same for
    all."""

    name: str
    settings: str
    """Its settings, tuned ones included."""
    area: Estimate
    """Mean score over all budgets from the cheapest expert to the dearest, in points."""
    part_of_oracle: Estimate
    """Share of the way from the blind mix's area (0) to the oracle's (1)."""
    gains: tuple[Estimate, ...]
    """Over the blind mix at each budget, in points."""
    behind: Estimate
    """The first contestant's area minus this one's, in points."""
    frontier: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Report:
    experts: Mapping[str, float]
    """Billions of parameters, cheapest first."""
    train_prompts: int
    test_prompts: int
    resamples: int
    budgets: tuple[float, ...]
    """At which gains are given, in billions."""
    singles: tuple[Point, ...]
    """Each expert for everything."""
    blind: Estimate
    """Area of the best mixture of two experts by lot, in points."""
    blind_scores: tuple[Estimate, ...]
    """At each budget, in points."""
    blind_frontier: tuple[Point, ...]
    oracle: Estimate
    """Area of the oracle, which knows every grade, in points."""
    oracle_frontier: tuple[Point, ...]
    standings: tuple[Standing, ...]

    def json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A contestant that has chosen."""

    name: str
    settings: str
    choices: Choices


def report(curves: Curves, entries: Sequence[Entry], train_prompts: int) -> Report:
    """``entries``: the others are compared with the first one."""
    test, blind, ceiling = curves.test, curves.blind(), curves.oracle()
    oracle = curves.of(ceiling)
    reached = [curves.of(entry.choices) for entry in entries]
    return Report(
        experts=dict(zip(test.pool.names, map(float, test.pool.parameters), strict=True)),
        train_prompts=train_prompts,
        test_prompts=len(test.examples),
        resamples=len(curves.weights) - 1,
        budgets=tuple(map(float, curves.budgets[STEPS:])),
        singles=tuple(
            Point(float(size), float(100 * mean))
            for size, mean in zip(test.pool.parameters, test.scores.mean(axis=0), strict=True)
        ),
        blind=Estimate.of(area(blind)),
        blind_scores=_at_budgets(blind),
        blind_frontier=tuple(
            Point(float(budget), float(score))
            for budget, score in zip(curves.budgets[:STEPS], blind[0, :STEPS], strict=True)
        ),
        oracle=Estimate.of(area(oracle)),
        oracle_frontier=curves.frontier(ceiling),
        standings=tuple(
            Standing(
                entry.name,
                entry.settings,
                area=Estimate.of(area(values)),
                part_of_oracle=Estimate.of(_part(area(values), area(blind), area(oracle))),
                gains=_at_budgets(values - blind),
                behind=Estimate.of(area(reached[0]) - area(values)),
                frontier=curves.frontier(entry.choices),
            )
            for entry, values in zip(entries, reached, strict=True)
        ),
    )


def _at_budgets(values: Floats) -> tuple[Estimate, ...]:
    return tuple(Estimate.of(column) for column in values[:, STEPS:].T)


def _part(reached: Floats, blind: Floats, oracle: Floats) -> Floats:
    """0 where the oracle has nothing over the blind mix."""
    room = oracle - blind
    return np.divide(reached - blind, room, out=np.zeros_like(room), where=room > 1e-9)
