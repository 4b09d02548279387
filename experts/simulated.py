"""An engine without a model: same protocol, deterministic text, set speeds; to develop and load-test with."""

import asyncio
import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from experts.engine import Body, EngineState, EngineStatistics, Loaded
from experts.errors import EngineLost, EngineStartFailed, EngineUnavailable, ExpertNotResident, LoadFailed
from experts.spec import Expert, SimulationConfig

Sleep = Callable[[float], Awaitable[None]]
_LONGEST_ANSWER = 64
"""Tokens of an answer whose request sets no limit."""


class SimulatedEngine:
    """Holds any number of experts. Each stream gets ``tokens_per_s``, however many there are."""

    def __init__(self, family: str, speeds: SimulationConfig, sleep: Sleep = asyncio.sleep) -> None:
        self._family = family
        self._speeds = speeds
        self._sleep = sleep
        self._state: EngineState = "stopped"
        self._resident: dict[str, None] = {}
        self._active: str | None = None
        self._switches = 0
        self._busy_seconds = 0.0
        self._running: set[SimulatedAnswer] = set()
        self._numbers = itertools.count(1)
        self._died = asyncio.Event()
        self._reason = ""

    @property
    def family(self) -> str:
        return self._family

    @property
    def state(self) -> EngineState:
        return self._state

    @property
    def resident_limit(self) -> int | None:
        return None

    @property
    def held_bytes(self) -> int:
        return 0

    @property
    def running(self) -> int:
        """Answers under way."""
        return len(self._running)

    async def start(self, expert: Expert, weights: Path) -> Loaded:
        if self._state not in ("stopped", "dead"):
            raise EngineStartFailed(f"engine of {self._family} is {self._state}; stop it first")
        self._state = "starting"
        self._died.clear()
        self._resident, self._active, self._switches = {}, expert.name, 0
        self._busy_seconds = 0.0
        try:
            await self._sleep(self._speeds.start_s)
            _check(expert, weights)
        except LoadFailed as error:
            self._state = "stopped"
            raise EngineStartFailed(str(error)) from error
        except BaseException:
            self._state = "stopped"
            raise
        if self._state != "starting":
            raise EngineStartFailed(f"engine of {self._family} was stopped while it started")
        self._state = "ready"
        self._resident[expert.name] = None
        return Loaded(expert.weights_bytes, self._speeds.start_s)

    async def stop(self) -> None:
        self._end("stopped")

    async def died(self) -> str:
        await self._died.wait()
        return self._reason

    def crash(self, reason: str = "simulated crash") -> None:
        """What kill -9 does to a real engine."""
        self._reason = f"engine of {self._family}: {reason}"
        self._end("dead")
        self._died.set()

    async def load(self, expert: Expert, weights: Path, images: Path | None = None) -> Loaded:
        self._expect_ready()
        _check(expert, weights)
        seconds = expert.weights_bytes / self._speeds.load_bytes_per_s
        await self._sleep(seconds)
        self._expect_ready()
        self._resident[expert.name] = None
        return Loaded(expert.weights_bytes, seconds)

    async def unload(self, name: str) -> None:
        self._expect_ready()
        self._resident.pop(name, None)
        if self._active == name:
            self._active = None

    async def request(self, expert: str, path: str, body: Body) -> "SimulatedAnswer":
        self._expect_ready()
        if expert not in self._resident:
            raise ExpertNotResident(f"{expert} is not on the device of {self._family}; load it first")
        answer = SimulatedAnswer(self, next(self._numbers), expert, path, body)
        self._running.add(answer)
        try:
            await answer.begin()
        except BaseException:
            self.forget(answer)
            raise
        return answer

    async def alive(self) -> bool:
        return self._state == "ready"

    async def statistics(self) -> EngineStatistics:
        self._expect_ready()
        seconds = self._switches * self._speeds.switch_s
        resident = tuple(self._resident)
        return EngineStatistics(
            self._active, resident, self._switches, seconds, self._busy_seconds, self.running
        )

    async def step(self, answer: "SimulatedAnswer", expert: str) -> None:
        """Computes one token of an answer. Raises EngineLost when the engine has ended meanwhile."""
        seconds = 1 / self._speeds.tokens_per_s
        if self._active != expert:
            self._active = expert
            self._switches += 1
            seconds += self._speeds.switch_s
        self._busy_seconds += seconds
        await self._sleep(seconds)
        if answer not in self._running:
            raise EngineLost(f"engine of {self._family} went away in the middle of an answer")

    def forget(self, answer: "SimulatedAnswer") -> None:
        self._running.discard(answer)

    def _end(self, state: EngineState) -> None:
        self._state = state
        self._running.clear()
        self._resident, self._active = {}, None

    def _expect_ready(self) -> None:
        if self._state != "ready":
            raise EngineUnavailable(f"engine of {self._family} is {self._state}")

    def __repr__(self) -> str:
        names = ", ".join(self._resident) or "none"
        return f"<SimulatedEngine {self._family} [{self._state}, resident: {names}, running: {self.running}]>"


@dataclass(frozen=True, slots=True)
class _Text:
    tokens: tuple[str, ...]
    finish_reason: str
    prompt_tokens: int


class SimulatedAnswer:
    """Implements ``experts.engine.Answer`` for chat completions; any other path is a 404."""

    def __init__(self, engine: SimulatedEngine, number: int, expert: str, path: str, body: Body) -> None:
        self._engine = engine
        self._head = {"id": f"chatcmpl-simulated-{number}", "created": int(time.time()), "model": expert}
        self._expert = expert
        self._body = body
        self._known = path == "/v1/chat/completions"
        self._streamed = self._known and bool(body.get("stream"))
        self._text = _text(expert, body)
        self.status = 200 if self._known else 404
        self.content_type = "text/event-stream" if self._streamed else "application/json"

    async def begin(self) -> None:
        """Until the first bytes: one token of a stream, all of them otherwise."""
        try:
            for _ in self._text.tokens[: 1 if self._streamed else None] if self._known else ():
                await self._engine.step(self, self._expert)
        except EngineLost as error:
            raise EngineUnavailable(str(error)) from error

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            if not self._streamed:
                yield orjson.dumps(self._completion() if self._known else _NOT_FOUND)
                return
            for index, event in enumerate(self._events()):
                if 0 < index < len(self._text.tokens):
                    await self._engine.step(self, self._expert)
                yield b"data: " + orjson.dumps(event) + b"\n\n"
            yield b"data: [DONE]\n\n"
        finally:
            self._engine.forget(self)

    async def close(self) -> None:
        self._engine.forget(self)

    def _completion(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": "".join(self._text.tokens)}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._text.finish_reason}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": self._usage()}

    def _events(self) -> Iterator[dict[str, Any]]:
        for index, token in enumerate(self._text.tokens):
            yield self._event({"content": token} if index else {"role": "assistant", "content": token}, None)
        yield self._event({}, self._text.finish_reason)
        if (self._body.get("stream_options") or {}).get("include_usage"):
            yield {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": self._usage()}

    def _event(self, delta: dict[str, str], finish_reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def _usage(self) -> dict[str, int]:
        prompt, completion = self._text.prompt_tokens, len(self._text.tokens)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    def __repr__(self) -> str:
        return f"<SimulatedAnswer of {self._expert} [streamed: {self._streamed}, status: {self.status}]>"


_NOT_FOUND = {
    "error": {
        "message": "the simulated engine knows /v1/chat/completions only",
        "type": "NotFoundError",
        "param": None,
        "code": 404,
    }
}


def _check(expert: Expert, weights: Path) -> None:
    if not (weights / "config.json").is_file():
        raise LoadFailed(f"{expert.name}: {weights} has no config.json; prepare the expert again")


def _text(expert: str, body: Body) -> _Text:
    """Depends on expert and messages only; as long as ``max_tokens`` allows."""
    messages = body.get("messages") or []
    prompt = orjson.dumps(messages, option=orjson.OPT_SORT_KEYS)
    words = ["Simulated", " answer", " of", f" {expert}:"]
    digest = hashlib.blake2b(expert.encode() + prompt, digest_size=60).hexdigest()
    words += [f" {digest[at : at + 2]}" for at in range(0, 2 * (_LONGEST_ANSWER - len(words)), 2)]
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or _LONGEST_ANSWER
    prompt_tokens = sum(len(str(message.get("content", "")).split()) for message in messages)
    return _Text(tuple(words[:limit]), "length" if limit < len(words) else "stop", prompt_tokens)
