"""Passes on what operators ask of the tiers while they serve."""

from collections.abc import Callable, MutableMapping, Sequence

from experts.engines.engine import Engine
from experts.spec import Expert
from memory_tiers.driver.replicas import families_of, named_by_engine
from memory_tiers.events import (
    Event,
    ExpertChanged,
    LoadCancelled,
    OrderGiven,
    Revised,
)
from memory_tiers.members import Member, Revision
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import Tier


class OperatorOrders:
    """Each order returns at once; what follows shows in ``TierManager.status`` and ``progress``. Each raises
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
        return f"<OperatorOrders to {self._state!r}>"

    def move(self, expert: str, tier: Tier) -> None:
        """Sends the expert to ``tier``. To the device: it is loaded. Down: it gets no new leases, leaves when
        the last is released, and is loaded again for a request that asks after that. From disk to the host:
        it is read."""
        self._state.orders.may_order(expert, tier)
        self._feed(OrderGiven(expert, tier, self._clock()))

    def cancel_load(self, expert: str) -> None:
        """Ends the expert's load; the tickets that wait for it are rejected."""
        self._state.orders.may_cancel(expert)
        self._feed(LoadCancelled(expert, self._clock()))

    def pin(self, expert: str, pinned: bool) -> None:
        """Pins the expert to the device or unpins it. A pinned expert is loaded and never leaves."""
        member = self._state.configured.member(expert, pinned=pinned)
        self._state.orders.may_change(member)
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
        """Changes the configuration, all of it or nothing. ``added`` experts are of families that are there
        or of the new ``engines``. Requests that wait for a ``removed`` expert or use it are served, later
        ones are rejected. ``changed`` experts keep their weights; a pin set by ``pin`` stays where the
        configuration's own pin, ``default`` and ``ttl_s`` are what they were. ``device`` and ``host``:
        bytes."""
        revision = Revision(
            added=tuple(map(Member.of, added)),
            removed=tuple(removed),
            changed=tuple(member for member in map(Member.of, changed) if member != self._was(member.name)),
            families=tuple(families_of(engines, {*self._engines, *(engine.family for engine in engines)})),
            device=device,
            host=host,
        )
        self._state.revisions.may_revise(revision)
        self._engines.update({engine.family: engine for engine in engines})
        self._experts.update(named_by_engine((*added, *changed), self._engines))
        self._feed(Revised(revision, self._clock()))

    def _was(self, expert: str) -> Member | None:
        """Describes an expert as it was configured before; None for a new one."""
        return Member.of(self._experts[expert]) if expert in self._experts else None
