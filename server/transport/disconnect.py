"""Noticing that the client of a request has left."""

import asyncio
from collections.abc import Callable, Coroutine

DISCONNECT = "coe.disconnect"
"""Scope key of the request's disconnect."""


class Disconnect:
    """Disconnect of a client. Its connection notices it, which cancels the work for the request."""

    def __init__(self, cut: Callable[[], None] = lambda: None) -> None:
        """``cut``: ends the connection at once, whatever its client has not read yet."""
        self.cut = cut
        self.noticed = False
        self.working: asyncio.Task[object] | None = None

    def notice(self) -> None:
        self.noticed = True
        if self.working is not None:
            self.working.cancel()

    def __repr__(self) -> str:
        return f"<Disconnect{' noticed' if self.noticed else ''}>"


async def while_connected(work: Coroutine[None, None, None], disconnect: Disconnect) -> bool:
    """Runs ``work`` to its end and returns True, or cancels it when the client leaves and returns False.

    Whatever ``work`` holds is given back by its own ``finally`` before this returns, also when the caller
    itself is cancelled.
    """
    if disconnect.noticed:
        work.close()
        return False
    working = disconnect.working = asyncio.current_task()
    assert working is not None, "in a task"
    try:
        await work
    except asyncio.CancelledError:
        if not disconnect.noticed or working.uncancel() > 0:  # the caller was cancelled too
            raise
        return False
    finally:
        disconnect.working = None
    return True
