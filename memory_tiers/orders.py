"""What operators may ask of the tiers while they serve."""

from collections.abc import Callable

from experts.engine import Engine
from experts.spec import Expert
from memory_tiers.errors import OrderRefused
from memory_tiers.events import (
    BudgetsSet,
    Event,
    ExpertAdded,
    ExpertChanged,
    ExpertRemoved,
    Family,
    LoadCancelled,
    Member,
    OrderGiven,
)
from memory_tiers.state import TierState
from memory_tiers.tiers import Tier


class Orders:
    """Each returns at once: what follows shows in ``TierManager.status`` and ``progress``. Each raises
    OrderRefused or BudgetTooSmall, and then nothing has changed."""

    def __init__(
        self,
        state: TierState,
        add: Callable[[Expert, Engine | None], None],
        feed: Callable[[Event], None],
        clock: Callable[[], float],
    ) -> None:
        self._state = state
        self._add = add
        self._feed = feed
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Orders to {self._state!r}>"

    def move(self, expert: str, tier: Tier) -> None:
        """To the device: it is loaded. Down: nobody gets a new lease on it, it leaves once nobody uses it,
        and whoever asks for it after that has it loaded again. From disk to the host: it is read."""
        self._state.changes.may_order(expert, tier)
        self._feed(OrderGiven(expert, tier, self._clock()))

    def cancel_load(self, expert: str) -> None:
        """Whoever waits for it is rejected."""
        self._state.changes.may_cancel(expert)
        self._feed(LoadCancelled(expert, self._clock()))

    def pin(self, expert: str, pinned: bool) -> None:
        """To the device. A pinned expert is loaded and never leaves."""
        member = self._state.changes.member(expert, pinned=pinned)
        self._state.changes.may_have(member)
        self._feed(ExpertChanged(member, self._clock()))

    def change(self, expert: Expert) -> None:
        """Its pin, ``default`` and ``ttl_s``; its weights stay what they are."""
        member = Member.of(expert)
        self._state.changes.member(expert.name)
        self._state.changes.may_have(member)
        self._feed(ExpertChanged(member, self._clock()))

    def add(self, expert: Expert, engine: Engine | None = None) -> None:
        """``engine``: of its family, where that is new."""
        if self._state.knows(expert.name):
            raise OrderRefused(f"an expert {expert.name} is still there: try again when it has left")
        member, family = Member.of(expert), Family.of(engine) if engine is not None else None
        self._state.changes.may_have(member, family=family)
        self._add(expert, engine)
        self._feed(ExpertAdded(member, self._clock(), family))

    def remove(self, expert: str) -> None:
        """Nobody may ask for it any more; who waits for it or uses it is served."""
        self._state.changes.member(expert)
        self._feed(ExpertRemoved(expert, self._clock()))

    def set_budgets(self, device: int, host: int) -> None:
        """Bytes."""
        self._state.changes.may_have(device=device, host=host)
        self._feed(BudgetsSet(device, host, self._clock()))
