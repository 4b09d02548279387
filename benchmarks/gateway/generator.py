"""The load generator as its user sees it: a process on one core that makes one load after another."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from types import TracebackType
from typing import Self

from benchmarks.gateway.load import Load, Outcome
from benchmarks.gateway.pinned import ROOT, on
from experts.errors import EngineStartFailed

_WITHIN_S = 60.0
"""Seconds that a load may take beyond its own time."""


class Generator:
    """Made by ``launch``; ``async with`` ends its process."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def launch(cls, core: int) -> "Generator":
        command = on(core, [sys.executable, "-m", "benchmarks.gateway.load_generator"])
        return cls(await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, cwd=ROOT))

    async def make(self, load: Load) -> Outcome:
        """Raises EngineStartFailed when the generator itself fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(load.line())
        async with asyncio.timeout(load.warming_s + load.seconds + _WITHIN_S):
            line = await self._process.stdout.readline()
        if not line:
            raise EngineStartFailed("the load generator ended; what it said is above")
        return Outcome.of(line)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    def __repr__(self) -> str:
        return f"<Generator {self._process.pid}>"
