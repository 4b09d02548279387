"""A request that waits for a lease, as the driver sees it."""

import asyncio

from memory_tiers.lease import Lease
from memory_tiers.tiers import Tier


class Ticket:
    """Waits for its end as ``future``. ``asked``: seconds of the driver's clock. ``tier``: where the expert
    was then. ``lease``: set once granted, even if the client is leaving and will never see it."""

    def __init__(self, number: int, expert: str, tier: Tier, asked: float) -> None:
        self.number = number
        self.expert = expert
        self.tier: Tier = tier
        self.asked = asked
        self.swap_seconds = 0.0
        self.lease: Lease | None = None
        self.future: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<Ticket {self.number} for {self.expert}{' granted' if self.lease else ''}>"

    def waited_for_move(self, started: float, ended: float) -> None:
        """Counts the part of a move's time during which the ticket waited."""
        self.swap_seconds += max(0.0, ended - max(started, self.asked))

    def grant(self, lease: Lease) -> None:
        """Ends with the lease."""
        self.lease = lease
        if not self.future.done():
            self.future.set_result(lease)

    def refuse(self, error: Exception) -> None:
        """Ends with the error."""
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # the client may be leaving and never look
