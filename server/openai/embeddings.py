"""Embeddings: an embedding model's, or those that a composition's router reads prompts by."""

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from experts.spec import Expert
from router.arrays import Vectors
from router.embedders.embedder import Counting, Embedder
from server.errors import BadRequest, NotCapable
from server.exchange.arrival import Caller
from server.exchange.endpoint import Detach
from server.exchange.over_http import ModelResponse
from server.exchange.pass_through import OpenAIEndpoint, PassThrough
from server.model_request import ModelRequest, check_owned, parse_object
from server.services import Services

MOST_TEXTS = 2048
"""Most texts of one request, or lists of tokens, as OpenAI takes."""
_AT_A_TIME = 8
"""Texts between which a thread may take a decision that waits."""


class Embeddings(OpenAIEndpoint):
    """Implements ``server.exchange.endpoint.Endpoint``."""

    async def read(self, raw: bytes, caller: Caller) -> "EmbeddingsCall":
        body = parse_object(raw, "'model' and 'input'")
        check_owned(body)
        messages = _messages(body)
        if not messages:
            _check_inputs(body.get("input"))
        _check_encoding(body.get("encoding_format"))
        request = ModelRequest(body["model"], messages, False, body, any_length=True, task="embed")
        return EmbeddingsCall(caller.asks(request))


class EmbeddingsCall(PassThrough):
    """Implements ``server.exchange.endpoint.Call``."""

    engine_path = "/v1/embeddings"

    async def local_answer(self, services: Services, detach: Detach | None) -> bytes | None:
        request = self.request
        named = await services.named(request.model, request.asker)
        if named is None:
            return None
        embedder = named.composition.router.embedder
        if not isinstance(embedder, Counting):
            raise NotCapable(f"The router of {request.model} embeds by an endpoint: ask that one.", "model")
        _check_inputs(request.body.get("input"))  # messages may stand beside it, which a router does not read
        texts = _texts(request.body.get("input"))
        _check_dimensions(request.body.get("dimensions"), embedder.dimension)
        encode = _packed if request.body.get("encoding_format") == "base64" else _listed
        data, tokens = await _embedded(embedder, texts, encode, services)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        rest = orjson.dumps({"model": request.sent_model, "usage": usage})
        return b'{"object":"list","data":[%b],%b' % (data, rest[1:])

    def engine_body(self, expert: Expert) -> dict[str, Any]:
        body = dict(self.request.body)
        if self.request.messages and expert.chat_template:
            body["chat_template"] = expert.chat_template
        return body


EMBEDDINGS = Embeddings()


async def embeddings(request: Request) -> Response:
    """Embed texts: by an embedding model, or as a composition's router reads them."""
    return ModelResponse(request, EMBEDDINGS)


Encode = Callable[[Vectors], object]
"""Makes of one vector what JSON can say."""


async def _embedded(
    embedder: Embedder, texts: Sequence[str], encode: Encode, services: Services
) -> tuple[bytes, int]:
    """The entries of the answer's data, and how many tokens were read. Two thousand vectors are 15 MB, so
    they are written beside the event loop too."""
    blocks = [
        await services.workers.decide(partial(_embed, embedder, texts, start, encode))
        for start in range(0, len(texts), _AT_A_TIME)
    ]
    return b",".join([entries for entries, _ in blocks]), sum(tokens for _, tokens in blocks)


def _embed(embedder: Embedder, texts: Sequence[str], start: int, encode: Encode) -> tuple[bytes, int]:
    """Embeds the texts from ``start`` on, as many as are embedded at a time."""
    assert isinstance(embedder, Counting)
    some = texts[start : start + _AT_A_TIME]
    entries = [
        {"object": "embedding", "index": index, "embedding": encode(vector)}
        for index, vector in enumerate(embedder.embed(some), start)
    ]
    return orjson.dumps(entries)[1:-1], sum(map(embedder.tokens_in, some))


def _messages(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Reads vLLM's own: a conversation in the place of texts."""
    found = body.get("messages", body.get("input"))
    chats = isinstance(found, list) and all(isinstance(message, dict) for message in found)
    return tuple(found) if chats and isinstance(found, list) else ()


def _check_inputs(given: object) -> None:
    """Checks that there are inputs, and not too many; what else is wrong with them the expert's engine says.
    Raises BadRequest."""
    inputs = given if isinstance(given, list) else [given]
    if not inputs or not isinstance(given, str | list):
        raise BadRequest("'input' must be a text, a list of texts, or tokens.", "input")
    if len(inputs) > MOST_TEXTS and not isinstance(inputs[0], int):
        raise BadRequest(f"'input' has {len(inputs)} texts; at most {MOST_TEXTS} are taken.", "input")
    if isinstance(inputs[0], int):  # tokens of one input
        return
    for position, each in enumerate(inputs):
        if each in ("", []):
            raise BadRequest("An input cannot be empty.", f"input[{position}]")


def _check_encoding(given: object) -> None:
    """Raises BadRequest."""
    if given not in (None, "float", "base64"):
        message = f"'encoding_format' is {str(given)[:100]!r}; it may be float or base64."
        raise BadRequest(message, "encoding_format")


def _texts(given: object) -> list[str]:
    """Raises BadRequest."""
    texts: list[str] = []
    for position, text in enumerate(given if isinstance(given, list) else [given]):
        if not isinstance(text, str):
            message = "Each input must be a text: a router's tokens are not those of other models."
            raise BadRequest(message, f"input[{position}]")
        texts.append(text)
    return texts


def _listed(vector: Vectors) -> list[float]:
    numbers: list[float] = vector.tolist()
    return numbers


def _packed(vector: Vectors) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _check_dimensions(asked: object, dimension: int) -> None:
    """These embedders were not trained to be cut short. Raises BadRequest."""
    if asked is not None and asked != dimension:
        raise BadRequest(
            f"This embedder gives {dimension} dimensions and no other number; leave 'dimensions' out.",
            "dimensions",
        )
