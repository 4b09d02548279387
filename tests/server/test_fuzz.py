"""Twenty thousand malformed requests over raw sockets: none is a failure, keeps a lease or leaves a trace."""

import asyncio
import collections
import gc
import os
import random
from dataclasses import dataclass, field

import orjson
import psutil
import pytest

from server.config.limits import LimitsConfig
from server.config.settings import Settings
from tests.server.conftest import Gateway, Serving, changed, chat, simulated, until
from tests.server.fuzz_requests import bytes_of, whole
from tests.server.test_gateway import nothing_is_held
from tests.server.wire import Reply, Wire, post, wire

REQUESTS = 20_000
CLIENTS = 24
SLOW_CLIENTS = 16
ANSWER_PATIENCE_S = 60.0
"""A client's. Nothing here takes a hundredth of it, whatever else the machine does."""
BRIEF = {"headers": "16KiB", "headers_s": 1, "body_s": 1, "body_rate": "64KiB", "idle_s": 5, "stall_s": 2}
BY_DESIGN = (501, 503)
STREAM = post(orjson.dumps(chat(model="general", stream=True, max_tokens=5000, ignore_eos=True)))


@dataclass(slots=True)
class Traces:
    """What the process holds, with nobody connected."""

    descriptors: int
    tasks: int
    resident: int

    @classmethod
    def now(cls) -> "Traces":
        gc.collect()
        descriptors = len(os.listdir("/proc/self/fd"))
        return cls(descriptors, len(asyncio.all_tasks()), psutil.Process().memory_info().rss)


@dataclass(slots=True)
class Fuzz:
    """Clients of one gateway, and what they were answered."""

    gateway: Gateway
    sent: int = 0
    statuses: collections.Counter[int] = field(default_factory=collections.Counter)

    async def until_sent(self, count: int, seed: int) -> Traces:
        """Sends until ``count`` requests were sent in all, then waits until all is given back."""
        async with asyncio.TaskGroup() as clients:
            for number in range(CLIENTS):
                clients.create_task(self._client(random.Random(f"{seed} {number}"), count))
            for number in range(SLOW_CLIENTS):
                clients.create_task(self._slow(random.Random(f"{seed} slow {number}"), count))
        await nothing_is_held(self.gateway)
        connections = self.gateway.server.server_state.connections
        await until(lambda: len(connections) <= 1)  # the HTTP library's
        return Traces.now()

    async def _client(self, rng: random.Random, count: int) -> None:
        while self.sent < count:
            match rng.randrange(10):
                case 0 | 1 | 2:
                    await self._one_after_another(rng)
                case 3:
                    await self._leaves(rng)
                case _:
                    await self._anything(rng)

    async def _one_after_another(self, rng: random.Random) -> None:
        """Whole requests on one connection: each has its own answer, and only one."""
        async with wire(self.gateway.url, ANSWER_PATIENCE_S) as connection:
            for _ in range(rng.randrange(1, 20)):
                self.sent += 1
                number = self.sent
                await connection.send(whole(rng, number))
                reply = await connection.reply()
                if reply is None:  # it was told to go with the answer before
                    return
                self._judge(reply)
                assert reply.headers.get("x-request-id", f"fuzz-{number}") == f"fuzz-{number}"
                if reply.headers.get("connection") == "close" or reply.status == 413:
                    return

    async def _anything(self, rng: random.Random) -> None:
        """Whatever comes back is whole answers; then the client has said all, and the gateway closes."""
        raw = bytes_of(rng)
        self.sent += 1
        async with wire(self.gateway.url, ANSWER_PATIENCE_S) as connection:
            cut = rng.randrange(len(raw)) if rng.random() < 0.3 else len(raw)
            await connection.send(raw[:cut])
            if cut < len(raw):
                await asyncio.sleep(0)
                await connection.send(raw[cut:])
            await self._replies(connection, 0.02, alone=cut == len(raw) < 2**14)
            connection.end()
            await self._replies(connection, ANSWER_PATIENCE_S)

    async def _replies(self, connection: Wire, patience_s: float, alone: bool = False) -> None:
        """Judges what comes until the gateway closes, or nothing has begun to come for ``patience_s``. If
        ``alone``, all was sent at once, and what stood behind a request must not be answered."""
        while await connection.more(patience_s):
            reply = await connection.reply()
            if reply is None:
                return
            self._judge(reply)
            assert not alone or reply.headers.get("x-request-id") != "smuggled"

    async def _leaves(self, rng: random.Random) -> None:
        """In the middle of its request or of its answer, politely or not."""
        self.sent += 1
        async with wire(self.gateway.url, ANSWER_PATIENCE_S) as connection:
            raw = STREAM if rng.random() < 0.3 else whole(rng, self.sent)
            await connection.send(raw[: rng.randrange(len(raw))] if rng.random() < 0.5 else raw)
            await connection.more(rng.random() / 100)
            if rng.random() < 0.5:
                connection.cut()

    async def _slow(self, rng: random.Random, count: int) -> None:
        """A byte now and then, for as long as the gateway bears it."""
        while self.sent < count:
            self.sent += 1
            raw = whole(rng, self.sent)
            async with wire(self.gateway.url, ANSWER_PATIENCE_S) as connection:
                for byte in raw[: rng.choice([1, 40, len(raw)])]:
                    if await connection.more(0.05):
                        break
                    await connection.send(bytes([byte]))
                await self._replies(connection, ANSWER_PATIENCE_S)

    def _judge(self, reply: Reply) -> None:
        self.statuses[reply.status] += 1
        assert reply.status < 500 or reply.status in BY_DESIGN, reply
        if reply.status >= 400:
            assert reply.message
        elif reply.headers["content-type"] == "application/json":
            orjson.loads(reply.body)
        elif reply.headers["content-type"] == "application/x-ndjson":
            assert all(orjson.loads(line) for line in reply.body.splitlines())


@pytest.mark.thorough
async def test_malformed_requests_leave_no_trace(serving: Serving, settings: Settings) -> None:
    fast = simulated(settings, tokens_per_s=1e5)
    limits = LimitsConfig.model_validate(BRIEF)
    async with serving(changed(fast, limits=limits, max_body=64 * 2**10)) as gateway:
        fuzz = Fuzz(gateway)
        first = await fuzz.until_sent(REQUESTS // 3, seed=1)
        await fuzz.until_sent(2 * REQUESTS // 3, seed=2)
        last = await fuzz.until_sent(REQUESTS, seed=3)
        assert (last.descriptors, last.tasks) == (first.descriptors, first.tasks)
        assert last.resident < first.resident + 16 * 2**20
        assert len(fuzz.statuses) > 6
        assert (await gateway.post()).status_code == 200
