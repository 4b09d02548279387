"""Cancellation of a request by an operator, while it is answered."""

import asyncio
from types import TracebackType

from server.errors import RequestCancelled
from server.observation.story import Story
from server.transport.disconnect import Disconnect


class Cancellable:
    """Lets the story's request be cancelled inside a ``with`` block, which then raises RequestCancelled. The
    block is in the work that ``disconnect`` would end."""

    __slots__ = ("_asked", "_story", "_task")

    def __init__(self, story: Story, disconnect: Disconnect) -> None:
        assert disconnect.working is not None, "made in its work"
        self._story = story
        self._asked = False
        self._task = disconnect.working

    def __repr__(self) -> str:
        return f"<Cancellable {self._story.id}{' cancelled' if self._asked else ''}>"

    def __enter__(self) -> None:
        self._story.cancel = self._cancel

    def _cancel(self) -> None:
        if not self._asked:
            self._asked = True
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._story.cancel = None
        if not self._asked:
            return
        # Where the client has left, or the gateway ends, as well, that is what counts.
        if self._task.uncancel() == 0 and isinstance(error, asyncio.CancelledError):
            raise RequestCancelled("An operator cancelled this request.") from error
