"""A node whose word is old: what this gateway does when the other says no, or something that is no answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from cluster.election import Seniority
from experts.errors import EngineUnavailable
from server.config.cluster import Address, ClusterConfig
from server.config.settings import Settings
from server.exchange.across_nodes import _opened
from server.exchange.engine.call import EngineRequest
from server.node.membership import joined
from server.peers.identity import Identity
from server.peers.peer import Peer
from server.peers.peers import Peers
from server.peers.wire import ExpertPlace, NodeSnapshot
from tests.server.conftest import Gateway, Serving, settled, until

SECRET = "a secret of this test alone"


@dataclass
class OtherNode:
    """A node that says it has law on its device, and answers every request with ``reply``. ``asked``: bodies
    of those requests."""

    reply: bytes
    port: int = 0
    asked: list[dict[str, object]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /node/heartbeat "):
            place = ExpertPlace(tier="device", seconds=0.0, waiting=0, bytes=1072)
            said = NodeSnapshot(
                id="other", run=1, number=1, draining=False, running=0, version="0.0.9", url="",
                device_bytes=2500, device_free=0, host_bytes=0, experts={"law": place},
            )  # fmt: skip
            line = orjson.dumps(said.model_dump() | {"of_a_later_version": 1}) + b"\n"
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n" + line)
            await reader.read()
        else:
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            self.asked.append(orjson.loads(await reader.readexactly(length)))
            writer.write(self.reply)
            await writer.drain()
        writer.close()


def refusal(status: int, reason: str) -> bytes:
    body = orjson.dumps({"reason": reason, "message": "it left", "of_a_later_version": 1})
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


@contextlib.asynccontextmanager
async def beside(gateway: Gateway, other: OtherNode) -> AsyncIterator[None]:
    """Has the gateway know ``other``, which answers its heartbeat."""
    async with await asyncio.start_server(other.serve, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        config = ClusterConfig(secret=SECRET, peers=(address,))  # type: ignore[arg-type]
        async with joined(gateway.services, config, Identity.of(SECRET), gateway.url, gateway.server.gate):
            peers = gateway.services.peers
            assert peers is not None
            await until(lambda: len(peers.up) == 1)
            yield


@pytest.mark.parametrize(
    "reply",
    [
        refusal(409, "BadRequest"),
        refusal(503, "shutting_down"),
        refusal(429, "queue_full"),
        refusal(502, "EngineUnavailable"),
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\nno",
    ],
    ids=["moved", "shutting down", "full", "no engine", "nothing", "no answer", "no reason"],
)
async def test_what_another_node_does_not_answer_is_answered_here(
    serving: Serving, settings: Settings, reply: bytes
) -> None:
    async with serving(settings) as gateway:
        await settled(gateway)
        other = OtherNode(reply)
        async with beside(gateway, other):
            answer = await gateway.post(model="law", max_tokens=3)
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-coe-tier"] == "disk", "it was loaded here"
            assert [asked["expert"] for asked in other.asked] == ["law"] * len(other.asked)
            assert other.asked, "the other was asked first"
            assert {asked["at_least"] for asked in other.asked} <= {"device", "disk"}
            assert len({str(asked["id"]) for asked in other.asked}) == 1


async def test_a_refusal_for_good_is_told_and_no_other_node_is_asked(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway:
        await settled(gateway)
        other = OtherNode(refusal(404, "unknown_expert"))
        async with beside(gateway, other):
            answer = await gateway.post(model="law", max_tokens=3)
            assert answer.status_code == 404
            assert len(other.asked) == 1


async def test_an_answer_for_a_family_that_a_reload_has_removed_is_closed() -> None:
    closed: list[bool] = []

    class Answer:
        status = 200

        async def whole(self) -> bytes:
            return b"{}"

        async def close(self) -> None:
            closed.append(True)

    async def ask(_: object) -> Answer:
        return Answer()

    sent = EngineRequest(cast(Any, SimpleNamespace(name="law", family="small")), "/v1/completions", {})
    services, peer = SimpleNamespace(engines={}), SimpleNamespace(ask=ask)
    with pytest.raises(EngineUnavailable):
        await _opened(
            cast(Any, services), sent, cast(Any, peer), cast(Any, SimpleNamespace(whole=True)), lambda _: None
        )
    assert closed == [True]


async def test_a_node_that_was_met_and_lost_is_forgotten_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(*_: object) -> None:
        pass

    monkeypatch.setattr(Peer, "watch", lost)
    config = ClusterConfig(secret=SECRET)  # type: ignore[arg-type]
    peers = Peers(config, Identity.of(SECRET), cast(Any, None), Seniority(1, "own"))
    await peers.watch()
    peers.met(Address("10.0.0.2", 8100))
    assert peers._watching is not None
    await asyncio.gather(*peers._watching.values())
    assert (peers.all, peers._watching) == ((), {})
