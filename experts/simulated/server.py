"""The simulated engine as a process that speaks vLLM's HTTP, to measure what stands before engines.

``python -m experts.simulated.server (--uds PATH | --port N) --expert NAME --weights FOLDER [--task embed]``.
One thread with uvloop and httptools.
"""

import argparse
import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import httptools
import orjson
import uvloop

from experts.errors import EngineUnavailable, ExpertNotResident, LoadFailed
from experts.simulated.engine import SimulatedEngine
from experts.simulated.response import SimulatedResponse
from experts.spec import Expert, SimulationConfig

FAMILY = "simulated"
_SHORTEST_PAUSE_S = 0.001
"""The shortest pause that the event loop, which counts milliseconds, can make."""
_METRICS = b'vllm:num_requests_running{engine="0"} %d\nvllm:kv_cache_usage_perc{engine="0"} %.6f\n'
_STATUS = {200: b"OK", 404: b"Not Found", 503: b"Service Unavailable"}


async def pause(seconds: float) -> None:
    """Waits, except where an engine is too fast to be waited for."""
    if seconds >= _SHORTEST_PAUSE_S:
        await asyncio.sleep(seconds)


def expert_of(name: str, weights: Path) -> Expert:
    """Describes an expert as far as an engine has to know it."""
    size = sum(file.stat().st_size for file in weights.glob("*.safetensors"))
    return Expert(name, FAMILY, weights, size, 0, "", "")


class Worker:
    """Answers ``/collective_rpc`` as ``experts.inside_vllm`` does, over a simulated engine."""

    def __init__(self, engine: SimulatedEngine, first: Expert) -> None:
        """``first``: the expert that the engine was started with."""
        self._engine = engine
        self._bytes = {"": first.weights_bytes, first.name: first.weights_bytes}
        self._calls: Mapping[str, Callable[..., Awaitable[Mapping[str, Any]]]] = {
            "coe_load": self._load,
            "coe_load_end": self._report,
            "coe_load_abandon": self._report,
            "coe_unload": self._unload,
            "coe_statistics": self._report,
            "coe_sleep": self._sleep,
            "coe_wake": self._report,
        }

    async def call(self, method: str, arguments: list[str]) -> Mapping[str, Any]:
        try:
            return await self._calls[method](*arguments)
        except (LoadFailed, KeyError) as error:
            return {"error": str(error)}

    async def _load(self, name: str, weights: str, stamp: str, images: str) -> Mapping[str, Any]:
        loaded = await self._engine.load(expert_of(name, Path(weights)), Path(weights))
        self._bytes[name] = loaded.bytes
        return await self._report(name)

    async def _unload(self, name: str) -> Mapping[str, Any]:
        await self._engine.unload(name)
        return await self._report()

    async def _sleep(self) -> Mapping[str, Any]:
        """Gives back all experts; as vLLM's workers, it answers its client meanwhile."""
        for name in (await self._engine.statistics()).resident:
            await self._engine.unload(name)
        return await self._report()

    async def _report(self, name: str = "") -> Mapping[str, Any]:
        report = {"whole": True, "converted": False, "held_bytes": self._bytes.get(name, 0)}
        return asdict(await self._engine.statistics()) | report


class Connection(asyncio.Protocol):
    """A connection, for one request at a time; when the client leaves, its response ends."""

    def __init__(self, engine: SimulatedEngine, worker: Worker, default: str) -> None:
        """``default``: the expert of requests that name none as the gateway does."""
        self._engine = engine
        self._default = default
        self._worker = worker
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._path = ""
        self._body: list[bytes] = []
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def connection_lost(self, error: Exception | None) -> None:
        if self._answering is not None:
            self._answering.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._out.close()

    def on_message_begin(self) -> None:
        self._body.clear()

    def on_url(self, url: bytes) -> None:
        self._path = httptools.parse_url(url).path.decode()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._answering = asyncio.get_running_loop().create_task(self._answer())

    @property
    def _out(self) -> asyncio.Transport:
        assert self._transport is not None, "connected"
        return self._transport

    async def _answer(self) -> None:
        body = orjson.loads(b"".join(self._body) or b"{}")
        if self._path == "/health":
            self._send(200, b"{}")
        elif self._path == "/metrics":
            self._send(200, _METRICS % (self._engine.running, self._engine.kv_used))
        elif self._path == "/collective_rpc":
            report = await self._worker.call(body["method"], body["args"])
            self._send(200, orjson.dumps({"results": [report]}))
        elif self._path == "/reset_prefix_cache":
            self._send(200, b"")
        else:
            await self._compute(body)
        if not self._parser.should_keep_alive():
            self._out.close()

    async def _compute(self, body: Mapping[str, Any]) -> None:
        expert = (body.get("vllm_xargs") or {}).get("expert", self._default)
        try:
            response = await self._engine.request(expert, self._path, body)
        except (EngineUnavailable, ExpertNotResident) as error:
            self._send(503, orjson.dumps({"error": {"message": str(error), "code": 503}}))
            return
        try:
            if response.content_type == "text/event-stream":
                await self._stream(response)
            else:
                self._send(response.status, await response.whole())
        finally:
            await response.close()

    async def _stream(self, response: SimulatedResponse) -> None:
        """Sends each event as it is computed, as vLLM does."""
        head = (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        async for chunk in response.chunks():
            self._out.write(b"%b%x\r\n%b\r\n" % (head, len(chunk), chunk))
            head = b""
        self._out.write(b"0\r\n\r\n")

    def _send(self, status: int, body: bytes) -> None:
        head = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self._out.write(head % (status, _STATUS.get(status, b"Error"), len(body)) + body)


async def serve(options: argparse.Namespace) -> None:
    """Serves until the process is killed."""
    speeds = SimulationConfig.model_validate_json(options.speeds)
    engine = SimulatedEngine(FAMILY, speeds, pause, options.task)
    first = expert_of(options.expert, options.weights)
    await engine.start(first, options.weights)
    loop = asyncio.get_running_loop()
    made = functools.partial(Connection, engine, Worker(engine, first), first.name)
    if options.uds is not None:
        server = await loop.create_unix_server(made, options.uds, backlog=2048)
    else:
        server = await loop.create_server(made, "127.0.0.1", options.port, backlog=2048)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="The simulated engine over HTTP.")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--uds", help="Unix socket to listen on")
    place.add_argument("--port", type=int, help="port of 127.0.0.1 to listen on")
    parser.add_argument("--expert", required=True, help="resident from the start")
    parser.add_argument("--weights", type=Path, required=True, help="its folder")
    parser.add_argument("--task", choices=("generate", "embed"), default="generate")
    parser.add_argument("--speeds", default="{}", help="a SimulationConfig as JSON")
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
