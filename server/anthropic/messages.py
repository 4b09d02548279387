"""Anthropic's Messages API: a message is a chat completion in other words, tokenize counts its tokens."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
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
from server.exchange.exchange import Exchange
from server.model_request import ModelRequest, chat_of, engine_chat, parse_object
from server.openai.chat import Verbatim

_DATA, _DONE, _EVENT_END = b"data: ", b"[DONE]", b"\n\n"


class _Anthropic(Verbatim):
    """What both dialects share. ``request_id``: of the exchange, which is made after its dialect."""

    request_id = ""

    def limit_headers(self, remaining: Remaining) -> Mapping[str, str]:
        return anthropic(remaining)

    def error_body(self, failure: Failure) -> bytes:
        return error_body(failure, self.request_id)

    def error_event(self, failure: Failure) -> bytes:
        return error_event(failure, self.request_id)


class Messages(_Anthropic):
    """Implements ``server.exchange.dialect.Dialect``."""

    engine_path = "/v1/chat/completions"

    def __init__(self) -> None:
        self._identity = f"msg_{uuid.uuid4().hex}"

    async def read(self, raw: bytes) -> ModelRequest:
        body = parse_object(raw, "'model', 'messages' and 'max_tokens'")
        return chat_of(chat_request(asked(MessagesRequest, body)))

    def engine_body(self, request: ModelRequest, expert: Expert) -> dict[str, Any]:
        return engine_chat(request, expert)

    async def whole(self, body: bytes) -> bytes:
        return orjson.dumps(message(self._identity, orjson.loads(body)))

    async def stream(self, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        stream = MessageStream(self._identity)
        try:
            async for chunk in events:
                for data in _data_of(chunk):
                    if data == _DONE:
                        yield b"".join(stream.end())
                        return
                    yield b"".join(stream.take(orjson.loads(data)))
        except (Exception, asyncio.CancelledError):  # the latter at a deadline
            yield b"".join(stream.said_late())
            raise


class CountTokens(_Anthropic):
    """Implements ``server.exchange.dialect.Dialect``. Whoever of the family is on the device counts."""

    engine_path = "/tokenize"
    any_of_family = True

    async def read(self, raw: bytes) -> ModelRequest:
        body = conversation(asked(ConversationRequest, parse_object(raw, "'model' and 'messages'")))
        request = chat_of(body)
        return ModelRequest(request.model, request.messages, stream=False, body=body, any_length=True)

    def engine_body(self, request: ModelRequest, expert: Expert) -> dict[str, Any]:
        return {**request.body, "chat_template": expert.chat_template}

    async def whole(self, body: bytes) -> bytes:
        return orjson.dumps({"input_tokens": orjson.loads(body)["count"]})


async def messages(request: Request) -> Response:
    """Answer in Anthropic's Messages API, streamed or whole."""
    return _answered(request, Messages())


async def count_tokens(request: Request) -> Response:
    """Count the tokens of a message's prompt, without bringing an expert to the device."""
    return _answered(request, CountTokens())


def _answered(request: Request, dialect: Messages | CountTokens) -> Response:
    exchange = Exchange(request, dialect)
    dialect.request_id = exchange.request_id
    exchange.headers_out["request-id"] = dialect.request_id
    return exchange


def _data_of(chunk: bytes) -> list[bytes]:
    """Of whole events; comments have none."""
    return [event[len(_DATA) :] for event in chunk.split(_EVENT_END) if event.startswith(_DATA)]
