"""``coe bench tiers``: the cost of a decision, and moves, waits and goodput of each policy beside its
rivals."""

import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from benchmarks.engine.figures import Aim, percentile
from memory_tiers.actions import Grant, Move, StartEngine
from memory_tiers.events import (
    EngineStarted,
    Event,
    LeaseReleased,
    MoveFinished,
    Opened,
    TicketAsked,
)
from memory_tiers.members import Family, Member
from memory_tiers.simulator.comparison import RIVALS, Comparison, compare
from memory_tiers.simulator.profiles import BUILT_IN
from memory_tiers.simulator.scenario import Scenario
from memory_tiers.simulator.trace import Kind, generate, names
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import TiersConfig
from server.cli.tables import table
from server.cli.tiers.simulation_tables import WIDTH, figures

Progress = Callable[[str, int, int], None]
EXPERT_BYTES = 13_500_000_000
WAITING = 1000
EVENTS = 3000
COSTS = {10: (3, None), 150: (20, 20.0), 1000: (50, None), 10_000: (100, 60.0)}
"""Experts, to how many of them fit on the device and the microseconds to aim at."""


@dataclass(frozen=True, slots=True)
class Load:
    """A trace to serve. ``fits``: experts on the device, the profile's when None."""

    name: str
    kind: Kind
    experts: int
    rate: float
    fits: int | None = None


LOADS = (
    Load("Zipf, 150 experts, 8 requests/s: the link can follow", "zipf", 150, 8),
    Load("Zipf, 150 experts, 30 requests/s: the link cannot follow", "zipf", 150, 30),
    Load("ABAACABC, 3 experts of which 2 fit, 30 requests/s", "adversarial", 3, 30, 2),
    Load("round robin, 48 experts of which 47 fit, 8 requests/s", "round-robin", 48, 8),
)


@dataclass(frozen=True, slots=True)
class EventCost:
    """Microseconds of ``TierState.handle`` with ``WAITING`` tickets in line."""

    experts: int
    mean: float
    p50: float
    p99: float
    aim: Aim | None


@dataclass(frozen=True, slots=True)
class Ratio:
    load: str
    what: str
    value: float
    aim: Aim


@dataclass(frozen=True, slots=True)
class Report:
    cores: int
    load_average: float
    costs: tuple[EventCost, ...]
    comparisons: dict[str, Comparison]
    ratios: tuple[Ratio, ...]

    def json(self) -> dict[str, Any]:
        return {
            "cores": self.cores,
            "load_average": self.load_average,
            "costs": [asdict(cost) | {"met": cost.aim and cost.aim.met(cost.mean)} for cost in self.costs],
            "comparisons": {name: comparison.json() for name, comparison in self.comparisons.items()},
            "ratios": [asdict(ratio) | {"met": ratio.aim.met(ratio.value)} for ratio in self.ratios],
        }


def measure(requests: int, seed: int, progress: Progress, events: int = EVENTS) -> Report:
    """Measures all, in some ten seconds. ``requests``: of each trace. ``events``: to time at each number of
    experts."""
    load_average, total = os.getloadavg()[0], len(COSTS) + len(LOADS)
    costs = []
    for number, (experts, (fits, aim)) in enumerate(COSTS.items()):
        progress(f"events of {experts} experts", number, total)
        aimed = Aim("at most", aim) if aim else None
        costs.append(event_cost(experts, fits, aimed, seed, events=events))
    comparisons = {}
    for number, load in enumerate(LOADS, len(COSTS)):
        progress(load.kind, number, total)
        comparisons[load.name] = _compared(load, requests, seed)
    progress("done", total, total)
    return Report(os.cpu_count() or 1, load_average, tuple(costs), comparisons, tuple(ratios(comparisons)))


def event_cost(
    experts: int,
    fits: int,
    aim: Aim | None = None,
    seed: int = 1,
    waiting: int = WAITING,
    events: int = EVENTS,
) -> EventCost:
    """Times asks, releases and moves in random order, of Zipf's experts, once so many tickets wait. Seconds
    of this thread on a core, so that other work on the machine counts as little as possible."""
    crowd = _Crowd(experts, fits, seed)
    while crowd.waiting < waiting:
        crowd.ask()
    crowd.seconds.clear()
    while len(crowd.seconds) < events:
        crowd.step(waiting)
    microseconds = [1e6 * seconds for seconds in crowd.seconds]
    mean = sum(microseconds) / len(microseconds)
    return EventCost(experts, mean, percentile(microseconds, 50), percentile(microseconds, 99), aim)


class _Crowd:
    """A driver that keeps so many tickets waiting and times each event."""

    def __init__(self, experts: int, fits: int, seed: int) -> None:
        self._chance = random.Random(seed)
        self._names = names(experts)
        self._weights = [1 / rank for rank in range(1, experts + 1)]
        members = [Member(name, "f", 10) for name in self._names]
        config = TiersConfig.model_validate({"device": 10 * fits, "host": 40 * fits, "max_queue": 10**6})
        self._state = TierState(config, members, [Family("f", None)])
        self._moves: list[Move | StartEngine] = []
        self._leases: list[int] = []
        self._at = 0.0
        self._tickets = 0
        self.waiting = 0
        self.seconds: list[float] = []
        self._feed(Opened(0.0))
        while self._moves:
            self._finish()

    def step(self, waiting: int) -> None:
        if self.waiting < waiting:
            self.ask()
        elif self._moves and (not self._leases or self._chance.random() < 0.5):
            self._finish()
        else:
            self._feed(LeaseReleased(self._taken(self._leases), self._at))

    def ask(self) -> None:
        self._tickets += 1
        self.waiting += 1
        expert = self._chance.choices(self._names, self._weights)[0]
        self._feed(TicketAsked(self._tickets, expert, self._at))

    def _finish(self) -> None:
        move = self._taken(self._moves)
        if isinstance(move, StartEngine):
            self._feed(EngineStarted(move.family, move.expert, 10, self._at))
        else:
            upward = move.target == "device" or move.source == "disk"
            self._feed(MoveFinished(move, 10 if upward else 0, self._at))

    def _taken(self, things: list[Any]) -> Any:
        return things.pop(self._chance.randrange(len(things)))

    def _feed(self, event: Event) -> None:
        self._at += 0.001
        began = time.thread_time()
        actions = self._state.handle(event)
        self.seconds.append(time.thread_time() - began)
        for action in actions:
            if isinstance(action, Grant):
                self.waiting -= 1
                self._leases.append(action.ticket)
            elif isinstance(action, Move | StartEngine):
                self._moves.append(action)


def _compared(load: Load, requests: int, seed: int) -> Comparison:
    profile, experts = BUILT_IN["dgx-a100"], names(load.experts)
    if load.fits is not None:
        profile = profile.model_copy(update={"device": load.fits * EXPERT_BYTES})
    scenario = Scenario(profile, experts, EXPERT_BYTES)
    trace = generate(load.kind, experts, requests, load.rate, seed, scenario.device_fits)
    return compare(scenario, trace, RIVALS)


def ratios(comparisons: dict[str, Comparison], loads: Sequence[Load] = LOADS) -> list[Ratio]:
    """Returns the ratios of both configurable policies to their rivals and bounds."""
    found = []
    for load in loads:
        comparison = comparisons[load.name]
        of = comparison.figures
        for policy in ("lru", "cost"):
            ours = of[policy]
            if load.kind == "zipf":
                near = Aim("at most", 1.15)
                bound = ours.moves / max(1, comparison.fewest_moves)
                found.append(Ratio(load.name, f"{policy}: moves to Belady's bound", bound, near))
                same = ours.moves / max(1, of["belady"].moves)
                found.append(Ratio(load.name, f"{policy}: moves to Belady in the same tiers", same, near))
            else:
                times = ours.goodput_per_s / of["fifo"].goodput_per_s
                found.append(Ratio(load.name, f"{policy}: answers/s to fifo", times, Aim("at least", 3.0)))
    return found


def show(report: Report, console: Console | None = None) -> None:
    """Prints it, in lines of full length also where they go to a file."""
    console = console or Console(width=max(WIDTH, Console().width))
    title = (
        f"microseconds of an event with {WAITING:,} tickets waiting; {report.cores} cores, load average "
        f"{report.load_average:.2f} at the start"
    )
    numbers = ("experts", "mean", "p50", "p99", "aim of the mean", "")
    costs = table(*numbers, numbers=numbers, title=title)
    for cost in report.costs:
        aim = f"{cost.aim.direction} {cost.aim.value:g}" if cost.aim else "-"
        met = _met(cost.aim, cost.mean)
        costs.add_row(f"{cost.experts:,}", f"{cost.mean:.1f}", f"{cost.p50:.1f}", f"{cost.p99:.1f}", aim, met)
    console.print(costs)
    for name, comparison in report.comparisons.items():
        console.print(
            figures(comparison, f"{name}; at least {comparison.fewest_moves:,} moves in this order")
        )
    ratios = table("load", "ratio", "value", "aim", "", numbers=("value",), title="beside the aims")
    for ratio in report.ratios:
        aim, met = f"{ratio.aim.direction} {ratio.aim.value:g}", _met(ratio.aim, ratio.value)
        ratios.add_row(ratio.load, ratio.what, f"{ratio.value:.2f}", aim, met)
    console.print(ratios)


def _met(aim: Aim | None, value: float) -> str:
    return "" if aim is None else "met" if aim.met(value) else "missed"
