"""Ollama's endpoints that generate text: a conversation goes on, or a prompt."""

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from experts.spec import Expert
from server.access.limit_headers import openai
from server.access.rate_limits import Remaining
from server.error_table import Failure, ollama_error_body
from server.exchange.arrival import Caller
from server.exchange.destination import StreamedAnswer
from server.exchange.endpoint import Call, Detach
from server.exchange.engine.call import EngineRequest
from server.exchange.over_http import ModelResponse
from server.exchange.pass_through import PassThrough
from server.model_request import (
    ModelRequest,
    check_owned,
    engine_chat,
    engine_completion,
    parse_object,
)
from server.model_request import chat_of as checked_chat
from server.ollama.from_chat import Kind, Lines, Timing, Wording, answer, line
from server.ollama.request import ChatSent, GenerateSent, OfModel, asked, model_named
from server.ollama.to_chat import chat_of, generated_by_chat, generated_raw
from server.services import Services
from server.transport import sse
from server.transport.streaming import NDJSON_HEADERS


class OllamaEndpoint:
    """The common part of implementations of ``server.exchange.endpoint.Endpoint`` in Ollama's words.
    ``kind``: of its answers."""

    expert_independent = False
    stream_headers = NDJSON_HEADERS
    kind: Kind

    def headers(self, request_id: str) -> Mapping[str, str]:
        return {}

    def limit_headers(self, remaining: Remaining) -> Mapping[str, str]:
        return openai(remaining)

    def error_body(self, failure: Failure, request_id: str) -> bytes:
        return ollama_error_body(failure)

    def sign_of_life(self, text: str, request: ModelRequest) -> bytes:
        """Says nothing: lines have no comments, and an empty piece is one that every client takes."""
        return line(Wording(self.kind, request.sent_model).piece())

    def error_event(self, failure: Failure, request_id: str) -> bytes:
        return line({"error": failure.message})


class Chat(OllamaEndpoint):
    """Implements ``server.exchange.endpoint.Endpoint``."""

    kind = "chat"

    async def read(self, raw: bytes, caller: Caller) -> Call:
        began = time.perf_counter_ns()
        sent = asked(ChatSent, parse_object(raw, "'model' and 'messages'"))
        model, wording = model_named(sent.model, caller.aliases), Wording("chat", sent.model)
        if not sent.messages:
            return load_call(sent, caller, wording.piece())
        request = caller.asks(checked_chat(chat_of(sent, model)))
        return ChatCall(request._replace(keep_s=sent.keep_alive), wording, began)


class Generate(OllamaEndpoint):
    """Implements ``server.exchange.endpoint.Endpoint``."""

    kind = "generate"

    async def read(self, raw: bytes, caller: Caller) -> Call:
        began = time.perf_counter_ns()
        sent = asked(GenerateSent, parse_object(raw, "'model' and 'prompt'"))
        model, wording = model_named(sent.model, caller.aliases), Wording("generate", sent.model)
        if not sent.prompt:
            return load_call(sent, caller, wording.piece())
        if not sent.raw:
            request = caller.asks(checked_chat(generated_by_chat(sent, model)))
            return ChatCall(request._replace(keep_s=sent.keep_alive), wording, began)
        body = generated_raw(sent, model)
        check_owned(body)
        read = {"role": "user", "content": sent.prompt}
        request = caller.asks(ModelRequest(model, (read,), bool(body.get("stream")), body))
        return RawCall(request._replace(keep_s=sent.keep_alive), wording, began)


@dataclass(frozen=True, slots=True)
class ChatCall:
    """Implements ``server.exchange.endpoint.Call``. ``began``: when the request came."""

    engine_path = "/v1/chat/completions"

    request: ModelRequest
    wording: Wording
    began: int

    async def local_answer(self, services: Services, detach: Detach | None) -> None:
        return None

    def engine_body(self, expert: Expert) -> dict[str, Any]:
        return engine_chat(self.request, expert)

    async def whole(self, body: bytes, sent: EngineRequest) -> bytes:
        return orjson.dumps(answer(self.wording, orjson.loads(body), self._timing(sent)))

    def streamed(self, events: AsyncIterator[bytes], sent: EngineRequest) -> StreamedAnswer:
        timing = replace(self._timing(sent), first=time.perf_counter_ns() - self.began)
        return StreamedLines(events, Lines(self.wording, timing))

    def _timing(self, sent: EngineRequest) -> Timing:
        return Timing(self.began, round(sent.waited_s * 1e9))


class RawCall(ChatCall):
    """Implements ``server.exchange.endpoint.Call`` for a prompt without a template."""

    engine_path = "/v1/completions"

    def engine_body(self, expert: Expert) -> dict[str, Any]:
        return engine_completion(self.request, expert)


@dataclass(frozen=True, slots=True)
class StreamedLines:
    """Implements ``server.exchange.destination.StreamedAnswer``."""

    chunks: AsyncIterator[bytes]
    lines: Lines

    async def events(self) -> AsyncIterator[bytes]:
        async for chunk in self.chunks:
            for data in map(sse.data_of, sse.split(chunk)):
                if data is None:
                    continue
                if data == sse.DONE:
                    yield self.lines.end()
                    return
                yield b"".join(self.lines.take(orjson.loads(data)))

    def is_last(self, chunk: bytes) -> bool:
        return self.lines.ended

    def error_event(self, failure: Failure) -> bytes:
        return line({"error": failure.message})


@dataclass(frozen=True, slots=True)
class LoadCall(PassThrough):
    """Implements ``server.exchange.endpoint.Call`` for a request without a text, by which Ollama's clients
    have a model loaded, or with ``keep_alive`` 0 unloaded. A composition is never loaded as a whole."""

    said: Mapping[str, Any]
    engine_path = ""

    async def local_answer(self, services: Services, detach: Detach | None) -> bytes:
        """Raises UnknownModel, LeaseRejected."""
        request, unloads = self.request, self.request.keep_s == 0
        if await services.named(request.model, request.asker) is None:
            resident = any(
                each.tier == "device" for each in services.tiers.status() if each.expert == request.model
            )
            if resident or not unloads:
                (await services.tiers.lease(request.model, keep_s=request.keep_s)).release()
        reason = "unload" if unloads else "load"
        return line({**self.said, "done": True, "done_reason": reason})


def load_call(sent: OfModel, caller: Caller, said: Mapping[str, Any]) -> LoadCall:
    """Makes the call of a request without a text. ``said``: what is answered."""
    asked = ModelRequest(model_named(sent.model, caller.aliases), (), False, {}, task=None)
    return LoadCall(caller.asks(asked)._replace(keep_s=sent.keep_alive), said)


CHAT = Chat()
GENERATE = Generate()


async def chat(request: Request) -> Response:
    """Answer a conversation in Ollama's words, as lines of JSON unless ``stream`` is false. Without messages
    the expert is loaded."""
    return ModelResponse(request, CHAT)


async def generate(request: Request) -> Response:
    """Answer a prompt in Ollama's words, as lines of JSON unless ``stream`` is false. Without a prompt the
    expert is loaded."""
    return ModelResponse(request, GENERATE)
