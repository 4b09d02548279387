"""Verbs that ask running nodes: look at all, and send one away."""

import argparse
from collections import Counter

from rich.table import Table

from memory_tiers.tiers import Tier
from server.cli.arguments import Parent, add_operator_verb
from server.cli.operator_client import OperatorClient
from server.cli.output import console
from server.cli.tables import table
from server.cli.tiers.verbs import client_of
from server.operator_api import ClusterStatus, NodeStatus, OperatorError, PlacementStatus

TIERS: tuple[Tier, ...] = ("device", "host")


def add_to(cluster: Parent) -> None:
    shown = add_operator_verb(cluster, "status", status, "which nodes there are, and what they hold")
    shown.add_argument("--json", action="store_true", help="print all of it as JSON")
    add_operator_verb(cluster, "rebalance", rebalance, "have experts spread evenly over the nodes")
    drained = add_operator_verb(
        cluster, "drain", drain, "have a node give others what only it holds, and then end"
    )
    drained.add_argument("node", metavar="NODE", help="its address, as coe cluster status shows it")


def status(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        found = client.cluster()
    if options.json:
        print(found.model_dump_json(indent=2))
    else:
        console().print(_table(found))
        if found.placement is not None:
            _show(found.placement)
    return 0


def rebalance(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        found = client.rebalance().placement
    where = f": {found.placer} decides, in term {found.term}" if found is not None else ""
    print(f"experts are spread over the nodes{where}; coe cluster status shows the moves")
    return 0


def drain(options: argparse.Namespace) -> int:
    """Asks the node itself, with the key of the gateway that knows it. Raises OperatorError."""
    with client_of(options) as client:
        nodes = {node.address: node for node in client.cluster().nodes}
        node = nodes.get(options.node)
        if node is None:
            raise OperatorError(f"there is no node {options.node!r}; there are {', '.join(sorted(nodes))}")
        if not node.url:
            raise OperatorError(f"node {node.address} does not answer: there is nothing to drain")
        key = client.key
    with OperatorClient(node.url, key) as its:
        its.drain()
    print(f"{node.address} drains: it ends once others hold all that it holds")
    return 0


def _table(found: ClusterStatus) -> Table:
    numbers = ("running", "on device", "on host")
    shown = table("node", "state", *numbers, "clients ask", "version", numbers=numbers)
    for node in found.nodes:
        shown.add_row(*_row(node))
    return shown


def _row(node: NodeStatus) -> tuple[str, ...]:
    tiers = Counter(node.experts.values())
    figures = (node.running, tiers["device"], tiers["host"]) if node.url else ("", "", "")
    state = f"{node.state}, a gateway" if node.gateway else node.state
    return (node.address or "-", state, *map(str, figures), node.url, node.version)


def _show(placement: PlacementStatus) -> None:
    """Prints which copies there are, and what was moved of late."""
    console().print(f"{placement.placer} places experts: term {placement.term}, table {placement.count}")
    copies = table("expert", "device of", "host of")
    for expert, found in sorted(placement.table.items()):
        tiers = {tier: ", ".join(each.node for each in found if each.tier == tier) for tier in TIERS}
        copies.add_row(expert, *(tiers[tier] for tier in TIERS))
    console().print(copies)
    if placement.moves:
        moves = table("move", "to", "from", "seconds", "outcome", numbers=("seconds",))
        for move in placement.moves:
            source = "" if move.leaves else move.source or "its own disk or host"
            to = f"{move.tier} of {move.node}"
            moves.add_row(move.expert, to, source, f"{move.seconds:.2f}", move.outcome or "under way")
        console().print(moves)
