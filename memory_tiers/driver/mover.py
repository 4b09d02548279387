"""Carries out moves, starts and stops on engines and the host store, and reports each end as an event."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from experts.engines.engine import Engine, Loaded
from experts.errors import DeviceFull, EngineLost, EngineUnavailable, ExpertsError, LoadFailed
from experts.spec import Expert
from memory_tiers.actions import Move, StartEngine, StopEngine
from memory_tiers.driver.host_store import HostStore
from memory_tiers.driver.staging import Reading
from memory_tiers.errors import HostFull
from memory_tiers.events import (
    EngineStarted,
    EngineStartFailed,
    EngineStopped,
    HostFilled,
    MoveFailed,
    MoveFinished,
)
from memory_tiers.move_costs import MoveCosts
from memory_tiers.observations import Displaced, MoveDone, MoveOutcome, Observation
from memory_tiers.status import MoveProgress
from memory_tiers.tiers import Tier

log = logging.getLogger("coe.tiers")

MoveEnded = MoveFinished | MoveFailed | HostFilled
StartEnded = EngineStarted | EngineStartFailed


@dataclass(frozen=True, slots=True)
class RunningMove:
    """A move under way. ``started``: seconds of the driver's clock. ``wakes``: whether its engine slept when
    it began. ``reading``: how far a read from disk is."""

    move: Move
    started: float
    wakes: bool
    reading: Reading = field(default_factory=Reading)


@dataclass(frozen=True, slots=True)
class Mover:
    """Holds the moves that run. ``dead`` returns once an engine's death is known to the state, or when it has
    waited long enough for it; ``woke`` is told of an engine that slept and serves again, and in how many
    seconds."""

    experts: Mapping[str, Expert]
    engines: Mapping[str, Engine]
    host: HostStore
    costs: MoveCosts
    observe: Callable[[Observation], None]
    clock: Callable[[], float]
    dead: Callable[[str], Awaitable[None]]
    woke: Callable[[str, float], None]
    running: dict[Move, RunningMove] = field(default_factory=dict)

    async def start(self, action: StartEngine) -> StartEnded:
        """Starts the engine and waits until it serves or has failed."""
        expert, family = self.experts[action.expert], action.family
        try:
            loaded = await self.engines[family].start(expert, self._weights(expert, action.source))
        except Exception as error:  # noqa: BLE001  # becomes the event that ends the move or the start
            return EngineStartFailed(family, action.expert, _reason(error, action), self.clock())
        return EngineStarted(family, action.expert, loaded.bytes, self.clock())

    async def stop(self, action: StopEngine) -> EngineStopped:
        """Stops the engine and waits until it is gone, or until it sleeps. One that cannot is stopped."""
        engine = self.engines[action.family]
        if action.sleep:
            try:
                await engine.sleep()
                return EngineStopped(action.family, self.clock(), asleep=True)
            except Exception as error:  # noqa: BLE001  # as a load's: one engine's bug is not the gateway's end
                log.warning(
                    "engine %s does not sleep and is stopped: %s", action.family, _reason(error, action)
                )
        await engine.stop()
        return EngineStopped(action.family, self.clock())

    def abort(self, move: Move) -> None:
        """Ends a read from disk early if it still runs."""
        if move in self.running:
            self.running[move].reading.stop()

    def progress(self, running: RunningMove) -> MoveProgress:
        """Describes how far the move is."""
        move, seconds = running.move, self.clock() - running.started
        size = self.experts[move.expert].weights_bytes
        expected = self.costs.of_move(move.source, move.target, size)
        if expected is not None and running.wakes:
            expected += self.costs.wake(self.experts[move.expert].family)
        done = remaining_s = None
        if move.target == "host" and size > 0:
            done = min(1.0, running.reading.bytes / size)
            if done > 0:
                remaining_s = seconds * (1 / done - 1)
        elif expected is not None:
            done, remaining_s = min(0.99, seconds / expected), max(0.0, expected - seconds)
        return MoveProgress(
            self.experts[move.expert].name,
            move.source,
            move.target,
            move.reason,
            size,
            seconds,
            done,
            remaining_s,
        )

    def move(self, move: Move) -> Awaitable[MoveEnded]:
        """Begins the move at once, so that it can be aborted; the result waits for its end."""
        engine = self.engines[self.experts[move.expert].family]
        wakes = move.target == "device" and engine.state == "asleep"
        self.running[move] = running = RunningMove(move, self.clock(), wakes)
        return self._carry_out(running)

    async def _carry_out(self, running: RunningMove) -> MoveEnded:
        move, started = running.move, running.started
        try:
            loaded = await self._move(running)
        except asyncio.CancelledError:
            self._done(move, "cancelled", 0, started)
            raise
        except HostFull as error:
            self._done(move, "failed", 0, started, str(error))
            return HostFilled(move, error.held, self.clock())
        except LoadFailed as error:
            aborted = running.reading.stopped
            reason = "aborted" if aborted else _reason(error, move)
            self._done(move, "cancelled" if aborted else "failed", 0, started, reason)
            return MoveFailed(move, reason, self.clock(), isinstance(error, DeviceFull))
        except Exception as error:  # noqa: BLE001  # becomes the event that ends the move or the start
            reason = _reason(error, move)
            self._done(move, "failed", 0, started, reason)
            if isinstance(error, EngineUnavailable | EngineLost):
                await self.dead(self.experts[move.expert].family)
            return MoveFailed(move, reason, self.clock())
        size = loaded.bytes or move.gives_back
        ended = self._done(move, "done", size, started)
        if move.replaces is not None and move.age_s is not None:
            replaced, name = self.experts[move.replaces].name, self.experts[move.expert].name
            self.observe(Displaced(replaced, "eviction", move.age_s, name))
        if running.wakes:
            self.costs.note_wake(self.experts[move.expert].family, move.source, size, ended - started)
        else:
            self.costs.note(move.source, move.target, size, ended - started)
        return MoveFinished(move, loaded.bytes, ended, loaded.image_bytes)

    async def _move(self, running: RunningMove) -> Loaded:
        """Moves, and returns what the expert now holds in the target tier; 0 bytes where memory was given
        back."""
        move = running.move
        expert = self.experts[move.expert]
        engine = self.engines[expert.family]
        if move.target == "device":
            loaded = await self._load(engine, expert, running)
            if move.replaces is not None:
                await engine.unload(self.experts[move.replaces].name)
            return loaded
        if move.source == "device":
            await engine.unload(expert.name)
        elif move.target == "host":
            return await asyncio.to_thread(self.host.load, expert, running.reading)
        else:
            await asyncio.to_thread(self.host.drop, expert.name)
        return Loaded(0, 0.0)

    async def _load(self, engine: Engine, expert: Expert, running: RunningMove) -> Loaded:
        begun = self.clock()
        try:
            return await self._load_awake(engine, expert, running.move)
        finally:
            if running.wakes and engine.state == "ready":
                self.woke(expert.family, self.clock() - begun)

    async def _load_awake(self, engine: Engine, expert: Expert, move: Move) -> Loaded:
        weights = self._weights(expert, move.source)
        if not move.image:
            return await engine.load(expert, weights)
        images = await asyncio.to_thread(self.host.images, expert.name)
        loaded = Loaded(0, 0.0)
        try:
            loaded = await engine.load(expert, weights, images)
        finally:
            await asyncio.to_thread(self.host.tidy, expert.name, image=loaded.image_bytes > 0)
        return loaded

    def _done(self, move: Move, outcome: MoveOutcome, size: int, started: float, detail: str = "") -> float:
        ended = self.clock()
        running = self.running.pop(move)
        done = MoveDone(
            self.experts[move.expert].name,
            move.source,
            move.target,
            move.reason,
            outcome,
            size,
            ended - started,
            detail,
            move.age_s if move.replaces is None else None,
            self._known_as(move.beneficiary),
            running.reading.bytes_from_elsewhere,
        )
        self.observe(done)
        return ended

    def _known_as(self, name: str | None) -> str | None:
        """The expert's own name, where an action names it on an engine."""
        expert = self.experts.get(name or "")
        return name if expert is None else expert.name

    def _weights(self, expert: Expert, source: Tier) -> Path:
        """Finds the checkpoint to read. A host copy that is an image has none: should the image be bad, the
        disk is read."""
        copy = self.host.path(expert.name)
        return copy if source == "host" and copy.exists() else expert.folder


def _reason(error: Exception, action: Move | StartEngine | StopEngine) -> str:
    """Describes a failure for people. An error that engine and host store do not promise to raise is a bug,
    and logged as one."""
    if isinstance(error, ExpertsError | OSError):
        return str(error)
    log.error("%s failed unexpectedly", action, exc_info=error)
    return f"{type(error).__name__}: {error}"
