"""The way to a running server of another process of the gateway, which started it."""

import contextlib
import os
import select
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from experts.engines.engine import Body
from experts.engines.http_client import HttpClient
from experts.engines.http_connection import ConnectionEnded
from experts.errors import EngineUnavailable
from experts.vllm.address import Address
from experts.vllm.response import VllmResponse


@dataclass(frozen=True, slots=True)
class EngineRun:
    """One run of a server. ``pids``: the processes without which it does not answer."""

    socket: str
    pids: tuple[int, ...]


class Reach:
    """Requests to one run, from any process of this user. ``close`` it."""

    def __init__(self, run: EngineRun) -> None:
        self._http = HttpClient(Path(run.socket))
        self._descriptors: list[int] = []
        self._gone = False
        for pid in run.pids:
            try:
                self._descriptors.append(os.pidfd_open(pid))
            except ProcessLookupError:
                self._gone = True

    @property
    def intact(self) -> bool:
        """Whether all of its processes live, asked of the system at this moment."""
        ended = select.poll()
        for descriptor in self._descriptors:
            ended.register(descriptor)
        return not self._gone and not ended.poll(0)

    async def request(
        self, address: Address, path: str, body: Body, headers: Mapping[str, str]
    ) -> VllmResponse:
        """Asks as ``experts.engines.engine.Engine.request`` does."""
        return await ask(self._http, lambda: self.intact, address, path, body, headers)

    async def close(self) -> None:
        self._gone = True
        await self._http.close()
        for descriptor in self._descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._descriptors.clear()

    def __repr__(self) -> str:
        return f"<Reach [{'closed' if self._gone else 'open'}, {len(self._descriptors)} processes]>"


async def ask(
    http: HttpClient,
    intact: Callable[[], bool],
    address: Address,
    path: str,
    body: Body,
    headers: Mapping[str, str],
) -> VllmResponse:
    """Posts ``body``, and returns the response once its first bytes are there, with the expert's name in the
    place of the body's ``model``. Raises EngineUnavailable when no answer comes."""
    sent = orjson.dumps(address.addressed(body))
    try:
        response = await http.request("POST", path, sent, again=True, headers=headers)
    except ConnectionEnded as error:
        raise unavailable(path, error) from error
    return await VllmResponse.begin(response, address.expert, intact, internal=address.model)


def unavailable(path: str, error: Exception) -> EngineUnavailable:
    return EngineUnavailable(f"the engine did not answer {path} ({error}); try again once it is ready")
