"""vLLM's HTTP response on its way to the gateway, with the expert's name in place of the internal one."""

import json
from collections.abc import AsyncIterator, Callable
from functools import lru_cache

from experts.engines.http_client import HttpResponse
from experts.engines.http_connection import ConnectionEnded
from experts.errors import AnswerFailed, EngineLost, EngineUnavailable
from experts.vllm.command import INTERNAL_MODEL

_EVENT_END = b"\n\n"
_DATA = b"data: "
_ERROR_EVENT = b'data: {"error"'
"""The beginning of an error event; a text cannot have it, as its quotes are escaped."""
Intact = Callable[[], bool]
"""Tells whether all of the engine lives: its server outlives its core by a moment, and ends responses in good
form."""


class VllmResponse:
    """Implements ``experts.engines.engine.EngineResponse``; made by ``begin``."""

    def __init__(
        self, response: HttpResponse, expert: str, first: bytes, intact: Intact, internal: str
    ) -> None:
        self.status = response.status
        self.content_type = response.content_type
        self._response = response
        self._first = first
        self._intact = intact
        self._names = internal, expert
        self._internal, self._expert = _field(internal), _field(expert)
        self._refusal = b""

    @classmethod
    async def begin(
        cls, response: HttpResponse, expert: str, intact: Intact, internal: str = INTERNAL_MODEL
    ) -> "VllmResponse":
        """Waits for the first bytes of the body, in which the model is called ``internal``. vLLM refuses some
        requests in the first event of a stream of status 200: that becomes a response of the status it names.

        Raises EngineUnavailable when no bytes come."""
        try:
            first = await response.read_any()
            if (response.status >= 500 or first.startswith(_ERROR_EVENT)) and not intact():
                raise EngineUnavailable("the engine ended before it answered; try again")
            begun = cls(response, expert, first, intact, internal)
            if first.startswith(_ERROR_EVENT):
                await begun._refuse()
            return begun
        except BaseException as error:
            response.close()
            if isinstance(error, ConnectionEnded):
                raise EngineUnavailable(
                    f"the engine ended before it answered ({error}); try again"
                ) from error
            raise

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yields whole events of a stream as they come, any other body in one piece. Raises EngineLost, and
        AnswerFailed where the engine gives the answer up, after what came before. Where the engine is lost in
        the first bytes nothing is yielded before: the request may be tried again."""
        if self._refusal or self.content_type != "text/event-stream":
            yield await self.whole()
            return
        pending, received = b"", self._first
        begun = False
        while received:
            pending += received
            end = pending.rfind(_EVENT_END) + len(_EVENT_END)
            if end >= len(_EVENT_END):
                if _ERROR_EVENT in pending:
                    self._response.close()
                    lost = not self._intact()
                    before = pending[:end].partition(_ERROR_EVENT)[0]
                    if before and (begun or not lost):
                        yield self._renamed(before)
                    if lost:
                        raise EngineLost("the engine went away in the middle of an answer")
                    raise AnswerFailed("the engine gave up in the middle of an answer; its log says why")
                yield self._renamed(pending[:end])
                begun, pending = True, pending[end:]
            try:
                received = await self._response.read_any()
            except ConnectionEnded as error:
                raise self._lost(error) from error
        if pending:
            yield self._renamed(pending)

    async def whole(self) -> bytes:
        if self._refusal:
            return self._renamed(self._refusal)
        try:
            return self._renamed(self._first + await self._response.read())
        except ConnectionEnded as error:
            raise self._lost(error) from error

    def _lost(self, error: ConnectionEnded) -> EngineLost:
        self._response.close()
        return EngineLost(f"the engine went away in the middle of an answer ({error})")

    async def close(self) -> None:
        # Before the answer's end this closes the connection, which makes vLLM abort what is still computed.
        self._response.close()

    async def _refuse(self) -> None:
        """Turns an error event into a response of its status."""
        event = self._first
        while _EVENT_END not in event and (more := await self._response.read_any()):
            event += more
        self._response.close()
        self._refusal = event.partition(_EVENT_END)[0].removeprefix(_DATA)
        self.status = int(json.loads(self._refusal)["error"].get("code") or 500)
        self.content_type = "application/json"

    def _renamed(self, body: bytes) -> bytes:
        """Replaces the internal model name by the expert's."""
        if self.status >= 400:  # an error's message may have it anywhere
            internal, expert = self._names
            return body.replace(internal.encode(), json.dumps(expert)[1:-1].encode())
        return body.replace(self._internal, self._expert)

    def __repr__(self) -> str:
        return f"<VllmResponse [status: {self.status}, {self.content_type}]>"


@lru_cache(maxsize=1024)
def _field(model: str) -> bytes:
    """Returns the JSON field that names ``model``; a text cannot have it, as its quotes are escaped."""
    return b'"model":' + json.dumps(model).encode()
