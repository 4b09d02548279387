"""Starts and stops engines, watches them while they run, and has them tried again after they died."""

import asyncio
import logging
from collections.abc import Callable, Mapping, MutableMapping

from experts.engines.engine import Engine, EngineState
from experts.spec import Expert
from memory_tiers.actions import StartEngine, StopEngine
from memory_tiers.driver.mover import Mover
from memory_tiers.driver.tasks import Tasks
from memory_tiers.driver.tickets import Tickets
from memory_tiers.events import (
    EngineDied,
    EngineStarted,
    EngineStartFailed,
    Event,
    RestartDue,
)
from memory_tiers.observations import Displaced, EngineChanged, Observation
from memory_tiers.state.status_view import StatusView

log = logging.getLogger("coe.tiers")

RESTART_PAUSE_S = 30.0
"""Seconds after a failed start until the engine is tried again though no request asks for it: a balancer that
watches ``/ready`` sends no requests meanwhile."""
DEATH_NOTICE_S = 5.0
"""How long a move that could not reach its engine waits for the news that the engine is dead."""


class EngineSupervisor:
    """Carries out StartEngine and StopEngine, and reports how each engine fares as events and
    observations."""

    def __init__(
        self,
        experts: Mapping[str, Expert],
        engines: MutableMapping[str, Engine],
        status: StatusView,
        mover: Mover,
        tickets: Tickets,
        tasks: Tasks,
        feed: Callable[[Event], None],
        observe: Callable[[Observation], None],
        clock: Callable[[], float],
        restart_pause_s: float = RESTART_PAUSE_S,
    ) -> None:
        self._experts = experts
        self._engines = engines
        self._status = status
        self._mover = mover
        self._tickets = tickets
        self._tasks = tasks
        self._feed = feed
        self._observe = observe
        self._clock = clock
        self._restart_pause_s = restart_pause_s
        self._watches: dict[str, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<EngineSupervisor watching {', '.join(self._watches) or 'no engine'}>"

    def start(self, action: StartEngine) -> None:
        """Begins an engine's start; its end is an event."""
        self.changed(action.family, "starting")
        self._tasks.spawn(self._start(action), f"start {action.family}")

    def stop(self, action: StopEngine) -> None:
        """Begins an engine's stop; its end is an event."""
        self._tasks.spawn(self._stop(action), f"stop {action.family}")

    async def death_noticed(self, family: str) -> None:
        """Waits until the state knows that the engine is dead, at most ``DEATH_NOTICE_S``."""
        watch = self._watches.get(family)
        if watch is not None:
            await asyncio.wait({watch}, timeout=DEATH_NOTICE_S)

    def changed(self, family: str, state: EngineState, seconds: float = 0.0, detail: str = "") -> None:
        """Observes that the engine is in another state."""
        starts = next(engine.starts for engine in self._status.engines() if engine.family == family)
        self._observe(EngineChanged(family, state, starts, seconds, detail))

    async def _start(self, action: StartEngine) -> None:
        family, started = action.family, self._clock()
        try:
            event = await self._mover.start(action)
        except asyncio.CancelledError:
            self._feed(EngineStartFailed(family, action.expert, "shutting down", self._clock()))
            raise
        members = (expert.name for expert in self._experts.values() if expert.family == family)
        self._tickets.waited(members, started, event.at)
        seconds = event.at - started
        if isinstance(event, EngineStarted):
            self._watches[family] = self._tasks.spawn(self._watch(family), f"watch {family}")
            self.changed(family, "ready", seconds)
        else:
            self.changed(family, "dead", seconds, event.reason)
            self._tasks.spawn(self._restart_later(family), f"restart {family}")
        self._feed(event)

    async def _stop(self, action: StopEngine) -> None:
        watch = self._watches.pop(action.family, None)
        if watch is not None:
            watch.cancel()
        started = self._clock()
        event = await self._mover.stop(action)
        state: EngineState = "asleep" if event.asleep else "stopped"
        self.changed(action.family, state, event.at - started, action.reason)
        if event.asleep:
            self._watches[action.family] = self._tasks.spawn(
                self._watch(action.family), f"watch {action.family}"
            )
        for expert, age_s in action.ages_s.items():
            rival = self._experts.get(action.beneficiary or "")
            name = None if rival is None else rival.name
            self._observe(Displaced(self._experts[expert].name, action.reason, age_s, name))
        self._feed(event)
        if not event.asleep and all(expert.family != action.family for expert in self._experts.values()):
            del self._engines[action.family]

    async def _restart_later(self, family: str) -> None:
        await asyncio.sleep(self._restart_pause_s)
        self._feed(RestartDue(family, self._clock()))

    async def _watch(self, family: str) -> None:
        """Waits for the death of a started engine and tells the state."""
        engine = self._engines[family]
        try:
            reason = await engine.died()
        except Exception as error:
            log.error("engine %s cannot be watched and is stopped", family, exc_info=error)
            await engine.stop()
            reason = f"{type(error).__name__}: {error}"
        self.changed(family, "dead", detail=reason)
        self._feed(EngineDied(family, reason, self._clock()))
