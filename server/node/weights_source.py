"""Reads weights from other nodes' host memory, piece by piece, where that is quicker than the disk."""

import contextlib
import functools
import http.client
import io
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from experts.checkpoints.hashing import PIECE_BYTES, checksum, digest
from memory_tiers.driver.pieces import FilePieces, NoPieces
from server.config.cluster import Address, PeerWeightsRule
from server.peers.peers import Holder
from server.peers.wire import COMING, DIGEST_BYTES, SUMS, WEIGHTS

log = logging.getLogger("coe.cluster")

PATIENCE_S = 5.0
"""Seconds that a node has for the next bytes of a piece."""
PIECE_S = 20.0
"""Seconds that a node has for a whole piece, or for the digests of all."""
LATEST = 0.3
"""Weight of the latest piece in a smoothed rate."""
AGAIN = 32
"""One of as many pieces comes the slower way, which may have become the quicker one."""
_NONE = NoPieces()


class Rates:
    """Bytes/s of a piece from other nodes and from disk. Safe from any thread."""

    def __init__(self) -> None:
        self.peer: float | None = None
        self.disk: float | None = None

    def __repr__(self) -> str:
        return f"<Rates peer={self.peer} disk={self.disk}>"

    def peer_is_quicker(self, number: int) -> bool:
        """Says whether piece ``number`` should come from a node. While one way is not measured, both are."""
        if self.peer is None or self.disk is None:
            return number % 2 == 0 if self.disk is None else True
        return (self.peer >= self.disk) != (number % AGAIN == AGAIN - 1)

    def from_peer(self, size: int, seconds: float) -> None:
        self.peer = _smoothed(self.peer, size / max(seconds, 1e-9))

    def from_disk(self, size: int, seconds: float) -> None:
        self.disk = _smoothed(self.disk, size / max(seconds, 1e-9))


@dataclass(frozen=True, slots=True)
class Way:
    """How the thread that reads reaches nodes: with the token, and over TLS where ``context`` is there."""

    token: str
    context: Callable[[Address], ssl.SSLContext | None]

    def connect(self, address: Address) -> http.client.HTTPConnection:
        context = self.context(address)
        if context is None:
            return http.client.HTTPConnection(address.host, address.port, timeout=PATIENCE_S)
        return http.client.HTTPSConnection(address.host, address.port, timeout=PATIENCE_S, context=context)


class PeerWeights:
    """Implements ``memory_tiers.driver.pieces.Pieces``. ``holders`` names the nodes whose host memory has an
    expert's files, the one to ask first in front."""

    def __init__(self, rule: PeerWeightsRule, way: Way, holders: Callable[[str], Sequence[Holder]]) -> None:
        self._rule = rule
        self._way = way
        self._holders = holders
        self.rates = Rates()

    def __repr__(self) -> str:
        return f"<PeerWeights {self._rule} {self.rates!r}>"

    def open(self, expert: str, file: str, size: int, checksum: str) -> FilePieces:
        holders = [] if self._rule == "never" else [*self._holders(expert)]
        if not holders:
            return _NONE
        return PeerFile(expert, file, size, checksum, holders, self._way, self.rates, self._rule == "always")


class PeerFile:
    """One file on several nodes. A node that ends, lies or is too slow is not asked for it again: the next
    one goes on where it has ended, then the disk. A node that is just getting the file gives each piece once
    it has it; the digests come from one that has all."""

    def __init__(
        self,
        expert: str,
        file: str,
        size: int,
        checksum: str,
        holders: Sequence[Holder],
        way: Way,
        rates: Rates,
        always: bool,
    ) -> None:
        self._path = f"?expert={quote(expert, safe='')}&file={quote(file, safe='')}"
        self._named = f"{file} of {expert}"
        self._size = size
        self._checksum = checksum
        self._holders = [*holders]
        self._way = way
        self._rates = rates
        self._always = always
        self._lock = threading.Lock()
        self._sums: Sequence[bytes] = ()
        self._own = threading.local()
        self._connections: list[http.client.HTTPConnection] = []

    def __repr__(self) -> str:
        return f"<PeerFile {self._named} from {[str(each.address) for each in self._holders]}>"

    def read(self, number: int, buffer: memoryview) -> bool:
        if not self._holders or not (self._always or self._rates.peer_is_quicker(number)):
            return False
        while True:
            with self._lock:
                if not self._holders or not (self._sums or self._learn_sums()):
                    return False
                holder = self._holders[0]
            began = time.perf_counter()
            try:
                self._fetch(holder, number, buffer)
                if digest(buffer) != self._sums[number]:
                    raise _Refused(f"piece {number} is not what was prepared")
            except (OSError, http.client.HTTPException, _Refused) as error:
                self._pass_over(holder, error)
                continue
            self._rates.from_peer(len(buffer), time.perf_counter() - began)
            return True

    def from_disk(self, size: int, seconds: float) -> None:
        self._rates.from_disk(size, seconds)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def _learn_sums(self) -> bool:
        """Asks nodes for the digests of all pieces until one gives them."""
        return any(self._sums_of(holder) for holder in [*self._holders] if holder.whole)

    def _sums_of(self, holder: Holder) -> bool:
        """Asks for the digests, which the checksum proves."""
        count = -(-self._size // PIECE_BYTES)
        try:
            found = bytearray(count * DIGEST_BYTES)
            self._ask(holder, f"{SUMS}{self._path}", memoryview(found), {})
            sums = [bytes(found[at : at + DIGEST_BYTES]) for at in range(0, len(found), DIGEST_BYTES)]
            if checksum(sums) != self._checksum:
                raise _Refused("it has another file")
        except (OSError, http.client.HTTPException, _Refused) as error:
            self._drop(holder, error)
            return False
        self._sums = sums
        return True

    def _fetch(self, holder: Holder, number: int, buffer: memoryview) -> None:
        start = number * PIECE_BYTES
        range_ = {"range": f"bytes={start}-{start + len(buffer) - 1}"}
        coming = "" if holder.whole else f"&{COMING}=1"
        self._ask(holder, f"{WEIGHTS}{self._path}{coming}", buffer, range_)

    def _ask(self, holder: Holder, path: str, buffer: memoryview, headers: dict[str, str]) -> None:
        """Fills the buffer. Raises OSError, HTTPException, _Refused."""
        response = self._begun(holder, path, headers)
        if response.status not in (200, 206) or response.length != len(buffer):
            said = response.read(2**16)
            raise _Refused(f"it answered {response.status} {said[:200].decode(errors='replace')}")
        done = 0
        while done < len(buffer):
            read = response.readinto(buffer[done:])
            if read == 0:
                raise _Refused("it ended in the middle of a piece")
            done += read
        response.read()  # its end, so that the connection can be asked again

    def _begun(self, holder: Holder, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """Asks again over a new connection where one that was kept has been closed meanwhile."""
        headers = {"authorization": f"Bearer {self._way.token}", **headers}
        connection = self._connection(holder.address)
        until = time.monotonic() + PIECE_S
        connection.response_class = functools.partial(_Response, until)  # type: ignore[assignment]
        kept = connection.sock is not None
        try:
            connection.request("GET", path, headers=headers)
            return connection.getresponse()
        except ConnectionError:
            connection.close()
            if not kept:
                raise
            connection.request("GET", path, headers=headers)
            return connection.getresponse()

    def _connection(self, holder: Address) -> http.client.HTTPConnection:
        """Returns this thread's connection to the node. Raises OSError."""
        made: tuple[Address, http.client.HTTPConnection] | None = getattr(self._own, "connection", None)
        if made is not None and made[0] == holder:
            return made[1]
        connection = self._way.connect(holder)
        self._own.connection = (holder, connection)
        self._connections.append(connection)
        return connection

    def _pass_over(self, holder: Holder, error: Exception) -> None:
        self._own.connection = None
        with self._lock:
            self._drop(holder, error)

    def _drop(self, holder: Holder, error: Exception) -> None:
        if holder in self._holders:
            self._holders.remove(holder)
            with contextlib.suppress(AttributeError):
                del self._own.connection
            log.warning("node %s gives no more of %s: %s", holder.address, self._named, error)


class _Response(http.client.HTTPResponse):
    """A response of which all has to come by a time. Its reads raise TimeoutError."""

    def __init__(self, until: float, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_Reading(sock, until))


class _Reading(io.RawIOBase):
    """Reads a socket, each time for no longer than ``PATIENCE_S``, and until a time at most."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock = sock
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"it has not given all within {PIECE_S:g} s")
        self._sock.settimeout(min(PATIENCE_S, left))
        return self._sock.recv_into(buffer)


class _Refused(Exception):
    """The node gave something else than was asked for."""


def _smoothed(before: float | None, latest: float) -> float:
    return latest if before is None else before + LATEST * (latest - before)
