"""Threads of their own for decisions, so that no decision blocks the event loop or waits for a file."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

DECIDING = 4
"""Threads that decide, or as many as there are cores. More would only slow each other down."""

Made = TypeVar("Made")


class Workers:
    """Decisions have threads of their own, maps that are solved for a budget one, which takes seconds at
    worst, and large bodies one: no decision waits for these."""

    def __init__(self) -> None:
        self.threads = min(DECIDING, os.cpu_count() or 1)
        self._deciding = ThreadPoolExecutor(self.threads, "coe-decide")
        self._solving = ThreadPoolExecutor(1, "coe-solve")
        self._counting = ThreadPoolExecutor(1, "coe-count")

    async def decide(self, work: Callable[[], Made]) -> Made:
        """Does ``work`` in a thread and gives its result. Work whose caller has gone is not begun."""
        return await asyncio.get_running_loop().run_in_executor(self._deciding, work)

    def solve(self, work: Callable[[], Made]) -> "asyncio.Future[Made]":
        """One after another."""
        return asyncio.get_running_loop().run_in_executor(self._solving, work)

    async def count(self, work: Callable[[], Made]) -> Made:
        """What large bodies are made of, one after another: so they are parsed one at a time too."""
        return await asyncio.get_running_loop().run_in_executor(self._counting, work)

    def close(self) -> None:
        """Ends the threads; work that was not begun is not done."""
        for pool in (self._deciding, self._solving, self._counting):
            pool.shutdown(wait=False, cancel_futures=True)

    def __repr__(self) -> str:
        return f"<Workers: {self.threads} threads that decide>"
