"""Completions of plain prompts, OpenAI's older endpoint; its requests and answers pass as they are."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from experts.spec import Expert
from server.errors import BadRequest
from server.exchange.arrival import Caller
from server.exchange.over_http import ModelResponse
from server.exchange.pass_through import OpenAIEndpoint, PassThrough
from server.model_request import ModelRequest, check_owned, engine_completion, parse_object


class Completions(OpenAIEndpoint):
    """Implements ``server.exchange.endpoint.Endpoint``."""

    async def read(self, raw: bytes, caller: Caller) -> "CompletionCall":
        body = parse_object(raw, "'model' and 'prompt'")
        check_owned(body)
        request = ModelRequest(body["model"], _read(body), bool(body.get("stream")), body)
        return CompletionCall(caller.asks(request))


class CompletionCall(PassThrough):
    """Implements ``server.exchange.endpoint.Call``."""

    engine_path = "/v1/completions"

    def engine_body(self, expert: Expert) -> dict[str, Any]:
        return engine_completion(self.request, expert)


COMPLETIONS = Completions()


async def completions(request: Request) -> Response:
    """Continue plain prompts: texts, or for an expert named directly, tokens."""
    return ModelResponse(request, COMPLETIONS)


def _read(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The longest prompt: one expert answers all. Nothing where they are tokens. Raises BadRequest."""
    prompt = body.get("prompt")
    prompts = prompt if isinstance(prompt, list) else [prompt]
    if not prompts or (prompt is None and body.get("prompt_embeds") is None):
        raise BadRequest("'prompt' must be a text, a list of texts, or tokens.", "prompt")
    texts = [text for text in prompts if isinstance(text, str)]
    return ({"role": "user", "content": max(texts, key=len)},) if texts else ()
