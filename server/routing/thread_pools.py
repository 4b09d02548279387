"""Thread pools for decisions, so that no decision blocks the event loop or waits for a file."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

DECIDING = 4
"""Most threads that decide; fewer where there are fewer cores. More would only slow each other down."""

Made = TypeVar("Made")


class Workers:
    """Thread pools: several threads for decisions, one that reads what is read quickly, one for solving maps
    for budgets, which takes seconds at worst, and one for large bodies; no decision waits for these."""

    def __init__(self) -> None:
        self.threads = min(DECIDING, os.cpu_count() or 1)
        self._deciding = ThreadPoolExecutor(self.threads, "coe-decide")
        self._reading = ThreadPoolExecutor(1, "coe-read")
        self._solving = ThreadPoolExecutor(1, "coe-solve")
        self._counting = ThreadPoolExecutor(1, "coe-count")

    async def decide(self, work: Callable[[], Made]) -> Made:
        """Does ``work`` in a thread and gives its result. Work whose caller has gone is not begun."""
        return await asyncio.get_running_loop().run_in_executor(self._deciding, work)

    def read(self, work: Callable[[], Made]) -> "asyncio.Future[Made]":
        """Does work of a few milliseconds, one at a time. No decision that takes longer is before it."""
        return asyncio.get_running_loop().run_in_executor(self._reading, work)

    def solve(self, work: Callable[[], Made]) -> "asyncio.Future[Made]":
        """Solves maps one after another."""
        return asyncio.get_running_loop().run_in_executor(self._solving, work)

    async def count(self, work: Callable[[], Made]) -> Made:
        """Runs work on large bodies one at a time, their parsing too."""
        return await asyncio.get_running_loop().run_in_executor(self._counting, work)

    def close(self) -> None:
        """Ends the threads; work that was not begun is not done."""
        for pool in (self._deciding, self._reading, self._solving, self._counting):
            pool.shutdown(wait=False, cancel_futures=True)

    def __repr__(self) -> str:
        return f"<Workers: {self.threads} threads that decide>"
