"""Which nodes are asked for an answer, one after the other, and for how long there may be none."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from experts.engines.http_client import TcpAddress
from experts.errors import EngineUnavailable
from memory_tiers.errors import LeaseRejected
from server.config.cluster import Address
from server.exchange import across_nodes
from server.exchange.across_nodes import open_on_some_node
from server.exchange.arrival import Terms
from server.exchange.engine.call import EngineRequest, OpenAnswer
from server.peers.changes import Changes
from server.peers.demand import Demand
from server.peers.peer import NotThere, Peer
from server.peers.peers import Choice
from server.services import Services

ENDS = LeaseRejected("shutting_down", "This node is shutting down.")
FULL = LeaseRejected("queue_full", "Too many wait.")
ALONE = EngineUnavailable("No node answers this gateway.")


class Nodes:
    """Stands for ``Peers`` and what the nodes answer. ``known``: those that answer, by name; ``says``: what
    each says to a strict question and to another, None an answer. Once one was asked, ``then`` is called."""

    def __init__(self, *known: str, **says: tuple[Exception | None, Exception | None]) -> None:
        self.known = list(known)
        self.says = says
        self.then: Callable[[], object] = lambda: None
        self.asked: list[str] = []
        self.changed = Changes()
        self.demand = Demand()
        self._peers = {name: Peer(Address(name, 1), TcpAddress(name, 1), lambda: None) for name in says}

    def in_order(self, expert: str, conversation: bytes) -> list[Choice]:
        """Returns this gateway itself where no other is known."""
        snapshot: Any = SimpleNamespace(gateway=True)
        return [Choice(self._peers[name], snapshot) for name in self.known] or [Choice(None, snapshot)]

    def answered(self, conversation: bytes, choice: Choice) -> None:
        """Remembers nothing."""

    def comes(self, name: str) -> None:
        self.known = [name]
        self.changed.note()

    async def ask(self, *args: Any, strict: bool, **_: Any) -> OpenAnswer:
        choice: Choice = args[-1]
        name = "" if choice.peer is None else choice.peer.address.host
        self.asked.append(name)
        error = ALONE if not name else self.says[name][0 if strict else 1]
        self.then()
        if error is not None:
            raise error
        return cast(OpenAnswer, name)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Opens an answer on some of the nodes; a gateway may wait for one to come for longer than the test."""

    async def open_on(nodes: Nodes, *, computes: bool = False, fail_fast: bool = False) -> OpenAnswer:
        monkeypatch.setattr(across_nodes, "_ask", nodes.ask)
        monkeypatch.setattr(across_nodes, "HEARD_S", 1e6)
        services = SimpleNamespace(peers=nodes, settings=SimpleNamespace(computes=computes))
        sent = EngineRequest(cast(Any, SimpleNamespace(name="law")), "/v1/completions", {"prompt": "a"})
        terms = Terms(timeouts=cast(Any, None), priority="normal", fail_fast=fail_fast)
        return await open_on_some_node(cast(Services, services), sent, terms, lambda _: None, whole=True)

    return open_on


async def test_a_node_that_came_while_another_was_asked_is_asked_too(opened: Callable[..., Any]) -> None:
    nodes = Nodes("b", a=(None, None), b=(NotThere("it has left the device"), ENDS))
    nodes.then = lambda: setattr(nodes, "known", ["a", "b"])
    assert await opened(nodes) == "a"
    assert nodes.asked == ["b", "b", "a"]


@pytest.mark.parametrize("known", [[], ["b"]], ids=["none answers", "the last one ends"])
async def test_a_gateway_waits_for_a_node_that_has_just_begun(
    opened: Callable[..., Any], known: list[str]
) -> None:
    nodes = Nodes(*known, a=(None, None), b=(ENDS, ENDS))
    nodes.then = lambda: asyncio.get_running_loop().call_soon(nodes.comes, "a")
    assert await asyncio.wait_for(opened(nodes), 60) == "a"
    assert nodes.asked == [*(known or [""]), "a"]


@pytest.mark.parametrize(
    ("known", "terms", "expected"),
    [
        (["b"], {}, FULL),
        (["c"], {"computes": True}, ENDS),
        (["c"], {"fail_fast": True}, ENDS),
        ([], {"fail_fast": True}, ALONE),
    ],
    ids=["a full line", "a node with engines", "asked to fail fast", "none and asked to fail fast"],
)
async def test_nothing_else_is_waited_for(
    opened: Callable[..., Any], known: list[str], terms: dict[str, bool], expected: Exception
) -> None:
    nodes = Nodes(*known, b=(FULL, FULL), c=(ENDS, ENDS))
    with pytest.raises(type(expected)) as raised:
        await asyncio.wait_for(opened(nodes, **terms), 60)
    assert raised.value is expected
    assert len(nodes.asked) == 1
