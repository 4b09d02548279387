"""Unmodified vLLM, which holds one expert at a time: as it answers, all other engines have to answer."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from experts.spec import Expert, FamilyConfig
from experts.vllm import VllmEngine

Answer = TypeVar("Answer")
Asking = Callable[[VllmEngine, Expert], Awaitable[Answer]]


class PlainVllm:
    """In a thread and an event loop of its own, for tests of any loop; made by ``plain_vllm``.

    The engine starts when somebody first asks, and then idles while other engines are tested.
    """

    def __init__(self, portal: BlockingPortal, logs: Path) -> None:
        config = {"mode": "plain", "dtype": "float32", "max_model_len": 2048, "kv_cache": "128MiB"}
        self._portal = portal
        self._engine = VllmEngine("plain", FamilyConfig.model_validate(config), logs)

    def answers(self, expert: Expert, asking: Asking[Answer]) -> Answer:
        """What ``asking`` hears from the engine while it holds ``expert``, and nobody else asks."""
        return self._portal.call(self._answers, expert, asking)

    async def _answers(self, expert: Expert, asking: Asking[Answer]) -> Answer:
        engine = self._engine
        await (engine.load if engine.state == "ready" else engine.start)(expert, expert.folder)
        return await asking(engine, expert)


@contextmanager
def plain_vllm(logs: Path) -> Iterator[PlainVllm]:
    with start_blocking_portal() as portal:
        plain = PlainVllm(portal, logs)
        try:
            yield plain
        finally:
            portal.call(plain._engine.stop)
