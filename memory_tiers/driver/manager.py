"""The asyncio driver: carries out what TierState decides and tells it what happened."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import assert_never

from experts.engines.engine import Engine, EngineState
from experts.errors import EngineStartFailed as StartFailed
from experts.spec import Expert
from memory_tiers.driver.event_log import EventLog
from memory_tiers.driver.host_store import HostStore
from memory_tiers.driver.log_lines import line_of
from memory_tiers.driver.mover import Mover
from memory_tiers.driver.operator_orders import Orders
from memory_tiers.driver.tickets import Tickets
from memory_tiers.errors import ManagerBroken
from memory_tiers.events import (
    AbortMove,
    Action,
    DrainRequested,
    EngineDied,
    EngineStarted,
    EngineStartFailed,
    Event,
    Family,
    Foreseen,
    Forget,
    Grant,
    Member,
    Move,
    MoveFailed,
    Opened,
    Priority,
    Reject,
    RestartDue,
    StartEngine,
    StopEngine,
    TicketAsked,
    TimePassed,
)
from memory_tiers.lease import Lease as Lease
from memory_tiers.move_costs import MoveCosts
from memory_tiers.observations import Displaced, EngineChanged, Observation
from memory_tiers.state.state_machine import TierState
from memory_tiers.status import ExpertStatus, MoveProgress, OpenCounts, Readiness, Tally, TierStatus
from memory_tiers.tiers import TiersConfig

log = logging.getLogger("coe.tiers")

RESTART_PAUSE_S = 30.0
"""How long after its last failed start an engine is tried again though nobody asks for it: whoever watches
``/ready`` sends nobody meanwhile."""
CHECK_EVENTS = 64
"""Events from one check of the invariants to the next, at least."""
DEATH_NOTICE_S = 5.0
"""How long a move that could not reach its engine waits for the news that the engine is dead."""


def ignore(observation: Observation) -> None:
    """Observes nothing."""


class TierManager:
    """Owns the engines and the host store from ``start`` to ``close``. One event loop, no locks: every event
    goes through ``_feed``, which never awaits."""

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
        """Every family of ``experts`` has an engine. Raises BudgetTooSmall."""
        self._experts = {expert.name: expert for expert in experts}
        self._engines = dict(engines)
        members = [Member.of(expert) for expert in experts]
        families = [Family.of(engine) for engine in engines.values()]
        self._state = TierState(config, members, families)
        log_to = config.event_log
        self._event_log = EventLog(log_to, config, members, families) if log_to is not None else None
        self._host = host
        self._observe = observe
        self._clock = clock
        self._restart_pause_s = restart_pause_s
        self._costs = MoveCosts()
        self._mover = Mover(
            self._experts, self._engines, host, self._costs, self._say, clock, self._death_noticed
        )
        self._tickets = Tickets(self._experts, self._engines, self._costs, self._feed, self._say, clock)
        self._tasks: set[asyncio.Task[None]] = set()
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._broken: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unchecked = 0
        self.orders = Orders(self._state, self._experts, self._engines, self._obey, clock)

    def __repr__(self) -> str:
        return f"<TierManager {self._state!r} tasks={len(self._tasks)}{' broken' if self._broken else ''}>"

    async def start(self) -> None:
        """Engines start and pinned experts load in the background; whoever asks meanwhile waits. Raises
        HostUnavailable, with nothing started."""
        await asyncio.to_thread(self._host.open)
        self._feed(Opened(self._clock()))

    async def ready(self) -> Readiness:
        """Waits until every engine runs and what is pinned is loaded. Raises EngineStartFailed when an engine
        was given up for now; the next ticket of its family starts it again."""
        await self._until(lambda: self._state.settled)
        for engine in self._state.engines():
            if engine.state != "ready" and not engine.rests:
                raise StartFailed(f"the engine of family {engine.family} does not run: {engine.detail}")
        return self.readiness

    @property
    def readiness(self) -> Readiness:
        engines = self._state.engines()
        ready = self._broken is None and all(engine.state == "ready" or engine.rests for engine in engines)
        return Readiness(ready, engines)

    async def lease(self, expert: str, *, fail_fast: bool = False, priority: Priority = "normal") -> Lease:
        """Waits for the expert to be on the device. With ``fail_fast`` it refuses to wait, and loads nothing.
        Cancelling the caller gives back the ticket, or the lease just granted. Raises LeaseRejected."""
        if self._broken is not None:
            raise _broken()
        ticket = self._tickets.open(expert, self._state.tier(expert))
        self._feed(TicketAsked(ticket.number, expert, ticket.asked, fail_fast, priority))
        try:
            return await ticket.answer
        except asyncio.CancelledError:
            self._tickets.left(ticket)
            raise

    async def none_waits_but_for(self, expert: str) -> None:
        """Waits until nobody waits for another expert than ``expert``, or the manager is broken."""
        await self._until(lambda: not self._state.others_wait(expert))

    def foresee(self, chances: Mapping[str, float]) -> None:
        """How probable it is of experts beside the chosen one that they are wanted soon: what is prefetched,
        and who stays, follows from it."""
        if self._broken is None:
            self._feed(Foreseen(tuple(chances.items()), self._clock()))

    @property
    def engines(self) -> Mapping[str, Engine]:
        """By family, those that are there now."""
        return {**self._engines}

    def status(self) -> tuple[ExpertStatus, ...]:
        return self._state.experts()

    def usage(self) -> tuple[TierStatus, ...]:
        return self._state.tiers()

    def counts(self) -> OpenCounts:
        return self._state.counts

    def tally(self) -> Tally:
        return self._state.tally

    def progress(self) -> tuple[MoveProgress, ...]:
        """Of every move under way."""
        return tuple(map(self._mover.progress, self._mover.under_way.values()))

    async def close(self, drain_s: float) -> None:
        """Rejects whoever waits or comes, lets leases end for at most ``drain_s``, then ends moves, engines
        and the host store. Raises what ending them raised, once all were tried."""
        try:
            self._feed(DrainRequested(self._clock()))
            async with asyncio.timeout(drain_s):
                await self._until(lambda: self._state.counts.leases == 0)
        except TimeoutError:
            log.warning("%d leases are still held after %.1f s of drain", self._state.counts.leases, drain_s)
        finally:
            await self._end_everything()

    async def _end_everything(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.sleep(0)  # a task cancelled before it began could not tell the state
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        stops = [engine.stop() for engine in self._engines.values()]
        results = await asyncio.gather(*stops, asyncio.to_thread(self._host.close), return_exceptions=True)
        for family in self._engines:
            self._engine_changed(family, "stopped")
        if self._event_log is not None:
            self._event_log.close()
        errors = [result for result in results if isinstance(result, Exception)]
        if errors:
            raise ExceptionGroup("not everything could be ended", errors)

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds() and self._broken is None:
            self._changed.clear()
            await self._changed.wait()

    def _feed(self, event: Event) -> None:
        """The only way to the state. An error in it is a bug: nobody may wait for ever because of it."""
        if self._broken is None:
            try:
                actions = self._state.handle(event)
                if self._event_log is not None:
                    self._event_log.write(event, actions)
                self._check()
                for action in actions:
                    self._carry_out(action)
                self._set_timer()
            except Exception as error:
                self._break(error)
        self._changed.set()

    def _obey(self, order: Event) -> None:
        """Raises ManagerBroken."""
        self._feed(order)
        if self._broken is not None:
            raise _broken()

    def _check(self) -> None:
        """Looking at every expert after every event would cost more than deciding does; once in as many
        events as there are experts, and in no fewer than ``CHECK_EVENTS``, costs next to nothing."""
        self._unchecked += 1
        if self._unchecked >= max(CHECK_EVENTS, len(self._experts)):
            self._unchecked = 0
            self._state.check()

    def _set_timer(self) -> None:
        """For when the state has to be told that time has passed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._state.deadline is not None:
            seconds = max(0.0, self._state.deadline - self._clock())
            self._timer = asyncio.get_running_loop().call_later(seconds, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        self._feed(TimePassed(self._clock()))

    def _break(self, error: Exception) -> None:
        log.critical("the tier manager is broken: restart the server", exc_info=error)
        self._broken = error
        self._tickets.refuse_all(_broken())

    def _carry_out(self, action: Action) -> None:
        match action:
            case Grant(number):
                self._tickets.grant(number)
            case Reject():
                self._tickets.reject(action)
            case StartEngine():
                self._engine_changed(action.family, "starting")
                self._spawn(self._start(action), f"start {action.family}")
            case StopEngine():
                self._spawn(self._stop(action), f"stop {action.family}")
            case Move():
                self._spawn(self._move(action), f"move {action.expert} to {action.target}")
            case AbortMove():
                self._mover.abort(action.move)
            case Forget():
                del self._experts[action.expert]
            case _:
                assert_never(action)

    async def _start(self, action: StartEngine) -> None:
        started = self._clock()
        try:
            event = await self._mover.start(action)
        except asyncio.CancelledError:
            self._feed(EngineStartFailed(action.family, action.expert, "shutting down", self._clock()))
            raise
        family = (name for name, expert in self._experts.items() if expert.family == action.family)
        self._tickets.waited(family, started, event.at)
        seconds = event.at - started
        if isinstance(event, EngineStarted):
            self._watches[action.family] = self._spawn(self._watch(action.family), f"watch {action.family}")
            self._engine_changed(action.family, "ready", seconds)
        else:
            self._engine_changed(action.family, "dead", seconds, event.reason)
            self._spawn(self._restart_later(action.family), f"restart {action.family}")
        self._feed(event)

    async def _stop(self, action: StopEngine) -> None:
        watch = self._watches.pop(action.family, None)
        if watch is not None:
            watch.cancel()
        started = self._clock()
        event = await self._mover.stop(action)
        self._engine_changed(action.family, "stopped", event.at - started, action.reason)
        for expert, age_s in action.ages_s.items():
            self._say(Displaced(expert, action.reason, age_s))
        self._feed(event)
        if all(expert.family != action.family for expert in self._experts.values()):
            del self._engines[action.family]

    async def _restart_later(self, family: str) -> None:
        await asyncio.sleep(self._restart_pause_s)
        self._feed(RestartDue(family, self._clock()))

    async def _move(self, move: Move) -> None:
        started = self._clock()
        try:
            event = await self._mover.move(move)
        except asyncio.CancelledError:
            self._feed(MoveFailed(move, "shutting down", self._clock()))
            raise
        self._tickets.waited((move.expert, move.beneficiary), started, event.at)
        self._feed(event)

    async def _watch(self, family: str) -> None:
        """Waits for the death of a started engine and tells the state."""
        engine = self._engines[family]
        try:
            reason = await engine.died()
        except Exception as error:
            log.error("engine %s cannot be watched and is stopped", family, exc_info=error)
            await engine.stop()
            reason = f"{type(error).__name__}: {error}"
        self._engine_changed(family, "dead", detail=reason)
        self._feed(EngineDied(family, reason, self._clock()))

    async def _death_noticed(self, family: str) -> None:
        watch = self._watches.get(family)
        if watch is not None:
            await asyncio.wait({watch}, timeout=DEATH_NOTICE_S)

    def _engine_changed(
        self, family: str, state: EngineState, seconds: float = 0.0, detail: str = ""
    ) -> None:
        starts = next(engine.starts for engine in self._state.engines() if engine.family == family)
        self._say(EngineChanged(family, state, starts, seconds, detail))

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            error = task.exception()
            if isinstance(error, Exception):
                self._break(error)
                self._changed.set()

    def _say(self, observation: Observation) -> None:
        """An observer's bug must not stop the tiers; the log has it."""
        line = line_of(observation)
        if line is not None:
            log.log(line.level, line.text)
        try:
            self._observe(observation)
        except Exception:
            log.exception("observing %r failed", observation)


def _broken() -> ManagerBroken:
    return ManagerBroken("the tier manager found an error of its own: see the log, restart the server")
