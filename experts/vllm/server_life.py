"""The life of a vLLM server behind the engine protocol: its start, its proof, its watch and its end."""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from experts.engines import canary
from experts.engines.computing_type import computes_bfloat16, refused_instruction, types_to_try
from experts.engines.engine import EngineState, Loaded
from experts.engines.nursery import Nurseries
from experts.engines.resident import Resident
from experts.errors import CanaryFailed, EngineStartFailed, EngineUnavailable, LoadFailed
from experts.spec import Expert, FamilyConfig
from experts.vllm.address import Address
from experts.vllm.command import VllmMode, command
from experts.vllm.environment import environment
from experts.vllm.server import VllmServer
from experts.vllm_version import InstalledVllm, installed_vllm

logger = logging.getLogger(__name__)


class ServerLife(ABC):
    """A server that starts, proves right, and may die; one after another."""

    mode: ClassVar[VllmMode]

    def __init__(
        self,
        family: str,
        config: FamilyConfig,
        log_folder: Path,
        vllm: InstalledVllm | None = None,
        native_bfloat16: bool | None = None,
        media_hosts: Sequence[str] = (),
        nurseries: Nurseries | None = None,
    ) -> None:
        """Starts nothing. The server's output goes to ``log_folder/<family>.log``. ``vllm``: None means the
        one installed; ``native_bfloat16``: None means whether this processor computes it; ``media_hosts``:
        the hosts that content of messages may be fetched from. ``nurseries``: where vLLM is imported ahead of
        starts; used on CPU with a version it was verified on."""
        self._media_hosts = media_hosts
        vllm = vllm or installed_vllm()
        forks = vllm is not None and vllm.verified and vllm.platform == "cpu"
        self._nurseries = nurseries if forks else None
        self._platform = "cpu" if vllm is None else vllm.platform
        self._family = family
        self._config = config
        self._native_bfloat16 = computes_bfloat16() if native_bfloat16 is None else native_bfloat16
        self._dtype: str = config.dtype
        self._proved = False
        """Whether a start in ``_dtype`` has proved right; later ones then keep it."""
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
    def devices(self) -> tuple[int, ...]:
        return self._config.devices[: self._config.tensor_parallel_size]

    @property
    def state(self) -> EngineState:
        return self._state

    @property
    def sleep_after_s(self) -> float | None:
        return None

    async def sleep(self) -> None:
        raise LoadFailed(f"mode {self.mode} does not sleep")

    @property
    def dtype(self) -> str:
        """vLLM's ``--dtype``: the configured one, until the first start settles it."""
        return self._dtype

    @property
    def server(self) -> VllmServer:
        """The running server, for what the protocol lacks. Raises EngineUnavailable when there is none."""
        if self._running is None or self._state not in ("starting", "ready", "asleep"):
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

    async def _start_proved(self, expert: Expert, weights: Path) -> int:
        """Starts in the first type that proves right. Returns the bytes ``expert`` holds."""
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
        """Starts and proves a server. Returns the bytes ``expert`` holds.

        Raises CanaryFailed when the engine runs and is not right."""
        config = self._config.model_copy(update={"dtype": self._dtype})
        server = await self._launch(self._command(config, expert, weights))
        held = await self._warm_up(expert)
        self._resident = {expert.name: Resident.of(weights)}
        self._watch_over(server)
        return held

    def _command(self, config: FamilyConfig, expert: Expert, weights: Path) -> list[str]:
        """Returns the server's command line."""
        return command(config, self.mode, self._platform, expert.name, weights, media_hosts=self._media_hosts)

    async def _launch(self, arguments: Sequence[str]) -> VllmServer:
        """Starts a server, and returns once it answers."""
        surroundings = environment(self._config, self.mode, self._platform)
        if self._nurseries is not None:
            await self._nurseries.ready(surroundings)
            if self._state != "starting":
                raise EngineStartFailed(f"engine of {self._family} was stopped while it started")
        server = await VllmServer.launch(arguments, surroundings, self._log, self._nurseries)
        self._running = server
        while not await server.healthy():
            if self._state != "starting" or not server.process.running:
                reason = await server.process.ended()
                raise EngineStartFailed(f"engine of {self._family} did not start: {reason}")
            await asyncio.sleep(0.1)
        return server

    def _watch_over(self, server: VllmServer) -> None:
        """Has the engine be ``dead`` as soon as a process of it ends."""
        server.process.expect_all()
        self._watcher = asyncio.create_task(self._watch(server), name=f"watch {self._family}")

    async def _warm_up(self, expert: Expert) -> int:
        """Asks a first request, which may compile for many seconds. Returns the bytes ``expert`` holds."""
        try:
            await self._prove(expert)
            return await self._held(expert)
        except EngineUnavailable as error:
            raise CanaryFailed(str(error)) from error

    async def _held(self, expert: Expert) -> int:
        """Returns the bytes that the first expert holds on the device."""
        return expert.weights_bytes

    def _can_prove(self, expert: Expert) -> bool:
        """Tells whether ``_prove`` would show more than that the engine answers."""
        return expert.canary is not None

    async def _prove(self, expert: Expert, asked_as: str = "") -> None:
        """Raises CanaryFailed when the engine does not compute for ``expert`` what its canary records.
        ``asked_as``: in place of its name."""
        unused = Resident(f"canary {time.monotonic_ns()}")  # no prefix of earlier weights is its own
        body = self._address(asked_as or expert.name, unused).addressed(canary.question(expert.canary))
        status, answer = await self.server.call("POST", canary.PATH, body)
        canary.check(expert.canary, status, answer, self._dtype)

    async def _watch(self, server: VllmServer) -> None:
        reason = await server.process.ended()
        self._state, self._reason = "dead", f"engine of {self._family}: {reason}"
        self._resident.clear()
        self._died.set()
        await server.close()

    @abstractmethod
    def _address(self, expert: str, resident: Resident) -> Address:
        """Returns what tells the server which expert a request is for."""

    def __repr__(self) -> str:
        names = ", ".join(self._resident) or "none"
        return f"<{type(self).__name__} {self._family} [{self.mode}, {self._state}, resident: {names}]>"
