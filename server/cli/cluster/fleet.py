"""``coe cluster up`` and ``coe cluster down``: a node on each machine of a Ray cluster."""

import argparse
import time
from pathlib import Path
from typing import Any

from server.cli.arguments import Parent, add_verb
from server.cli.output import console
from server.cli.tables import table
from server.config.settings import SettingsError
from server.fleet.cluster_file import ClusterFile

LOOK_S = 0.5


def add_to(cluster: Parent) -> None:
    for name, verb, meaning in (
        ("up", up, "start a node on each machine of a Ray cluster, and on those that come later"),
        ("down", down, "end the nodes that coe cluster up has started"),
    ):
        made = add_verb(cluster, name, verb, meaning, config=False)
        made.add_argument("--config", type=Path, required=True, metavar="FILE", help="what each one serves")
        made.add_argument("--wait", type=float, default=300.0, metavar="S", help="most seconds to wait")


def up(options: argparse.Namespace) -> int:
    """Raises SettingsError."""
    file = ClusterFile.read(options.config)
    ray, actors = _connected(file)
    until = time.monotonic() + options.wait
    watcher = actors.watcher(file, begin=True)
    try:
        ray.get(watcher.begin.remote(), timeout=options.wait)
        ray.get(watcher.restore.remote(), timeout=options.wait)
        while True:
            fleet = ray.get(watcher.fleet.remote(), timeout=max(0.0, until - time.monotonic()))
            if fleet.nodes and not fleet.waiting:
                break
            time.sleep(LOOK_S)
    except ray.exceptions.GetTimeoutError as error:
        raise SettingsError(f"not every machine has a node within {options.wait:g} s") from error
    shown = table("machine", "node", "clients ask")
    for id, node in fleet.nodes.items():
        shown.add_row(id[:16], node.address, node.url)
    console().print(shown)
    print(
        "Machines that Ray adds get a node too. Nodes become ready on their own: coe cluster status --url URL"
    )
    return 0


def down(options: argparse.Namespace) -> int:
    """Raises SettingsError."""
    file = ClusterFile.read(options.config)
    ray, actors = _connected(file)
    try:
        watcher = actors.watcher(file, begin=False)
    except ValueError as error:
        raise SettingsError(f"nothing was started under the name {file.name!r} here") from error
    try:
        left = ray.get(watcher.end.remote(), timeout=options.wait)
    except ray.exceptions.GetTimeoutError as error:
        raise SettingsError(f"not every node has ended within {options.wait:g} s: ask again") from error
    if left:
        told = (f"the node of machine {id[:16]} has not ended: {why}" for id, why in left.items())
        raise SettingsError("; ".join(told))
    ray.kill(watcher)
    print("all nodes have ended")
    return 0


def _connected(file: ClusterFile) -> tuple[Any, Any]:
    """Raises SettingsError."""
    try:
        import ray

        from server.fleet import actors
    except ImportError as error:
        raise SettingsError("Ray is not here: pip install 'composition-of-experts[ray]'") from error
    try:
        actors.connect(file)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SettingsError(
            f"no Ray cluster at {file.ray_address}: {error}; begin one with: ray start --head"
        ) from error
    return ray, actors
