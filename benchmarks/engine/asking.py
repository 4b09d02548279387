"""How one answer is asked for and read: seconds to its first text, and its tokens."""

import time
from dataclasses import dataclass
from typing import Any

import orjson

from benchmarks.engine.workload import Question
from experts.engines.engine import Engine, EngineResponse
from experts.errors import EngineLost
from experts.spec import Expert

PATH = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Served:
    """One answer: seconds from asking to its first text, and its tokens."""

    first_token_s: float
    tokens: int


class Reading:
    """Server-sent events of one answer as they come. Tokens are what ``usage`` says; without it, events with
    text."""

    def __init__(self) -> None:
        self.first: float | None = None
        self._pending = b""
        self._texts = 0
        self._usage: int | None = None

    def feed(self, received: bytes, now: float) -> None:
        """Raises EngineLost on an error event."""
        *lines, self._pending = (self._pending + received).split(b"\n")
        for line in lines:
            event = line.strip().removeprefix(b"data: ")
            if line.startswith(b"data: ") and event != b"[DONE]":
                self._event(orjson.loads(event), now)

    def served(self, asked: float) -> Served:
        """Raises EngineLost when no text has come."""
        if self.first is None:
            raise EngineLost("an answer without text")
        return Served(self.first - asked, self._texts if self._usage is None else self._usage)

    def _event(self, event: dict[str, Any], now: float) -> None:
        if "error" in event:
            raise EngineLost(f"an answer ended with an error: {event['error']}")
        if any(choice["delta"].get("content") for choice in event["choices"]):
            self._texts += 1
            if self.first is None:
                self.first = now
        if event.get("usage"):
            self._usage = event["usage"]["completion_tokens"]


def body(question: Question, expert: Expert, tokens: int) -> dict[str, Any]:
    """A streamed chat request whose answer has exactly so many tokens on vLLM."""
    return {
        "messages": [{"role": "user", "content": question.prompt}],
        "chat_template": expert.chat_template,
        "max_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def ask(engine: Engine, expert: Expert, question: Question, tokens: int, asked: float) -> Served:
    """One answer of an engine; ``asked``: when the client began to wait, by ``time.perf_counter``."""
    answer = await engine.request(expert.name, PATH, body(question, expert, tokens))
    try:
        return await _read(answer, asked)
    finally:
        await answer.close()


async def _read(answer: EngineResponse, asked: float) -> Served:
    if answer.status != 200:
        text = b"".join([chunk async for chunk in answer.chunks()])
        raise EngineLost(f"an answer with status {answer.status}: {text.decode(errors='replace')[:300]}")
    reading = Reading()
    async for chunk in answer.chunks():
        reading.feed(chunk, time.perf_counter())
    return reading.served(asked)
