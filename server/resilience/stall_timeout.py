"""Detection of an engine that stalls within an answer."""

import asyncio
from collections.abc import AsyncIterator

from experts.errors import EngineStalled


async def unstalled(first: bytes, chunks: AsyncIterator[bytes], limit_s: float) -> AsyncIterator[bytes]:
    """Yields ``first``, which has come, and the same chunks. Raises EngineStalled when none comes for
    ``limit_s`` (0: never), and what ``chunks`` raises. The reader's own time, as with a slow client, does not
    count."""
    if first:
        yield first
    if not limit_s:
        async for each in chunks:
            yield each
        return
    watch = _Watch(limit_s)
    try:
        while True:
            watch.since = watch.loop.time()
            chunk = await anext(chunks, None)
            watch.since = None
            if chunk is None:
                return
            yield chunk
    except asyncio.CancelledError as error:
        if watch.is_cause():
            raise EngineStalled(
                f"The engine has said nothing for {limit_s:g} s in the middle of an answer."
            ) from error
        raise
    finally:
        watch.timer.cancel()


class _Watch:
    """Cancels the task that made it when it has waited for too long. ``asyncio.timeout`` would be armed and
    disarmed for each chunk, which costs as much as passing it on; this one looks again when time is up."""

    def __init__(self, limit_s: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._limit_s = limit_s
        self._fired = False
        self.loop = asyncio.get_running_loop()
        self.since: float | None = None
        """Since when it waits; None: it does not."""
        self.timer = self.loop.call_later(limit_s, self._look)

    def __repr__(self) -> str:
        return f"<_Watch since {self.since}{' fired' if self._fired else ''}>"

    def is_cause(self) -> bool:
        """Whether a cancellation is this watch's alone."""
        return self._fired and self._task.uncancel() <= self._cancelling

    def _look(self) -> None:
        now = self.loop.time()
        due = (now if self.since is None else self.since) + self._limit_s
        if due > now:
            self.timer = self.loop.call_at(due, self._look)
        else:
            self._fired = True
            self._task.cancel()
