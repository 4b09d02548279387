"""Unmodified vLLM, which holds one expert at a time: as it answers, all other engines have to answer."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import orjson
from anyio.from_thread import BlockingPortal, start_blocking_portal

from experts.engines.engine import EngineResponse
from experts.engines.nursery import Nurseries
from experts.spec import Expert, FamilyConfig
from experts.vllm.environment import environment
from experts.vllm.modes import full_weights_engine
from experts.vllm.server import VllmServer
from tests.kept_answers import KeptAnswers, KeptResponse

Answer = TypeVar("Answer")


class Answering(Protocol):
    """Whatever is asked for answers: an engine, or answers that were kept."""

    def request(
        self, expert: str, path: str, body: Mapping[str, Any], /
    ) -> Coroutine[Any, Any, EngineResponse]: ...


Asking = Callable[[Answering, Expert], Awaitable[Answer]]


class PlainVllm:
    """In a thread and an event loop of its own, for tests of any loop; made by ``plain_vllm``.

    The engine starts when somebody first asks what was not kept, and then idles while other engines are
    tested.
    """

    def __init__(self, portal: BlockingPortal, logs: Path, nurseries: Nurseries) -> None:
        config = {
            "mode": "plain",
            "dtype": "float32",
            "max_model_len": 2048,
            "kv_cache": "128MiB",
            "max_num_seqs": 32,
        }
        self._portal = portal
        self._kept = KeptAnswers(config)
        self._holds: Expert | None = None
        family = FamilyConfig.model_validate(config)
        self._engine = full_weights_engine("plain", family, logs, nurseries=nurseries)

    def answers(self, expert: Expert, asking: Asking[Answer]) -> Answer:
        """What ``asking`` hears from the engine while it holds ``expert``, and nobody else asks."""
        return self._portal.call(self._answers, expert, asking)

    async def _answers(self, expert: Expert, asking: Asking[Answer]) -> Answer:
        return await asking(_Alone(self, expert), expert)

    async def response(self, expert: Expert, path: str, body: Mapping[str, Any]) -> KeptResponse:
        file = self._kept.file(expert.folder, expert.name, path, body)
        kept = self._kept.read(file)
        if kept is None:
            kept = await self._asked(expert, path, body)
            self._kept.write(file, kept)
        return kept

    async def _asked(self, expert: Expert, path: str, body: Mapping[str, Any]) -> KeptResponse:
        engine = self._engine
        if self._holds != expert:
            await (engine.load if engine.state == "ready" else engine.start)(expert, expert.folder)
            self._holds = expert
        answer = await engine.request(expert.name, path, body)
        whole = b"".join([chunk async for chunk in answer.chunks()])
        await answer.close()
        assert answer.status == 200, whole
        return KeptResponse(answer.content_type, whole)


class _Alone:
    """Plain vLLM with one expert, as an engine is asked."""

    def __init__(self, plain: PlainVllm, expert: Expert) -> None:
        self._plain = plain
        self._expert = expert

    async def request(self, expert: str, path: str, body: Mapping[str, Any], /) -> EngineResponse:
        assert expert == self._expert.name
        return await self._plain.response(self._expert, path, body)


@contextmanager
def plain_vllm(logs: Path, nurseries: Nurseries) -> Iterator[PlainVllm]:
    with start_blocking_portal() as portal:
        plain = PlainVllm(portal, logs, nurseries)
        try:
            yield plain
        finally:
            portal.call(plain._engine.stop)


def plain_vectors(checkpoint: Path, texts: Sequence[str], logs: Path) -> list[list[float]]:
    """By a server of vLLM's with nothing of ours in it, which starts with the checkpoint and then ends."""
    return asyncio.run(_vectors(checkpoint, texts, logs))


async def _vectors(checkpoint: Path, texts: Sequence[str], logs: Path) -> list[list[float]]:
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--uds", "{socket}"]
    command += ["--model", str(checkpoint), "--served-model-name", "plain", "--runner", "pooling"]
    command += ["--convert", "embed", "--dtype", "float32", "--max-model-len", "512", "--enforce-eager"]
    command += ["--kv-cache-memory-bytes", str(128 * 2**20)]
    threads = environment(FamilyConfig(mode="plain"), "plain", "cpu")
    server = await VllmServer.launch(command, threads, logs / "vectors.log")
    try:
        async with asyncio.timeout(300):
            while not await server.healthy():
                assert server.process.running, server.process.log_tail()
                await asyncio.sleep(0.1)
        status, body = await server.call("POST", "/v1/embeddings", {"model": "plain", "input": texts})
        assert status == 200, body
        return [each["embedding"] for each in orjson.loads(body)["data"]]
    finally:
        await server.close()
