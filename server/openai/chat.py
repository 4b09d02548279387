"""Chat completions: OpenAI's requests and answers pass as they are."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from experts.spec import Expert
from server.access.auth import authorization_of
from server.exchange.arrival import Caller
from server.exchange.over_http import ModelResponse
from server.exchange.pass_through import OpenAIEndpoint, PassThrough
from server.model_request import engine_chat, parse_chat
from server.routing.explanation import Explanation
from server.services import Services
from server.transport.body_limits import check_request, read_json
from server.transport.request_id import REQUEST_ID


class Chat(OpenAIEndpoint):
    """Implements ``server.exchange.endpoint.Endpoint``."""

    async def read(self, raw: bytes, caller: Caller) -> "ChatCall":
        return ChatCall(caller.asks(parse_chat(raw)))


class ChatCall(PassThrough):
    """Implements ``server.exchange.endpoint.Call``."""

    engine_path = "/v1/chat/completions"

    def engine_body(self, expert: Expert) -> dict[str, Any]:
        return engine_chat(self.request, expert)


CHAT = Chat()


async def chat_completions(request: Request) -> Response:
    """Answer a conversation, streamed or whole."""
    return ModelResponse(request, CHAT)


async def explain_route(request: Request) -> Explanation:
    """Explain which expert a chat request would go to and why, and run nothing."""
    services: Services = request.app.services
    key = services.keys.check(authorization_of(request.headers))
    config = services.settings.server
    aliases = services.catalog.aliases
    caller = Caller(request.scope[REQUEST_ID], key, request.headers, aliases=aliases)
    chat = caller.asks(parse_chat(await read_json(request, config, services.workers.count)))
    check_request(chat, config)
    async with services.admissions.of(key).entered(aliases.names_of(chat.sent_model)):
        return await services.explain(chat, request.headers.get("x-coe-category"))
