"""A process on one core, with a port of its own: the upstream and each proxy of ``coe bench gateway``."""

import asyncio
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson

from benchmarks.gateway.load import PATH
from experts.engines.process import EngineProcess
from experts.engines.session import session_members
from experts.errors import EngineStartFailed

ROOT = Path(__file__).resolve().parent.parent.parent
START_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Cores:
    """Numbers of cores. With two, the generator shares the upstream's."""

    proxy: int
    upstream: int
    generator: int

    @classmethod
    def of_this_machine(cls) -> "Cores | None":
        """None where there is only one."""
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2:
            return None
        return cls(allowed[0], allowed[1], allowed[2] if len(allowed) > 2 else allowed[1])


def on(core: int, command: Sequence[str]) -> list[str]:
    return ["taskset", "--cpu-list", str(core), *command]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Pinned:
    """Made by ``launch``, ready by ``ready``."""

    def __init__(self, process: EngineProcess, port: int) -> None:
        self._process = process
        self.port = port

    @classmethod
    async def launch(cls, command: Sequence[str], core: int, port: int, log: Path) -> "Pinned":
        """``command`` listens on ``port``."""
        environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return cls(await EngineProcess.launch(on(core, command), environment, log), port)

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(session_members(self._process.pid))

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ready(self, model: str) -> None:
        """Returns once it answers a chat request. Raises EngineStartFailed."""
        body = orjson.dumps({"model": model, "messages": [{"role": "user", "content": "Hi"}]})
        headers = {"content-type": "application/json"}
        try:
            async with (
                asyncio.timeout(START_TIMEOUT_S),
                aiohttp.ClientSession(f"http://127.0.0.1:{self.port}", headers=headers) as session,
            ):
                while not await self._answers(session, body):
                    if not self._process.running:
                        raise EngineStartFailed(f"did not start: {await self._process.ended()}")
                    await asyncio.sleep(0.1)
        except TimeoutError:
            tail = self._process.log_tail()
            raise EngineStartFailed(f"not ready after {START_TIMEOUT_S:g} s: {tail}") from None

    async def stop(self) -> None:
        await self._process.stop()

    async def _answers(self, session: aiohttp.ClientSession, body: bytes) -> bool:
        try:
            async with session.post(PATH, data=body) as response:
                await response.read()
                return response.status == 200
        except aiohttp.ClientError:
            return False

    def __repr__(self) -> str:
        return f"<Pinned {self._process!r} on port {self.port}>"
