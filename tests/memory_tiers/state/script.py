"""A script for a TierState: one event after another, with every invariant checked after each."""

from memory_tiers.actions import Action, Move, StartEngine, StopEngine
from memory_tiers.events import (
    EngineDied,
    EngineStarted,
    EngineStartFailed,
    EngineStopped,
    Event,
    LeaseReleased,
    LoadCancelled,
    MoveFailed,
    MoveFinished,
    Opened,
    OrderGiven,
    Priority,
    Revised,
    TicketAsked,
    TicketCancelled,
    TimePassed,
)
from memory_tiers.members import Family, Member, Revision
from memory_tiers.state.state_machine import TierState
from memory_tiers.status import ExpertStatus
from memory_tiers.tiers import Tier, TiersConfig


class Script:
    """Feeds a TierState, checks it after every event and ends moves when told to."""

    def __init__(self, state: TierState) -> None:
        self.state = state
        self.at = 0.0
        self.tickets = 0

    def feed(self, event: Event) -> list[Action]:
        actions = self.state.handle(event)
        self.state.check()
        return actions

    def now(self) -> float:
        self.at += 1.0
        return self.at

    def ask(
        self,
        expert: str,
        *,
        fail_fast: bool = False,
        priority: Priority = "normal",
        keep_s: float | None = None,
    ) -> list[Action]:
        self.tickets += 1
        return self.feed(TicketAsked(self.tickets, expert, self.now(), fail_fast, priority, keep_s=keep_s))

    def cancel(self, ticket: int) -> list[Action]:
        return self.feed(TicketCancelled(ticket, self.now()))

    def release(self, ticket: int) -> list[Action]:
        return self.feed(LeaseReleased(ticket, self.now()))

    def done(self, action: Action, size: int = 10, image: int = 0) -> list[Action]:
        if isinstance(action, StartEngine):
            return self.feed(EngineStarted(action.family, action.expert, size, self.now()))
        if isinstance(action, StopEngine):
            return self.feed(EngineStopped(action.family, self.now(), action.sleep))
        assert isinstance(action, Move)
        held = 0 if action.source == "device" or action.target == "disk" else size
        return self.feed(MoveFinished(action, held, self.now(), image))

    def fail(self, action: Action, reason: str = "bad luck") -> list[Action]:
        if isinstance(action, StartEngine):
            return self.feed(EngineStartFailed(action.family, action.expert, reason, self.now()))
        assert isinstance(action, Move)
        return self.feed(MoveFailed(action, reason, self.now()))

    def wait(self, seconds: float) -> list[Action]:
        """Lets time pass, and moves end at once."""
        end = self.at + seconds
        seen: list[Action] = []
        while self.state.deadline is not None and self.state.deadline <= end:
            self.at = max(self.at, self.state.deadline)
            seen += self.settle(self.feed(TimePassed(self.at)))
        self.at = max(self.at, end)
        return seen

    def order(self, expert: str, tier: Tier) -> list[Action]:
        self.state.orders.may_order(expert, tier)
        return self.feed(OrderGiven(expert, tier, self.now()))

    def cancel_load(self, expert: str) -> list[Action]:
        self.state.orders.may_cancel(expert)
        return self.feed(LoadCancelled(expert, self.now()))

    def revise(self, revision: Revision) -> list[Action]:
        self.state.revisions.may_revise(revision)
        return self.feed(Revised(revision, self.now()))

    def die(self, family: str = "f") -> list[Action]:
        return self.feed(EngineDied(family, "killed", self.now()))

    def settle(self, actions: list[Action]) -> list[Action]:
        """Lets all moves succeed until there are none; returns every action on the way."""
        seen = list(actions)
        pending = list(actions)
        while pending:
            action = pending.pop(0)
            if isinstance(action, Move | StartEngine | StopEngine):
                more = self.done(action)
                seen += more
                pending += more
        return seen

    def status(self, expert: str) -> ExpertStatus:
        return next(status for status in self.state.status.experts() if status.expert == expert)

    def where(self, expert: str) -> str:
        return self.state.status.tier(expert)

    def on_host(self, expert: str) -> int:
        return self.status(expert).host_bytes


def an_expert(name: str, *, family: str = "f", size: int = 10, **more: bool | float | None) -> Member:
    return Member(name, family, size, **more)  # type: ignore[arg-type]


def engines(**limits: int | None) -> list[Family]:
    return [Family(name, limit) for name, limit in limits.items()]


def a_config(device: int, host: int = 0, disk: int | None = None, **more: float | str | None) -> TiersConfig:
    tree = {"device": device, "host": host, "disk": disk, "max_queue": 100, "min_residency_s": 0}
    return TiersConfig.model_validate({**tree, "policy": "lru", **more})


def opened(
    names: str,
    *,
    device: int,
    host: int = 0,
    limit: int | None = None,
    pinned: str = "",
    images: bool = False,
    **more: float | str | None,
) -> Script:
    """Experts of 10 bytes in one family whose engine runs; with no pin the first has been started with.
    ``images``: whether it is known to leave some."""
    experts = [an_expert(name, pinned=name in pinned) for name in names]
    script = Script(TierState(a_config(device, host, None, **more), experts, engines(f=limit)))
    script.state._records.engines["f"].images = images
    script.settle(script.feed(Opened(script.now())))
    return script
