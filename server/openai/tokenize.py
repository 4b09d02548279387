"""Tokens of a text or of a conversation and back, as vLLM's endpoints say them."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from experts.spec import Expert
from server.errors import BadRequest
from server.exchange.arrival import Caller
from server.exchange.over_http import ModelResponse
from server.exchange.pass_through import OpenAIEndpoint, PassThrough
from server.model_request import ModelRequest, chat_of, check_owned, parse_object


class Tokenize(OpenAIEndpoint):
    """Implements ``server.exchange.endpoint.Endpoint``. An expert has the tokenizer of its family, so none is
    brought to the device for it."""

    expert_independent = True

    async def read(self, raw: bytes, caller: Caller) -> "TokenizeCall":
        request = _read(parse_object(raw, "'model' and 'prompt' or 'messages'"))
        return TokenizeCall(caller.asks(request))


class TokenizeCall(PassThrough):
    """Implements ``server.exchange.endpoint.Call``."""

    engine_path = "/tokenize"

    def engine_body(self, expert: Expert) -> dict[str, Any]:
        if "messages" not in self.request.body or not expert.chat_template:
            return dict(self.request.body)
        return {**self.request.body, "chat_template": expert.chat_template}


class Detokenize(OpenAIEndpoint):
    """Implements ``server.exchange.endpoint.Endpoint``."""

    expert_independent = True

    async def read(self, raw: bytes, caller: Caller) -> "DetokenizeCall":
        body = parse_object(raw, "'model' and 'tokens'")
        check_owned(body)
        request = ModelRequest(body["model"], (), stream=False, body=body, task=None)
        return DetokenizeCall(caller.asks(request))


class DetokenizeCall(PassThrough):
    """Implements ``server.exchange.endpoint.Call``."""

    engine_path = "/detokenize"


TOKENIZE = Tokenize()
DETOKENIZE = Detokenize()


async def tokenize(request: Request) -> Response:
    """Turn a text or a conversation into an expert's tokens, without bringing it to the device."""
    return ModelResponse(request, TOKENIZE)


async def detokenize(request: Request) -> Response:
    """Turn an expert's tokens into text."""
    return ModelResponse(request, DETOKENIZE)


def _read(body: Mapping[str, Any]) -> ModelRequest:
    """Raises BadRequest naming the field."""
    if "messages" in body:
        return chat_of(body)._replace(stream=False, any_length=True, task=None)
    check_owned(body)
    prompt = body.get("prompt")
    if not isinstance(prompt, str):
        raise BadRequest("Give 'prompt', a text, or 'messages'.", "prompt")
    message = {"role": "user", "content": prompt}
    return ModelRequest(body["model"], (message,), False, body, any_length=True, task=None)
