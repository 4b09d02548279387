"""This node among others, from its first heartbeat to its last."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator

from starlette.types import ASGIApp

from cluster.election import Seniority
from memory_tiers.driver.pieces import NoPieces
from memory_tiers.errors import TiersError
from server.access.counts import LocalCounts
from server.config.cluster import ClusterConfig
from server.node.departure import Departure
from server.node.kept_elsewhere import ForClients
from server.node.key_homes import KeyHomes
from server.node.node_app import NodeApp
from server.node.obedience import obey
from server.node.placing import Placing
from server.node.self_description import SelfDescription
from server.node.weights_source import PeerWeights, Way
from server.peers.identity import Identity
from server.peers.peers import Peers, watching
from server.peers.wire import NodeOrder
from server.services import NodeServices


@contextlib.asynccontextmanager
async def joined(
    services: NodeServices, config: ClusterConfig, identity: Identity, url: str, app: ASGIApp
) -> AsyncIterator[NodeApp]:
    """Has requests go to other nodes too, and gives what other nodes ask. ``url``: where clients ask this
    node; ``app``: answers them."""
    own = Seniority(time.time_ns(), uuid.uuid4().hex)
    description = SelfDescription(services, own, url)
    peers = Peers(config, identity, description.now, own)
    departure = Departure(services)
    peers.depart = departure.begin
    local = services.admissions.counts
    assert isinstance(local, LocalCounts), "no other nodes were joined before"
    homes = KeyHomes(local, peers)
    description.used = homes.used_lately
    async with watching(peers), _placing(services, peers, config):
        services.peers, services.admissions.counts = peers, homes
        services.tiers.read_from(_weights(peers, config, identity))
        try:
            yield NodeApp(services, peers, description, homes, ForClients(app), identity.token)
        finally:
            departure.close()
            await homes.close()
            services.tiers.read_from(NoPieces())
            services.peers, services.admissions.counts = None, local


def _weights(peers: Peers, config: ClusterConfig, identity: Identity) -> PeerWeights:
    context = identity.context("client")
    way = Way(identity.token, lambda address: context if config.encrypted(address) else None)
    weights = PeerWeights(config.weights_from_nodes, way, peers.holders)
    peers.weights_rate = lambda: weights.rates.peer
    return weights


@contextlib.asynccontextmanager
async def _placing(services: NodeServices, peers: Peers, config: ClusterConfig) -> AsyncIterator[None]:
    """Has this node place experts whenever it is its turn."""
    if config.placement is None:
        yield
        return

    def obeyed(order: NodeOrder) -> str:
        try:
            obey(services.tiers, peers, order)
        except TiersError as error:
            return str(error)
        return ""

    placing = Placing(peers, config.placement, obeyed, config.event_log)
    peers.even_out = placing.even_out
    task = asyncio.create_task(placing.run(), name="place experts")
    try:
        yield
    finally:
        peers.even_out = lambda: False
        task.cancel()
        await asyncio.wait([task])
