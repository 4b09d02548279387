"""Random traces: whatever comes in whatever order, the invariants hold and every ticket ends exactly once."""

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experts.spec import Expert
from memory_tiers.events import (
    Action,
    DrainRequested,
    EngineDied,
    EngineStarted,
    EngineStartFailed,
    Event,
    Grant,
    LeaseReleased,
    Move,
    MoveFailed,
    MoveFinished,
    Opened,
    Reject,
    RestartDue,
    StartEngine,
    TicketAsked,
    TicketCancelled,
    TimePassed,
)
from memory_tiers.state import TierState
from memory_tiers.tiers import TiersConfig


@dataclass
class World:
    """A virtual driver: does what the actions say, in an order drawn by ``chance``, with books of its own."""

    chance: random.Random
    state: TierState
    sizes: dict[str, int]
    families: dict[str, str]
    failing: float
    surprise: float
    at: float = 0.0
    tickets: int = 0
    waiting: dict[int, str] = field(default_factory=dict)
    leased: dict[int, str] = field(default_factory=dict)
    ended: list[int] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    under_way: list[Move | StartEngine] = field(default_factory=list)

    def feed(self, event: Event) -> None:
        actions = self.state.handle(event)
        self.state.check()
        for action in actions:
            self.carry_out(action)
        assert sorted(self.waiting | self.leased) == sorted(self.state._books.tickets)

    def carry_out(self, action: Action) -> None:
        if isinstance(action, Grant):
            self.leased[action.ticket] = self.waiting.pop(action.ticket)
        elif isinstance(action, Reject):
            del self.waiting[action.ticket]
            self.ended.append(action.ticket)
        else:
            self.under_way.append(action)

    def clock(self) -> float:
        self.at += self.chance.random()
        return self.at

    def ask(self) -> None:
        self.tickets += 1
        expert = self.chance.choice([*self.sizes])
        self.waiting[self.tickets] = expert
        self.feed(TicketAsked(self.tickets, expert, self.clock(), fail_fast=self.chance.random() < 0.1))

    def cancel(self) -> None:
        if self.waiting:
            ticket = self.chance.choice([*self.waiting])
            del self.waiting[ticket]
            self.ended.append(ticket)
            self.feed(TicketCancelled(ticket, self.clock()))

    def release(self) -> None:
        if self.leased:
            ticket = self.chance.choice([*self.leased])
            del self.leased[ticket]
            self.ended.append(ticket)
            self.feed(LeaseReleased(ticket, self.clock()))

    def finish(self) -> None:
        if not self.under_way:
            return
        action = self.under_way.pop(self.chance.randrange(len(self.under_way)))
        fails = self.chance.random() < self.failing
        size = self.sizes[action.expert]
        if isinstance(action, StartEngine):
            if fails:
                self.feed(EngineStartFailed(action.family, action.expert, "chance", self.clock()))
            else:
                self.running.add(action.family)
                self.feed(EngineStarted(action.family, action.expert, self.measured(size), self.clock()))
        elif fails or ("device" in (action.source, action.target) and not self.runs(action)):
            self.feed(MoveFailed(action, "chance", self.clock()))
        else:
            held = self.measured(size) if action.target == "device" else size
            image = self.measured(size) if action.image and self.chance.random() < 0.8 else 0
            self.feed(MoveFinished(action, held, self.clock(), image))

    def runs(self, move: Move) -> bool:
        return self.families[move.expert] in self.running

    def measured(self, size: int) -> int:
        return round(size * (1 + self.chance.random() * self.surprise))

    def die(self) -> None:
        if self.running:
            family = self.chance.choice(sorted(self.running))
            self.running.remove(family)
            self.feed(EngineDied(family, "chance", self.clock()))

    def restart(self) -> None:
        self.feed(RestartDue(self.chance.choice(sorted({*self.families.values()})), self.clock()))

    def time(self) -> None:
        """Now and then the deadline comes before anything else happens."""
        if self.state.deadline is not None:
            self.at = max(self.at, self.state.deadline)
            self.feed(TimePassed(self.at))

    def settle(self) -> None:
        """With nothing failing any more and everybody giving back what they hold, nobody is left waiting."""
        self.failing = 0.0
        for _ in range(20_000):
            if not (self.under_way or self.leased or self.waiting):
                break
            self.chance.choice([self.finish, self.release, self.time])()
        assert not self.waiting, f"left waiting: {self.waiting} in {self.state!r}"
        assert sorted(self.ended) == list(range(1, self.tickets + 1)), "a ticket ended never or twice"


def a_world(chance: random.Random, *, failing: float, surprise: float) -> World:
    families = ["small", "large", "plain"][: chance.choice([1, 1, 2, 3])]
    limits = {family: chance.choice([None, None, None, 1, 2]) for family in families}
    sizes: dict[str, int] = {}
    experts = []
    for index in range(chance.randint(len(families), 9)):
        family = families[index % len(families)]
        size = {"small": 10, "large": 40, "plain": 20}[family] + chance.randint(0, 5)
        pinned = limits[family] is None and chance.random() < 0.15
        pinned = pinned or (limits[family] == 2 and index < len(families) and chance.random() < 0.3)
        name = f"{family}-{index}"
        sizes[name] = size
        experts.append(Expert(name, family, Path("/nowhere"), size, 0, family, "", pinned=pinned))
    held = chance.choice([0, 0, 25])
    needed = held + sum(expert.weights_bytes for expert in experts if expert.pinned) + max(sizes.values())
    for family, limit in limits.items():
        largest = sorted((sizes[e.name] for e in experts if e.family == family), reverse=True)
        needed += largest[0] if limit == 1 else 0
    config = TiersConfig.model_validate(
        {
            "device": needed + chance.randint(0, 60),
            "host": chance.choice([0, 15, 60, 120, 1000]),
            "max_queue": chance.choice([0, 3, 1000]),
            "max_queue_per_expert": chance.choice([None, None, 2]),
            "max_wait_s": chance.choice([1, 10, 100]),
            "min_residency_s": chance.choice([None, 0, 5]),
            "policy": chance.choice(["lru", "cost"]),
        }
    )
    state = TierState(config, experts, limits, held=held)
    return World(chance, state, sizes, {e.name: e.family for e in experts}, failing, surprise)


def walk(world: World, steps: int, deaths: float) -> None:
    weights = [6, 1, 5, 6, 1, deaths, deaths]
    steps_taken = [
        world.ask, world.cancel, world.release, world.finish, world.time, world.die, world.restart
    ]  # fmt: skip
    world.feed(Opened(world.clock()))
    for step in world.chance.choices(steps_taken, weights, k=steps):
        step()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_every_ticket_ends_once_and_the_invariants_hold(seed: int) -> None:
    chance = random.Random(seed)
    failing, surprise, deaths = (chance.choice(levels) for levels in ([0, 0.2], [0, 0, 0.5], [0, 0.3]))
    world = a_world(chance, failing=failing, surprise=surprise)
    walk(world, steps=150, deaths=deaths)
    world.settle()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_drain_ends_every_waiting_ticket(seed: int) -> None:
    world = a_world(random.Random(seed), failing=0.1, surprise=0.2)
    walk(world, steps=60, deaths=0.2)
    world.feed(DrainRequested(world.clock()))
    assert not world.waiting
    world.ask()
    world.settle()
    assert world.state.counts.moves == 0


@pytest.mark.parametrize("seed", range(3))
def test_thousands_of_events_leave_nothing_behind(seed: int) -> None:
    world = a_world(random.Random(seed), failing=0.05, surprise=0.0)
    walk(world, steps=3000, deaths=0.05)
    world.settle()
    assert (world.state.counts.waiting, world.state.counts.leases, world.state.counts.moves) == (0, 0, 0)
