"""Holds the asyncio tasks of the driver until they end."""

import asyncio
from collections.abc import Callable, Coroutine


class Tasks:
    """Keeps each task alive while it runs. ``failed`` is told the error of one that ends with a bug."""

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        return f"<Tasks {len(self)}>"

    def spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Runs ``work`` in a task of its own."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def cancel(self) -> None:
        """Cancels all tasks and waits for their ends."""
        await asyncio.sleep(0)  # a task cancelled before it began could not tell the state
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            error = task.exception()
            if isinstance(error, Exception):
                self._failed(error)
