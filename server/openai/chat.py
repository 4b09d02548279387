"""Chat completions: OpenAI's requests and answers pass as they are."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from experts.spec import Expert
from server.access.auth import authorization_of
from server.access.limit_headers import openai
from server.access.rate_limits import Remaining
from server.error_table import Failure, error_body, error_event
from server.exchange.exchange import Exchange
from server.model_request import ModelRequest, engine_chat, parse_chat
from server.routing.explanation import Explanation
from server.services import Services
from server.transport.body_limits import check_request, read_json


class Verbatim:
    """What dialects share whose answers pass as they are."""

    any_of_family = False

    async def here(self, request: ModelRequest, services: Services) -> bytes | None:
        return None

    async def whole(self, body: bytes) -> bytes:
        return body

    def stream(self, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        return events

    def limit_headers(self, remaining: Remaining) -> Mapping[str, str]:
        return openai(remaining)

    def error_body(self, failure: Failure) -> bytes:
        return error_body(failure)

    def error_event(self, failure: Failure) -> bytes:
        return error_event(failure)


class Chat(Verbatim):
    """Implements ``server.exchange.dialect.Dialect``."""

    engine_path = "/v1/chat/completions"

    async def read(self, raw: bytes) -> ModelRequest:
        return parse_chat(raw)

    def engine_body(self, request: ModelRequest, expert: Expert) -> dict[str, Any]:
        return engine_chat(request, expert)


async def chat_completions(request: Request) -> Response:
    """Answer a conversation, streamed or whole."""
    return Exchange(request, Chat())


async def explain_route(request: Request) -> Explanation:
    """Explain which expert a chat request would go to and why, and run nothing."""
    services: Services = request.app.state.services
    key = services.keys.check(authorization_of(request.headers))
    chat = replace(parse_chat(await read_json(request, services.settings.server)), asker=key.name)
    check_request(chat, services.settings.server)
    with services.admissions.of(key).entered(services.catalog.name_of(chat.model)):
        return await services.explain(chat, request.headers.get("x-coe-category"))
