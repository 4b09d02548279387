"""A client that asks once over a wire in memory, and what its answer must be."""

import asyncio
import random
from typing import Any

import orjson

from tests.simulation.answers import Answer, Wrong, take_stream, take_whole
from tests.simulation.scenario import Ask
from tests.simulation.wire import Wire

PATIENCE_S = 2000.0
"""Virtual seconds after which a client that still has no whole answer has found a fault."""


class Client:
    """Does what its ``ask`` says. ``answer``: complete only if it stayed."""

    def __init__(self, ask: Ask, secret: str, chance: random.Random) -> None:
        self.ask = ask
        self.answer = Answer()
        self._secret = secret
        self._chance = chance

    async def run(self, wire: Wire) -> None:
        """Raises Wrong."""
        request = self.request()
        leaving = self._leaving(wire)
        try:
            if self.ask.behaviour == "sends half":
                await wire.send(request[: len(request) // 2])
                await asyncio.sleep(self.ask.after % 5)
                wire.leave(reset=False)
                return
            for piece in _pieces(request, self.ask.pieces, self._chance):
                await wire.send(piece)
                if self.ask.pieces > 1:
                    await asyncio.sleep(self._chance.choice((0, 0.001, 0.1)))
            await self._read(wire)
        finally:
            if leaving is not None:
                leaving.cancel()
        if self.ask.stays and not wire.left:
            self.answer = parsed(bytes(wire.received), self.ask)
            wire.leave(reset=False)

    def _leaving(self, wire: Wire) -> asyncio.TimerHandle | None:
        if self.ask.behaviour not in ("leaves", "resets"):
            return None
        loop = asyncio.get_running_loop()
        reset = self.ask.behaviour == "resets"
        return loop.call_later(self.ask.after % 5, lambda: wire.leave(reset=reset))

    async def _read(self, wire: Wire) -> None:
        slow = self.ask.behaviour == "reads slowly"
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not wire.left and not complete(bytes(wire.received)):
                    if wire.over:
                        break
                    if not wire.unread:
                        wire.arrived.clear()
                        if not wire.over:
                            await wire.arrived.wait()
                    wire.read(64 if slow else 1 << 20)
                    if slow:
                        await asyncio.sleep(0.01)
                    if self.ask.behaviour == "breaks off" and len(wire.received) >= self.ask.after:
                        wire.leave(reset=True)
        except TimeoutError:
            raise Wrong(
                f"{self.ask}: no whole answer after {PATIENCE_S:g} s, only {bytes(wire.received)[-300:]!r}"
            ) from None

    def request(self) -> bytes:
        ask = self.ask
        body = body_of(ask)
        content = orjson.dumps(body)
        headers = {
            "host": "127.0.0.1:8000",
            "content-type": "application/json",
            "content-length": str(len(content)),
            "authorization": f"Bearer {self._secret}",
        }
        if ask.priority is not None:
            headers["x-coe-priority"] = ask.priority
        if ask.fail_fast:
            headers["x-coe-fail-fast"] = "1"
        if ask.timeout_s is not None:
            headers["x-coe-timeout-s"] = str(ask.timeout_s)
        lines = [
            f"POST {ask.endpoint} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + content


def body_of(ask: Ask) -> dict[str, Any]:
    """The JSON that asks for it."""
    said = [{"role": "user", "content": ask.prompt}]
    body: dict[str, Any] = {"model": ask.model, "stream": ask.stream}
    match ask.endpoint:
        case "/v1/responses":
            return body | {
                "input": ask.prompt,
                "max_output_tokens": max(16, ask.tokens),
                "store": ask.counted,
            }
        case "/v1/messages":
            return body | {"messages": said, "max_tokens": ask.tokens}
        case "/v1/chat/completions":
            body |= {"messages": said, "max_tokens": ask.tokens}
        case "/v1/completions":
            body |= {"prompt": ask.prompt, "max_tokens": ask.tokens}
    return body | ({"stream_options": {"include_usage": True}} if ask.stream and ask.counted else {})


def _pieces(data: bytes, count: int, chance: random.Random) -> list[bytes]:
    cuts = sorted(chance.sample(range(1, len(data)), count - 1))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def complete(raw: bytes) -> bool:
    """Whether ``raw`` is a whole HTTP answer."""
    head, separator, body = raw.partition(b"\r\n\r\n")
    if not separator:
        return False
    headers = _headers(head)
    if "content-length" in headers:
        return len(body) >= int(headers["content-length"])
    return body.endswith(b"0\r\n\r\n") and (body == b"0\r\n\r\n" or body.endswith(b"\r\n0\r\n\r\n"))


def parsed(raw: bytes, ask: Ask) -> Answer:
    """Reads one whole answer with one end. Raises Wrong for anything else."""
    if not complete(raw):
        raise Wrong(f"the answer was cut off: {raw[-300:]!r}")
    head, _, body = raw.partition(b"\r\n\r\n")
    headers = _headers(head)
    answer = Answer(int(head.split(b" ", 2)[1]), headers)
    if headers.get("transfer-encoding") == "chunked":
        body = _unchunked(body)
    if headers.get("content-type", "").startswith("text/event-stream"):
        if not ask.stream or answer.status != 200:
            raise Wrong(f"a stream of status {answer.status} that nobody asked for")
        take_stream(answer, body, ask.endpoint)
    else:
        take_whole(answer, body, ask.endpoint)
    return answer


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _unchunked(body: bytes) -> bytes:
    parts = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        parts.append(rest[:length])
        body = rest[length + 2 :]
    return b"".join(parts)
