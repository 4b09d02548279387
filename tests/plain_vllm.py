"""Unmodified vLLM, which holds one expert at a time: as it answers, all other engines have to answer."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import orjson
from anyio.from_thread import BlockingPortal, start_blocking_portal

from experts.engines.nursery import Nurseries
from experts.spec import Expert, FamilyConfig
from experts.vllm.engine import VllmEngine
from experts.vllm.environment import environment
from experts.vllm.modes import full_weights_engine
from experts.vllm.server import VllmServer

Answer = TypeVar("Answer")
Asking = Callable[[VllmEngine, Expert], Awaitable[Answer]]


class PlainVllm:
    """In a thread and an event loop of its own, for tests of any loop; made by ``plain_vllm``.

    The engine starts when somebody first asks, and then idles while other engines are tested.
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
        family = FamilyConfig.model_validate(config)
        self._engine = full_weights_engine("plain", family, logs, nurseries=nurseries)

    def answers(self, expert: Expert, asking: Asking[Answer]) -> Answer:
        """What ``asking`` hears from the engine while it holds ``expert``, and nobody else asks."""
        return self._portal.call(self._answers, expert, asking)

    async def _answers(self, expert: Expert, asking: Asking[Answer]) -> Answer:
        engine = self._engine
        await (engine.load if engine.state == "ready" else engine.start)(expert, expert.folder)
        return await asking(engine, expert)


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
