"""The hands of the driver: does what an action means to an engine or the host store, and reports an event."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from experts.engine import Engine, Loaded
from experts.errors import EngineLost, EngineUnavailable, ExpertsError
from experts.spec import Expert
from memory_tiers.costs import MoveCosts
from memory_tiers.events import (
    EngineStarted,
    EngineStartFailed,
    Move,
    MoveFailed,
    MoveFinished,
    StartEngine,
)
from memory_tiers.host import HostStore
from memory_tiers.observations import MoveDone, MoveOutcome
from memory_tiers.tiers import Tier

log = logging.getLogger("coe.tiers")

MoveEnded = MoveFinished | MoveFailed
StartEnded = EngineStarted | EngineStartFailed


@dataclass(frozen=True, slots=True)
class Mover:
    """Carries out moves and starts. ``dead`` returns once an engine's death is known to the state, or when it
    has waited long enough for it."""

    experts: Mapping[str, Expert]
    engines: Mapping[str, Engine]
    host: HostStore
    costs: MoveCosts
    observe: Callable[[MoveDone], None]
    clock: Callable[[], float]
    dead: Callable[[str], Awaitable[None]]

    async def start(self, action: StartEngine) -> StartEnded:
        expert, family = self.experts[action.expert], action.family
        try:
            loaded = await self.engines[family].start(expert, self._weights(expert, action.source))
        except Exception as error:
            return EngineStartFailed(family, expert.name, _reason(error, action), self.clock())
        return EngineStarted(family, expert.name, loaded.bytes, self.clock())

    async def move(self, move: Move) -> MoveEnded:
        started = self.clock()
        try:
            loaded = await self._move(move)
        except asyncio.CancelledError:
            self._done(move, "cancelled", 0, started)
            raise
        except Exception as error:
            reason = _reason(error, move)
            self._done(move, "failed", 0, started, reason)
            if isinstance(error, EngineUnavailable | EngineLost):
                await self.dead(self.experts[move.expert].family)
            return MoveFailed(move, reason, self.clock())
        ended = self._done(move, "done", loaded.bytes, started)
        self.costs.note(move.source, move.target, loaded.bytes, ended - started)
        return MoveFinished(move, loaded.bytes, ended, loaded.image_bytes)

    async def _move(self, move: Move) -> Loaded:
        """What the expert now holds in the target tier, nothing where memory was given back."""
        expert = self.experts[move.expert]
        engine = self.engines[expert.family]
        if move.target == "device":
            loaded = await self._load(engine, expert, move)
            if move.replaces is not None:
                await engine.unload(move.replaces)
            return loaded
        if move.source == "device":
            await engine.unload(expert.name)
        elif move.target == "host":
            return await asyncio.to_thread(self.host.load, expert)
        else:
            await asyncio.to_thread(self.host.drop, expert.name)
        return Loaded(0, 0.0)

    async def _load(self, engine: Engine, expert: Expert, move: Move) -> Loaded:
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
        seconds = ended - started
        done = MoveDone(move.expert, move.source, move.target, move.reason, outcome, size, seconds, detail)
        self.observe(done)
        return ended

    def _weights(self, expert: Expert, source: Tier) -> Path:
        """A host copy that is an image has no checkpoint, which is read from disk should the image be bad."""
        copy = self.host.path(expert.name)
        return copy if source == "host" and copy.exists() else expert.folder


def _reason(error: Exception, action: Move | StartEngine) -> str:
    """What failed, for people. What engine and host store do not promise to raise is a bug, and logged so."""
    if isinstance(error, ExpertsError | OSError):
        log.warning("%s failed: %s", action, error)
        return str(error)
    log.error("%s failed unexpectedly", action, exc_info=error)
    return f"{type(error).__name__}: {error}"
