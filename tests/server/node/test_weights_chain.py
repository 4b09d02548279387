"""Weights in a chain: a node that is just getting an expert gives the next one the pieces that it has."""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from experts.checkpoints.hashing import PIECE_BYTES, hashes
from experts.errors import LoadFailed
from experts.spec import Expert
from memory_tiers.driver.host_store import HostStore
from memory_tiers.driver.staging import Reading
from server.config.cluster import Address
from server.errors import BadRequest
from server.node import weights_served
from server.node.weights_served import WeightsServed
from server.node.weights_source import PeerWeights, Way
from server.peers.peers import Holder
from server.peers.wire import SUMS
from server.transport.streaming import send_end, send_start

PIECES = 9
FREE = 4
"""Pieces that the first node gives at once."""
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def expert(tmp_path_factory: pytest.TempPathFactory) -> Expert:
    folder = tmp_path_factory.mktemp("checkpoint") / "law"
    folder.mkdir()
    file = folder / "model.safetensors"
    file.write_bytes(os.urandom((PIECES - 1) * PIECE_BYTES + 12345))
    checksum = hashes(file).checksum
    return Expert("law", "f", folder, file.stat().st_size, 0, "f", "", checksums={file.name: checksum})


@dataclass
class Node:
    """A node's host memory, and what it gives others of it: from the piece ``FREE`` on once ``goes_on``."""

    store: HostStore
    given: list[int] = field(default_factory=list)
    gives: Callable[[int], None] = lambda number: None
    goes_on: threading.Event = field(default_factory=threading.Event)
    address: Address = field(default_factory=lambda: Address("127.0.0.1", 0))

    def from_nodes(self, *holders: Holder) -> None:
        self.store.pieces = PeerWeights("always", Way("", lambda address: None), lambda expert: holders)

    def load(self, expert: Expert, reading: Reading | None = None) -> int:
        """Reads the expert; returns how many bytes came from nodes."""
        reading = reading or Reading()
        self.store.load(expert, reading)
        copied = self.store.path(expert.name) / "model.safetensors"
        assert copied.read_bytes() == (expert.folder / "model.safetensors").read_bytes()
        return reading.bytes_from_elsewhere

    @contextlib.contextmanager
    def serving(self) -> Iterator["Node"]:
        weights = WeightsServed(self.store.path, self.store.arriving.get)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                if scope["path"] == SUMS:
                    await weights.send_sums(scope, send)
                    return
                first = next(value for name, value in scope["headers"] if name == b"range")
                number = int(first.removeprefix(b"bytes=").partition(b"-")[0]) // PIECE_BYTES
                while number >= FREE and not self.goes_on.is_set():  # noqa: ASYNC110  set in another thread
                    await asyncio.sleep(0.001)
                await weights.send_range(scope, send)
                self.given.append(number)
                self.gives(number)
            except BadRequest:
                await send_start(send, 404, {"content-length": "0"})
                await send_end(send)

        server = uvicorn.Server(
            uvicorn.Config(app, port=0, ws="none", lifespan="off", log_config=None, access_log=False)
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            self.address = Address("127.0.0.1", server.servers[0].sockets[0].getsockname()[1])
            yield self
        finally:
            self.goes_on.set()
            server.should_exit = True
            thread.join()


@pytest.fixture
def chain(tmp_path: Path, expert: Expert) -> Iterator[tuple[Node, Node, Node]]:
    """Three nodes: the first has the expert, the second reads it from the first, and the third from the
    second, or else from the first."""
    with contextlib.ExitStack() as stack:
        nodes = []
        for name in "abc":
            (tmp_path / name).mkdir()
            store = HostStore(tmp_path / name)
            store.open()
            stack.callback(store.close)
            nodes.append(stack.enter_context(Node(store).serving()))
        first, second, third = nodes
        first.load(expert)
        second.from_nodes(Holder(first.address, whole=True))
        third.from_nodes(Holder(second.address, whole=False), Holder(first.address, whole=True))
        second.goes_on.set()
        yield first, second, third


def test_a_node_gives_on_the_pieces_it_has_and_the_first_sends_each_once(
    chain: tuple[Node, Node, Node], expert: Expert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_served, "WAIT_S", PATIENCE_S)
    first, second, third = chain
    passed_on = threading.Event()
    second.gives = lambda number: passed_on.set() if len(second.given) == FREE else None
    with ThreadPoolExecutor(2) as threads:
        last = threads.submit(third.load, expert)  # which begins first, and waits for the copy to begin
        middle = threads.submit(second.load, expert)
        assert passed_on.wait(PATIENCE_S)
        assert expert.name in second.store.arriving, "it has not all yet"
        first.goes_on.set()
        assert middle.result(PATIENCE_S) == last.result(PATIENCE_S) == expert.weights_bytes
    assert sorted(first.given) == sorted(second.given) == [*range(PIECES)]
    assert not second.store.arriving


def test_where_the_node_in_between_gives_up_the_next_one_goes_on_from_the_first(
    chain: tuple[Node, Node, Node], expert: Expert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_served, "WAIT_S", 3.0)
    first, second, third = chain
    reading, passed_on = Reading(), threading.Event()
    second.gives = lambda number: passed_on.set() if len(second.given) == FREE else None
    with ThreadPoolExecutor(2) as threads:
        middle = threads.submit(second.load, expert, reading)
        last = threads.submit(third.load, expert)
        assert passed_on.wait(PATIENCE_S)
        reading.stop()
        first.goes_on.set()
        with pytest.raises(LoadFailed, match="not wanted any more"):
            middle.result(PATIENCE_S)
        assert last.result(PATIENCE_S) == expert.weights_bytes
    assert {*range(PIECES)} - {*second.given} <= {*first.given}


def test_a_node_that_was_ordered_to_get_the_expert_and_does_not_is_passed_over(
    chain: tuple[Node, Node, Node], expert: Expert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_served, "WAIT_S", 0.01)
    first, second, third = chain
    first.goes_on.set()
    assert third.load(expert) == expert.weights_bytes
    assert sorted(first.given) == [*range(PIECES)]
    assert second.given == []
