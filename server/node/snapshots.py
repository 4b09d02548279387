"""Says what a node said as an event of the placement."""

from cluster.placement.events import NodeFacts, SnapshotTaken
from server.peers.wire import NodeSnapshot

HOST_RATE, PEER_RATE, DISK_RATE = 10e9, 1e9, 1e9
"""Bytes/s from host memory, from another node's and from disk, where a node has not measured them."""


def taken(name: str, said: NodeSnapshot, at: float) -> SnapshotTaken:
    facts = NodeFacts(
        said.device_bytes,
        said.host_bytes,
        said.host_rate or HOST_RATE,
        said.peer_rate or PEER_RATE,
        said.disk_rate or DISK_RATE,
    )
    copies = {expert: place.tier for expert, place in said.experts.items() if place.tier != "disk"}
    return SnapshotTaken(name, said.run, said.number, facts, copies, at)
