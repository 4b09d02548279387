"""Anthropic's Messages API: a message is a chat completion in other words, tokenize counts its tokens."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from experts.spec import Expert
from server.access.limit_headers import anthropic
from server.access.rate_limits import Remaining
from server.anthropic.errors import error_body, error_event
from server.anthropic.from_chat import MessageStream, message
from server.anthropic.request import ConversationRequest, MessagesRequest, asked
from server.anthropic.to_chat import chat_request, conversation
from server.error_table import Failure
from server.exchange.arrival import Caller
from server.exchange.destination import StreamedAnswer
from server.exchange.endpoint import Detach
from server.exchange.engine.call import EngineRequest
from server.exchange.over_http import ModelResponse
from server.exchange.pass_through import PassThrough
from server.model_request import ModelRequest, chat_of, engine_chat, parse_object
from server.services import Services
from server.transport import sse
from server.transport.streaming import SSE_HEADERS


class _AnthropicEndpoint:
    """The common part of both endpoints."""

    expert_independent = False
    stream_headers = SSE_HEADERS

    def headers(self, request_id: str) -> Mapping[str, str]:
        return {"request-id": request_id}

    def limit_headers(self, remaining: Remaining) -> Mapping[str, str]:
        return anthropic(remaining)

    def error_body(self, failure: Failure, request_id: str) -> bytes:
        return error_body(failure, request_id)

    def sign_of_life(self, text: str, request: ModelRequest) -> bytes:
        return sse.comment(text)

    def error_event(self, failure: Failure, request_id: str) -> bytes:
        return error_event(failure, request_id)


class Messages(_AnthropicEndpoint):
    """Implements ``server.exchange.endpoint.Endpoint``."""

    async def read(self, raw: bytes, caller: Caller) -> "MessageCall":
        body = parse_object(raw, "'model', 'messages' and 'max_tokens'")
        request = caller.asks(chat_of(chat_request(asked(MessagesRequest, body))))
        return MessageCall(request, f"msg_{uuid.uuid4().hex}", caller.request_id)


@dataclass(frozen=True, slots=True)
class MessageCall:
    """Implements ``server.exchange.endpoint.Call``. ``id``: that of the message."""

    engine_path = "/v1/chat/completions"

    request: ModelRequest
    id: str
    request_id: str

    async def local_answer(self, services: Services, detach: Detach | None) -> None:
        return None

    def engine_body(self, expert: Expert) -> dict[str, Any]:
        return engine_chat(self.request, expert)

    async def whole(self, body: bytes, sent: EngineRequest) -> bytes:
        return orjson.dumps(message(self.id, orjson.loads(body)))

    def streamed(self, events: AsyncIterator[bytes], sent: EngineRequest) -> StreamedAnswer:
        return StreamedMessage(events, self.id, self.request_id)


@dataclass(frozen=True, slots=True)
class StreamedMessage:
    """Implements ``server.exchange.destination.StreamedAnswer``. ``id``: that of the message."""

    chunks: AsyncIterator[bytes]
    id: str
    request_id: str

    async def events(self) -> AsyncIterator[bytes]:
        stream = MessageStream(self.id)
        try:
            async for chunk in self.chunks:
                for data in map(sse.data_of, sse.split(chunk)):
                    if data is None:
                        continue
                    if data == sse.DONE:
                        yield b"".join(stream.end())
                        return
                    yield b"".join(stream.take(orjson.loads(data)))
        except (Exception, asyncio.CancelledError):  # the latter at a deadline
            yield b"".join(stream.said_late())
            raise

    def is_last(self, chunk: bytes) -> bool:
        return b"event: message_stop\n" in chunk

    def error_event(self, failure: Failure) -> bytes:
        return error_event(failure, self.request_id)


class CountTokens(_AnthropicEndpoint):
    """Implements ``server.exchange.endpoint.Endpoint``. Any expert of the family that is on the device
    counts."""

    expert_independent = True

    async def read(self, raw: bytes, caller: Caller) -> "CountCall":
        body = conversation(asked(ConversationRequest, parse_object(raw, "'model' and 'messages'")))
        chat = chat_of(body)
        request = ModelRequest(chat.model, chat.messages, stream=False, body=body, any_length=True)
        return CountCall(caller.asks(request))


class CountCall(PassThrough):
    """Implements ``server.exchange.endpoint.Call``."""

    engine_path = "/tokenize"

    def engine_body(self, expert: Expert) -> dict[str, Any]:
        return {**self.request.body, "chat_template": expert.chat_template}

    async def whole(self, body: bytes, sent: EngineRequest) -> bytes:
        return orjson.dumps({"input_tokens": orjson.loads(body)["count"]})


MESSAGES = Messages()
COUNT_TOKENS = CountTokens()


async def messages(request: Request) -> Response:
    """Answer in Anthropic's Messages API, streamed or whole."""
    return ModelResponse(request, MESSAGES)


async def count_tokens(request: Request) -> Response:
    """Count the tokens of a message's prompt, without bringing an expert to the device."""
    return ModelResponse(request, COUNT_TOKENS)
