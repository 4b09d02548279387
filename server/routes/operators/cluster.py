"""Paths by which operators see the nodes, and send one away."""

from typing import Literal

from fastapi import APIRouter, Request

from memory_tiers.tiers import Tier
from server.errors import ClusterOff
from server.operator_api import ClusterStatus, CopyStatus, MoveStatus, NodeStatus, PlacementStatus
from server.peers.followed import Followed
from server.peers.peer import Peer
from server.peers.peers import Peers
from server.peers.wire import NodeSnapshot
from server.routes.operators.rights import ForOperators, note_order
from server.services import NodeServices

router = APIRouter(prefix="/v1/coe")


@router.get("/cluster")
async def cluster(services: ForOperators) -> ClusterStatus:
    """Show every node, whether it answers, and which experts it holds."""
    peers = _peers(services)
    others = [_status(peer) for peer in peers.others]
    here = _of("this node", _own_address(services), peers.here)
    return ClusterStatus(nodes=(here, *others), placement=_placement(peers.followed))


@router.post("/cluster/drain", status_code=202)
async def drain(services: ForOperators) -> ClusterStatus:
    """Have this node give away what only it holds, and then end as after SIGTERM."""
    _peers(services).depart()
    return await cluster(services)


@router.post("/cluster/rebalance", status_code=202)
async def rebalance(request: Request, services: ForOperators) -> ClusterStatus:
    """Have copies of experts spread evenly over the nodes."""
    why = await _peers(services).rebalance()
    if why:
        raise ClusterOff(f"Nothing is rebalanced: {why}.")
    note_order(request, services, "rebalance")
    return await cluster(services)


def _peers(services: NodeServices) -> Peers:
    """Raises ClusterOff."""
    if services.peers is None:
        raise ClusterOff("This gateway serves alone: name the other nodes in cluster.peers.")
    return services.peers


def _own_address(services: NodeServices) -> str:
    peers = _peers(services)
    return next((str(peer.address) for peer in peers.all if peer.is_self), "")


def _placement(followed: Followed) -> PlacementStatus | None:
    epoch = followed.table.epoch
    if epoch is None:
        return None
    table = followed.table.all.items()
    return PlacementStatus(
        placer=followed.address,
        term=epoch.term,
        count=epoch.count,
        table={
            expert: tuple(CopyStatus(node=copy.node, tier=copy.tier) for copy in copies)
            for expert, copies in table
        },
        moves=tuple(MoveStatus(**dict(move)) for move in followed.moves),
    )


def _status(peer: Peer) -> NodeStatus:
    if peer.snapshot is None:
        return NodeStatus(address=str(peer.address), state="lost")
    return _of("up", str(peer.address), peer.snapshot)


def _of(state: Literal["this node", "up"], address: str, said: NodeSnapshot) -> NodeStatus:
    held: dict[str, Tier] = {name: place.tier for name, place in said.experts.items() if place.tier != "disk"}
    return NodeStatus(
        address=address,
        state="draining" if said.draining else state,
        url=said.url,
        version=said.version,
        running=said.running,
        experts=held,
        gateway=said.gateway,
    )
