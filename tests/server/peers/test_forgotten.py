"""A node that is in no list is followed no more once it is lost, and what it let in counts on."""

import time

import pytest

from cluster.election import Seniority
from server.access.figures import Figures
from server.config.cluster import Address, ClusterConfig
from server.peers import peers as peers_module
from server.peers.identity import Identity
from server.peers.peers import Peers, watching
from tests.server.conftest import until
from tests.server.peers.nodes import SECRET, free_ports

NOWHERE = Address("127.0.0.1", free_ports(1)[0])
TODAY = int(time.time() // 86400)


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Peers:
    monkeypatch.setattr(peers_module, "FORGOTTEN_S", 0.5)
    config = ClusterConfig(secret=SECRET)  # type: ignore[arg-type]
    return Peers(config, Identity.of(SECRET), lambda: pytest.fail("nobody asks"), Seniority(1, "own"))


async def lost(peers: Peers, day: int) -> None:
    """Has a node be lost and forgotten that let something in on that day."""
    peers.met(NOWHERE)
    (peer,) = peers.all
    peer.figures["mobile"] = Figures(day=day, day_tokens=700), time.monotonic()
    await until(lambda: not peers.all)


async def test_its_day_counts_on_and_is_its_own_again_when_it_comes_back(peers: Peers) -> None:
    async with watching(peers):
        await lost(peers, TODAY)
        assert [each.day_tokens for node in peers.forgotten for each in node.gone("mobile")] == [700]
        peers.met(NOWHERE)
        assert [each.day_tokens for node in peers.all for each in node.gone("mobile")] == [700]
        assert not peers.forgotten


async def test_what_was_let_in_on_an_earlier_day_is_forgotten(peers: Peers) -> None:
    async with watching(peers):
        await lost(peers, TODAY - 2)
        assert not peers.forgotten
