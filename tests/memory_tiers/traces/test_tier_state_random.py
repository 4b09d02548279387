"""Random traces: whatever comes in whatever order, the invariants hold and every ticket ends exactly once."""

import math
import random
from dataclasses import dataclass, field, replace
from typing import get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memory_tiers.actions import (
    AbortMove,
    Action,
    Forget,
    Grant,
    Move,
    Reject,
    StartEngine,
    StopEngine,
)
from memory_tiers.errors import BudgetTooSmall, OrderRefused
from memory_tiers.events import (
    DrainRequested,
    EngineDied,
    EngineStarted,
    EngineStartFailed,
    EngineStopped,
    Event,
    ExpertChanged,
    Foreseen,
    HostFilled,
    LeaseReleased,
    LoadCancelled,
    MoveFailed,
    MoveFinished,
    Opened,
    OrderGiven,
    RestartDue,
    Revised,
    TicketAsked,
    TicketCancelled,
    TimePassed,
)
from memory_tiers.members import Family, Member, Revision
from memory_tiers.simulator.simulation import FAMILY, Node, Simulation
from memory_tiers.simulator.trace import Request
from memory_tiers.state.records.expert_record import PRIORITIES
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import Tier, TiersConfig
from tests.memory_tiers.traces.model import Model
from tests.memory_tiers.traces.promises import Promises

TIERS: tuple[Tier, ...] = get_args(Tier)
SIZES = {"small": 10, "large": 40, "plain": 20, "late": 30}
"""Bytes of an expert, at least, by family."""


@dataclass
class World:
    """A virtual driver that carries actions out in an order drawn by ``chance`` and keeps its own records."""

    chance: random.Random
    state: TierState
    members: dict[str, Member]
    promises: Promises
    failing: float
    surprise: float
    at: float = 0.0
    tickets: int = 0
    names: int = 0
    waiting: dict[int, str] = field(default_factory=dict)
    leased: dict[int, str] = field(default_factory=dict)
    ended: list[int] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    keeps: random.Random = field(default_factory=lambda: random.Random(1))
    under_way: list[Move | StartEngine | StopEngine] = field(default_factory=list)
    aborted: set[Move] = field(default_factory=set)

    def feed(self, event: Event) -> None:
        actions = self.state.handle(event)
        self.state.check()
        self.promises.take(event, actions)
        self.promises.model.compare(self.state)
        for action in actions:
            self.carry_out(action)
        assert sorted(self.waiting | self.leased) == sorted(self.state._records.tickets)

    def carry_out(self, action: Action) -> None:
        if isinstance(action, Grant):
            self.leased[action.ticket] = self.waiting.pop(action.ticket)
        elif isinstance(action, Reject):
            del self.waiting[action.ticket]
            self.ended.append(action.ticket)
        elif isinstance(action, AbortMove):
            assert action.move in self.under_way
            self.aborted.add(action.move)
        elif isinstance(action, Forget):
            assert action.expert not in [*self.waiting.values(), *self.leased.values()]
            del self.members[action.expert]
        else:
            if isinstance(action, StopEngine):
                self.running.discard(action.family)
            self.under_way.append(action)

    def clock(self) -> float:
        self.at += self.chance.random()
        return self.at

    def an_expert(self) -> str:
        return self.chance.choice([*self.members])

    def ask(self) -> None:
        self.tickets += 1
        expert = self.an_expert()
        self.waiting[self.tickets] = expert
        fail_fast, priority = self.chance.random() < 0.1, self.chance.choice(PRIORITIES)
        keep_s = self.keeps.choice([*[None] * 8, 0.0, 4.0, math.inf])
        conversation = self.conversation()
        self.feed(TicketAsked(self.tickets, expert, self.clock(), fail_fast, priority, conversation, keep_s))

    def conversation(self) -> str:
        return ""

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
        if isinstance(action, StopEngine):
            asleep = action.sleep and self.keeps.random() < 0.9
            if asleep:
                self.running.add(action.family)
            self.feed(EngineStopped(action.family, self.clock(), asleep))
            return
        fails = self.chance.random() < self.failing
        size = self.member(action.expert).weights_bytes
        if isinstance(action, StartEngine):
            if fails:
                self.feed(EngineStartFailed(action.family, action.expert, "chance", self.clock()))
            else:
                self.running.add(action.family)
                self.feed(EngineStarted(action.family, action.expert, self.measured(size), self.clock()))
            return
        if action in self.aborted:
            self.aborted.remove(action)
            fails = fails or self.chance.random() < 0.8
        if fails and action.target == "host" and action.source == "disk" and self.chance.random() < 0.5:
            self.feed(HostFilled(action, self.chance.randint(0, 200), self.clock()))
        elif fails or ("device" in (action.source, action.target) and self.died_first(action)):
            self.feed(MoveFailed(action, "chance", self.clock(), self.chance.random() < 0.3))
        else:
            held = self.measured(size) if action.target == "device" else size
            image = self.measured(size) if action.image and self.chance.random() < 0.8 else 0
            self.feed(MoveFinished(action, held, self.clock(), image))

    def died_first(self, move: Move) -> bool:
        """Whether the move failed with its engine; now and then it was done just before that died."""
        return self.engine_of(move.expert) not in self.running and self.chance.random() < 0.8

    def member(self, name: str) -> Member:
        """The expert that an action names."""
        return self.members[name]

    def engine_of(self, name: str) -> str:
        return self.members[name].family

    def measured(self, size: int) -> int:
        return round(size * (1 + self.chance.random() * self.surprise))

    def die(self) -> None:
        if self.running:
            family = self.chance.choice(sorted(self.running))
            self.running.remove(family)
            self.feed(EngineDied(family, "chance", self.clock()))

    def restart(self) -> None:
        families = sorted(engine.family for engine in self.state.status.engines())
        self.feed(RestartDue(self.chance.choice(families), self.clock()))

    def time(self) -> None:
        """Now and then the deadline comes before anything else happens."""
        if self.state.deadline is not None:
            self.at = max(self.at, self.state.deadline)
            self.feed(TimePassed(self.at))

    def foresee(self) -> None:
        chances = tuple((self.an_expert(), self.chance.random()) for _ in range(self.chance.randint(1, 3)))
        self.feed(Foreseen(chances, self.clock()))

    def order(self) -> None:
        name, tier = self.an_expert(), self.chance.choice(TIERS)
        try:
            self.state.orders.may_order(name, tier)
        except OrderRefused:
            return
        self.feed(OrderGiven(name, tier, self.clock()))

    def cancel_load(self) -> None:
        name = self.an_expert()
        try:
            self.state.orders.may_cancel(name)
        except OrderRefused:
            return
        self.feed(LoadCancelled(name, self.clock()))

    def change(self) -> None:
        name = self.an_expert()
        try:
            member = self.state.configured.member(name, pinned=self.chance.random() < 0.5)
            member = replace(member, default=self.chance.random() < 0.3, ttl_s=self.chance.choice([None, 5]))
            self.state.orders.may_change(member)
        except (OrderRefused, BudgetTooSmall):
            return
        self.members[name] = member
        self.feed(ExpertChanged(member, self.clock()))

    def reload(self) -> None:
        """Several changes at once, or none of them."""
        chance, served = self.chance, [status.expert for status in self.state.status.experts()]
        removed = chance.sample(served, chance.randint(0, min(2, len(served) - 1)))
        staying = [name for name in served if name not in removed]
        changed = chance.sample(staying, chance.randint(0, min(2, len(staying))))
        running = {engine.family for engine in self.state.status.engines()}
        families = {family: self.an_engine(family) for family in SIZES if family not in running}
        added = [self.a_member(family) for family in chance.choices(sorted(SIZES), k=chance.randint(0, 3))]
        by_gpu = self.state._records.by_gpu
        revision = Revision(
            tuple(added),
            tuple(removed),
            tuple(self.another(name) for name in changed),
            tuple(families[name] for name in sorted({member.family for member in added} & families.keys())),
            None if by_gpu else chance.choice([None, chance.randint(40, 250)]),
            chance.choice([None, 0, 15, 60, 1000]),
        )
        before = repr(self.state)
        try:
            self.state.revisions.may_revise(revision)
        except BudgetTooSmall:
            assert repr(self.state) == before
            return
        self.members |= {member.name: member for member in (*revision.added, *revision.changed)}
        self.feed(Revised(revision, self.clock()))

    def an_engine(self, family: str) -> Family:
        parts = self.state._records.device.parts if self.state._records.by_gpu else ()
        places = some_gpus(self.chance, len(parts))
        return Family(family, self.chance.choice([None, 1]), self.chance.choice([0, 5]), places)

    def a_member(self, family: str) -> Member:
        self.names += 1
        pinned, default = self.chance.random() < 0.1, self.chance.random() < 0.1
        return Member(f"{family}-n{self.names}", family, SIZES[family], pinned, default)

    def another(self, name: str) -> Member:
        return replace(
            self.members[name], pinned=self.chance.random() < 0.3, ttl_s=self.chance.choice([None, 5])
        )

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
    names = ["small", "large", "plain"][: chance.choice([1, 1, 2, 3])]
    limits = {family: chance.choice([None, None, None, 1, 2]) for family in names}
    members = []
    for index in range(chance.randint(len(names), 9)):
        family = names[index % len(names)]
        pinned = limits[family] is None and chance.random() < 0.15
        pinned = pinned or (limits[family] == 2 and index < len(names) and chance.random() < 0.3)
        ttl_s = chance.choice([None, None, 3.0])
        default = not pinned and index == 0 and chance.random() < 0.3
        size = SIZES[family] + chance.randint(0, 5)
        members.append(Member(f"{family}-{index}", family, size, pinned, default, ttl_s))
    gpus, sleeps = chance.choice([0, 0, 2, 3]), random.Random(len(members))
    places = {name: some_gpus(chance, gpus) for name in names}
    families = [
        Family(name, limit, chance.choice([0, 0, 10]), places[name], "", sleeps.choice([None, 4.0]))
        for name, limit in limits.items()
    ]
    needed = sum(family.held for family in families) + max(member.weights_bytes for member in members)
    needed += sum(member.weights_bytes for member in members if member.pinned or member.default)
    room = {"device": needed + chance.randint(0, 60)}
    devices = {gpu: needed + chance.randint(0, 60) for gpu in range(gpus)}
    config = TiersConfig.model_validate(
        {
            **({"devices": devices} if gpus else room),
            "host": chance.choice([0, 15, 60, 120, 1000]),
            "max_queue": chance.choice([0, 3, 1000]),
            "max_queue_per_expert": chance.choice([None, None, 2]),
            "max_wait_s": chance.choice([1, 10, 100]),
            "min_residency_s": chance.choice([None, 0, 5]),
            "policy": chance.choice(["lru", "cost"]),
            "ttl_s": chance.choice([None, 20]),
            "engine_idle_s": chance.choice([None, None, 10]),
            "return_to_default_s": chance.choice([None, 5]),
            "prefetch_share": chance.choice([0, 0.5]),
        }
    )
    state = TierState(config, members, families)
    known = {member.name: member for member in members}
    promises = Promises(Model(config, members, families), config)
    return World(chance, state, known, promises, failing, surprise)


def some_gpus(chance: random.Random, gpus: int) -> tuple[int, ...]:
    """The GPUs of an engine, one or several; none where the device has one budget."""
    return tuple(chance.sample(range(gpus), chance.randint(1, gpus))) if gpus else ()


def walk(world: World, steps: int, deaths: float, changes: float) -> None:
    """``deaths`` and ``changes``: how often, where a request is 6."""
    often = [
        (world.ask, 6), (world.release, 5), (world.finish, 6), (world.cancel, 1), (world.time, 1),
        (world.foresee, 1), (world.die, deaths), (world.restart, deaths), (world.order, changes),
        (world.cancel_load, changes), (world.change, changes), (world.reload, 2 * changes),
    ]  # fmt: skip
    world.feed(Opened(world.clock()))
    for step in world.chance.choices([step for step, _ in often], [weight for _, weight in often], k=steps):
        step()


def play(seed: int, skipped: int = 0) -> None:
    """Arrivals, cancellations, failures, deaths, orders, reloads, changing budgets, drawn by the seed.
    ``skipped``: so many draws are thrown away first, which makes another trace."""
    chance = random.Random(seed)
    for _ in range(skipped):
        chance.random()
    failing, surprise, deaths, changes = (
        chance.choice(levels) for levels in ([0, 0.2], [0, 0, 0.5], [0, 0.3], [0, 0.3, 1])
    )
    world = a_world(chance, failing=failing, surprise=surprise)
    try:
        walk(world, steps=150, deaths=deaths, changes=changes)
        world.settle()
    except Exception as error:
        error.add_note(f"seed {seed}, {skipped} draws skipped")
        raise


@pytest.mark.parametrize(
    "first", [0, *(pytest.param(first, marks=pytest.mark.thorough) for first in range(250, 10_000, 250))]
)
def test_every_ticket_ends_once_and_the_invariants_hold(first: int) -> None:
    for seed in range(first, first + 250):
        play(seed)


@pytest.mark.parametrize(("seed", "skipped"), [(3621, 1)])
def test_traces_that_once_failed_pass(seed: int, skipped: int) -> None:
    """The check blamed a lease of a pinned expert for one that never fits beside what is pinned."""
    play(seed, skipped)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
@example(seed=17)  # an expert that was pinned on its way down
def test_a_drain_ends_every_waiting_ticket(seed: int) -> None:
    world = a_world(random.Random(seed), failing=0.1, surprise=0.2)
    walk(world, steps=60, deaths=0.2, changes=0.2)
    world.feed(DrainRequested(world.clock()))
    assert not world.waiting
    world.ask()
    world.settle()
    assert world.state.status.counts.moves == 0


@pytest.mark.parametrize("seed", range(3))
def test_thousands_of_events_leave_nothing_behind(seed: int) -> None:
    world = a_world(random.Random(seed), failing=0.05, surprise=0.0)
    walk(world, steps=3000, deaths=0.05, changes=0.1)
    world.settle()
    assert (
        world.state.status.counts.waiting,
        world.state.status.counts.leases,
        world.state.status.counts.moves,
    ) == (0, 0, 0)


@pytest.mark.parametrize("policy", ["lru", "cost"])
@pytest.mark.parametrize("seed", range(30))
def test_nobody_waits_longer_than_the_bound_and_what_those_take_who_are_ahead(seed: int, policy: str) -> None:
    """Whoever has waited ``max_wait_s`` is behind those alone who have waited longer: one turn for each other
    expert, which takes the answers under way, one read and one load."""
    chance = random.Random(seed)
    names = "abcdefgh"[: chance.randint(3, 8)]
    node = Node(10, 10.0, 20.0, chance.uniform(0.1, 3.0), streams=64)
    members = [Member(name, FAMILY, 10) for name in names]
    residency_s = chance.choice([None, 1000.0])  # such that without the bound the first two stay for ever
    tree = {
        "device": 20,
        "host": 40,
        "max_wait_s": 5,
        "min_residency_s": residency_s,
        "max_queue": 10_000,
        "policy": policy,
    }
    state = TierState(TiersConfig.model_validate(tree), members, [Family(FAMILY, None)])
    simulation = Simulation(state, node)
    simulation.warm_up([*names])
    rate, at, trace = chance.uniform(0.5, 5.0), 0.0, []
    for _ in range(400):
        at += chance.expovariate(rate)
        trace.append(Request(at, chance.choice([*names, names[0], names[0]])))
    served = simulation.run(trace).served
    answer_s = max(each.latency_s - each.wait_s for each in served)
    turn_s = answer_s + node.seconds("", "disk", "host") + node.seconds("", "host", "device")
    assert max(each.wait_s for each in served) <= 5 + len(names) * turn_s
