"""The tier manager: leases for the gateway, from a state machine whose actions it has carried out."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import assert_never

from experts.engines.engine import Engine
from experts.errors import EngineStartFailed
from experts.spec import Expert
from memory_tiers.actions import AbortMove, Action, Forget, Grant, Move, Reject, StartEngine, StopEngine
from memory_tiers.driver.arriving import Arriving
from memory_tiers.driver.engine_supervisor import RESTART_PAUSE_S, EngineSupervisor
from memory_tiers.driver.event_feed import EventFeed
from memory_tiers.driver.event_log import EventLog
from memory_tiers.driver.host_store import HostStore
from memory_tiers.driver.log_lines import line_of
from memory_tiers.driver.mover import Mover
from memory_tiers.driver.operator_orders import OperatorOrders
from memory_tiers.driver.pieces import Pieces
from memory_tiers.driver.replicas import families_of, named_by_engine, wake_seconds
from memory_tiers.driver.tasks import Tasks
from memory_tiers.driver.tickets import Tickets
from memory_tiers.events import (
    DrainRequested,
    Foreseen,
    MoveFailed,
    Opened,
    Priority,
    TicketAsked,
)
from memory_tiers.lease import Lease
from memory_tiers.members import Member
from memory_tiers.move_costs import MoveCosts
from memory_tiers.observations import Observation
from memory_tiers.replicas import family_of, replica_name
from memory_tiers.state.state_machine import TierState
from memory_tiers.status import (
    EngineStatus,
    ExpertStatus,
    GpuStatus,
    MoveProgress,
    OpenCounts,
    PrefetchCounts,
    Readiness,
    TierStatus,
)
from memory_tiers.tiers import Tier, TiersConfig

log = logging.getLogger("coe.tiers")


def ignore(observation: Observation) -> None:
    """Observes nothing."""


class TierManager:
    """Owns the engines and the host store from ``start`` to ``close``. Runs on one event loop, without locks:
    every event goes through its ``EventFeed``, which never awaits."""

    def __init__(
        self,
        config: TiersConfig,
        experts: Sequence[Expert],
        engines: Mapping[str, Engine],
        host: HostStore,
        observe: Callable[[Observation], None] = ignore,
        clock: Callable[[], float] = time.monotonic,
        restart_pause_s: float = RESTART_PAUSE_S,
    ) -> None:
        """Every family of ``experts`` has an engine, of the family's name; further ones of its engines are
        named by ``replica_name``. Raises BudgetTooSmall, LogUnwritable."""
        self._experts = named_by_engine(experts, engines)
        self._engines = dict(engines)
        members = [Member.of(expert) for expert in experts]
        families = families_of(engines.values(), engines)
        self._state = TierState(config, members, families)
        self._host = host
        self._observe = observe
        self._clock = clock
        log_to = config.event_log
        self._event_log = EventLog(log_to, config, members, families) if log_to is not None else None
        self._feed = EventFeed(self._state, self._event_log, clock, self._carry_out, self._broke)
        self._tasks = Tasks(self._feed.break_down)
        feed, say, costs = self._feed.feed, self._say, MoveCosts()
        self._costs = costs
        self._tickets = Tickets(self._experts, self._engines, costs, feed, say, clock)
        self._mover = Mover(
            self._experts, self._engines, host, costs, say, clock, self._death_noticed, self._woke
        )
        self._supervisor = EngineSupervisor(
            self._experts,
            self._engines,
            self._state.status,
            self._mover,
            self._tickets,
            self._tasks,
            feed,
            say,
            clock,
            restart_pause_s,
        )
        self.orders = OperatorOrders(
            self._state, self._experts, self._engines, self._feed.feed_or_raise, clock
        )

    def __repr__(self) -> str:
        return f"<TierManager {self._feed!r} tasks={len(self._tasks)}>"

    async def start(self) -> None:
        """Begins to serve: engines start and pinned experts load in the background; requests that come
        meanwhile wait. Raises HostUnavailable, with nothing started."""
        try:
            await asyncio.to_thread(self._host.open)
        except asyncio.CancelledError:
            self._host.close()
            raise
        self._feed.feed(Opened(self._clock()))

    async def ready(self) -> Readiness:
        """Waits until every engine runs and what is pinned is loaded. Raises EngineStartFailed when an engine
        was given up for now; the next ticket of its family starts it again."""
        await self._feed.until(lambda: self._state.status.settled)
        engines = self._state.status.engines()
        for engine in engines:
            if engine.state != "ready" and not engine.rests and engine.family in self._down(engines):
                message = f"the engine of family {engine.family} does not run: {engine.detail}"
                raise EngineStartFailed(message)
        return self.readiness

    @property
    def readiness(self) -> Readiness:
        """Whether every engine that is meant to run does now."""
        engines = self._state.status.engines()
        return Readiness(not self._feed.broken and not self._down(engines), engines)

    def _down(self, engines: Sequence[EngineStatus]) -> set[str]:
        """Names the families of which no engine runs that is meant to."""
        families = {family_of(engine.family, self._engines) for engine in engines}
        return families - {
            family_of(engine.family, self._engines)
            for engine in engines
            if engine.state == "ready" or engine.rests
        }

    async def lease(
        self,
        expert: str,
        *,
        fail_fast: bool = False,
        priority: Priority = "normal",
        conversation: str = "",
        keep_s: float | None = None,
    ) -> Lease:
        """Waits for the expert to be on the device. With ``fail_fast`` it refuses to wait, and loads nothing.
        ``conversation``: equal for requests whose prefix one of several engines may have cached. ``keep_s``:
        its ``ttl_s`` until another lease is asked for. Cancelling the caller gives back the ticket, or the
        lease just granted. Raises LeaseRejected, ManagerBroken."""
        self._feed.require_whole()
        ticket = self._tickets.open(expert, self._state.status.tier(expert))
        asked = TicketAsked(ticket.number, expert, ticket.asked, fail_fast, priority, conversation, keep_s)
        self._feed.feed(asked)
        try:
            return await ticket.end()
        except asyncio.CancelledError:
            self._tickets.left(ticket)
            raise

    async def none_waits_but_for(self, expert: str) -> None:
        """Waits until no ticket waits for another expert than ``expert``, or the manager is broken."""
        await self._feed.until(lambda: not self._state.status.others_wait(expert))

    def foresee(self, chances: Mapping[str, float]) -> None:
        """Takes in the probabilities of being wanted soon of experts beside the chosen one: what is
        prefetched, and which experts stay, follows from them."""
        if not self._feed.broken:
            self._feed.feed(Foreseen(tuple(chances.items()), self._clock()))

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The engines that are there now, by family."""
        return {**self._engines}

    def has_several(self, family: str) -> bool:
        """Whether several engines compute for ``family``."""
        return replica_name(family, 1) in self._engines

    def status(self) -> tuple[ExpertStatus, ...]:
        """Describes each configured expert."""
        return self._state.status.experts()

    def tier(self, expert: str) -> Tier:
        """Names the highest tier that holds the expert."""
        return self._state.status.tier(expert)

    def seconds_to_device(self, expert: str) -> float | None:
        """Estimates how long the expert takes to the device from where it is now, by loads before. None: none
        was measured yet, or there is no such expert."""
        tier = self.tier(expert)
        if tier == "device":
            return 0.0
        known = self._experts.get(expert)
        seconds = None if known is None else self._costs.seconds(known.weights_bytes, tier)
        if known is None or seconds is None:
            return None
        return seconds + wake_seconds(known.family, self._engines, self._costs)

    def host_copy(self, expert: str) -> Path:
        """Names the folder where the copy of an expert's checkpoint is, if it is in host memory."""
        return self._host.path(expert)

    def arriving(self, expert: str) -> Arriving | None:
        """Returns the copy of an expert's checkpoint that is being read into host memory, if one is."""
        return self._host.arriving.get(expert)

    def read_from(self, pieces: Pieces) -> None:
        """Has checkpoints' pieces come from there, where it gives them, and not from disk."""
        self._host.pieces = pieces

    def bytes_per_s(self, source: Tier, target: Tier) -> float | None:
        """Returns how fast moves between two tiers were. None: not measured yet."""
        return self._costs.bytes_per_s(source, target)

    def stays(self) -> Mapping[str, float]:
        """Returns the seconds that idle experts stay on the device yet, of those that have a ``ttl_s``."""
        now = self._clock()
        return {name: at - now for name, at in self._state.status.expiries.items()}

    def usage(self) -> tuple[TierStatus, ...]:
        """Describes device, host and disk."""
        return self._state.status.tiers()

    def gpus(self) -> tuple[GpuStatus, ...]:
        """Describes each GPU that has a budget of its own."""
        return self._state.status.gpus()

    def counts(self) -> OpenCounts:
        """Counts what waits, what is leased and what moves."""
        return self._state.status.counts

    def prefetches(self) -> PrefetchCounts:
        """Counts the prefetched copies that were used or wasted, by tier."""
        return self._state.status.prefetches

    def progress(self) -> tuple[MoveProgress, ...]:
        """Describes every move under way."""
        return tuple(map(self._mover.progress, self._mover.running.values()))

    async def close(self, drain_s: float) -> None:
        """Rejects the tickets that wait or come, lets leases end for at most ``drain_s``, then ends moves,
        engines and the host store. Raises an ExceptionGroup of what ending them raised, once all were
        tried."""
        try:
            self._feed.feed(DrainRequested(self._clock()))
            async with asyncio.timeout(drain_s):
                await self._feed.until(lambda: self.counts().leases == 0)
        except TimeoutError:
            log.warning("%d leases are still held after %.1f s of drain", self.counts().leases, drain_s)
        finally:
            await self._end_everything()

    async def _end_everything(self) -> None:
        self._feed.close()
        await self._tasks.cancel()
        stops = [engine.stop() for engine in self._engines.values()]
        results = await asyncio.gather(*stops, asyncio.to_thread(self._host.close), return_exceptions=True)
        for family in self._engines:
            self._supervisor.changed(family, "stopped")
        if self._event_log is not None:
            self._event_log.close()
        errors = [result for result in results if isinstance(result, Exception)]
        if errors:
            raise ExceptionGroup("not everything could be ended", errors)

    def _carry_out(self, action: Action) -> None:
        match action:
            case Grant():
                self._tickets.grant(action)
            case Reject():
                self._tickets.reject(action)
            case StartEngine():
                self._supervisor.start(action)
            case StopEngine():
                self._supervisor.stop(action)
            case Move():
                self._tasks.spawn(self._move(action), f"move {action.expert} to {action.target}")
            case AbortMove():
                self._mover.abort(action.move)
            case Forget():
                del self._experts[action.expert]
            case _:
                assert_never(action)

    async def _move(self, move: Move) -> None:
        started = self._clock()
        try:
            event = await self._mover.move(move)
        except asyncio.CancelledError:
            self._feed.feed(MoveFailed(move, "shutting down", self._clock()))
            raise
        names = (
            self._experts[name].name for name in (move.expert, move.beneficiary) if name in self._experts
        )
        self._tickets.waited(names, started, event.at)
        self._feed.feed(event)

    def _woke(self, family: str, seconds: float) -> None:
        self._supervisor.changed(family, "ready", seconds, "woken")

    async def _death_noticed(self, family: str) -> None:
        await self._supervisor.death_noticed(family)

    def _broke(self, error: Exception) -> None:
        self._tickets.refuse_all(error)

    def _say(self, observation: Observation) -> None:
        """Logs and passes on an observation. An observer's bug must not stop the tiers; the log has it."""
        line = line_of(observation)
        if line is not None:
            log.log(line.level, line.text, extra={"fields": lambda: asdict(observation)})
        try:
            self._observe(observation)
        except Exception:
            log.exception("observing %r failed", observation)
