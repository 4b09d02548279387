"""This node among others, from its first heartbeat to its last."""

import contextlib
import uuid
from collections.abc import AsyncIterator

from server.config.cluster import ClusterConfig
from server.node.departure import Departure
from server.node.node_app import NodeApp
from server.node.self_description import SelfDescription
from server.peers.identity import Identity
from server.peers.peers import Peers, watching
from server.services import Services


@contextlib.asynccontextmanager
async def joined(
    services: Services, config: ClusterConfig, identity: Identity, url: str
) -> AsyncIterator[NodeApp]:
    """Has requests go to other nodes too, and gives what other nodes ask. ``url``: where clients ask this
    node."""
    id = uuid.uuid4().hex
    description = SelfDescription(services, id, url)
    peers = Peers(config, identity, description.now, id)
    departure = Departure(services)
    peers.depart = departure.begin
    async with watching(peers):
        services.peers = peers
        try:
            yield NodeApp(services, description, identity.token)
        finally:
            departure.close()
            services.peers = None
