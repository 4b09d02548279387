"""A request that waits for a lease, as the driver sees it."""

import asyncio

from memory_tiers.lease import Lease
from memory_tiers.tiers import Tier


class Ticket:
    """Has one end: a lease or an error. ``asked``: seconds of the driver's clock. ``tier``: where the expert
    was then. ``lease``: set once granted, even if the client is leaving and will never see it."""

    def __init__(self, number: int, expert: str, tier: Tier, asked: float) -> None:
        self.number = number
        self.expert = expert
        self.tier: Tier = tier
        self.asked = asked
        self.swap_seconds = 0.0
        self.lease: Lease | None = None
        self._error: Exception | None = None
        self._waiter: asyncio.Future[Lease] | None = None  # most need none: they end before anybody waits

    def __repr__(self) -> str:
        return f"<Ticket {self.number} for {self.expert}{' granted' if self.lease else ''}>"

    async def end(self) -> Lease:
        """Waits for the lease. Raises the error that it ends with."""
        if self.lease is not None:
            return self.lease
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        return await self._waiter

    def waited_for_move(self, started: float, ended: float) -> None:
        """Counts the part of a move's time during which the ticket waited."""
        self.swap_seconds += max(0.0, ended - max(started, self.asked))

    def grant(self, lease: Lease) -> None:
        """Ends with the lease."""
        self.lease = lease
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(lease)

    def refuse(self, error: Exception) -> None:
        """Ends with the error."""
        self._error = error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
            self._waiter.exception()  # the client may be leaving and never look
