"""A client that asks once over a wire in memory, and what its answer must be."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.simulation.scenario import Ask
from tests.simulation.wire import Wire

PATIENCE_S = 2000.0
"""Virtual seconds after which a client that still has no whole answer has found a fault."""


class Wrong(AssertionError):
    """An answer that no client should ever get."""


@dataclass(slots=True)
class Answer:
    """What a client got. ``status`` 0: nothing. ``error``: its type, at any place of the answer."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    error: str | None = None
    usage: dict[str, Any] | None = None
    events: int = 0


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
        if self.ask.stays:
            self.answer = parsed(bytes(wire.received), streamed=self.ask.stream)
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
        body: dict[str, Any] = {
            "model": ask.model,
            "messages": [{"role": "user", "content": ask.prompt}],
            "max_tokens": ask.tokens,
            "stream": ask.stream,
        }
        if ask.stream and ask.counted:
            body["stream_options"] = {"include_usage": True}
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
            "POST /v1/chat/completions HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + content


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


def parsed(raw: bytes, *, streamed: bool) -> Answer:
    """Raises Wrong for anything but one whole answer with one end."""
    if not complete(raw):
        raise Wrong(f"the answer was cut off: {raw[-300:]!r}")
    head, _, body = raw.partition(b"\r\n\r\n")
    headers = _headers(head)
    answer = Answer(int(head.split(b" ", 2)[1]), headers)
    if headers.get("transfer-encoding") == "chunked":
        body = _unchunked(body)
    if headers.get("content-type", "").startswith("text/event-stream"):
        if not streamed or answer.status != 200:
            raise Wrong(f"a stream of status {answer.status} that nobody asked for")
        _take_stream(answer, body)
    else:
        _take_whole(answer, body)
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


def _take_whole(answer: Answer, body: bytes) -> None:
    said = orjson.loads(body)
    if answer.status == 200:
        answer.text, answer.usage = said["choices"][0]["message"]["content"], said["usage"]
        answer.events = answer.usage["completion_tokens"] if answer.usage else 0
    else:
        answer.error = said["error"]["type"]


def _take_stream(answer: Answer, body: bytes) -> None:
    ends = 0
    for event in body.split(b"\n\n")[:-1]:
        if event.startswith(b":"):  # a comment: sign of life
            continue
        if ends:
            raise Wrong(f"something came after the end of the stream: {event[:200]!r}")
        if not event.startswith(b"data: "):
            raise Wrong(f"not an event: {event[:200]!r}")
        data = event.removeprefix(b"data: ")
        if data == b"[DONE]":
            ends += 1
            continue
        said = orjson.loads(data)
        if "error" in said:
            answer.error = said["error"]["type"]
            ends += 1
            continue
        answer.usage = said.get("usage") or answer.usage
        for choice in said["choices"]:
            content = choice["delta"].get("content")
            if content:
                answer.text += content
                answer.events += 1
    if not body.endswith(b"\n\n"):
        raise Wrong(f"the last event has no end: {body[-200:]!r}")
    if ends != 1:
        raise Wrong(f"a stream with {ends} ends")
