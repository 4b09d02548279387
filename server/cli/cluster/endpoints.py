"""``coe cluster endpoints``: names the nodes for llm-d's endpoint picker, which reads them from a file."""

import argparse
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from server.cli.arguments import Parent, add_operator_verb
from server.cli.tiers.verbs import client_of
from server.operator_api import NodeStatus, OperatorError


def add_to(cluster: Parent) -> None:
    made = add_operator_verb(
        cluster, "endpoints", endpoints, "write the file of nodes that llm-d's endpoint picker reads"
    )
    made.add_argument("--out", type=Path, metavar="FILE", help="replace this file, instead of printing it")


def endpoints(options: argparse.Namespace) -> int:
    """Raises OperatorError."""
    with client_of(options) as client:
        nodes = client.cluster().nodes
    text = yaml.safe_dump({"endpoints": [*entries(nodes)]}, sort_keys=False)
    if options.out is None:
        print(text, end="")
        return 0
    new = options.out.with_name(f".{options.out.name}.new")
    try:
        new.write_text(text, encoding="utf-8")
        os.replace(new, options.out)  # the picker watches it, and is to see all of it or nothing
    except OSError as error:
        raise OperatorError(f"{options.out}: cannot be written: {error.strerror}") from error
    return 0


def entries(
    nodes: tuple[NodeStatus, ...], resolve: Callable[[str], str] = socket.gethostbyname
) -> Iterator[dict[str, Any]]:
    """Yields an entry for each node with engines that takes requests, as llm-d-router's ``file-discovery``
    reads it: an IPv4 address, and the port as text. Raises OperatorError."""
    for node in nodes:
        if node.state not in ("this node", "up") or node.gateway:
            continue
        asked = urlsplit(node.url)
        assert asked.hostname is not None, "nodes say where clients ask them"
        try:
            address = resolve(asked.hostname)
        except OSError as error:
            raise OperatorError(f"{asked.hostname} has no IPv4 address here: {error}") from error
        yield {
            "name": (node.address or f"{address}:{asked.port}").replace(":", "-"),
            "address": address,
            "port": str(asked.port),
            "labels": {"app.kubernetes.io/name": "composition-of-experts"},
        }
