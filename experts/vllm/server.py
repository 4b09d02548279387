"""A running vLLM server: its processes, and HTTP over its private Unix socket."""

import re
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from experts.engines.http_client import HttpClient
from experts.engines.http_connection import ConnectionEnded
from experts.engines.nursery import Nurseries
from experts.engines.process import EngineProcess
from experts.errors import DeviceFull, EngineUnavailable, LoadFailed
from experts.vllm.address import Address
from experts.vllm.reach import EngineRun, ask, unavailable
from experts.vllm.response import VllmResponse

_REQUESTS = re.compile(rb"^vllm:num_requests_(?:running|waiting)\{[^}]*\} (\S+)", re.MULTILINE)
_KV_USED = re.compile(rb"^vllm:kv_cache_usage_perc\{[^}]*\} (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Load of a server now. ``requests``: those that it computes or has waiting. ``kv_used``: share of its
    KV cache that they use; None where it has none."""

    requests: int
    kv_used: float | None


class VllmServer:
    """A server made by ``launch``, which does not wait for it to answer.

    Every call raises EngineUnavailable when no answer comes.
    """

    def __init__(self, process: EngineProcess) -> None:
        self.process = process
        self._http = HttpClient(process.socket)

    @classmethod
    async def launch(
        cls,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        nurseries: Nurseries | None = None,
    ) -> "VllmServer":
        return cls(await EngineProcess.launch(command, environment, log, nurseries))

    @property
    def run(self) -> EngineRun:
        """The way to it for another process."""
        return EngineRun(str(self.process.socket), self.process.pids)

    async def close(self) -> None:
        """Ends the server; responses under way raise EngineLost."""
        await self._http.close()
        await self.process.stop()

    async def healthy(self) -> bool:
        """Tells whether the server answers."""
        try:
            return (await self.call("GET", "/health"))[0] == 200
        except EngineUnavailable:
            return False

    def ask(
        self, address: Address, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Coroutine[Any, Any, VllmResponse]:
        """Posts ``body`` to ``address``, and returns the response once its first bytes are there."""
        return ask(self._http, lambda: self.process.intact, address, path, body, headers)

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, bytes]:
        """Requests any path, and returns the status and the whole body."""
        content = None if body is None else orjson.dumps(body)
        try:
            with closing(await self._http.request(method, path, content)) as response:
                return response.status, await response.read()
        except ConnectionEnded as error:
            raise unavailable(path, error) from error

    async def command(self, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """Posts to one of vLLM's paths for operators. Raises LoadFailed when vLLM refuses."""
        status, answer = await self.call("POST", path, body)
        if status >= 500 and not self.process.intact:  # the server outlives its engine core by a moment
            raise EngineUnavailable(f"the engine ended before it answered {path}; try again once it is ready")
        if status != 200:
            raise LoadFailed(f"the engine answers {status} to {path}: {answer.decode()[:500]}")
        return answer

    async def worker(self, method: str, *arguments: str) -> dict[str, Any]:
        """Calls a method of the workers. Returns the report of the first, or of one that is not ``whole``
        yet, with ``held_bytes`` of all.

        Raises LoadFailed with the first ``error``, DeviceFull where it is that the device has no room."""
        reports = await self.workers(method, *arguments)
        shown = next((report for report in reports if not report.get("whole", True)), reports[0])
        return {**shown, "held_bytes": sum(report.get("held_bytes", 0) for report in reports)}

    async def workers(self, method: str, *arguments: str) -> list[dict[str, Any]]:
        """Calls a method of the workers, and returns each one's report. Raises as ``worker`` does."""
        body = await self.command("/collective_rpc", {"method": method, "args": arguments})
        reports: list[dict[str, Any]] = orjson.loads(body)["results"]
        for report in reports:
            if "error" in report:
                raise (DeviceFull if report.get("full") else LoadFailed)(report["error"])
        return reports

    async def occupancy(self) -> Occupancy:
        """Asks vLLM for what it holds. Raises EngineUnavailable."""
        status, body = await self.call("GET", "/metrics")
        if status != 200:
            raise EngineUnavailable(f"the engine answers {status} to /metrics; try again once it is ready")
        used = [float(share) for share in _KV_USED.findall(body)]
        return Occupancy(int(sum(map(float, _REQUESTS.findall(body)))), max(used, default=None))

    def __repr__(self) -> str:
        return f"<VllmServer [{self.process}]>"
