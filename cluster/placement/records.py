"""Records of the placement: nodes, experts, their copies, and what nodes were told to do."""

from dataclasses import dataclass, field

from cluster.placement.actions import Action, Copy, Entry, Held
from cluster.placement.events import NodeFacts
from cluster.placement.ranking import Ranking
from memory_tiers.tiers import Tier


@dataclass(frozen=True, slots=True)
class Order:
    """An order to a node about an expert: to bring it to ``tier``, or with ``leaves`` to give it up there.
    ``source``: the node whose host memory it comes from."""

    tier: Held
    leaves: bool
    given_up_at: float
    source: str | None = None


@dataclass(slots=True, eq=False)
class NodeRecord:
    """A node. ``up`` False: it was lost, and only the age of its last snapshot is kept. ``held``: bytes of
    copies in the tier that keeps them; ``promised``: bytes that orders will take there beside them.
    ``load``: requests a second that its device's experts draw; ``giving``: bytes of copies that a rebalance
    takes to other nodes."""

    name: str
    facts: NodeFacts
    run: int
    number: int
    up: bool = True
    draining: bool = False
    drained: bool = False
    copies: dict[str, Tier] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    held: int = 0
    promised: int = 0
    load: float = 0.0
    giving: int = 0

    @property
    def usable(self) -> bool:
        """Whether it may be told to bring experts."""
        return self.up and not self.draining

    @property
    def room(self) -> int:
        """Bytes for copies that nothing takes and no order will."""
        return self.facts.keeps_bytes - self.held - self.promised

    def __repr__(self) -> str:
        state = "lost" if not self.up else "draining" if self.draining else "up"
        return f"<Node {self.name} {state} copies={self.copies} orders={self.orders} room={self.room}>"


@dataclass(slots=True, eq=False)
class ExpertRecord:
    """An expert. ``lost_at``: when a node with a copy was lost; None once it has its copies again.
    ``calm_since``: since when no further replica was needed; ``avoided``: until when nodes are not told to
    bring it."""

    name: str
    bytes: int
    on: dict[str, NodeRecord] = field(default_factory=dict)
    """Nodes with a copy that a snapshot saw."""
    ordered: dict[str, NodeRecord] = field(default_factory=dict)
    """Nodes with an order about it."""
    rate: float = 0.0
    wait_s: float = 0.0
    replicas: int = 1
    lost_at: float | None = None
    calm_since: float = 0.0
    avoided: dict[str, float] = field(default_factory=dict)

    def staying(self) -> list[NodeRecord]:
        """Lists the nodes whose copy counts: it was seen, its node is no draining one, and it was not told to
        leave."""
        return [node for node in self.on.values() if not node.draining and not self.leaves_host(node)]

    def coming(self) -> list[NodeRecord]:
        """Lists the nodes that were told to bring it and have no copy of it yet."""
        return [
            node
            for node in self.ordered.values()
            if not node.orders[self.name].leaves and self.name not in node.copies
        ]

    def leaves_host(self, node: NodeRecord) -> bool:
        order = node.orders.get(self.name)
        return order is not None and order.leaves and order.tier == "host"

    def replicated(self) -> list[NodeRecord]:
        """Lists the nodes whose device has it or will."""
        found = []
        for node in {**self.on, **self.ordered}.values():
            order = node.orders.get(self.name)
            if order is None or (order.leaves and order.tier == "host"):
                has = order is None and node.copies[self.name] == "device"
            else:
                has = order.tier == "device" and not order.leaves
            if has and not node.draining:
                found.append(node)
        return found

    def entry(self) -> Entry:
        seen = sorted(self.on)
        return Entry(
            self.name,
            tuple(Copy(name, self.on[name].copies[self.name]) for name in seen if not self.on[name].draining),
        )

    def __repr__(self) -> str:
        return f"<Expert {self.name} on={sorted(self.on)} ordered={sorted(self.ordered)} rate={self.rate:g}>"


class Records:
    """All nodes and experts. Every change of a copy or an order goes through here, so that sums stay right
    and what is to be decided anew is known."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeRecord] = {}
        self.experts: dict[str, ExpertRecord] = {}
        self.by_room = Ranking()
        """Usable nodes, those with the most room first."""
        self.by_load = Ranking()
        """Usable nodes, those with the least load first."""
        self.due: dict[str, None] = {}
        """Experts to decide on, the longest due first."""
        self.unplaced: dict[str, None] = {}
        """Experts that found no room."""
        self.uneven: dict[str, NodeRecord | None] = {}
        """Experts of a rebalance that is under way, with the node that gives each away once another has it;
        None: not decided yet."""
        self.unpublished: dict[str, None] = {}
        self.memory = 0
        """Memory for copies of all usable nodes."""
        self.device = 0
        """Device memory of all usable nodes."""
        self.rate = 0.0
        """Requests a second for all experts."""
        self.bytes = 0
        """Bytes of all experts."""
        self.usable = 0
        self.now = 0.0
        self.actions: list[Action] = []

    def rank(self, node: NodeRecord) -> None:
        """Puts the node where it belongs after its room or load changed."""
        if node.usable:
            self.by_room.put(node.name, -node.room)
            self.by_load.put(node.name, node.load)
        else:
            self.by_room.drop(node.name)
            self.by_load.drop(node.name)

    def set_copy(self, node: NodeRecord, expert: ExpertRecord, tier: Tier | None) -> None:
        """Notes where the node holds the expert; None: nowhere above disk."""
        before = node.copies.get(expert.name)
        if before == tier:
            return
        self._draw(expert, -1)
        promised, held = self._promised(node, expert), self._held(node, expert)
        if before is None:
            expert.on[node.name] = node
        if tier is None:
            del node.copies[expert.name], expert.on[node.name]
        else:
            node.copies[expert.name] = tier
        node.promised += self._promised(node, expert) - promised
        node.held += self._held(node, expert) - held
        self._draw(expert, 1)
        self.rank(node)
        self.due[expert.name] = self.unpublished[expert.name] = None

    def set_order(self, node: NodeRecord, expert: ExpertRecord, order: Order | None) -> None:
        """Notes what the node was told about the expert; None: it was done, or given up."""
        promised = self._promised(node, expert)
        node.orders.pop(expert.name, None)
        expert.ordered.pop(node.name, None)
        if order is not None:
            node.orders[expert.name] = order
            expert.ordered[node.name] = node
        node.promised += self._promised(node, expert) - promised
        self.rank(node)
        self.due[expert.name] = None

    def set_uneven(self, expert: ExpertRecord, giving: NodeRecord) -> None:
        """Notes which node gives the expert away."""
        self.uneven[expert.name] = giving
        giving.giving += expert.bytes

    def set_even(self, name: str) -> None:
        """Ends the rebalance of one expert. Idempotent."""
        giving = self.uneven.pop(name, None)
        if giving is not None:
            giving.giving -= self.experts[name].bytes

    def set_rate(self, expert: ExpertRecord, rate: float) -> None:
        self._draw(expert, -1)
        self.rate += rate - expert.rate
        expert.rate = rate
        self._draw(expert, 1)
        for node in expert.on.values():
            self.rank(node)

    def set_facts(self, node: NodeRecord, facts: NodeFacts) -> None:
        """Notes what memory the node has, and counts anew what is in it."""
        node.facts = facts
        node.held = sum(self._held(node, self.experts[name]) for name in node.copies)
        node.promised = sum(self._promised(node, self.experts[name]) for name in node.orders)

    def _held(self, node: NodeRecord, expert: ExpertRecord) -> int:
        """Returns the bytes that the expert's copy takes of the tier that keeps copies."""
        return expert.bytes if node.copies.get(expert.name) == node.facts.keeps_on else 0

    def _promised(self, node: NodeRecord, expert: ExpertRecord) -> int:
        """Returns the bytes that an order about the expert will take of that tier."""
        order, tier = node.orders.get(expert.name), node.facts.keeps_on
        if order is None or order.leaves or order.tier != tier or node.copies.get(expert.name) == tier:
            return 0
        return expert.bytes

    def _draw(self, expert: ExpertRecord, sign: int) -> None:
        """Adds the expert's requests to the nodes whose device has it, or takes them away."""
        on = [node for node in expert.on.values() if node.copies[expert.name] == "device"]
        for node in on:
            node.load += sign * expert.rate / len(on)
            self.rank(node)
