"""Maps for budgets wait to be solved, one after another: each key has its turn, and only so many wait."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from server.errors import TooManyRequests

MOST_WAITING = 8
"""Maps that wait for one key."""
RETRY_AFTER_S = 1.0
"""About as long as it takes to solve one."""

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Made]):
    work: Callable[[], Made]
    promise: "asyncio.Future[Made]"


class SolvingQueue(Generic[Made]):
    """For one event loop. A key that asks for many waits for its own: another one's next map is solved after
    at most one of each."""

    def __init__(self, solve: "Callable[[Callable[[], Made]], asyncio.Future[Made]]") -> None:
        """``solve``: runs work elsewhere."""
        self._solve = solve
        self._waiting: dict[str, deque[_Waiting[Made]]] = {}
        self._solving = False

    def add(self, asker: str, work: Callable[[], Made]) -> "asyncio.Future[Made]":
        """Gives what ``work`` returns or raises. Raises TooManyRequests while too many of ``asker`` wait."""
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
