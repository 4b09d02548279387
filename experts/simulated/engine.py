"""An engine without a model: same protocol, deterministic text, set speeds."""

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from experts.engines.engine import NO_HEADERS, Body, EngineState, EngineStatistics, Loaded
from experts.errors import EngineLost, EngineStartFailed, EngineUnavailable, ExpertNotResident, LoadFailed
from experts.simulated.response import SimulatedResponse
from experts.spec import Expert, SimulationConfig, Task

Sleep = Callable[[float], Awaitable[None]]


class SimulatedEngine:
    """Holds any number of experts. Each stream gets ``tokens_per_s``, however many streams there are, up to
    ``streams``: further ones wait."""

    def __init__(
        self,
        family: str,
        speeds: SimulationConfig,
        sleep: Sleep = asyncio.sleep,
        task: Task = "generate",
        devices: tuple[int, ...] = (),
        sleep_after_s: float | None = None,
    ) -> None:
        """``task``: ``embed`` gives vectors that tell one text from another and no more. ``devices``,
        ``sleep_after_s``: as of ``Engine``; no GPU is needed."""
        self._family = family
        self._task = task
        self._devices = devices
        self._sleep_after_s = sleep_after_s
        self._speeds = speeds
        self._sleep = sleep
        self._state: EngineState = "stopped"
        self._resident: dict[str, None] = {}
        self._active: str | None = None
        self._switches = 0
        self._busy_seconds = 0.0
        self._running: set[SimulatedResponse] = set()
        self._waiting: OrderedDict[SimulatedResponse, asyncio.Event] = OrderedDict()
        self._numbers = itertools.count(1)
        self._died = asyncio.Event()
        self._reason = ""

    @property
    def family(self) -> str:
        return self._family

    @property
    def devices(self) -> tuple[int, ...]:
        return self._devices

    @property
    def state(self) -> EngineState:
        return self._state

    @property
    def resident_limit(self) -> int | None:
        return None

    @property
    def held_bytes(self) -> int:
        return 0

    @property
    def running(self) -> int:
        """How many responses are under way."""
        return len(self._running)

    @property
    def kv_used(self) -> float:
        """Share of the KV cache that the responses under way will use at most, from 0 to 1."""
        return min(1.0, sum(response.tokens for response in self._running) / self._speeds.kv_tokens)

    async def start(self, expert: Expert, weights: Path) -> Loaded:
        if self._state not in ("stopped", "dead"):
            raise EngineStartFailed(f"engine of {self._family} is {self._state}; stop it first")
        self._state = "starting"
        self._died.clear()
        self._resident, self._active, self._switches = {}, expert.name, 0
        self._busy_seconds = 0.0
        try:
            await self._sleep(self._speeds.start_s)
            _check(expert, weights)
        except LoadFailed as error:
            self._state = "stopped"
            raise EngineStartFailed(str(error)) from error
        except BaseException:
            self._state = "stopped"
            raise
        if self._state != "starting":
            raise EngineStartFailed(f"engine of {self._family} was stopped while it started")
        self._state = "ready"
        self._resident[expert.name] = None
        return Loaded(expert.weights_bytes, self._speeds.start_s)

    @property
    def sleep_after_s(self) -> float | None:
        return self._sleep_after_s

    async def sleep(self) -> None:
        if self._state != "asleep":
            self._expect_ready()
        self._end("asleep")

    async def stop(self) -> None:
        self._end("stopped")

    async def died(self) -> str:
        await self._died.wait()
        return self._reason

    def crash(self, reason: str = "simulated crash") -> None:
        """Ends the engine as kill -9 ends a real one."""
        self._reason = f"engine of {self._family}: {reason}"
        self._end("dead")
        self._died.set()

    async def load(self, expert: Expert, weights: Path, images: Path | None = None) -> Loaded:
        if self._state == "asleep":
            self._state = "ready"
        self._expect_ready()
        _check(expert, weights)
        seconds = expert.weights_bytes / self._speeds.load_bytes_per_s
        await self._sleep(seconds)
        self._expect_ready()
        self._resident[expert.name] = None
        return Loaded(expert.weights_bytes, seconds)

    async def unload(self, name: str) -> None:
        self._expect_ready()
        self._resident.pop(name, None)
        if self._active == name:
            self._active = None

    async def request(
        self, expert: str, path: str, body: Body, headers: Mapping[str, str] = NO_HEADERS
    ) -> SimulatedResponse:
        self._expect_ready()
        if expert not in self._resident:
            raise ExpertNotResident(f"{expert} is not on the device of {self._family}; load it first")
        number = next(self._numbers)
        response = SimulatedResponse(self.step, self.forget, number, expert, path, body, self._task)
        try:
            await self._turn_of(response)
            await response.begin()
        except BaseException:
            self.forget(response)
            raise
        return response

    async def alive(self) -> bool:
        return self._state == "ready"

    async def statistics(self) -> EngineStatistics:
        self._expect_ready()
        seconds = self._switches * self._speeds.switch_s
        resident = tuple(self._resident)
        return EngineStatistics(
            self._active,
            resident,
            self._switches,
            seconds,
            self._busy_seconds,
            self.running,
            self.kv_used,
        )

    async def step(self, response: SimulatedResponse, expert: str) -> float:
        """Computes one token of a response, and returns the seconds that it took. Raises EngineLost when the
        engine has ended meanwhile."""
        seconds = 1 / self._speeds.tokens_per_s
        if self._active != expert:
            self._active = expert
            self._switches += 1
            seconds += self._speeds.switch_s
        self._busy_seconds += seconds
        await self._sleep(seconds)
        if response not in self._running:
            raise EngineLost(f"engine of {self._family} went away in the middle of an answer")
        return seconds

    async def _turn_of(self, response: SimulatedResponse) -> None:
        """Waits until the response may be computed. Raises EngineUnavailable where the engine has ended
        meanwhile."""
        most = self._speeds.streams
        if most is None or len(self._running) < most:
            self._running.add(response)
            return
        turn = self._waiting[response] = asyncio.Event()
        await turn.wait()
        if response not in self._running:
            raise EngineUnavailable(f"engine of {self._family} went away before the answer began")

    def forget(self, response: SimulatedResponse) -> None:
        """Notes that a response has ended, and gives its place to the one that has waited longest."""
        self._waiting.pop(response, None)
        if response not in self._running:
            return
        self._running.discard(response)
        if self._waiting:
            following, turn = self._waiting.popitem(last=False)
            self._running.add(following)
            turn.set()

    def _end(self, state: EngineState) -> None:
        self._state = state
        self._running.clear()
        while self._waiting:
            self._waiting.popitem()[1].set()
        self._resident, self._active = {}, None

    def _expect_ready(self) -> None:
        if self._state != "ready":
            raise EngineUnavailable(f"engine of {self._family} is {self._state}")

    def __repr__(self) -> str:
        names = ", ".join(self._resident) or "none"
        return f"<SimulatedEngine {self._family} [{self._state}, resident: {names}, running: {self.running}]>"


def _check(expert: Expert, weights: Path) -> None:
    if not (weights / "config.json").is_file():
        raise LoadFailed(f"{expert.name}: {weights} has no config.json; prepare the expert again")
