"""An event loop on a virtual clock; the order of tasks, and of what threads would do, follows from a seed."""

import asyncio
import random
import selectors
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVarTuple

Arguments = TypeVarTuple("Arguments")


class NothingMoves(AssertionError):
    """Everything waits, and no timer will ever end that."""


class VirtualSelector(selectors.BaseSelector):
    """Has no files: waiting moves the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._keys[fileobj] = selectors.SelectorKey(fileobj, -1, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise NothingMoves("everything waits, and no timer is set")
        self.now += max(timeout, 0.0)
        return []

    def get_map(self) -> dict[Any, selectors.SelectorKey]:
        return self._keys


class SeededLoop(asyncio.SelectorEventLoop):
    """Steps of tasks that are ready together come in an order that ``chance`` draws; callbacks keep theirs.
    Work for threads is done here, at a moment that ``chance`` draws, and takes no time itself."""

    _ready: deque[asyncio.Handle]

    def __init__(self, chance: random.Random) -> None:
        self.virtual = VirtualSelector()
        super().__init__(self.virtual)
        self._chance = chance
        self.steps = 0

    def time(self) -> float:
        return self.virtual.now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Arguments], Any], *args: *Arguments
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self.create_future()
        self.call_later(self._chance.choice((0.0, 0.0, 0.0005, 0.02)), self._work, future, func, args)
        return future

    def _work(self, future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if future.cancelled():
            return
        try:
            result = func(*args)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def _run_once(self) -> None:
        ready = self._ready
        if len(ready) > 1:
            places = [at for at, handle in enumerate(ready) if _is_step(handle)]
            handles = [ready[at] for at in places]
            self._chance.shuffle(handles)
            for at, handle in zip(places, handles, strict=True):
                ready[at] = handle
        self.steps += 1
        super()._run_once()  # type: ignore[misc]


def _is_step(handle: asyncio.Handle) -> bool:
    """Whether a task goes on in it. Everything else may count on the order of ``call_soon``."""
    return isinstance(getattr(handle._callback, "__self__", None), asyncio.Task)  # type: ignore[attr-defined]
