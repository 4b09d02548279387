"""Placements of the simulated cluster: the one that serves, and those beside it."""

import hashlib
import random
import time
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from cluster.choice import Candidate, in_order
from cluster.event_log import PlacementLog
from cluster.placement.actions import Publish, Unwant, Want
from cluster.placement.events import DemandSeen, Event, NodeLost, PlacedExpert, SnapshotTaken, TimePassed
from cluster.placement.placement_state import PlacementState
from cluster.placement.rules import PlacementRules
from cluster.simulator.fleet_node import FleetNode
from cluster.simulator.scenario import Scenario
from cluster.table import Table

Tell = Callable[[Want | Unwant], None]
"""Gives an order to a node."""
HEARTBEAT_S = 0.5
DEMAND_S = 5.0
"""Seconds over which the requests for an expert are counted."""


class Placement(Protocol):
    """Says where each request of the simulated cluster goes."""

    name: str

    def node_for(self, expert: str, now: float) -> FleetNode:
        """Chooses among the nodes that are up."""
        ...

    def lost(self, node: FleetNode, now: float) -> None: ...

    def until(self, now: float) -> None:
        """Does what is due by ``now``."""
        ...


class RandomNode:
    """Any node that is up, whatever it holds."""

    name = "random"

    def __init__(self, scenario: Scenario, nodes: Mapping[str, FleetNode], tell: Tell) -> None:
        self._chance = random.Random(scenario.seed)
        self._nodes = [*nodes.values()]

    def node_for(self, expert: str, now: float) -> FleetNode:
        while not (node := self._chance.choice(self._nodes)).up:
            pass
        return node

    def lost(self, node: FleetNode, now: float) -> None:
        pass

    def until(self, now: float) -> None:
        pass


class ConsistentHash:
    """The first node on a ring after the expert that is up and has less than 1.25 times the mean of requests
    under way (consistent hashing with bounded loads, arXiv 1608.01350)."""

    name = "consistent-hash"
    points = 64
    bound = 1.25

    def __init__(self, scenario: Scenario, nodes: Mapping[str, FleetNode], tell: Tell) -> None:
        ring = sorted((_hash(f"{name}/{point}"), name) for name in nodes for point in range(self.points))
        self._places = [place for place, _ in ring]
        self._ring = [nodes[name] for _, name in ring]
        self._nodes = [*nodes.values()]
        self._mean = self._counted_at = 0.0

    def node_for(self, expert: str, now: float) -> FleetNode:
        start = bisect(self._places, _hash(expert))
        seen: dict[str, FleetNode] = {}
        for step in range(len(self._ring)):
            node = self._ring[(start + step) % len(self._ring)]
            if not node.up or node.name in seen:
                continue
            if node.under_way(now) <= self.bound * self._mean + 1:
                return node
            seen[node.name] = node
        return next(iter(seen.values()))

    def lost(self, node: FleetNode, now: float) -> None:
        pass

    def until(self, now: float) -> None:
        if now - self._counted_at >= HEARTBEAT_S:
            self._counted_at = now
            up = [node for node in self._nodes if node.up]
            self._mean = sum(node.under_way(now) for node in up) / len(up)


class Ours:
    """``PlacementState`` beside gateways that follow its table and choose as they do when serving."""

    name = "ours"

    def __init__(self, scenario: Scenario, nodes: Mapping[str, FleetNode], tell: Tell) -> None:
        self._scenario = scenario
        self._nodes = nodes
        self._names = [*nodes]
        self._tell = tell
        self._chance = random.Random(scenario.seed)
        self._placed = [
            PlacedExpert(f"e{number}", scenario.expert_bytes) for number in range(scenario.experts)
        ]
        self._rules = PlacementRules()
        self._state = PlacementState(self._rules, self._placed, term=1)
        self._log: PlacementLog | None = None
        self._table = Table()
        self._table.replace(self._state.epoch, self._state.table)
        self._counted: Counter[str] = Counter()
        self._waits: dict[str, float] = {}
        self._asked: dict[str, None] = {}
        self._next_beat = 0.0
        self._next_demand = DEMAND_S
        self.event_s: list[float] = []
        """Processor seconds that each event of the placement took."""

    def record(self, file: Path) -> PlacementLog:
        """Writes every event and its actions to ``file`` from now on; the caller closes it. Raises
        LogUnwritable, later too."""
        self._log = PlacementLog(file, self._rules, self._placed, term=1)
        return self._log

    def node_for(self, expert: str, now: float) -> FleetNode:
        names = {copy.node for copy in self._table.copies(expert)}
        names |= {self._names[self._chance.randrange(len(self._names))] for _ in range(2)}
        candidates = [
            self._candidate(node, expert, now) for name in sorted(names) if (node := self._nodes[name]).up
        ]
        if not candidates:
            candidates = [self._candidate(node, expert, now) for node in self._nodes.values() if node.up]
        chosen = in_order(candidates, self._chance)[0]
        self._counted[expert] += 1
        self._waits[expert] = chosen.resident_s + chosen.queue_s
        return self._nodes[chosen.node]

    def lost(self, node: FleetNode, now: float) -> None:
        self._feed(NodeLost(node.name, now))

    def until(self, now: float) -> None:
        while self._next_beat <= now:
            self._beat(self._next_beat)
            self._next_beat += HEARTBEAT_S
        if self._next_demand <= now:
            self._next_demand += DEMAND_S
            self._count(now)

    def _candidate(self, node: FleetNode, expert: str, now: float) -> Candidate:
        tier, facts = node.tier(expert), self._scenario.facts
        seconds = facts.seconds(self._scenario.expert_bytes, tier, from_peer=bool(self._table.copies(expert)))
        return Candidate(node.name, seconds + node.loading_s(expert, now), node.queue_s(now))

    def _beat(self, now: float) -> None:
        for node in self._nodes.values():
            if node.up and node.changed:
                node.changed = False
                node.number += 1
                self._feed(
                    SnapshotTaken(node.name, node.run, node.number, self._scenario.facts, node.copies(), now)
                )
        while (deadline := self._state.deadline) is not None and deadline <= now:
            self._feed(TimePassed(now))

    def _count(self, now: float) -> None:
        for expert in {**self._asked, **dict.fromkeys(self._counted)}:
            rate = self._counted[expert] / DEMAND_S
            self._feed(DemandSeen(expert, rate, self._waits.get(expert, 0.0), now))
        self._asked = dict.fromkeys(self._counted)
        self._counted.clear()
        self._waits.clear()

    def _feed(self, event: Event) -> None:
        began = time.thread_time()
        actions = self._state.handle(event)
        self.event_s.append(time.thread_time() - began)
        if self._log is not None:
            self._log.write(event, actions)
        for action in actions:
            match action:
                case Want() | Unwant():
                    self._tell(action)
                case Publish():
                    self._table.follow(action)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


PLACEMENTS: Mapping[str, Callable[[Scenario, Mapping[str, FleetNode], Tell], Placement]] = {
    "random": RandomNode,
    "consistent-hash": ConsistentHash,
    "ours": Ours,
}
