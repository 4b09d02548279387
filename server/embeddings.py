"""Embeddings: a composition's name gives those that its router reads prompts by. No expert is needed."""

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response

from experts.spec import Expert
from router.embed import Counting, Embedder, Vectors
from server.chat import Verbatim
from server.errors import BadRequest, NotCapable
from server.line import Exchange
from server.openai import ModelRequest, check_owned, parse_object
from server.services import Services

MOST_TEXTS = 2048
"""Of one request, as OpenAI takes."""
_AT_A_TIME = 8
"""Texts between which a thread may take a decision that waits."""


class Embeddings(Verbatim):
    """Implements ``server.dialect.Dialect``."""

    engine_path = "/v1/embeddings"

    async def read(self, raw: bytes) -> ModelRequest:
        body = parse_object(raw, "'model' and 'input'")
        check_owned(body)
        return ModelRequest(body["model"], (), stream=False, body=body, any_length=True)

    async def here(self, request: ModelRequest, services: Services) -> bytes:
        named = await services.named(request.model)
        if named is None:
            raise NotCapable(
                f"{request.model} generates text and gives no embeddings. A composition's name gives those "
                "of its router; GET /v1/models lists them.",
                "model",
            )
        embedder = named.composition.router.embedder
        if not isinstance(embedder, Counting):
            raise NotCapable(f"The router of {request.model} embeds by an endpoint: ask that one.", "model")
        texts = _texts(request.body.get("input"))
        encode = _encoding(request.body)
        _check_dimensions(request.body.get("dimensions"), embedder.dimension)
        vectors, tokens = await _embedded(embedder, texts, services)
        return orjson.dumps(
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": index, "embedding": encode(vector)}
                    for index, vector in enumerate(vectors)
                ],
                "model": request.model,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )

    def engine_body(self, request: ModelRequest, expert: Expert) -> dict[str, Any]:
        raise AssertionError("unreachable: no expert is asked")


async def embeddings(request: Request) -> Response:
    """``POST /v1/embeddings``."""
    return Exchange(request, Embeddings())


async def _embedded(embedder: Embedder, texts: Sequence[str], services: Services) -> tuple[Vectors, int]:
    """[texts, dimension], and how many tokens were read."""
    blocks = [
        await services.workers.decide(partial(_embed, embedder, texts[start : start + _AT_A_TIME]))
        for start in range(0, len(texts), _AT_A_TIME)
    ]
    return np.concatenate([vectors for vectors, _ in blocks]), sum(tokens for _, tokens in blocks)


def _embed(embedder: Embedder, texts: Sequence[str]) -> tuple[Vectors, int]:
    assert isinstance(embedder, Counting)
    return embedder.embed(texts), sum(map(embedder.tokens_in, texts))


def _texts(given: object) -> list[str]:
    """Raises BadRequest."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise BadRequest("'input' must be a text or a list of texts.", "input")
    if len(texts) > MOST_TEXTS:
        raise BadRequest(f"'input' has {len(texts)} texts; at most {MOST_TEXTS} are taken.", "input")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            message = "Each input must be a text: an embedder's tokens are not those of other models."
            raise BadRequest(message, f"input[{position}]")
        if not text:
            raise BadRequest("An input cannot be empty.", f"input[{position}]")
    return texts


def _encoding(body: Mapping[str, Any]) -> "Callable[[Vectors], list[float] | str]":
    """Raises BadRequest."""
    match body.get("encoding_format"):
        case None | "float":
            return lambda vector: vector.tolist()
        case "base64":
            return lambda vector: base64.b64encode(vector.astype("<f4").tobytes()).decode()
        case other:
            message = f"'encoding_format' is {str(other)[:100]!r}; it may be float or base64."
            raise BadRequest(message, "encoding_format")


def _check_dimensions(asked: object, dimension: int) -> None:
    """These embedders were not trained to be cut short. Raises BadRequest."""
    if asked is not None and asked != dimension:
        raise BadRequest(
            f"This embedder gives {dimension} dimensions and no other number; leave 'dimensions' out.",
            "dimensions",
        )
