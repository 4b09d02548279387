"""Decides how many copies an expert has, and on which nodes."""

from cluster.placement.actions import Drained, Held, Unwant, Want
from cluster.placement.records import ExpertRecord, NodeRecord, Order, Records
from cluster.placement.rules import PlacementRules
from cluster.placement.timers import Timers

LOOKED_AT = 8
"""Nodes of a ranking that are looked at for a place."""
MEMORY_SHARE = 0.9
"""Share of all memory that copies are planned for: nodes cannot be filled to the last byte."""


class Decision:
    """Brings copies to where they are missing, and lets needless ones go."""

    def __init__(self, records: Records, rules: PlacementRules, timers: Timers) -> None:
        self._records = records
        self._rules = rules
        self._timers = timers

    def __repr__(self) -> str:
        return f"<Decision by {self._rules!r}>"

    @property
    def copies(self) -> int:
        """Returns how many copies each expert should have: as the rules say, or as memory suffices for."""
        records = self._records
        fitting = int(MEMORY_SHARE * records.memory / records.bytes) if records.bytes else 1
        return min(self._rules.copies, max(1, fitting), records.usable)

    def decide(self, expert: ExpertRecord) -> None:
        """Decides on one expert. What it waits for makes it due again."""
        self._copy(expert)
        self._replicate(expert)
        self._even_out(expert)
        self._let_go(expert)

    def drained(self, node: NodeRecord) -> None:
        """Says once that a draining node may end."""
        experts = self._records.experts
        if node.draining and not node.drained and all(experts[name].staying() for name in node.copies):
            node.drained = True
            self._records.actions.append(Drained(node.name))

    def revive(self, expert: ExpertRecord) -> None:
        """Takes back that copies leave once no other stays."""
        if expert.staying():
            return
        for node in [*expert.on.values()]:
            if expert.leaves_host(node) and not node.draining:
                self._want(node, expert, node.facts.keeps_on)
                return

    def _copy(self, expert: ExpertRecord) -> None:
        staying, coming = expert.staying(), expert.coming()
        missing = self.copies - len(staying) - sum(not node.draining for node in coming)
        if missing <= 0:
            if len(staying) >= self.copies:
                expert.lost_at = None
            return
        if staying and expert.lost_at is not None:
            back_at = expert.lost_at + self._rules.lost_grace_s
            if self._records.now < back_at:
                self._timers.at(back_at, expert.name)
                return
        for _ in range(missing):
            node = self._place(expert)
            if node is None:
                self._records.unplaced[expert.name] = None  # tried again when a node has spoken
                return
            self._want(node, expert, node.facts.keeps_on)
        self._records.unplaced.pop(expert.name, None)

    def _replicate(self, expert: ExpertRecord) -> None:
        """Has one more device hold the expert where a request waits for longer than that would take, and it
        draws so many requests that it has a right to the memory: what it gets, others lose."""
        records, rules = self._records, self._rules
        if expert.rate <= 0 or expert.wait_s <= 0:
            return
        there = expert.replicated()
        if (len(there) + 1) * expert.bytes > records.device * expert.rate / records.rate:
            return
        if any(node.orders.get(expert.name) for node in there) or len(there) >= rules.replicas:
            return  # what is under way shortens the wait: see first
        node = self._quickest(expert, {node.name for node in there})
        if node is None or self._seconds(node, expert) >= expert.wait_s:
            return
        expert.calm_since = records.now
        expert.replicas = len(there) + 1
        self._want(node, expert, "device")

    def _even_out(self, expert: ExpertRecord) -> None:
        """Brings a copy from the node with the least room to that with the most, if it has more even then:
        once for each expert of a rebalance. The copy too many goes as any other does, at once."""
        records, staying = self._records, expert.staying()
        if expert.name not in records.uneven:
            return
        if records.uneven[expert.name] is not None:
            if not expert.coming() and len(staying) <= self.copies:
                records.set_even(expert.name)
            return
        if expert.ordered:
            return
        cold = [node for node in staying if node.copies[expert.name] == node.facts.keeps_on == "host"]
        full = min(cold, key=lambda node: (node.room + node.giving, node.name), default=None)
        looked_at = records.by_room.first(LOOKED_AT + len(expert.on))
        best = next((records.nodes[name] for name in looked_at if name not in expert.on), None)
        if full is None or best is None or best.room - 2 * expert.bytes < full.room + full.giving:
            records.set_even(expert.name)
        elif self._may(best, expert):
            records.set_uneven(expert, full)
            expert.calm_since = records.now - self._rules.calm_s
            self._want(best, expert, best.facts.keeps_on)

    def _let_go(self, expert: ExpertRecord) -> None:
        """Lets a replica go that was not needed for ``calm_s``, and a copy beyond what the rules ask for."""
        records = self._records
        calm_at = expert.calm_since + self._rules.calm_s
        there = [node for node in expert.replicated() if not node.orders.get(expert.name)]
        staying = expert.staying()
        spare = len(there) > 1 and expert.replicas > 1
        giving = records.uneven.get(expert.name)
        copies = self.copies if giving is not None else self._rules.copies
        if not spare and len(staying) <= copies:
            return
        if records.now < calm_at:
            self._timers.at(calm_at, expert.name)
            return
        free = [node for node in staying if not node.orders.get(expert.name)]
        if spare:
            node = max(there, key=lambda node: (node.load, node.name))
            if node.facts.keeps_on == "host":
                self._unwant(node, expert, "device")
                expert.replicas, expert.calm_since = len(there) - 1, records.now
                return
        if len(staying) > max(1, copies) and free:
            cold = [node for node in free if node.copies[expert.name] != "device"]
            if cold:
                node = min(cold, key=lambda node: (node is not giving, node.room, node.name))
                self._unwant(node, expert, "host")
                expert.calm_since = records.now

    def _place(self, expert: ExpertRecord) -> NodeRecord | None:
        """Finds the node with the most room that may be told to bring the expert."""
        records = self._records
        for name in records.by_room.first(LOOKED_AT + len(expert.on) + len(expert.ordered)):
            node = records.nodes[name]
            if node.room < expert.bytes:
                return None
            if self._may(node, expert) and name not in expert.on:
                return node
        return None

    def _quickest(self, expert: ExpertRecord, taken: set[str]) -> NodeRecord | None:
        """Finds the node that has the expert on its device soonest; of equals that with the least load."""
        records = self._records
        names = {*expert.on, *records.by_load.first(LOOKED_AT + len(taken))} - taken
        nodes = [node for name in sorted(names) if self._may(node := records.nodes[name], expert)]
        nodes = [node for node in nodes if expert.bytes <= node.facts.device_bytes]
        key = {node.name: (self._seconds(node, expert), node.load) for node in nodes}
        return min(nodes, key=lambda node: key[node.name], default=None)

    def _seconds(self, node: NodeRecord, expert: ExpertRecord) -> float:
        tier = node.copies.get(expert.name, "disk")
        return node.facts.seconds(expert.bytes, tier, from_peer=bool(self._whole(node, expert)))

    def _may(self, node: NodeRecord, expert: ExpertRecord) -> bool:
        busy = sum(not order.leaves for order in node.orders.values()) >= self._rules.orders_per_node
        avoided = expert.avoided.get(node.name, 0.0) > self._records.now
        return node.usable and not busy and not avoided and expert.name not in node.orders

    def _whole(self, node: NodeRecord, expert: ExpertRecord) -> list[NodeRecord]:
        """Lists the nodes from whose host memory the expert can come."""
        if expert.name in node.copies:
            return []
        return [other for other in expert.on.values() if other is not node and other.facts.host_bytes]

    def _source(self, node: NodeRecord, expert: ExpertRecord) -> str | None:
        """Names the node that the expert comes from: one that no other reads it from. Where there is none
        left, that is the node that was told last to bring it, which passes on what it has of it: so several
        make a chain, and each sends it once (BlitzScale, OSDI 25)."""
        whole = self._whole(node, expert)
        if not whole:
            return None
        read_from = {other.orders[expert.name].source for other in expert.ordered.values()}
        coming = [other for other in expert.coming() if other is not node and other.facts.host_bytes]
        free = [other for other in whole if other.name not in read_from]
        free = free or [other for other in coming if other.name not in read_from]
        return min(free or whole, key=lambda other: (other.load, other.name)).name

    def _want(self, node: NodeRecord, expert: ExpertRecord, tier: Held) -> None:
        source = self._source(node, expert)
        ends = self._records.now + self._rules.order_s + self._seconds(node, expert)
        self._order(node, expert, Order(tier, False, ends, source))
        self._records.actions.append(Want(node.name, expert.name, tier, source))

    def _unwant(self, node: NodeRecord, expert: ExpertRecord, tier: Held) -> None:
        self._order(node, expert, Order(tier, True, self._records.now + self._rules.order_s))
        self._records.actions.append(Unwant(node.name, expert.name, tier))

    def _order(self, node: NodeRecord, expert: ExpertRecord, order: Order) -> None:
        self._records.set_order(node, expert, order)
        self._timers.at(order.given_up_at, expert.name)
