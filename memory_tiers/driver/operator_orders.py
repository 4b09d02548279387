"""What operators may ask of the tiers while they serve."""

from collections.abc import Callable, MutableMapping, Sequence

from experts.engines.engine import Engine
from experts.spec import Expert
from memory_tiers.events import (
    Event,
    ExpertChanged,
    Family,
    LoadCancelled,
    Member,
    OrderGiven,
    Revised,
    Revision,
)
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import Tier


class Orders:
    """Each returns at once: what follows shows in ``TierManager.status`` and ``progress``. Each raises
    OrderRefused or BudgetTooSmall, and then nothing has changed, and ManagerBroken."""

    def __init__(
        self,
        state: TierState,
        experts: MutableMapping[str, Expert],
        engines: MutableMapping[str, Engine],
        feed: Callable[[Event], None],
        clock: Callable[[], float],
    ) -> None:
        self._state = state
        self._experts = experts
        self._engines = engines
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

    def revise(
        self,
        *,
        added: Sequence[Expert] = (),
        removed: Sequence[str] = (),
        changed: Sequence[Expert] = (),
        engines: Sequence[Engine] = (),
        device: int | None = None,
        host: int | None = None,
    ) -> None:
        """All of it, or nothing. ``added`` experts are of families that are there or have one of the new
        ``engines``. Who waits for a ``removed`` expert or uses it is served, and nobody else. ``changed``
        experts have the weights they had; whom ``pin`` changed stays so where the configuration's own pin,
        ``default`` and ``ttl_s`` are what they were. ``device`` and ``host``: bytes."""
        revision = Revision(
            added=tuple(map(Member.of, added)),
            removed=tuple(removed),
            changed=tuple(member for member in map(Member.of, changed) if member != self._was(member.name)),
            families=tuple(map(Family.of, engines)),
            device=device,
            host=host,
        )
        self._state.changes.may_revise(revision)
        self._experts.update({expert.name: expert for expert in (*added, *changed)})
        self._engines.update({engine.family: engine for engine in engines})
        self._feed(Revised(revision, self._clock()))

    def _was(self, expert: str) -> Member | None:
        """As configured before."""
        return Member.of(self._experts[expert]) if expert in self._experts else None
