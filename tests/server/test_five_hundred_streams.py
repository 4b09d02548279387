"""Five hundred clients at once, many of which die at any moment, while experts come and go.

Nothing of the dead may stay behind, and whoever lives gets every byte in order. ``COE_STREAMS_EACH`` is how
many requests each client makes; what is checked does not depend on it."""

import asyncio
import contextlib
import itertools
import os
import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from server.config.settings import Settings
from tests.server.conftest import EXPERTS, Gateway, Serving, changed, simulated, until

CLIENTS = 500
EACH = int(os.environ.get("COE_STREAMS_EACH", "6"))
SEED = 500
PROMPTS = tuple(f"Prompt number {number}, and nothing else" for number in range(4))
FATES = ("lives", "lives", "lives", "while it sends", "at some moment", "after some bytes")
"""Of six clients three die."""


@dataclass(frozen=True, slots=True)
class Request:
    expert: str
    prompt: str
    tokens: int
    stream: bool

    @property
    def raw(self) -> bytes:
        body = {
            "model": self.expert,
            "messages": [{"role": "user", "content": self.prompt}],
            "max_tokens": self.tokens,
            "stream": self.stream,
        }
        encoded = orjson.dumps(body)
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(encoded)}\r\nconnection: close\r\n\r\n".encode() + encoded


@dataclass(frozen=True, slots=True)
class Answer:
    """As it came over the socket, to its end."""

    raw: bytes

    @property
    def status(self) -> int:
        return int(self.raw[9:12])

    @property
    def body(self) -> bytes:
        head, _, rest = self.raw.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" not in head.lower():
            assert len(rest) == int(re.search(rb"content-length: (\d+)", head.lower())[1])  # type: ignore[index]
            return rest
        parts = []
        while True:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            parts.append(rest[:length])
            assert rest[length : length + 2] == b"\r\n"
            rest = rest[length + 2 :]
            if not length:
                assert not rest
                return b"".join(parts)

    def text(self, request: Request) -> str:
        """What the expert said. Checks all that is around it."""
        assert self.status == 200, self.raw[:500]
        if not request.stream:
            return str(orjson.loads(self.body)["choices"][0]["message"]["content"])
        blocks = self.body.split(b"\n\n")
        assert blocks.pop() == b""
        while blocks[0].startswith(b": "):  # signs of life come first, and only then
            del blocks[0]
        assert all(block.startswith(b"data: ") for block in blocks)
        *events, done = [block.removeprefix(b"data: ") for block in blocks]
        assert done == b"[DONE]"
        deltas: list[Mapping[str, Any]] = [orjson.loads(event) for event in events]
        assert {(each["id"], each["model"]) for each in deltas} == {(deltas[0]["id"], request.expert)}
        choices = [each["choices"][0] for each in deltas]
        assert [each["finish_reason"] is None for each in choices] == [True] * (len(deltas) - 1) + [False]
        assert len(deltas) == request.tokens + 1
        return "".join(each["delta"].get("content", "") for each in choices)


class Crowd:
    """The clients, and what became of them."""

    def __init__(self, gateway: Gateway, texts: Mapping[tuple[str, str], str]) -> None:
        host, _, port = gateway.url.removeprefix("http://").partition(":")
        self.address = host, int(port)
        self.texts = texts
        self.fates: Counter[str] = Counter()

    async def one_after_another(self, number: int) -> None:
        chance = random.Random(SEED * CLIENTS + number)
        for _ in range(EACH):
            request = Request(
                expert=chance.choice(EXPERTS),
                prompt=chance.choice(PROMPTS),
                tokens=chance.randint(1, 24),
                stream=chance.random() < 0.9,
            )
            fate = chance.choice(FATES)
            await self.one(request, fate, chance)
            self.fates[fate] += 1

    async def one(self, request: Request, fate: str, chance: random.Random) -> None:
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            raw = request.raw
            if fate == "while it sends":
                writer.write(raw[: chance.randrange(len(raw))])
                await asyncio.sleep(chance.random() / 10)
                return
            writer.write(raw)
            if fate == "lives":
                answer = Answer(await reader.read(-1))
                assert self.texts[request.expert, request.prompt].startswith(answer.text(request))
                assert answer.text(request).count(" ") == request.tokens - 1
            elif fate == "at some moment":  # in line, during a load, before the first token, in the middle
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(chance.expovariate(1)):
                        await reader.read(-1)
            else:
                await self._read(reader, chance.randint(1, 4000))
        finally:
            if chance.random() < 0.5:
                writer.transport.abort()
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, size: int) -> None:
        """So many bytes, which end in the middle of something, or fewer where there are fewer."""
        while size > 0:
            part = await reader.read(size)
            if not part:
                return
            size -= len(part)


async def calm(gateway: Gateway, expert: str, prompt: str) -> str:
    """The whole answer, as nobody disturbs it."""
    answer = await gateway.post(model=expert, messages=[{"role": "user", "content": prompt}])
    return str(answer.json()["choices"][0]["message"]["content"])


@pytest.mark.soak
async def test_five_hundred_streams_and_clients_that_die(serving: Serving, settings: Settings) -> None:
    tiers = settings.tiers.model_copy(update={"max_wait_s": 0.3})
    quick = simulated(settings.model_copy(update={"tiers": tiers}), tokens_per_s=40, load_bytes_per_s=20_000)
    async with serving(changed(quick, keep_alive_s=0.5)) as gateway:
        asked = list(itertools.product(EXPERTS, PROMPTS))
        texts = dict(zip(asked, await asyncio.gather(*(calm(gateway, *each) for each in asked)), strict=True))
        assert len(set(texts.values())) == len(texts)
        before = asyncio.all_tasks()
        crowd = Crowd(gateway, texts)
        async with asyncio.timeout(240 * EACH), asyncio.TaskGroup() as clients:
            for number in range(CLIENTS):
                clients.create_task(crowd.one_after_another(number))

        counts = gateway.services.tiers.counts
        await until(lambda: (counts().waiting, counts().leases, gateway.engine.running) == (0, 0, 0))
        await until(lambda: asyncio.all_tasks() <= before)
        assert repr(gateway.services.breakers) == "<Breakers [open: none]>"
        text = (await gateway.http.get("/metrics")).text
        for expert in EXPERTS:
            assert f'coe_leases{{expert="{expert}"}} 0.0' in text
            assert (await gateway.post(model=expert, max_tokens=1)).status_code == 200
        assert 'outcome="5' not in text
        evictions = re.search(r'coe_evictions_total{reason="eviction",tier="device"} (\d+)', text)
        assert evictions is not None
        assert int(evictions[1]) > EACH
        assert min(crowd.fates[fate] for fate in FATES) > CLIENTS * EACH / len(FATES) / 2, crowd.fates
