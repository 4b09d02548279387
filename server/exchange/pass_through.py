"""Base of OpenAI's endpoints: engines speak OpenAI's API, so their answers pass unchanged."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from experts.spec import Expert
from server.access.limit_headers import openai
from server.access.rate_limits import Remaining
from server.error_table import Failure, error_body
from server.exchange.destination import StreamedAnswer
from server.exchange.endpoint import Detach
from server.exchange.engine.call import EngineRequest
from server.model_request import ModelRequest
from server.services import Services
from server.transport import sse
from server.transport.streaming import SSE_HEADERS

_LAST = sse.framed(sse.DONE)


class OpenAIEndpoint:
    """The common part of implementations of ``server.exchange.endpoint.Endpoint`` that speak OpenAI's
    words."""

    expert_independent = False
    stream_headers = SSE_HEADERS

    def headers(self, request_id: str) -> Mapping[str, str]:
        return {}

    def limit_headers(self, remaining: Remaining) -> Mapping[str, str]:
        return openai(remaining)

    def error_body(self, failure: Failure, request_id: str) -> bytes:
        return error_body(failure)

    def sign_of_life(self, text: str, request: ModelRequest) -> bytes:
        return sse.comment(text)

    def error_event(self, failure: Failure, request_id: str) -> bytes:
        return sse.framed(error_body(failure))


@dataclass(frozen=True, slots=True)
class PassThrough(ABC):
    """The common part of implementations of ``server.exchange.endpoint.Call`` whose answers pass as they
    are."""

    request: ModelRequest

    @property
    @abstractmethod
    def engine_path(self) -> str: ...

    async def local_answer(self, services: Services, detach: Detach | None) -> bytes | StreamedAnswer | None:
        return None

    def engine_body(self, expert: Expert) -> dict[str, Any]:
        return dict(self.request.body)

    async def whole(self, body: bytes, sent: EngineRequest) -> bytes:
        return body

    def streamed(self, events: AsyncIterator[bytes], sent: EngineRequest) -> StreamedAnswer:
        return PassedStream(events)


@dataclass(frozen=True, slots=True)
class PassedStream:
    """Implements ``server.exchange.destination.StreamedAnswer``."""

    passing: AsyncIterator[bytes]

    def events(self) -> AsyncIterator[bytes]:
        return self.passing

    def is_last(self, chunk: bytes) -> bool:
        return chunk.endswith(_LAST)

    def error_event(self, failure: Failure) -> bytes:
        return sse.framed(error_body(failure))
