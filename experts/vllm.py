"""Real vLLM behind the engine protocol: one server on a private Unix socket, run and spoken to from the gateway."""

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import aiohttp
import orjson

from experts.answer import VllmAnswer
from experts.engine import Body, EngineState, EngineStatistics, Loaded
from experts.errors import (
    CheckpointError,
    EngineStartFailed,
    EngineUnavailable,
    ExpertNotResident,
    LoadFailed,
)
from experts.process import EngineProcess
from experts.safetensors_header import read_headers
from experts.same_family import check_same_family
from experts.spec import Expert, FamilyConfig
from experts.vllm_command import INTERNAL_MODEL, VERIFIED, command, environment, installed_vllm

logger = logging.getLogger(__name__)
_LOCAL = "http://engine"
"""Names nothing: every connection goes to the socket."""
_REQUEST_GAUGES = re.compile(rb"^vllm:num_requests_(?:running|waiting)\{[^}]*\} (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Resident:
    weights: Path
    stamp: str
    """Changes when the files at ``weights`` do."""

    def salt(self, expert: str, own: str) -> str:
        """Keeps prefixes computed with other weights out of reach, also those of an expert's earlier weights.

        ``own``: the salt the client sent. vLLM takes at most 128 characters, not all of them allowed: a digest."""
        return hashlib.blake2b("\0".join((expert, self.stamp, own)).encode(), digest_size=16).hexdigest()


class VllmEngine:
    """Both modes; they differ in how an expert comes to the device and how a request names it.

    ``interleaved``: the classes in ``experts.inside_vllm`` hold many experts. ``plain``: unmodified vLLM holds
    one, and replaces it by pause, reload, resume. Where the installed vLLM is not one the classes were verified
    on, ``interleaved`` falls back to ``plain`` and says so.
    """

    def __init__(self, family: str, config: FamilyConfig, log_folder: Path) -> None:
        """Starts nothing. The server writes to ``log_folder/<family>.log``."""
        vllm = installed_vllm()
        self._platform = "cpu" if vllm is None else vllm.platform
        self._mode: Literal["interleaved", "plain"] = "plain" if config.mode == "plain" else "interleaved"
        if self._mode == "interleaved" and vllm is not None and not vllm.verified:
            self._mode = "plain"
            logger.warning(
                "family %s: vLLM %s is installed, interleaving is verified on %s*; falling back to plain mode, "
                "which holds one expert at a time",
                family, vllm.version, VERIFIED,
            )  # fmt: skip
        self._family = family
        self._config = config
        self._log = log_folder / f"{family}.log"
        self._state: EngineState = "stopped"
        self._process: EngineProcess | None = None
        self._session: aiohttp.ClientSession | None = None
        self._resident: dict[str, _Resident] = {}
        self._first_weights = Path()
        self._reloads = EngineStatistics(None, (), 0, 0.0, 0)
        self._dead = asyncio.Event()
        self._reason = ""
        self._watcher: asyncio.Task[None] | None = None

    @property
    def family(self) -> str:
        return self._family

    @property
    def state(self) -> EngineState:
        return self._state

    @property
    def mode(self) -> Literal["interleaved", "plain"]:
        """The mode in use, after a fallback."""
        return self._mode

    @property
    def resident_limit(self) -> int | None:
        return None if self._mode == "interleaved" else 1

    async def start(self, expert: Expert, weights: Path) -> Loaded:
        if self._state not in ("stopped", "dead"):
            raise EngineStartFailed(f"engine of {self._family} is {self._state}; stop it first")
        begun = time.monotonic()
        self._state = "starting"
        self._dead.clear()
        try:
            async with asyncio.timeout(self._config.start_timeout_s):
                await self._start(expert, weights)
        except TimeoutError:
            tail = self._process.log_tail() if self._process else ""
            await self.stop()
            raise EngineStartFailed(
                f"engine of {self._family} not ready after {self._config.start_timeout_s} s; "
                f"raise start_timeout_s; last lines of {self._log}:\n{tail}"
            ) from None
        except BaseException:
            await self.stop()
            raise
        self._state = "ready"
        return Loaded(expert.weights_bytes, time.monotonic() - begun)

    async def stop(self) -> None:
        self._state = "stopped"
        if self._watcher is not None:
            self._watcher.cancel()
        process, session = self._process, self._session
        if session is not None:
            await session.close()
        if process is not None:
            await process.stop()
        if process is self._process:
            self._process, self._session = None, None
            self._resident.clear()

    async def died(self) -> str:
        await self._dead.wait()
        return self._reason

    async def load(self, expert: Expert, weights: Path) -> Loaded:
        begun = time.monotonic()
        if self._mode == "interleaved":
            bytes_held = await self._load_beside(expert, weights)
        else:
            bytes_held = await self._load_instead(expert, weights)
        return Loaded(bytes_held, time.monotonic() - begun)

    async def unload(self, name: str) -> None:
        # First here: a request that comes meanwhile is refused rather than failed by the engine.
        if self._resident.pop(name, None) is not None and self._mode == "interleaved":
            await self._worker("coe_unload", name)

    async def request(self, expert: str, path: str, body: Body) -> VllmAnswer:
        resident = self._resident.get(expert)
        if resident is None:
            raise ExpertNotResident(f"{expert} is not on the device of {self._family}; load it first")
        return await self._ask(expert, path, self._addressed(expert, resident, body))

    async def alive(self) -> bool:
        if self._state != "ready":
            return False
        try:
            async with asyncio.timeout(2.0):
                return await self._healthy()
        except TimeoutError:
            return False

    async def statistics(self) -> EngineStatistics:
        status, body = await self.call("GET", "/metrics")
        if status != 200:
            raise EngineUnavailable(f"engine of {self._family} answers {status} to /metrics")
        running = int(sum(float(count) for count in _REQUEST_GAUGES.findall(body)))
        if self._mode == "plain":
            resident = tuple(self._resident)
            active = resident[0] if resident else None
            return replace(self._reloads, active=active, resident=resident, running=running)
        report = await self._worker("coe_statistics")
        return EngineStatistics(
            active=report["active"],
            resident=tuple(report["resident"]),
            switches=report["switches"],
            switch_seconds=report["switch_seconds"],
            running=running,
        )

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, bytes]:
        """Any path of the server, nothing added. Raises EngineUnavailable when it does not answer."""
        try:
            async with self._open_session().request(method, _LOCAL + path, json=body) as response:
                return response.status, await response.read()
        except aiohttp.ClientError as error:
            raise EngineUnavailable(f"engine of {self._family} did not answer {path}: {error}") from error

    async def _start(self, expert: Expert, weights: Path) -> None:
        arguments = command(self._config, self._mode, self._platform, expert.name, weights)
        process = await EngineProcess.launch(arguments, environment(self._mode), self._log)
        self._process = process
        self._session = aiohttp.ClientSession(
            # A connection of its own for each request: one kept open may be closed by the server just then,
            # and opening one on a Unix socket costs nothing.
            connector=aiohttp.UnixConnector(str(process.socket), limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None),
            json_serialize=lambda value: orjson.dumps(value).decode(),
        )
        while not await self._healthy():
            if self._state != "starting" or not process.running:
                raise EngineStartFailed(f"engine of {self._family} did not start: {await process.ended()}")
            await asyncio.sleep(0.1)
        self._first_weights = weights
        self._reloads = EngineStatistics(None, (), 0, 0.0, 0)
        self._resident = {expert.name: _Resident(weights, _stamp(weights))}
        await self._warm_up(expert.name)
        process.expect_all()
        self._watcher = asyncio.create_task(self._watch(process), name=f"watch {self._family}")

    async def _warm_up(self, expert: str) -> None:
        """The first request on a machine may compile for many seconds; and an engine must have answered once."""
        body = {"prompt": "Hello", "max_tokens": 2, "temperature": 0}
        answer = await self.request(expert, "/v1/completions", body)
        text = b"".join([chunk async for chunk in answer.chunks()])
        if answer.status != 200:
            raise EngineStartFailed(f"engine of {self._family} fails a first request: {text.decode()}")

    async def _watch(self, process: EngineProcess) -> None:
        reason = await process.ended()
        self._state, self._reason = "dead", f"engine of {self._family}: {reason}"
        self._resident.clear()
        if self._session is not None:
            await self._session.close()
        self._dead.set()

    async def _load_beside(self, expert: Expert, weights: Path) -> int:
        report = await self._worker("coe_load", expert.name, str(weights.absolute()))
        if "error" in report:
            raise LoadFailed(f"{expert.name}: {report['error']}")
        self._resident[expert.name] = _Resident(weights, _stamp(weights))
        return int(report["bytes"])

    async def _load_instead(self, expert: Expert, weights: Path) -> int:
        """Pause, reload, resume. A reload that fails may have overwritten half of the weights."""
        try:
            expected = await asyncio.to_thread(read_headers, self._first_weights)
            found = await asyncio.to_thread(read_headers, weights)
            check_same_family(weights, expected, found)
        except CheckpointError as error:
            raise LoadFailed(f"{expert.name}: {error}") from error
        old = next(iter(self._resident.values()), None)
        begun = time.monotonic()
        await self._expect_ok("/pause?mode=wait")
        try:
            await self._reload(expert.name, weights, old)
        finally:
            if self._state == "ready":
                await self._expect_ok("/resume")
        self._resident = {expert.name: _Resident(weights, _stamp(weights))}
        seconds = self._reloads.switch_seconds + time.monotonic() - begun
        self._reloads = replace(self._reloads, switches=self._reloads.switches + 1, switch_seconds=seconds)
        return expert.weights_bytes

    async def _reload(self, name: str, weights: Path, old: _Resident | None) -> None:
        try:
            await self._reload_from(weights)
        except LoadFailed as error:
            try:
                await self._reload_from(old.weights if old else self._first_weights)
            except LoadFailed:
                assert self._process is not None
                await self._process.stop(grace_s=0)  # nobody knows what it would answer
            raise LoadFailed(f"{name}: {error}") from error

    async def _reload_from(self, weights: Path) -> None:
        report = await self._worker("coe_reload", str(weights.absolute()))
        if "error" in report:
            raise LoadFailed(report["error"])
        await self._expect_ok("/reset_prefix_cache")

    def _addressed(self, expert: str, resident: _Resident, body: Body) -> dict[str, Any]:
        if self._mode == "plain":
            return {**body, "model": INTERNAL_MODEL}
        return {
            **body,
            "model": INTERNAL_MODEL,
            "vllm_xargs": {**(body.get("vllm_xargs") or {}), "expert": expert},
            "cache_salt": resident.salt(expert, str(body.get("cache_salt") or "")),
        }

    async def _ask(self, expert: str, path: str, body: dict[str, Any]) -> VllmAnswer:
        try:
            response = await self._open_session().post(_LOCAL + path, json=body)
        except aiohttp.ClientError as error:
            raise EngineUnavailable(f"engine of {self._family} did not answer ({error}); try again") from error
        return await VllmAnswer.begin(response, expert)

    async def _worker(self, method: str, *arguments: str) -> dict[str, Any]:
        """The answer of the first worker, or of the first that failed."""
        body = await self._expect_ok("/collective_rpc", {"method": method, "args": arguments})
        reports: list[dict[str, Any]] = orjson.loads(body)["results"]
        return next((report for report in reports if "error" in report), reports[0])

    async def _expect_ok(self, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        status, answer = await self.call("POST", path, body)
        if status != 200:
            raise LoadFailed(f"engine of {self._family} answers {status} to {path}: {answer.decode()[:500]}")
        return answer

    async def _healthy(self) -> bool:
        try:
            return (await self.call("GET", "/health"))[0] == 200
        except EngineUnavailable:
            return False

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            raise EngineUnavailable(f"engine of {self._family} is {self._state}")
        return self._session

    def __repr__(self) -> str:
        names = ", ".join(self._resident) or "none"
        return f"<VllmEngine {self._family} [{self._mode}, {self._state}, resident: {names}]>"


def _stamp(weights: Path) -> str:
    files = [(file.name, file.stat()) for file in sorted(weights.glob("*.safetensors"))]
    return repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in files])
