"""Vectors from an OpenAI-compatible ``/v1/embeddings`` endpoint, such as vLLM with e5-mistral-7b-instruct."""

import hashlib
import json
import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence

import httpx
import numpy as np
from pydantic import BaseModel, ValidationError

from router.arrays import Vectors
from router.artifacts.manifest import EndpointRecord
from router.clients.openai_endpoint import BUSY, Endpoint, retry_after_s, why
from router.errors import EmbedderError

KEY_VARIABLE = "COE_EMBEDDER_KEY"
URL_VARIABLE = "COE_EMBEDDER_URL"
"""Over the artifact's address, when it is read."""
BATCH = 32
"""Texts of one request."""
PATIENCE_S = 30.0
"""For one answer."""
KEPT_S = 2.0
"""A connection, unused: less than servers keep it, which would close it under a request."""
PAUSES_S = (0.5, 5.0)
"""Before the one retry: as long as the endpoint says, and at least and at most so."""


class _Item(BaseModel):
    index: int
    embedding: list[float]


class _EmbeddingList(BaseModel):
    data: list[_Item]


class EndpointEmbedder:
    """Vectors that an endpoint gives for ``instruction`` and text, made length one.

    Its identity is the model's name, the dimension, the instruction and how much of a text is sent: not the
    address, which may change. That the same weights stand behind the name is for the operator to see to. A
    server that computes texts in batches may change last bits of a row with its company.
    """

    def __init__(
        self,
        record: EndpointRecord,
        dimension: int | None = None,
        *,
        url: str | None = None,
        environment: Mapping[str, str] = os.environ,
        timeout_s: float = PATIENCE_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``dimension``: absent, the endpoint is asked for it. ``url``: over the record's. Raises
        EndpointError for what is no address, and EmbedderError as ``embed`` does."""
        self.record = record
        self._endpoint = Endpoint.at(url or record.url, KEY_VARIABLE, environment)
        self._sleep = sleep
        limits = httpx.Limits(keepalive_expiry=KEPT_S)
        self._http = httpx.Client(headers=self._endpoint.headers, limits=limits, timeout=timeout_s)
        weakref.finalize(self, self._http.close)
        self.dimension = dimension or len(self._rows(["dimension"])[0])

    @property
    def name(self) -> str:
        return f"endpoint:{self.record.model}"

    @property
    def sha256(self) -> str:
        parts = [self.record.model, self.dimension, self.record.instruction, self.record.characters]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Raises EmbedderError, in one line, when the endpoint gives no vectors or wrong ones, twice."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            vectors[start : start + len(batch)] = self._unit(self._rows(batch))
        return vectors

    def _rows(self, texts: Sequence[str]) -> list[list[float]]:
        """As the endpoint gives them, in the order of ``texts``."""
        response = self._post([self.record.instruction + text[: self.record.characters] for text in texts])
        if not response.is_success:
            raise self._error(self._endpoint.complaint(self.record.model, response))
        try:
            items = _EmbeddingList.model_validate_json(response.content).data
        except ValidationError as error:
            raise self._error("answered with something else than embeddings") from error
        if sorted(item.index for item in items) != list(range(len(texts))):
            raise self._error(f"answered with {len(items)} vectors for {len(texts)} texts")
        return [item.embedding for item in sorted(items, key=lambda item: item.index)]

    def _unit(self, rows: list[list[float]]) -> Vectors:
        found = {len(row) for row in rows}
        if found != {self.dimension}:
            raise self._error(
                f"gives vectors of {', '.join(map(str, sorted(found)))} dimensions, not {self.dimension}: "
                "is it the model that the router was trained on?"
            )
        vectors = np.array(rows, dtype=np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or not lengths.all():
            raise self._error("gives vectors that are zero or not finite")
        return np.asarray(vectors / lengths, dtype=np.float32)

    def _post(self, texts: list[str]) -> httpx.Response:
        """An endpoint that is busy or cannot be reached is asked once more."""
        # An empty text is refused by some servers, and a space says as little.
        body = {
            "model": self.record.model,
            "input": [text or " " for text in texts],
            "encoding_format": "float",
        }
        least, most = PAUSES_S
        try:
            response = self._http.post(f"{self._endpoint.url}/embeddings", json=body)
            if response.status_code not in BUSY:
                return response
            asked = retry_after_s(response) or 0.0
        except httpx.HTTPError:
            asked = 0.0
        self._sleep(min(most, max(least, asked)))
        try:
            return self._http.post(f"{self._endpoint.url}/embeddings", json=body)
        except httpx.HTTPError as error:
            raise self._error(f"cannot be reached ({why(error)}); {URL_VARIABLE} names another") from error

    def _error(self, problem: str) -> EmbedderError:
        """Without the address: clients of a gateway read it."""
        return EmbedderError(f"the endpoint of embedder {self.record.model} {problem}")

    def __repr__(self) -> str:
        return f"<EndpointEmbedder {self.record.model} at {self._endpoint.url}, {self.dimension} dimensions>"
