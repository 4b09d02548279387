"""Carries out an order of another node, or of this one as the one that places experts."""

from memory_tiers.driver.manager import TierManager
from memory_tiers.tiers import HEIGHT
from server.peers.peers import Peers
from server.peers.wire import NodeOrder


def obey(tiers: TierManager, peers: Peers, order: NodeOrder) -> None:
    """Moves the expert, unless it is there already or on its way there: a request may have brought it higher
    since the order was decided. Raises TiersError."""
    found = next((each for each in tiers.status() if each.expert == order.expert), None)
    if found is not None and not order.leaves:
        coming = order.tier == "host" and (found.loading or found.waiting > 0)
        if coming or HEIGHT[found.tier] >= HEIGHT[order.tier]:
            return
    if order.source is not None:
        peers.comes_from(order.expert, order.source)
    tiers.orders.move(order.expert, order.tier)
