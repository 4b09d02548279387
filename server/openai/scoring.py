"""Rerank and score: how alike texts are, by an embedding model's vectors, as vLLM's pooling engines say it.
Their requests and answers are those of Jina, which Cohere's clients read too."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from server.errors import BadRequest, NotCapable
from server.exchange.arrival import Caller
from server.exchange.endpoint import Detach
from server.exchange.over_http import ModelResponse
from server.exchange.pass_through import OpenAIEndpoint, PassThrough
from server.model_request import ModelRequest, check_owned, parse_object
from server.openai.embeddings import MOST_TEXTS
from server.services import Services

_TEXTS = ("documents", "items", "text_2", "data_2")
"""Fields of what is compared, of which there may be many."""


class Scoring(OpenAIEndpoint):
    """Implements ``server.exchange.endpoint.Endpoint``."""

    def __init__(self, engine_path: str, fields: str) -> None:
        """``fields``: those that a request must have, for the error's text."""
        self._engine_path = engine_path
        self._fields = fields

    async def read(self, raw: bytes, caller: Caller) -> "ScoringCall":
        body = parse_object(raw, self._fields)
        check_owned(body)
        _check_texts(body)
        request = ModelRequest(body["model"], (), False, body, any_length=True, task="embed")
        return ScoringCall(caller.asks(request), self._engine_path)


@dataclass(frozen=True, slots=True)
class ScoringCall(PassThrough):
    """Implements ``server.exchange.endpoint.Call``."""

    path: str

    @property
    def engine_path(self) -> str:
        return self.path

    async def local_answer(self, services: Services, detach: Detach | None) -> None:
        """Answers nothing. Raises NotCapable for a composition."""
        request = self.request
        if await services.named(request.model, request.asker) is not None:
            message = "is a composition, which compares no texts; name an embedding model: GET /v1/models."
            raise NotCapable(f"{request.sent_model} {message}", "model")


def _check_texts(body: Mapping[str, Any]) -> None:
    """Checks that there are not too many. Raises BadRequest."""
    for field in _TEXTS:
        given = body.get(field)
        if isinstance(given, list) and len(given) > MOST_TEXTS:
            raise BadRequest(f"'{field}' has {len(given)} texts; at most {MOST_TEXTS} are taken.", field)


RERANK = Scoring("/rerank", "'model', 'query' and 'documents'")
SCORE = Scoring("/score", "'model', 'queries' and 'documents'")


async def rerank(request: Request) -> Response:
    """Order documents by how near they are to a query, by an embedding model."""
    return ModelResponse(request, RERANK)


async def score(request: Request) -> Response:
    """Say how alike texts are, by an embedding model."""
    return ModelResponse(request, SCORE)
