"""Noticing that the client of a request has left."""

import asyncio
from collections.abc import Coroutine

DEPARTURE = "coe.departure"
"""Where a request's scope has its client's."""


class Departure:
    """Of a client, whose connection notices it: then who works for it is cancelled."""

    def __init__(self) -> None:
        self.noticed = False
        self.working: asyncio.Task[object] | None = None

    def notice(self) -> None:
        self.noticed = True
        if self.working is not None:
            self.working.cancel()

    def __repr__(self) -> str:
        return f"<Departure{' noticed' if self.noticed else ''}>"


async def while_connected(work: Coroutine[None, None, None], departure: Departure) -> bool:
    """Runs ``work`` to its end and returns True, or cancels it when the client leaves and returns False.

    Whatever ``work`` holds is given back by its own ``finally`` before this returns, also when the caller
    itself is cancelled.
    """
    if departure.noticed:
        work.close()
        return False
    working = departure.working = asyncio.current_task()
    assert working is not None, "in a task"
    try:
        await work
    except asyncio.CancelledError:
        if not departure.noticed or working.uncancel() > 0:  # the caller was cancelled too
            raise
        return False
    finally:
        departure.working = None
    return True
