"""Ollama's endpoints that embed texts: many, and the older one for one."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from experts.spec import Expert
from server.exchange.arrival import Caller
from server.exchange.endpoint import Call, Detach
from server.exchange.engine.call import EngineRequest
from server.exchange.over_http import ModelResponse
from server.exchange.pass_through import PassThrough
from server.model_request import parse_object
from server.ollama.generating import OllamaEndpoint, load_call
from server.ollama.request import EmbeddingsSent, EmbedSent, asked, model_named
from server.openai.embeddings import EMBEDDINGS, EmbeddingsCall
from server.services import Services

_LARGE = 2**16
"""Bytes of an answer; a larger one is worded beside the event loop."""
Worded = Callable[[list[list[float]], int, int], dict[str, Any]]
"""Words vectors, with the tokens that were read and the nanoseconds of the wait for the expert."""


class Embed(OllamaEndpoint):
    """Implements ``server.exchange.endpoint.Endpoint``."""

    kind = "generate"

    async def read(self, raw: bytes, caller: Caller) -> Call:
        began = time.perf_counter_ns()
        sent = asked(EmbedSent, parse_object(raw, "'model' and 'input'"))
        if not sent.input:
            return load_call(sent, caller, {"model": sent.model, "embeddings": []})
        body: dict[str, Any] = {"model": model_named(sent.model, caller.aliases), "input": sent.input}
        if sent.truncate is not False:
            body["truncate_prompt_tokens"] = -1
        if sent.dimensions is not None:
            body["dimensions"] = sent.dimensions

        def worded(vectors: list[list[float]], tokens: int, loaded: int) -> dict[str, Any]:
            return {
                "model": sent.model,
                "embeddings": vectors,
                "total_duration": time.perf_counter_ns() - began,
                "load_duration": loaded,
                "prompt_eval_count": tokens,
            }

        return await _call(body, sent.keep_alive, caller, worded)


class Embeddings(OllamaEndpoint):
    """Implements ``server.exchange.endpoint.Endpoint``, the older one."""

    kind = "generate"

    async def read(self, raw: bytes, caller: Caller) -> Call:
        sent = asked(EmbeddingsSent, parse_object(raw, "'model' and 'prompt'"))
        if not sent.prompt:
            return load_call(sent, caller, {"embedding": []})
        model = model_named(sent.model, caller.aliases)
        body = {"model": model, "input": sent.prompt, "truncate_prompt_tokens": -1}
        return await _call(
            body, sent.keep_alive, caller, lambda vectors, tokens, loaded: {"embedding": vectors[0]}
        )


@dataclass(frozen=True, slots=True)
class EmbedCall(PassThrough):
    """Implements ``server.exchange.endpoint.Call``: ``inner`` in Ollama's words."""

    inner: EmbeddingsCall
    worded: Worded

    @property
    def engine_path(self) -> str:
        return self.inner.engine_path

    async def local_answer(self, services: Services, detach: Detach | None) -> bytes | None:
        answer = await self.inner.local_answer(services, detach)
        return None if answer is None else await self._reworded(answer, 0)

    def engine_body(self, expert: Expert) -> dict[str, Any]:
        return self.inner.engine_body(expert)

    async def whole(self, body: bytes, sent: EngineRequest) -> bytes:
        return await self._reworded(body, round(sent.waited_s * 1e9))

    async def _reworded(self, body: bytes, loaded: int) -> bytes:
        """The answer has OpenAI's usage too, by which it is counted."""

        def reword() -> bytes:
            tree = orjson.loads(body)
            vectors, usage = [each["embedding"] for each in tree["data"]], tree["usage"]
            return orjson.dumps({**self.worded(vectors, usage["prompt_tokens"], loaded), "usage": usage})

        return await asyncio.to_thread(reword) if len(body) > _LARGE else reword()


async def _call(body: dict[str, Any], keep_s: float | None, caller: Caller, worded: Worded) -> EmbedCall:
    inner = await EMBEDDINGS.read(orjson.dumps(body), caller)
    return EmbedCall(inner.request._replace(keep_s=keep_s), inner, worded)


EMBED = Embed()
OLDER_EMBEDDINGS = Embeddings()


async def embed(request: Request) -> Response:
    """Embed texts in Ollama's words: by an embedding model, or as a composition's router reads them."""
    return ModelResponse(request, EMBED)


async def embeddings(request: Request) -> Response:
    """Embed one text in the words of Ollama's older endpoint."""
    return ModelResponse(request, OLDER_EMBEDDINGS)
