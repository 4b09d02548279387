"""A request that waits for a lease, as the driver sees it."""

import asyncio

from memory_tiers.lease import Lease
from memory_tiers.tiers import Tier


class Ticket:
    """``asked`` is in seconds of the driver's clock, ``tier`` where the expert was then. ``lease`` is set
    once granted, even if the client is on its way out and will never see it."""

    def __init__(self, number: int, expert: str, tier: Tier, asked: float) -> None:
        self.number = number
        self.expert = expert
        self.tier: Tier = tier
        self.asked = asked
        self.swap_seconds = 0.0
        self.lease: Lease | None = None
        self.answer: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<Ticket {self.number} for {self.expert}{' granted' if self.lease else ''}>"

    def waited_for_move(self, started: float, ended: float) -> None:
        self.swap_seconds += max(0.0, ended - max(started, self.asked))

    def grant(self, lease: Lease) -> None:
        self.lease = lease
        if not self.answer.done():
            self.answer.set_result(lease)

    def refuse(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # the client may be on its way out and never look
