"""Weights from other nodes: whole, checked piece by piece, and from disk where a node lies or ends."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from experts.checkpoints.hashing import PIECE_BYTES, digest, hashes
from memory_tiers.driver.staging import DISK, Reading, Staged, stage
from server.config.cluster import Address, PeerWeightsRule
from server.node import weights_source
from server.node.weights_source import PeerWeights, Rates, Way
from server.peers.peers import Holder
from server.peers.wire import SUMS

PIECES = 7
SIZE = (PIECES - 1) * PIECE_BYTES + 12345


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "model.safetensors"
    piece = bytes(range(256)) * (PIECE_BYTES // 256)
    content = b"".join(bytes([number]) + piece[1:] for number in range(PIECES))
    file.write_bytes(content[:SIZE])
    return file


@dataclass
class Node:
    """A node that gives ``content``. ``spoil``: makes of a piece what it sends. It ends after ``ends_after``
    pieces, in the middle of the next, or sends that byte by byte until ``ended`` where it ``drips``."""

    content: bytes
    spoil: Callable[[int, bytes], bytes] = lambda number, piece: piece
    ends_after: int = PIECES
    drips: bool = False
    ended: threading.Event = field(default_factory=threading.Event)
    given: list[int] = field(default_factory=list)
    address: Address = field(default_factory=lambda: Address("127.0.0.1", 0))
    tokens: set[str] = field(default_factory=set)

    @contextlib.contextmanager
    def serving(self) -> Iterator["Node"]:
        holder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                holder.tokens.add(self.headers["authorization"])
                asked = urlsplit(self.path)
                assert parse_qs(asked.query) == {"expert": ["law/1"], "file": ["model.safetensors"]}
                if asked.path == SUMS:
                    starts = range(0, len(holder.content), PIECE_BYTES)
                    body = b"".join(digest(holder.content[at : at + PIECE_BYTES]) for at in starts)
                else:
                    first, last = map(int, self.headers["range"].removeprefix("bytes=").split("-"))
                    number = first // PIECE_BYTES
                    body = holder.spoil(number, holder.content[first : last + 1])
                self.send_response(200 if asked.path == SUMS else 206)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if asked.path != SUMS and holder.drips and len(holder.given) >= holder.ends_after:
                    with contextlib.suppress(ConnectionError):
                        for at in range(len(body)):
                            if holder.ended.wait(0.01):
                                break
                            self.wfile.write(body[at : at + 1])
                    self.close_connection = True
                    return
                if asked.path != SUMS and len(holder.given) >= holder.ends_after:
                    self.wfile.write(body[: len(body) // 2])
                    self.close_connection = True
                    return
                self.wfile.write(body)
                if asked.path != SUMS:
                    holder.given.append(number)

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        self.address = Address("127.0.0.1", server.server_address[1])
        try:
            yield self
        finally:
            self.ended.set()
            server.shutdown()
            server.server_close()
            thread.join()


def copied(weights: Path, target: Path, *nodes: Address, rule: PeerWeightsRule = "always") -> Reading:
    """Copies the file, and checks that it is whole."""
    holders = [Holder(address, whole=True) for address in nodes]
    source = PeerWeights(rule, Way("the token", lambda address: None), lambda expert: holders)
    checksum = hashes(weights).checksum
    pieces = source.open("law/1", weights.name, SIZE, checksum)
    reading = Reading()
    stage([Staged(weights, target, SIZE, checksum, pieces)], lambda: False, DISK, reading)
    assert target.read_bytes() == weights.read_bytes()
    assert reading.bytes == SIZE
    return reading


def test_all_pieces_come_from_a_node_that_has_the_file(weights: Path, tmp_path: Path) -> None:
    with Node(weights.read_bytes()).serving() as holder:
        assert copied(weights, tmp_path / "copy", holder.address).bytes_from_elsewhere == SIZE
        assert sorted(holder.given) == [*range(PIECES)], "each once"
        assert holder.tokens == {"Bearer the token"}


def test_a_piece_that_is_a_lie_is_read_from_disk_and_so_are_those_after_it(
    weights: Path, tmp_path: Path
) -> None:
    lie = Node(weights.read_bytes(), lambda number, piece: piece if number < 3 else b"x" + piece[1:])
    with lie.serving() as holder:
        assert copied(weights, tmp_path / "copy", holder.address).bytes_from_elsewhere <= 3 * PIECE_BYTES


def test_a_node_with_another_file_under_the_name_gives_nothing(weights: Path, tmp_path: Path) -> None:
    with Node(b"y" * SIZE).serving() as holder:
        assert copied(weights, tmp_path / "copy", holder.address).bytes_from_elsewhere == 0
        assert holder.given == [], "its digests told it"


def test_where_a_node_ends_in_the_middle_another_goes_on_and_nothing_is_read_twice(
    weights: Path, tmp_path: Path
) -> None:
    with (
        Node(weights.read_bytes(), ends_after=2).serving() as ends,
        Node(weights.read_bytes()).serving() as goes_on,
    ):
        reading = copied(weights, tmp_path / "copy", ends.address, goes_on.address)
        assert reading.bytes_from_elsewhere == SIZE
        assert not {*goes_on.given} & {*ends.given}


def test_a_node_that_gives_a_piece_byte_by_byte_is_passed_over(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(weights_source, "PIECE_S", 1.0)
    with (
        Node(weights.read_bytes(), ends_after=2, drips=True).serving() as drips,
        Node(weights.read_bytes()).serving() as goes_on,
    ):
        reading = copied(weights, tmp_path / "copy", drips.address, goes_on.address)
        assert reading.bytes_from_elsewhere == SIZE
        assert not {*goes_on.given} & {*drips.given}
    assert "gives no more of model.safetensors" in caplog.text


def test_where_no_node_answers_the_disk_is_read(weights: Path, tmp_path: Path) -> None:
    with Node(b"").serving() as gone:
        pass
    assert copied(weights, tmp_path / "copy", gone.address).bytes_from_elsewhere == 0


def test_no_node_is_asked_where_that_is_not_wanted(weights: Path, tmp_path: Path) -> None:
    with Node(weights.read_bytes()).serving() as holder:
        assert copied(weights, tmp_path / "copy", holder.address, rule="never").bytes_from_elsewhere == 0
        assert holder.given == []


def test_the_quicker_way_is_taken_and_the_other_is_tried_now_and_then() -> None:
    rates = Rates()
    assert {rates.peer_is_quicker(number) for number in range(2)} == {True, False}, "both are measured"
    rates.from_peer(1000, 1.0)
    rates.from_disk(3000, 1.0)
    assert sum(rates.peer_is_quicker(number) for number in range(64)) == 2
    for _ in range(20):
        rates.from_disk(500, 1.0)
    assert sum(rates.peer_is_quicker(number) for number in range(64)) == 62
