"""Process of the load generator: a line of JSON in is a load to make, a line out is its outcome.

``python -m benchmarks.gateway.load_generator``. One thread with uvloop and httptools, one connection for each
request under way, kept open.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import cast

import httptools
import numpy as np
import orjson
import uvloop

from benchmarks.gateway.arrivals import Arrivals
from benchmarks.gateway.cpu import cpu_seconds
from benchmarks.gateway.load import GENERATOR, NUMBER, PATH, Latency, Load, Outcome

LAST_ANSWERS_S = 30.0
"""Seconds that answers still under way at the end are waited for."""


class Wire:
    """Requests of a load as bytes, each with another number in its prompt."""

    def __init__(self, load: Load) -> None:
        body = orjson.dumps(
            {
                "model": load.model,
                "messages": [{"role": "user", "content": load.prompt}],
                "max_tokens": load.tokens,
                "stream": load.kind == "stream",
            }
        )
        head = (
            f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1:{load.port}\r\ncontent-type: application/json\r\n"
            f"accept: */*\r\nuser-agent: coe-bench\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._before, self._after = (head.encode() + body).split(NUMBER.encode())
        self._next = load.seed % 1000 * 100_000

    def request(self) -> bytes:
        self._next += 1
        return b"%b%08d%b" % (self._before, self._next, self._after)


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, making: "Making") -> None:
        self._making = making
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._asked = 0.0
        self._first = 0.0
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def ask(self) -> None:
        assert self._transport is not None, "connected"
        self._first = 0.0
        self._body.clear()
        self._asked = time.perf_counter()
        self._transport.write(self._making.wire.request())

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._making.failed(f"not HTTP: {error}")
            self.close()

    def on_body(self, body: bytes) -> None:
        if not self._first:
            self._first = time.perf_counter()
        self._body.append(body)

    def on_message_complete(self) -> None:
        now, asked, status = time.perf_counter(), self._asked, self._parser.get_status_code()
        self._asked = 0.0
        if status == 200 and self._making.whole(b"".join(self._body)):
            self._making.answered(self, asked, self._first, now)
        else:
            self._making.failed(f"{status}: {b''.join(self._body)[:200]!r}")
            self._making.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self._asked:
            self._asked = 0.0
            self._making.failed(f"the connection ended in an answer: {error}")
        self._making.lost(self)

    def close(self) -> None:
        """Closes the connection and drops its request."""
        self._asked = 0.0
        if self._transport is not None:
            self._transport.close()


class Making:
    """One load being made."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.wire = Wire(load)
        self._loop = asyncio.get_running_loop()
        self._counting = False
        self._ending = False
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._quiet = asyncio.Event()
        self._firsts: list[float] = []
        self._lasts: list[float] = []
        self._lates: list[float] = []
        self._failures: Counter[str] = Counter()

    async def run(self) -> Outcome:
        load = self.load
        arrivals = Arrivals(load.rate, load.seed, self._arrived)
        for _ in range(load.streams):
            self._ask()
        if not load.streams:
            arrivals.begin()
        await asyncio.sleep(load.warming_s)
        before, began = self._cpu(), time.perf_counter()
        self._counting = True
        await asyncio.sleep(load.seconds)
        self._counting, self._ending = False, True
        seconds, after = time.perf_counter() - began, self._cpu()
        if not load.streams:
            arrivals.end()
        await self._end()
        spent = {name: after[name] - before[name] for name in before}
        return Outcome(
            requests=len(self._lasts),
            seconds=seconds,
            first=_latency(self._firsts),
            last=_latency(self._lasts),
            late_ms=_latency(self._lates).p99,
            cpu_s=spent,
            failures=dict(self._failures),
        )

    def whole(self, body: bytes) -> bool:
        if self.load.kind == "plain":
            return b'"usage"' in body and body.endswith(b"}")
        return body.endswith(b"data: [DONE]\n\n") and body.count(b"\n\n") > self.load.tokens

    def answered(self, connection: Connection, asked: float, first: float, last: float) -> None:
        if self._counting:
            self._firsts.append(first - asked)
            self._lasts.append(last - asked)
        self.free(connection)

    def failed(self, why: str) -> None:
        self._failures[why] += 1

    def lost(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        elif connection in self._busy:
            self._done_with(connection)
            if self.load.streams and not self._ending:
                self._ask()

    def free(self, connection: Connection) -> None:
        if self.load.streams and not self._ending:
            connection.ask()
            return
        self._done_with(connection)
        self._idle.append(connection)

    def _done_with(self, connection: Connection) -> None:
        self._busy.discard(connection)
        if not self._busy:
            self._quiet.set()

    def _arrived(self, due: float) -> None:
        if self._counting:
            self._lates.append(time.perf_counter() - due)
        self._ask()

    def _ask(self) -> None:
        if self._idle:
            connection = self._idle.pop()
            self._busy.add(connection)
            connection.ask()
            return
        task = self._loop.create_task(self._ask_anew())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _ask_anew(self) -> None:
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self), "127.0.0.1", self.load.port
            )
        except OSError as error:
            self._failures[str(error)] += 1
            return
        self._busy.add(connection)
        connection.ask()

    async def _end(self) -> None:
        await asyncio.gather(*self._connecting)
        if self._busy:
            self._quiet.clear()
            try:
                await asyncio.wait_for(self._quiet.wait(), LAST_ANSWERS_S)
            except TimeoutError:
                self._failures["not answered at the end"] += len(self._busy)
        for connection in [*self._idle, *self._busy]:
            connection.close()

    def _cpu(self) -> dict[str, float]:
        watched = self.load.watched or {}
        return {name: cpu_seconds(pids) for name, pids in watched.items()} | {GENERATOR: time.process_time()}


def _latency(seconds: Sequence[float]) -> Latency:
    if not seconds:
        return Latency(0.0, 0.0)
    p50, p99 = np.percentile(seconds, (50, 99)) * 1e3
    return Latency(float(p50), float(p99))


async def main() -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        sys.stdout.buffer.write((await Making(Load.of(line)).run()).line())
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(main())
