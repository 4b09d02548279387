"""A real engine in a test: what it says, token by token, which processes it is made of, and what kills it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from experts.engines.session import session_members
from experts.errors import EngineLost, EngineUnavailable
from experts.spec import Expert
from experts.vllm.engine import VllmEngine
from tests.plain_vllm import Answering, PlainVllm

PATH = "/v1/completions"
NOISE = 2.5e-4
"""Most that a log-probability in float32 may depend on what else is in the batch, whose sums are added up in
another order (2e-5 to 5e-5 were seen)."""


@dataclass(slots=True)
class Said:
    """One answer at temperature 0, growing as it comes."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    """By how much the log-probability of each token was above that of the second best."""
    finish: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt, found in the prefix cache."""

    def noise(self, other: "Said") -> float:
        """The largest difference of the log-probabilities of the same tokens."""
        pairs = zip(self.logprobs, other.logprobs, strict=True)
        return max(abs(one - another) for one, another in pairs)


async def stream(
    engine: Answering, expert: str, prompt: str, tokens: int, said: Said | None = None
) -> AsyncIterator[Said]:
    """The answer of exactly so many ``tokens`` each time it has grown; also puts it into ``said``."""
    said = Said() if said is None else said
    body = {
        "prompt": prompt,
        "temperature": 0,
        "max_tokens": tokens,
        "ignore_eos": True,
        "logprobs": 2,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    answer = await engine.request(expert, PATH, body)
    try:
        pending = b""
        async for chunk in answer.chunks():
            pending += chunk
            *events, pending = pending.split(b"\n\n")
            for event in events:
                _take(said, event.removeprefix(b"data: "))
            yield said
    finally:
        await answer.close()


async def ask(engine: Answering, expert: str, prompt: str, tokens: int, said: Said | None = None) -> Said:
    """The whole answer. Raises AssertionError when it was cut off."""
    said = Said() if said is None else said
    async for _ in stream(engine, expert, prompt, tokens, said):
        pass
    assert (said.finish, len(said.tokens), len(said.logprobs)) == ("length", tokens, tokens), said
    return said


async def ask_alone(engine: Answering, expert: str, prompts: Sequence[str], tokens: int) -> list[Said]:
    """One after another: nobody else is in the engine. Raises AssertionError for a close call, where noise
    could turn a token into another: ask something else."""
    answers = [await ask(engine, expert, prompt, tokens) for prompt in prompts]
    for prompt, said in zip(prompts, answers, strict=True):
        assert min(said.margins) > 2 * NOISE, (expert, prompt, min(said.margins))
    return answers


def said_alone(plain: PlainVllm, expert: Expert, prompts: Sequence[str], tokens: int) -> list[Said]:
    """By unmodified vLLM; raises as ``ask_alone`` does."""
    return plain.answers(expert, lambda engine, _: ask_alone(engine, expert.name, prompts, tokens))


def _take(said: Said, event: bytes) -> None:
    if event == b"[DONE]":
        return
    read = orjson.loads(event)
    assert "error" not in read, read
    for choice in read["choices"]:
        said.tokens += choice["token_ids"]
        said.finish = choice["finish_reason"]
        said.logprobs += choice["logprobs"]["token_logprobs"]
        for best in choice["logprobs"]["top_logprobs"]:
            first, second = sorted(best.values(), reverse=True)[:2]
            said.margins.append(first - second)
    if read.get("usage"):
        said.prompt_tokens = read["usage"]["prompt_tokens"]
        said.cached_tokens = (read["usage"].get("prompt_tokens_details") or {}).get("cached_tokens", 0)


def expert_at(name: str, folder: Path) -> Expert:
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return Expert(name, "f", folder, size, size // 4, "fingerprint", "")


def processes(engine: VllmEngine) -> list[int]:
    """All of the engine, its server first."""
    server = engine.server.process.pid
    return sorted(session_members(server), key=lambda pid: pid != server)


def process(engine: VllmEngine, name: str) -> int:
    """The one that vLLM calls ``name``: EngineCore (with one device the worker too), Worker_TP1."""
    (found,) = [
        pid for pid in processes(engine) if name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return found


def maps(process: int, file: Path) -> bool:
    """Whether ``process`` has ``file`` mapped: it is reading it."""
    return os.fsencode(file.resolve()) in Path(f"/proc/{process}/maps").read_bytes()


async def until(happens: Callable[[], bool], meanwhile: "asyncio.Task[object] | None" = None) -> None:
    """Watches other processes, letting ours go on. ``meanwhile``: must not end before."""
    async with asyncio.timeout(120):
        while not happens():
            assert meanwhile is None or not meanwhile.done(), meanwhile
            await asyncio.sleep(0.001)


async def kill(
    engine: VllmEngine, victim: int, loading: "asyncio.Task[None]", *streams: "asyncio.Task[Said]"
) -> None:
    """Kills one of the engine's processes: whoever waits is told so, and nothing of the engine is left."""
    death, server, left = asyncio.create_task(engine.died()), processes(engine)[0], _belongings(engine)
    assert not loading.done()
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(EngineUnavailable):
        await loading
    for each in streams:
        with pytest.raises(EngineLost):
            await each
    assert "engine of f: the engine's process was killed" in await death
    assert engine.state == "dead"
    with pytest.raises(EngineUnavailable):
        await engine.statistics()
    assert list(session_members(server)) == []
    assert [path for path in left if path.exists()] == []


def _belongings(engine: VllmEngine) -> list[Path]:
    """Its folder, and its segments of shared memory: what it has mapped there that is in no folder."""
    folder = Path(os.readlink(f"/proc/{processes(engine)[0]}/cwd"))
    mapped = [Path(f"/proc/{pid}/maps").read_text().splitlines() for pid in processes(engine)]
    files = {Path(line.split(maxsplit=5)[5]) for lines in mapped for line in lines if "/dev/shm/" in line}
    return [folder, *(file for file in files if file.parent == Path("/dev/shm") and file.exists())]
