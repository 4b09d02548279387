"""Real vLLM behind the engine protocol: one server for the experts of a family."""

import asyncio
import logging
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from experts.engines import canary
from experts.engines.computing_type import computes_bfloat16, refused_instruction, types_to_try
from experts.engines.engine import Body, EngineState, EngineStatistics, Loaded
from experts.engines.resident import Resident
from experts.errors import (
    CanaryFailed,
    CheckpointError,
    EngineStartFailed,
    EngineUnavailable,
    ExpertNotResident,
    LoadFailed,
)
from experts.spec import Expert, FamilyConfig
from experts.vllm.answer import VllmAnswer
from experts.vllm.command import InstalledVllm, VllmMode, command, environment, installed_vllm
from experts.vllm.server import VllmServer

logger = logging.getLogger(__name__)
_REQUEST_GAUGES = re.compile(rb"^vllm:num_requests_(?:running|waiting)\{[^}]*\} (\S+)", re.MULTILINE)


class VllmEngine(ABC):
    """What all modes have in common: a server that starts, proves right, answers, and may die. They differ in
    how an expert comes to the device and a request names it (``experts.vllm.modes``)."""

    mode: ClassVar[VllmMode]

    def __init__(
        self,
        family: str,
        config: FamilyConfig,
        log_folder: Path,
        vllm: InstalledVllm | None = None,
        native_bfloat16: bool | None = None,
        media_hosts: Sequence[str] = (),
    ) -> None:
        """Starts nothing. The server writes to ``log_folder/<family>.log``. ``vllm`` and ``native_bfloat16``:
        absent means what is installed, and what this processor computes. ``media_hosts``: where content of
        messages may be fetched from."""
        self._media_hosts = media_hosts
        vllm = vllm or installed_vllm()
        self._platform = "cpu" if vllm is None else vllm.platform
        self._family = family
        self._config = config
        self._native_bfloat16 = computes_bfloat16() if native_bfloat16 is None else native_bfloat16
        self._dtype: str = config.dtype
        self._proved = False
        """Whether an engine has started in ``_dtype``, which it then keeps."""
        self._log = log_folder / f"{family}.log"
        self._state: EngineState = "stopped"
        self._running: VllmServer | None = None
        self._resident: dict[str, Resident] = {}
        self._died = asyncio.Event()
        self._reason = ""
        self._watcher: asyncio.Task[None] | None = None

    @property
    def family(self) -> str:
        return self._family

    @property
    def state(self) -> EngineState:
        return self._state

    @property
    def dtype(self) -> str:
        """The type vLLM is told to compute in. The first start settles it; before, what is configured."""
        return self._dtype

    @property
    @abstractmethod
    def resident_limit(self) -> int | None: ...

    @property
    def held_bytes(self) -> int:
        return 0

    @property
    def server(self) -> VllmServer:
        """The server, for what the protocol does not cover. Raises EngineUnavailable when there is none."""
        if self._running is None or self._state not in ("starting", "ready"):
            raise EngineUnavailable(f"engine of {self._family} is {self._state}")
        return self._running

    async def start(self, expert: Expert, weights: Path) -> Loaded:
        if self._state not in ("stopped", "dead"):
            raise EngineStartFailed(f"engine of {self._family} is {self._state}; stop it first")
        begun = time.monotonic()
        self._state = "starting"
        self._died.clear()
        try:
            async with asyncio.timeout(self._config.start_timeout_s):
                held = await self._start_proved(expert, weights)
        except TimeoutError:
            tail = self._running.process.log_tail() if self._running else ""
            await self.stop()
            raise EngineStartFailed(
                f"engine of {self._family} not ready after {self._config.start_timeout_s} s; "
                f"raise start_timeout_s; last lines of {self._log}:\n{tail}"
            ) from None
        except CanaryFailed as error:
            await self.stop()
            raise EngineStartFailed(f"engine of {self._family}: {expert.name}: {error}") from error
        except BaseException:
            await self.stop()
            raise
        self._state = "ready"
        logger.info("family %s: the engine computes in %s", self._family, self._dtype)
        return Loaded(held, time.monotonic() - begun)

    async def stop(self) -> None:
        self._state = "stopped"
        if self._watcher is not None:
            self._watcher.cancel()
        if self._running is not None:
            await self._running.close()
        self._resident.clear()

    async def died(self) -> str:
        await self._died.wait()
        return self._reason

    async def load(self, expert: Expert, weights: Path, images: Path | None = None) -> Loaded:
        begun = time.monotonic()
        try:
            held = await self._bring(expert, weights, images)
        except (LoadFailed, CheckpointError) as error:
            raise LoadFailed(f"{expert.name}: {error}") from error
        self._resident[expert.name] = Resident.of(weights)
        return Loaded(held, time.monotonic() - begun, _bytes_in(images) if images else 0)

    async def unload(self, name: str) -> None:
        self._resident.pop(name, None)

    async def request(self, expert: str, path: str, body: Body) -> VllmAnswer:
        server = self.server
        resident = self._resident.get(expert)
        if resident is None:
            raise ExpertNotResident(f"{expert} is not on the device of {self._family}; load it first")
        return await server.ask(expert, path, self._addressed(expert, resident, body))

    async def alive(self) -> bool:
        if self._state != "ready":
            return False
        try:
            async with asyncio.timeout(2.0):
                return await self.server.healthy()
        except TimeoutError:
            return False

    @abstractmethod
    async def statistics(self) -> EngineStatistics: ...

    async def _requests_held(self) -> int:
        status, body = await self.server.call("GET", "/metrics")
        if status != 200:
            raise EngineUnavailable(f"engine of {self._family} answers {status} to /metrics")
        return int(sum(float(count) for count in _REQUEST_GAUGES.findall(body)))

    async def _start_proved(self, expert: Expert, weights: Path) -> int:
        """In the first type that proves right. Returns the bytes ``expert`` holds."""
        others: list[str] = []
        if not self._proved:
            self._dtype, *others = types_to_try(
                self._config, self._platform, self._native_bfloat16, expert.canary
            )
        try:
            held = await self._start(expert, weights)
        except (CanaryFailed, EngineStartFailed) as error:
            if not others or not (isinstance(error, CanaryFailed) or refused_instruction(self._log)):
                raise
            logger.warning(
                "family %s: %s does not prove right, starting again in %s: %s",
                self._family, self._dtype, others[0], error,
            )  # fmt: skip
            self._dtype = others[0]
            await self.server.close()
            held = await self._start(expert, weights)
        self._proved = True
        return held

    async def _start(self, expert: Expert, weights: Path) -> int:
        """Returns the bytes ``expert`` holds. Raises CanaryFailed when the engine runs and is not right."""
        config = self._config.model_copy(update={"dtype": self._dtype})
        server = await self._launch(self._command(config, expert, weights))
        held = await self._warm_up(expert)
        self._resident = {expert.name: Resident.of(weights)}
        self._watch_over(server)
        return held

    def _command(self, config: FamilyConfig, expert: Expert, weights: Path) -> list[str]:
        return command(config, self.mode, self._platform, expert.name, weights, media_hosts=self._media_hosts)

    async def _launch(self, arguments: Sequence[str]) -> VllmServer:
        """Returns once the server answers."""
        surroundings = environment(self._config, self.mode, self._platform)
        server = await VllmServer.launch(arguments, surroundings, self._log)
        self._running = server
        while not await server.healthy():
            if self._state != "starting" or not server.process.running:
                reason = await server.process.ended()
                raise EngineStartFailed(f"engine of {self._family} did not start: {reason}")
            await asyncio.sleep(0.1)
        return server

    def _watch_over(self, server: VllmServer) -> None:
        server.process.expect_all()
        self._watcher = asyncio.create_task(self._watch(server), name=f"watch {self._family}")

    async def _warm_up(self, expert: Expert) -> int:
        """The first request may compile for many seconds; and an engine that never answered is not ready.
        Returns the bytes ``expert`` holds."""
        try:
            await self._prove(expert)
            return await self._held(expert)
        except EngineUnavailable as error:
            raise CanaryFailed(str(error)) from error

    async def _held(self, expert: Expert) -> int:
        """Bytes of the first one, on the device."""
        return expert.weights_bytes

    def _can_prove(self, expert: Expert) -> bool:
        """Whether ``_prove`` would find out more than that the engine answers."""
        return expert.canary is not None

    async def _prove(self, expert: Expert) -> None:
        """Raises CanaryFailed when what came as ``expert`` does not compute what was recorded of it."""
        unused = Resident(f"canary {time.monotonic_ns()}")  # no prefix of earlier weights is its own
        body = self._addressed(expert.name, unused, canary.question(expert.canary))
        status, answer = await self.server.call("POST", canary.PATH, body)
        canary.check(expert.canary, status, answer, self._dtype)

    async def _watch(self, server: VllmServer) -> None:
        reason = await server.process.ended()
        self._state, self._reason = "dead", f"engine of {self._family}: {reason}"
        self._resident.clear()
        self._died.set()
        await server.close()

    @abstractmethod
    async def _bring(self, expert: Expert, weights: Path, images: Path | None) -> int:
        """Returns the bytes ``expert`` holds. Raises LoadFailed, CheckpointError."""

    @abstractmethod
    def _addressed(self, expert: str, resident: Resident, body: Body) -> dict[str, Any]:
        """``body`` with what tells the server whose request it is."""

    def __repr__(self) -> str:
        names = ", ".join(self._resident) or "none"
        return f"<{type(self).__name__} {self._family} [{self.mode}, {self._state}, resident: {names}]>"


def _bytes_in(images: Path) -> int:
    """One file for each worker; what a load was writing when it failed does not count."""
    return sum(file.stat().st_size for file in images.glob("image-*") if file.suffix == "")


def absolute(weights: Path) -> str:
    """As the server can open it, which has a working folder of its own."""
    return str(weights.absolute())
