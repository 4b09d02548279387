"""Queue of maps to be solved for budgets, one at a time: keys take turns, and each may have few waiting."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from server.errors import TooManyRequests

MOST_WAITING = 8
"""Most maps that wait for one key."""
RETRY_AFTER_S = 1.0
"""Seconds that solving one map takes, about."""

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Made]):
    work: Callable[[], Made]
    promise: "asyncio.Future[Made]"


class SolvingQueue(Generic[Made]):
    """Queue of maps for one event loop. A key that asks for many delays only itself: another key's next map
    is solved after at most one of each."""

    def __init__(self, solve: "Callable[[Callable[[], Made]], asyncio.Future[Made]]") -> None:
        """``solve``: runs work on another thread."""
        self._solve = solve
        self._waiting: dict[str, deque[_Waiting[Made]]] = {}
        self._solving = False

    def add(self, asker: str, work: Callable[[], Made]) -> "asyncio.Future[Made]":
        """Queues ``work`` and returns the future of its result. Raises TooManyRequests while too many of
        ``asker`` wait."""
        own = self._waiting.get(asker, deque())
        if len(own) >= MOST_WAITING:
            raise TooManyRequests(
                f"{MOST_WAITING} budgets of this API key wait for their maps; ask for fewer different ones.",
                retry_after_s=RETRY_AFTER_S,
            )
        promise: asyncio.Future[Made] = asyncio.get_running_loop().create_future()
        own.append(_Waiting(work, promise))
        self._waiting[asker] = own
        self._next()
        return promise

    def _next(self) -> None:
        if self._solving or not self._waiting:
            return
        asker = next(iter(self._waiting))
        own = self._waiting.pop(asker)
        waiting = own.popleft()
        if own:
            self._waiting[asker] = own  # behind the others
        self._solving = True
        self._solve(waiting.work).add_done_callback(partial(self._solved, waiting.promise))

    def _solved(self, promise: "asyncio.Future[Made]", made: "asyncio.Future[Made]") -> None:
        self._solving = False
        if made.cancelled():
            promise.cancel()
        elif (error := made.exception()) is not None:
            promise.set_exception(error)
            promise.exception()  # is no surprise where everybody who asked has left
        else:
            promise.set_result(made.result())
        self._next()

    def __repr__(self) -> str:
        waiting = sum(map(len, self._waiting.values()))
        return f"<SolvingQueue {'solves' if self._solving else 'rests'}, {waiting} wait>"
