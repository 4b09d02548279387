"""Random traces: nodes are lost, flap and drain, snapshots come late and twice, and what must hold does."""

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.event_log import PlacementLog, replayed
from cluster.placement.actions import Action, Drained, Epoch, Publish, Unwant, Want
from cluster.placement.events import (
    DemandSeen,
    DrainBegun,
    Event,
    NodeFacts,
    NodeLost,
    OrderFailed,
    PlacedExpert,
    RebalanceBegun,
    SnapshotTaken,
    TimePassed,
)
from cluster.placement.placement_state import PlacementState
from cluster.placement.rules import PlacementRules
from cluster.table import Table
from memory_tiers.tiers import Tier

GB = 10**9
FACTS = NodeFacts(4 * GB, 12 * GB, 20e9, 2e9, 1e9)
RULES = PlacementRules(lost_grace_s=5, calm_s=20, order_s=10, avoid_s=5)


@dataclass
class World:
    """Nodes as they are, beside what the placement was told. A message was true when sent."""

    seed: int
    experts: int = 12
    names: int = 5
    log: PlacementLog | None = None
    now: float = 0.0
    facts: NodeFacts = FACTS

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        placed = [PlacedExpert(f"e{number}", GB) for number in range(self.experts)]
        self.state = PlacementState(RULES, placed, term=1)
        self.nodes = {f"n{number}": Node() for number in range(self.names)}
        self.sent: list[SnapshotTaken] = []
        self.orders: list[Want | Unwant] = []
        self.table = Table()
        self.table.replace(Epoch(1, 0), ())
        self.drained: Counter[str] = Counter()

    def feed(self, event: Event) -> list[Action]:
        actions = self.state.handle(event)
        if self.log is not None:
            self.log.write(event, actions)
        self.state.check()
        for action in actions:
            match action:
                case Want() | Unwant():
                    self.orders.append(action)
                case Publish():
                    assert self.table.follow(action)
                case Drained(node):
                    self.drained[node] += 1
        assert {name: copies for name, copies in self.table.all.items() if copies} == {
            entry.expert: entry.copies for entry in self.state.table if entry.copies
        }
        return actions

    def snapshot(self, name: str) -> SnapshotTaken:
        node = self.nodes[name]
        node.number += 1
        taken = SnapshotTaken(name, node.run, node.number, self.facts, dict(node.copies), self.now)
        self.sent.append(taken)
        return taken

    def obey(self, order: Want | Unwant) -> None:
        """Carries the order out as a node does: the least used leaves where there is no room."""
        node = self.nodes[order.node]
        match order:
            case Want(_, expert, tier):
                node.copies[expert] = "device" if "device" in (tier, node.copies.get(expert)) else "host"
                for full, size in (("device", self.facts.device_bytes), ("host", self.facts.host_bytes)):
                    held = [name for name, tier in node.copies.items() if tier == full and name != expert]
                    while len(held) >= size // GB:
                        node.copies.pop(held.pop(0))
            case Unwant(_, expert, tier):
                if tier == "device" and node.copies.get(expert) == "device":
                    node.copies[expert] = "host"
                elif tier == "host":
                    node.copies.pop(expert, None)

    def step(self) -> None:
        pick, name = self.random, self.random.choice([*self.nodes])
        self.now += pick.choice([0.0, 0.1, 1.0, 7.0])
        expert = f"e{pick.randrange(self.experts)}"
        match pick.randrange(12):
            case 0:
                self.feed(NodeLost(name, self.now))  # or only its heartbeat was
            case 1:
                self.feed(NodeLost(name, self.now))
                self.nodes[name] = Node(run=self.nodes[name].run + 1)
                self.orders = [order for order in self.orders if order.node != name]
            case 2 if self.sent:
                self.feed(pick.choice(self.sent))  # late, or once more
            case 3:
                self.feed(
                    DemandSeen(expert, pick.choice([0.0, 1.0, 50.0]), pick.choice([0.0, 9.0]), self.now)
                )
            case 4 if self.orders:
                order = self.orders.pop(pick.randrange(len(self.orders)))
                self.feed(OrderFailed(order.node, order.expert, "no room", self.now))
            case 5 if pick.random() < 0.2:
                self.feed(DrainBegun(name, self.now))
            case 11 if pick.random() < 0.2:
                self.feed(RebalanceBegun(self.now))
            case 6:
                self.feed(TimePassed(self.now))
            case 7 | 8 if self.orders:
                self.obey(self.orders.pop(pick.randrange(len(self.orders))))
            case _:
                self.feed(self.snapshot(name))

    def settle(self) -> None:
        """Lets every node that is up obey and speak until nothing is left to do."""
        for _ in range(400):
            self.now += 1.0
            while self.orders:
                self.obey(self.orders.pop(0))
            for name in self.nodes:
                self.feed(self.snapshot(name))
            self.feed(TimePassed(self.now))


@dataclass
class Node:
    run: int = 1
    number: int = 0
    copies: dict[str, Tier] = field(default_factory=dict)


@settings(max_examples=150)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 20))
def test_whatever_happens_invariants_hold_and_the_table_is_that_of_the_snapshots(
    seed: int, nodes: int, experts: int
) -> None:
    world = World(seed, experts, nodes)
    for _ in range(120):
        world.step()
    assert max(world.drained.values(), default=0) <= 1 + max(node.run for node in world.nodes.values())


@pytest.mark.thorough
@settings(max_examples=25)
@given(st.integers(0, 2**32))
def test_once_all_is_quiet_each_expert_has_its_copies_and_nothing_moves_any_more(seed: int) -> None:
    world = World(seed)
    for _ in range(100):
        world.step()
    for name in world.nodes:  # each starts once more: none drains
        world.feed(NodeLost(name, world.now))
        world.nodes[name] = Node(run=world.nodes[name].run + 1)
    for number in range(world.experts):
        world.feed(DemandSeen(f"e{number}", 0.0, 0.0, world.now))
    world.settle()
    held = Counter(expert for node in world.nodes.values() for expert in node.copies)
    assert held.keys() == {f"e{number}" for number in range(world.experts)}
    assert min(held.values()) == 2, "more are those that nodes were told late to bring to the device"
    world.settle()
    assert world.orders == []
    assert held == Counter(expert for node in world.nodes.values() for expert in node.copies)


@pytest.mark.parametrize("seed", range(3))
def test_a_log_replays_to_the_same_actions(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "placement.log"
    placed = [PlacedExpert(f"e{number}", GB) for number in range(12)]
    world = World(seed, log=PlacementLog(path, RULES, placed, term=1))
    for _ in range(150):
        world.step()
    assert world.log is not None
    world.log.close()
    same = replayed(path)
    assert same.different is None
    assert same.events > 80
    path.write_text(
        path.read_text().replace('"tier": "host", "source": null', '"tier": "device", "source": null', 1)
    )
    assert replayed(path).different is not None
