"""The right to run one request on an expert."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from experts.engines.engine import Answering
from memory_tiers.tiers import Tier


class Lease:
    """Keeps its expert on the device until it is given back, by ``release`` or at the end of a ``with``
    block.

    ``tier``: where the expert was when the lease was asked for. ``queue_seconds``: how long the ticket
    waited. ``swap_seconds``: the part of that in which moves for the expert, or its engine's start, were
    under way.
    """

    def __init__(
        self,
        expert: str,
        engine: Answering,
        tier: Tier,
        queue_seconds: float,
        swap_seconds: float,
        ended: Callable[[], None],
    ) -> None:
        self.expert = expert
        self.engine = engine
        self.tier: Tier = tier
        self.queue_seconds = queue_seconds
        self.swap_seconds = swap_seconds
        self._ended: Callable[[], None] | None = ended

    def __repr__(self) -> str:
        held = "held" if self._ended else "released"
        return f"<Lease {self.expert} {held} tier={self.tier} queue={self.queue_seconds:.3f}s>"

    def release(self) -> None:
        """Gives the lease back at once. Idempotent."""
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
