"""The seam of ``coe bench engine``: one way to serve several experts, and what it says about one answer."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from benchmarks.workload import Question
from experts.engine import Answer, Engine
from experts.errors import EngineLost
from experts.process import session_members
from experts.simulated import SimulatedEngine
from experts.spec import Expert, FamilyConfig
from experts.vllm import VllmEngine

INTERLEAVED = "interleaved"
SWAPPING = "drain then swap"
PROCESSES = "one process each"
LLAMA_CPP = "llama-cpp-python"
PATH = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Served:
    """One answer: seconds from asking to its first text, and its tokens."""

    first_token_s: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Switching:
    """How often a rival changed the expert it computes with so far, and the seconds that took."""

    switches: int = 0
    seconds: float = 0.0


class Rival(Protocol):
    """Implementations: ``Interleaved``, ``DrainThenSwap``, ``Processes``, ``LlamaCpp``."""

    @property
    def name(self) -> str: ...

    @property
    def fewest(self) -> int:
        """Experts below which it is not measured."""
        ...

    def unfit(self, experts: Sequence[Expert]) -> str | None:
        """Why this machine cannot measure it with so many experts; None when it can be tried."""
        ...

    async def hold(self, experts: Sequence[Expert]) -> None:
        """From now on serves these; starts what that needs. Called again only with more of them.
        Raises EngineError."""
        ...

    async def serve(self, question: Question, tokens: int) -> Served:
        """Serves an answer of exactly so many tokens. Called concurrently. Raises EngineError."""
        ...

    async def switching(self) -> Switching: ...

    def memory_bytes(self) -> int:
        """What its processes hold now."""
        ...

    async def stop(self) -> None:
        """Leaves nothing. Idempotent."""
        ...


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


async def _read(answer: Answer, asked: float) -> Served:
    if answer.status != 200:
        text = b"".join([chunk async for chunk in answer.chunks()])
        raise EngineLost(f"an answer with status {answer.status}: {text.decode(errors='replace')[:300]}")
    reading = Reading()
    async for chunk in answer.chunks():
        reading.feed(chunk, time.perf_counter())
    return reading.served(asked)


def open_engine(family: str, config: FamilyConfig, logs: Path) -> Engine:
    """Real vLLM in the configuration's mode, or the simulated engine."""
    if config.mode == "simulated":
        return SimulatedEngine(family, config.simulation)
    return VllmEngine(family, config, logs)


def plain(config: FamilyConfig) -> FamilyConfig:
    """The same family on vLLM as it is."""
    return config if config.mode == "simulated" else config.model_copy(update={"mode": "plain"})


def engine_bytes(engine: Engine) -> int:
    """Memory of an engine's processes; pages that several share count once. Zero for a simulated engine."""
    if not isinstance(engine, VllmEngine) or engine.state != "ready":
        return 0
    return session_bytes(engine.server.process.pid)


def session_bytes(session: int) -> int:
    """Proportional set size of all processes of a session."""
    return sum(_proportional_bytes(pid) for pid in session_members(session))


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
