"""Random traces of families with several engines: the invariants hold, and every ticket ends once."""

import random
from dataclasses import dataclass, field

import pytest

from memory_tiers.actions import Forget
from memory_tiers.events import EngineDied, EngineStarted, EngineStartFailed, EngineStopped, Event
from memory_tiers.members import Family, Member
from memory_tiers.replicas import replica_name
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import TiersConfig
from tests.memory_tiers.traces.model import Model
from tests.memory_tiers.traces.promises import Promises
from tests.memory_tiers.traces.replica_account import ReplicaAccount
from tests.memory_tiers.traces.test_tier_state_random import World, walk


@dataclass
class ReplicatedWorld(World):
    """As ``World``, whose promises about one engine are left out: what a ticket waits behind is on all."""

    account: ReplicaAccount = field(default_factory=lambda: ReplicaAccount([], {}))

    def feed(self, event: Event) -> None:
        self._note(event)
        actions = self.state.handle(event)
        self.state.check()
        self.account.take(event, actions, self.state)
        for action in actions:
            if not isinstance(action, Forget):
                self.carry_out(action)
        assert sorted(self.waiting | self.leased) == sorted(self.state._records.tickets)

    def _note(self, event: Event) -> None:
        match event:
            case EngineStarted(engine):
                self.account.running.add(engine)
            case EngineDied(engine) | EngineStopped(engine) | EngineStartFailed(engine):
                self.account.running.discard(engine)

    def conversation(self) -> str:
        return self.chance.choice(["", "", "x", "y"])

    def member(self, name: str) -> Member:
        return self.members[self.account.split(name)[0]]

    def engine_of(self, name: str) -> str:
        return self.account.engine_of(name)


def a_replicated_world(chance: random.Random, *, failing: float, surprise: float) -> ReplicatedWorld:
    """Two or three engines of one family, on a GPU each or on one device, and maybe a family beside."""
    count = chance.choice([2, 2, 3])
    by_gpu, limit = chance.random() < 0.7, chance.choice([None, None, None, 1, 2])
    held = chance.choice([0, 0, 5])
    families = [
        Family(replica_name("f", k), limit, held, (k,) if by_gpu else (), "" if k == 0 else "f")
        for k in range(count)
    ]
    members = []
    for index in range(chance.randint(1, 6)):
        pinned = limit is None and chance.random() < 0.15
        default = not pinned and chance.random() < 0.15
        members.append(Member(f"e{index}", "f", 10 + chance.randint(0, 3), pinned, default))
    if chance.random() < 0.4:
        families.append(Family("other", None, 0, (0,) if by_gpu else ()))
        members.append(Member("beside", "other", 12))
    needed = len(families) * held + sum(member.weights_bytes for member in members if member.pinned)
    needed += sum(member.weights_bytes for member in members if member.default) + 13
    room = [needed + chance.randint(0, 30) for _ in range(count)]
    config = TiersConfig.model_validate(
        {
            **({"devices": dict(enumerate(room))} if by_gpu else {"device": sum(room)}),
            "host": chance.choice([0, 15, 60, 1000]),
            "max_queue": chance.choice([3, 1000]),
            "max_queue_per_expert": chance.choice([None, None, 2]),
            "max_wait_s": chance.choice([1, 10]),
            "min_residency_s": chance.choice([None, 0]),
            "policy": chance.choice(["lru", "cost"]),
            "ttl_s": chance.choice([None, 20]),
            "engine_idle_s": chance.choice([None, None, 10]),
            "return_to_default_s": chance.choice([None, 5]),
            "prefetch_share": chance.choice([0, 0.5]),
        }
    )
    known = {member.name: member for member in members}
    promises = Promises(Model(config, members[:0], families), config)
    state = TierState(config, members, families)
    account = ReplicaAccount(families, known)
    return ReplicatedWorld(chance, state, known, promises, failing, surprise, account=account)


def play(seed: int) -> ReplicatedWorld:
    chance = random.Random(seed)
    failing, surprise, deaths = (chance.choice(levels) for levels in ([0, 0.2], [0, 0, 0.5], [0, 0.3]))
    world = a_replicated_world(chance, failing=failing, surprise=surprise)
    try:
        world.change = world.reload = lambda: None  # type: ignore[method-assign]  # one engine's tests have them
        walk(world, steps=150, deaths=deaths, changes=chance.choice([0, 0.3]))
        world.settle()
    except Exception as error:
        error.add_note(f"seed {seed}")
        raise
    return world


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.thorough) for part in (1, 2, 3))])
def test_every_ticket_ends_once_and_the_invariants_hold_on_several_engines(part: int) -> None:
    granted = [play(seed).account.grants for seed in range(200 * part, 200 * (part + 1))]
    several = sum(len([engine for engine in grants if engine.startswith("f")]) > 1 for grants in granted)
    assert several > len(granted) // 2, "leases go to more than one engine"
