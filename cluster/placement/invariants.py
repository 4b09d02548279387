"""Checks what must hold after every event."""

from math import isclose

from cluster.placement.records import NodeRecord, Records
from cluster.placement.rules import PlacementRules


def check(records: Records, rules: PlacementRules) -> None:
    """Raises AssertionError naming the first invariant that is broken."""
    for node in records.nodes.values():
        _check_node(records, node, rules)
    for expert in records.experts.values():
        # 1. A copy and an order are known to the expert as to the node.
        assert all(node.copies.get(expert.name) for node in expert.on.values()), repr(expert)
        assert all(expert.name in node.orders for node in expert.ordered.values()), repr(expert)
        assert all(records.nodes[name] is node for name, node in expert.on.items()), repr(expert)
        # 4. The last copy never leaves by decision: one stays as long as any is told to leave.
        leaving = [node for node in expert.on.values() if expert.leaves_host(node) and not node.draining]
        assert not leaving or expert.staying(), f"{expert!r} loses its last copy"
    # 5. Sums are those of the parts.
    usable = [node for node in records.nodes.values() if node.usable]
    assert records.usable == len(usable)
    assert records.memory == sum(node.facts.memory for node in usable)
    assert records.device == sum(node.facts.device_bytes for node in usable)
    assert isclose(records.rate, sum(expert.rate for expert in records.experts.values()), abs_tol=1e-6)
    assert records.bytes == sum(expert.bytes for expert in records.experts.values())


def _check_node(records: Records, node: NodeRecord, rules: PlacementRules) -> None:
    experts = records.experts
    assert all(experts[name].on.get(node.name) is node for name in node.copies), repr(node)
    assert all(experts[name].ordered.get(node.name) is node for name in node.orders), repr(node)
    # 2. A node that is lost holds nothing and is told nothing, and a draining one is told to bring nothing.
    assert node.up or not (node.copies or node.orders), repr(node)
    assert node.usable or all(order.leaves for order in node.orders.values()), repr(node)
    # 3. No node is told to bring more at once than the rules allow.
    bringing = sum(not order.leaves for order in node.orders.values())
    assert bringing <= rules.orders_per_node + sum(name in node.copies for name in node.orders), repr(node)
    # 5. Sums are those of the parts.
    tier = node.facts.keeps_on
    kept = [name for name, held in node.copies.items() if held == tier]
    assert node.held == sum(experts[name].bytes for name in kept), repr(node)
    coming = [name for name, order in node.orders.items() if not order.leaves and order.tier == tier]
    assert node.promised == sum(experts[name].bytes for name in coming if name not in kept), repr(node)
    load = 0.0
    for name, seen in node.copies.items():
        on = sum(other.copies[name] == "device" for other in experts[name].on.values())
        load += experts[name].rate / on if seen == "device" else 0.0
    giving = [name for name, gives in records.uneven.items() if gives is node]
    assert node.giving == sum(experts[name].bytes for name in giving), repr(node)
    assert isclose(node.load, load, abs_tol=1e-6), f"{node!r} has load {node.load}, not {load}"
    # 6. Usable nodes are ranked as they are, and no others.
    ranked = (records.by_room.value(node.name), records.by_load.value(node.name))
    assert ranked == ((-node.room, node.load) if node.usable else (None, None)), (
        f"{node!r} is ranked {ranked}"
    )
