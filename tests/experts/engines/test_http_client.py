"""The way to an engine: connections are used again, and only what nobody has answered is asked twice."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from experts.engines.http_client import KEPT_S, HttpClient, TcpAddress
from experts.engines.http_connection import ConnectionEnded

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)


@dataclass
class Asked:
    """A request that the server has read."""

    head: str
    body: bytes
    connection: int
    """The number of the connection it came over, from 1."""
    writer: asyncio.StreamWriter


@dataclass
class Server:
    client: HttpClient
    answer: Callable[[Asked], Awaitable[None]]
    asked: list[Asked] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client closes a connection."""
    connections: int = 0
    now: float = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                self.asked.append(Asked(head, body, number, writer))
                await self.answer(self.asked[-1])
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()


async def answered(asked: Asked) -> None:
    asked.writer.write(ANSWER)


@asynccontextmanager
async def serving(
    folder: Path, answer: Callable[[Asked], Awaitable[None]] = answered
) -> AsyncIterator[Server]:
    socket = folder / "s"
    server: Server
    client = HttpClient(socket, lambda: server.now)
    server = Server(client, answer)
    listening = await asyncio.start_unix_server(server.serve, str(socket))
    try:
        yield server
    finally:
        await client.close()
        listening.close()
        await listening.wait_closed()


async def ask(server: Server, *, again: bool = True) -> bytes:
    answer = await server.client.request("POST", "/p?q=1", b'{"a":1}', again=again)
    try:
        return await answer.read()
    finally:
        answer.close()


async def test_a_request_is_what_http_says(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        assert await ask(server) == b"{}"
        assert server.asked[0].head.splitlines() == [
            "POST /p?q=1 HTTP/1.1",
            "host: engine",
            "content-type: application/json",
            "content-length: 7",
            "",
        ]
        assert server.asked[0].body == b'{"a":1}'


async def test_a_connection_is_used_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for _ in range(3):
            await ask(server)
        assert [asked.connection for asked in server.asked] == [1, 1, 1]


async def test_what_may_not_be_done_twice_has_a_connection_of_its_own(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await ask(server)
        await ask(server, again=False)
        assert [asked.connection for asked in server.asked] == [1, 2]


async def test_connections_of_what_may_not_be_done_twice_are_not_kept(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for _ in range(3):
            await ask(server, again=False)
        assert repr(server.client) == "<HttpClient [busy: 0, idle: 0]>"
        await ask(server)
        assert repr(server.client) == "<HttpClient [busy: 0, idle: 1]>"


async def test_a_connection_that_was_idle_for_long_is_not_trusted(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await ask(server)
        server.now = KEPT_S
        await ask(server)
        assert [asked.connection for asked in server.asked] == [1, 2]


async def test_requests_at_once_have_a_connection_each(tmp_path: Path) -> None:
    both = asyncio.Barrier(2)

    async def together(asked: Asked) -> None:
        await both.wait()
        asked.writer.write(ANSWER)

    async with serving(tmp_path, together) as server:
        await asyncio.gather(ask(server), ask(server))
        assert server.connections == 2


async def test_a_kept_connection_that_ends_without_a_byte_is_asked_again_on_a_new_one(tmp_path: Path) -> None:
    async def once(asked: Asked) -> None:
        if len(server.asked) == 2:
            asked.writer.transport.abort()
        else:
            asked.writer.write(ANSWER)

    async with serving(tmp_path, once) as server:
        await ask(server)
        assert await ask(server) == b"{}"
        assert [asked.connection for asked in server.asked] == [1, 1, 2]


async def test_a_new_connection_that_ends_without_a_byte_is_the_callers_to_judge(tmp_path: Path) -> None:
    async def never(asked: Asked) -> None:
        asked.writer.transport.abort()

    async with serving(tmp_path, never) as server:
        with pytest.raises(ConnectionEnded):
            await ask(server)
        assert len(server.asked) == 1


@pytest.mark.parametrize("begun", [b"HTTP/1.1 2", CHUNKED])
async def test_what_has_begun_to_answer_is_not_asked_again(tmp_path: Path, begun: bytes) -> None:
    async def cut(asked: Asked) -> None:
        if len(server.asked) == 2:
            asked.writer.write(begun)
            await asked.writer.drain()
            asked.writer.close()
        else:
            asked.writer.write(ANSWER)

    async with serving(tmp_path, cut) as server:
        await ask(server)
        with pytest.raises(ConnectionEnded):
            await ask(server)
        assert len(server.asked) == 2


async def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(ConnectionEnded):
        await HttpClient(tmp_path / "s").request("GET", "/health")


async def test_a_stream_comes_piece_by_piece(tmp_path: Path) -> None:
    goes_on = asyncio.Event()

    async def streamed(asked: Asked) -> None:
        asked.writer.write(CHUNKED + b"3\r\none\r\n")
        await goes_on.wait()
        asked.writer.write(b"3\r\ntwo\r\n0\r\n\r\n")

    async with serving(tmp_path, streamed) as server:
        answer = await server.client.request("POST", "/", b"", again=True)
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        assert await answer.read_any() == b"one"
        goes_on.set()
        assert await answer.read() == b"two"
        answer.close()
        await ask(server)
        assert server.connections == 1


async def test_closing_an_answer_before_its_end_closes_its_connection(tmp_path: Path) -> None:
    async def endless(asked: Asked) -> None:
        asked.writer.write(CHUNKED + b"3\r\none\r\n")

    async with serving(tmp_path, endless) as server:
        answer = await server.client.request("POST", "/", b"", again=True)
        await answer.read_any()
        answer.close()
        answer.close()
        await asyncio.wait_for(server.gone.wait(), 30)


async def test_cancelling_a_request_closes_its_connection(tmp_path: Path) -> None:
    asked_for = asyncio.Event()

    async def silent(asked: Asked) -> None:
        asked_for.set()

    async with serving(tmp_path, silent) as server:
        asking = asyncio.create_task(ask(server))
        await asked_for.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(server.gone.wait(), 30)


async def test_closing_the_client_ends_answers_under_way_and_those_that_come(tmp_path: Path) -> None:
    async def endless(asked: Asked) -> None:
        asked.writer.write(CHUNKED)

    async with serving(tmp_path, endless) as server:
        answer = await server.client.request("POST", "/", b"")
        reading = asyncio.create_task(answer.read())
        await asyncio.sleep(0)
        await server.client.close()
        with pytest.raises(ConnectionEnded):
            await reading
        with pytest.raises(ConnectionEnded):
            await ask(server)


async def test_a_server_that_keeps_no_connections_is_asked_on_new_ones(tmp_path: Path) -> None:
    async def closing(asked: Asked) -> None:
        asked.writer.write(ANSWER.replace(b"content-type", b"connection: close\r\ncontent-type"))

    async with serving(tmp_path, closing) as server:
        assert [await ask(server), await ask(server)] == [b"{}", b"{}"]
        assert server.connections == 2


async def test_what_nobody_asked_for_ends_a_connection(tmp_path: Path) -> None:
    async def twice(asked: Asked) -> None:
        asked.writer.write(ANSWER)
        await asked.writer.drain()
        await said.wait()
        asked.writer.write(ANSWER)

    said = asyncio.Event()
    async with serving(tmp_path, twice) as server:
        await ask(server)
        said.set()
        await asyncio.wait_for(server.gone.wait(), 30)
        await ask(server)
        assert server.connections == 2


async def test_what_is_not_http_is_no_answer(tmp_path: Path) -> None:
    async def nonsense(asked: Asked) -> None:
        asked.writer.write(b"hello\r\n\r\n")

    async with serving(tmp_path, nonsense) as server:
        with pytest.raises(ConnectionEnded, match="not HTTP"):
            await ask(server)


async def test_a_reader_who_does_not_read_makes_the_server_wait(tmp_path: Path) -> None:
    piece = b"%x\r\n" % 2**16 + b"x" * 2**16 + b"\r\n"
    written = 0

    async def much(asked: Asked) -> None:
        nonlocal written
        asked.writer.write(CHUNKED)
        for _ in range(1000):
            asked.writer.write(piece)
            await asked.writer.drain()
            written += 1
        asked.writer.write(b"0\r\n\r\n")

    async with serving(tmp_path, much) as server:
        answer = await server.client.request("POST", "/", b"")
        before = -1
        while written != before:  # until it stands still
            before = written
            await asyncio.sleep(0.2)
        assert written < 500
        assert len(await answer.read()) == 1000 * 2**16


EVENTS = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in (b"data: one\n\n", b"data: [DONE]\n\n"))


@pytest.mark.parametrize("how", ["reset", "closed"])
@pytest.mark.parametrize("whole", [ANSWER, CHUNKED + EVENTS + b"0\r\n\r\n"], ids=["length", "chunks"])
async def test_an_answer_that_breaks_off_at_any_byte_is_never_taken_for_a_whole_one(
    tmp_path: Path, whole: bytes, how: str
) -> None:
    passing = 0

    async def broken(asked: Asked) -> None:
        asked.writer.write(whole[:passing])
        await asked.writer.drain()
        if passing < len(whole):
            asked.writer.transport.abort() if how == "reset" else asked.writer.close()

    async with serving(tmp_path, broken) as server:
        for passing in range(len(whole)):  # noqa: B007  the server reads it
            with pytest.raises(ConnectionEnded):
                await ask(server, again=False)
        passing = len(whole)
        assert await ask(server) in (b"{}", b"data: one\n\ndata: [DONE]\n\n")


async def test_what_cannot_be_the_name_of_a_host_is_no_connection() -> None:
    with pytest.raises(ConnectionEnded):
        await HttpClient(TcpAddress("a..b", 8100)).request("GET", "/node/heartbeat")
