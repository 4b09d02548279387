"""The placement's state machine: events in, actions out. It never awaits, reads a clock, logs or does I/O."""

from collections.abc import Sequence
from itertools import islice
from typing import assert_never

from cluster.placement import invariants
from cluster.placement.actions import Action, Entry, Epoch, Publish
from cluster.placement.decision import Decision
from cluster.placement.events import (
    DemandSeen,
    DrainBegun,
    Event,
    ExpertsChanged,
    NodeLost,
    OrderFailed,
    PlacedExpert,
    RebalanceBegun,
    SnapshotTaken,
    TimePassed,
)
from cluster.placement.records import ExpertRecord, NodeRecord, Records
from cluster.placement.rules import PlacementRules
from cluster.placement.timers import Timers
from memory_tiers.tiers import Tier

AT_ONCE = 16
"""Experts that one event decides on; the others follow with the next events, which the deadline asks for."""


class PlacementState:
    """Knows which nodes are up and what they hold, and decides what they should hold. All of it comes from
    snapshots, so that a new one, of a higher ``term``, knows the same once each node has spoken."""

    def __init__(self, rules: PlacementRules, experts: Sequence[PlacedExpert], term: int) -> None:
        self._rules = rules
        self._records = Records()
        self._timers = Timers()
        self._decision = Decision(self._records, rules, self._timers)
        self._count = 0
        self._copies = 0
        self.term = term
        self._experts_changed(experts)
        self._records.unpublished.clear()  # whoever follows takes the whole table first

    def __repr__(self) -> str:
        records = self._records
        return (
            f"<PlacementState {self.epoch} nodes={list(records.nodes.values())} "
            f"experts={list(records.experts.values())}>"
        )

    @property
    def epoch(self) -> Epoch:
        """Returns the age of the table that was published last."""
        return Epoch(self.term, self._count)

    @property
    def deadline(self) -> float | None:
        """Returns when TimePassed is due, unless another event comes after that time; None: never."""
        if self._records.due:
            return self._records.now
        return self._timers.next

    @property
    def settled(self) -> bool:
        """Returns whether nothing is under way: no expert is to be decided on, and no node was told
        anything that it has not done."""
        return not self._records.due and not any(node.orders for node in self._records.nodes.values())

    def ordered(self, node: str, expert: str) -> bool:
        """Returns whether the node was told something about the expert that it has not done yet."""
        return node in self._records.nodes and expert in self._records.nodes[node].orders

    @property
    def table(self) -> tuple[Entry, ...]:
        """Returns the whole table as of the epoch, for who has none yet."""
        return tuple(expert.entry() for expert in self._records.experts.values())

    def check(self) -> None:
        """Raises AssertionError, with the whole state, when an invariant is broken."""
        try:
            invariants.check(self._records, self._rules)
        except AssertionError as error:
            raise AssertionError(f"{error} in {self!r}") from error

    def handle(self, event: Event) -> list[Action]:
        """Takes in the event, decides, and returns what is to be done, in order."""
        records = self._records
        records.now, records.actions = event.at, []
        self._take_in(event)
        self._aim()
        self._time_out()
        for name in [*islice(records.due, AT_ONCE)]:
            del records.due[name]
            if (expert := records.experts.get(name)) is not None:
                self._decision.decide(expert)
                self._look_for_drained(expert)
        self._publish()
        return records.actions

    def _take_in(self, event: Event) -> None:
        records = self._records
        match event:
            case SnapshotTaken():
                self._snapshot(event)
            case NodeLost(name):
                if (node := records.nodes.get(name)) is not None and node.up:
                    self._lose(node)
            case DrainBegun(name):
                if (node := records.nodes.get(name)) is not None and node.usable:
                    self._drain(node)
            case DemandSeen(name, rate, wait_s):
                if (expert := records.experts.get(name)) is not None:
                    records.set_rate(expert, rate)
                    expert.wait_s = wait_s
                    records.due[name] = None
            case OrderFailed(name, of):
                node, expert = records.nodes.get(name), records.experts.get(of)
                if node is not None and expert is not None and of in node.orders:
                    self._give_up(node, expert)
            case RebalanceBegun():
                for name in records.experts:
                    records.set_even(name)
                records.uneven = dict.fromkeys(records.experts)
                records.due |= dict.fromkeys(records.experts)
            case ExpertsChanged(experts):
                self._experts_changed(experts)
            case TimePassed():
                pass
            case _:
                assert_never(event)

    def _snapshot(self, event: SnapshotTaken) -> None:
        records, node = self._records, self._records.nodes.get(event.node)
        if node is not None and (event.run, event.number) <= (node.run, node.number):
            return  # late, or told twice
        if node is None:
            node = NodeRecord(event.node, event.facts, event.run, event.number, up=False)
            records.nodes[event.node] = node
        elif event.run > node.run:
            if node.up:
                self._lose(node)  # it was started again, and we did not hear of its end
            node.draining = node.drained = False
        node.run, node.number = event.run, event.number
        self._facts(node, event)
        for name in [name for name in node.copies if name not in event.copies]:
            records.set_copy(node, records.experts[name], None)
            self._decision.revive(records.experts[name])
        for name, tier in event.copies.items():
            if (expert := records.experts.get(name)) is not None:
                records.set_copy(node, expert, None if tier == "disk" else tier)
        self._fulfil(node)
        self._retry_unplaced()
        self._decision.drained(node)

    def _facts(self, node: NodeRecord, event: SnapshotTaken) -> None:
        if node.up and node.facts == event.facts:
            return
        self._count_node(node, -1)
        self._records.set_facts(node, event.facts)
        node.up = True
        self._count_node(node, 1)
        self._records.rank(node)

    def _fulfil(self, node: NodeRecord) -> None:
        """Closes the orders whose outcome the node's snapshot shows."""
        records = self._records
        for name, order in [*node.orders.items()]:
            tier: Tier = node.copies.get(name, "disk")
            if order.leaves:
                done = tier == "disk" if order.tier == "host" else tier != "device"
            else:
                done = tier == "device" or tier == order.tier
            if done:
                records.set_order(node, records.experts[name], None)

    def _lose(self, node: NodeRecord) -> None:
        records = self._records
        self._count_node(node, -1)
        node.up = False
        for name in [*node.orders]:
            records.set_order(node, records.experts[name], None)
        for name in [*node.copies]:
            expert = records.experts[name]
            records.set_copy(node, expert, None)
            expert.lost_at = records.now if expert.lost_at is None else expert.lost_at
            self._decision.revive(expert)
        records.rank(node)

    def _drain(self, node: NodeRecord) -> None:
        records = self._records
        self._count_node(node, -1)
        node.draining = True
        for name in [*node.orders]:
            records.set_order(node, records.experts[name], None)
        for name in node.copies:
            records.due[name] = records.unpublished[name] = None
            records.experts[name].lost_at = None
            self._decision.revive(records.experts[name])
        records.rank(node)
        self._decision.drained(node)

    def _count_node(self, node: NodeRecord, sign: int) -> None:
        if node.usable:
            self._records.memory += sign * node.facts.memory
            self._records.device += sign * node.facts.device_bytes
            self._records.usable += sign

    def _aim(self) -> None:
        """Makes all experts due when memory suffices for more or fewer copies of each than before."""
        copies = self._decision.copies
        if copies != self._copies:
            self._copies = copies
            self._records.due |= dict.fromkeys(self._records.experts)

    def _look_for_drained(self, expert: ExpertRecord) -> None:
        for node in [*expert.on.values()]:
            self._decision.drained(node)

    def _give_up(self, node: NodeRecord, expert: ExpertRecord) -> None:
        """Ends an order that was not carried out, and asks others for a while."""
        until = self._records.now + self._rules.avoid_s
        expert.avoided[node.name] = until
        self._timers.at(until, expert.name)
        self._records.set_order(node, expert, None)

    def _time_out(self) -> None:
        records = self._records
        for name in self._timers.due(records.now, AT_ONCE):
            if (expert := records.experts.get(name)) is None:
                continue
            records.due[name] = None
            for node in [*expert.ordered.values()]:
                if node.orders[name].given_up_at <= records.now:
                    self._give_up(node, expert)
            expert.avoided = {node: end for node, end in expert.avoided.items() if end > records.now}

    def _retry_unplaced(self) -> None:
        """Has some experts that found no room look again: a node's memory or orders changed."""
        records = self._records
        for name in [*islice(records.unplaced, AT_ONCE // 4)]:
            del records.unplaced[name]
            records.due[name] = None
        for name in [*islice(records.uneven, AT_ONCE // 4)]:
            records.uneven[name] = records.uneven.pop(name)  # the others come first the next time
            records.due[name] = None

    def _experts_changed(self, experts: Sequence[PlacedExpert]) -> None:
        records, named = self._records, {expert.name: expert for expert in experts}
        for name in [*records.experts]:
            if name not in named:
                self._forget(records.experts[name])
        for name, expert in named.items():
            record = records.experts.get(name)
            if record is not None and record.bytes != expert.bytes:
                self._forget(record)  # its copies are seen again with the next snapshots
                record = None
            if record is None:
                records.experts[name] = ExpertRecord(name, expert.bytes)
                records.bytes += expert.bytes
                records.due[name] = records.unpublished[name] = None

    def _forget(self, expert: ExpertRecord) -> None:
        records = self._records
        for node in [*expert.ordered.values()]:
            records.set_order(node, expert, None)
        for node in [*expert.on.values()]:
            records.set_copy(node, expert, None)
        records.set_rate(expert, 0.0)
        records.set_even(expert.name)
        del records.experts[expert.name]
        records.bytes -= expert.bytes
        for names in (records.due, records.unplaced):
            names.pop(expert.name, None)
        records.unpublished[expert.name] = None

    def _publish(self) -> None:
        records = self._records
        if not records.unpublished:
            return
        entries = []
        for name in records.unpublished:
            expert = records.experts.get(name)
            entries.append(Entry(name, ()) if expert is None else expert.entry())
        records.unpublished.clear()
        self._count += 1
        records.actions.append(Publish(self.epoch, tuple(entries)))
