"""Maps beside what they make the memory tiers do: each simulated on the same trace of requests.

The program's budgets say what an expert costs to compute with and to keep; what it costs to *have* depends on
the machine and on the traffic, so each of a set of maps is served by the simulator: the gateway's own state
machine, with experts of their own sizes. Requests come when they came; the row of each is drawn by the share
of the rows that the map before sends to the expert that served it.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from memory_tiers.simulator.figures import Figures
from memory_tiers.simulator.profiles import Profile
from memory_tiers.simulator.trace import Request
from memory_tiers.simulator.unequal_experts import serve
from router.errors import MappingError
from router.mapping.milp import Budgets, Solution, solve, totals
from router.mapping.score_table import ScoreTable

TOTALS = 6
"""Budgets of all parameters kept, from one expert to all that the best map keeps."""
ACTIVE = 4
"""Budgets of active parameters for each of them, from the cheapest map to the best."""


@dataclass(frozen=True, slots=True)
class SimulatedMap:
    """A map, and how the trace was served with it."""

    solution: Solution
    figures: Figures

    def is_better_than(self, other: "SimulatedMap") -> bool:
        """Says whether it is as good in score, active parameters and p99 wait, and better in one."""
        mine, theirs = self._costs, other._costs
        return mine != theirs and all(a <= b for a, b in zip(mine, theirs, strict=True))

    @property
    def _costs(self) -> tuple[float, float, float]:
        return -self.solution.score, self.solution.active, self.figures.wait_s.p99


@dataclass(frozen=True, slots=True)
class Machine:
    """Where experts are served. ``bytes_per_parameter``: 2 in bfloat16."""

    profile: Profile
    bytes_per_parameter: float = 2.0
    tokens: int = 100
    streams: int = 64

    def bytes_of(self, table: ScoreTable) -> dict[str, int]:
        """Bytes of each expert's weights."""
        sizes = zip(table.experts, map(float, table.parameters), strict=True)
        return {name: round(size * 1e9 * self.bytes_per_parameter) for name, size in sizes}

    def fitting(self, table: ScoreTable) -> ScoreTable:
        """The table of the experts that the device can hold. Raises MappingError where it holds none."""
        size = self.bytes_of(table)
        kept = [place for place, name in enumerate(table.experts) if size[name] <= self.profile.device]
        if not kept:
            raise MappingError(
                f"no expert fits on {self.profile.name}'s device of {self.profile.device:,} bytes; the "
                f"smallest has {min(size.values()):,}"
            )
        return table.of_experts(kept)


def rows_of(trace: Sequence[Request], table: ScoreTable, mapping: Mapping[str, str], seed: int) -> list[str]:
    """Draws the row of each request. ``mapping``: row to the expert that the traced gateway had for it; a
    request for another expert may be of any row."""
    draw = random.Random(seed)
    shares = table.share_of()
    of_expert: dict[str, list[str]] = {}
    for row in table.categories:
        of_expert.setdefault(mapping[row], []).append(row)
    found = []
    for request in trace:
        rows = of_expert.get(request.expert, list(table.categories))
        found.append(draw.choices(rows, [shares[row] for row in rows])[0])
    return found


def candidates(table: ScoreTable, budgets: Budgets, fixed: Mapping[str, str]) -> list[Solution]:
    """The best maps that keep few experts and many, at several budgets of active parameters, each once.
    Raises MappingError where not even one fits ``budgets``."""
    best = solve(table, budgets, fixed=fixed)
    found = {tuple(best.experts.values()): best}
    for total in totals(table, best.total, TOTALS):
        try:
            widest = solve(table, Budgets(budgets.active, total), fixed=fixed)
        except MappingError:
            continue
        found.setdefault(tuple(widest.experts.values()), widest)
        for active in np.linspace(float(table.parameters.min()), widest.active, ACTIVE + 1)[1:-1]:
            try:
                solution = solve(table, Budgets(float(active), total), fixed=fixed)
            except MappingError:
                continue
            found.setdefault(tuple(solution.experts.values()), solution)
    return list(found.values())


def simulated(
    solutions: Sequence[Solution],
    table: ScoreTable,
    machine: Machine,
    trace: Sequence[Request],
    rows: Sequence[str],
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> list[SimulatedMap]:
    """Serves the trace with each map. Raises SimulationImpossible."""
    size = machine.bytes_of(table)
    found = []
    for number, solution in enumerate(solutions):
        progress("simulating", number, len(solutions))
        asked = [Request(request.at, solution.experts[row]) for request, row in zip(trace, rows, strict=True)]
        sizes = {name: size[name] for name in solution.kept}
        figures = serve(machine.profile, sizes, asked, tokens=machine.tokens, streams=machine.streams)
        found.append(SimulatedMap(solution, figures))
    progress("simulating", len(solutions), len(solutions))
    return found


def surface(maps: Sequence[SimulatedMap]) -> list[SimulatedMap]:
    """The maps that no other is better than, by their active parameters."""
    kept = [each for each in maps if not any(other.is_better_than(each) for other in maps)]
    return sorted(kept, key=lambda each: (each.solution.active, each.figures.wait_s.p99))


def best_within(maps: Sequence[SimulatedMap], most_wait_s: float | None) -> SimulatedMap:
    """The map with the best score among those whose p99 wait is no longer. Raises MappingError that says
    the shortest."""
    quick = [each for each in maps if most_wait_s is None or each.figures.wait_s.p99 <= most_wait_s]
    if not quick:
        shortest = min(maps, key=lambda each: each.figures.wait_s.p99)
        raise MappingError(
            f"no map waits at most {most_wait_s:g} s for an expert in 99 % of the requests; the shortest is "
            f"{shortest.figures.wait_s.p99:.2f} s, with {', '.join(shortest.solution.kept)}"
        )
    return max(quick, key=lambda each: (each.solution.score, -each.solution.active))
