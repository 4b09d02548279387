"""Tokens of a text or of a conversation and back, as vLLM's endpoints say them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from experts.spec import Expert
from server.errors import BadRequest
from server.exchange.exchange import Exchange
from server.model_request import ModelRequest, chat_of, check_owned, parse_object
from server.openai.chat import Verbatim


class Tokenize(Verbatim):
    """Implements ``server.exchange.dialect.Dialect``. An expert has the tokenizer of its family, so none is
    brought to the device for it."""

    engine_path = "/tokenize"
    any_of_family = True

    async def read(self, raw: bytes) -> ModelRequest:
        return self.reading(parse_object(raw, "'model' and 'prompt' or 'messages'"))

    def reading(self, body: Mapping[str, Any]) -> ModelRequest:
        """Raises BadRequest naming the field."""
        if "messages" in body:
            request = chat_of(body)
            return replace(request, stream=False, any_length=True, task=None)
        check_owned(body)
        prompt = body.get("prompt")
        if not isinstance(prompt, str):
            raise BadRequest("Give 'prompt', a text, or 'messages'.", "prompt")
        message = {"role": "user", "content": prompt}
        return ModelRequest(body["model"], (message,), False, body, any_length=True, task=None)

    def engine_body(self, request: ModelRequest, expert: Expert) -> dict[str, Any]:
        if "messages" not in request.body or not expert.chat_template:
            return dict(request.body)
        return {**request.body, "chat_template": expert.chat_template}


class Detokenize(Verbatim):
    """Implements ``server.exchange.dialect.Dialect``."""

    engine_path = "/detokenize"
    any_of_family = True

    async def read(self, raw: bytes) -> ModelRequest:
        body = parse_object(raw, "'model' and 'tokens'")
        check_owned(body)
        return ModelRequest(body["model"], (), stream=False, body=body, task=None)

    def engine_body(self, request: ModelRequest, expert: Expert) -> dict[str, Any]:
        return dict(request.body)


async def tokenize(request: Request) -> Response:
    """Turn a text or a conversation into an expert's tokens, without bringing it to the device."""
    return Exchange(request, Tokenize())


async def detokenize(request: Request) -> Response:
    """Turn an expert's tokens into text."""
    return Exchange(request, Detokenize())
