"""Verbs that ask running nodes: look at all, and send one away."""

import argparse
from collections import Counter

from rich.table import Table

from server.cli.arguments import Parent, add_operator_verb
from server.cli.operator_client import OperatorClient
from server.cli.output import console
from server.cli.tables import table
from server.cli.tiers.verbs import client_of
from server.operator_api import ClusterStatus, NodeStatus, OperatorError


def add_to(cluster: Parent) -> None:
    shown = add_operator_verb(cluster, "status", status, "which nodes there are, and what they hold")
    shown.add_argument("--json", action="store_true", help="print all of it as JSON")
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
    return (node.address or "-", node.state, *map(str, figures), node.url, node.version)
