"""The simulated engine's embeddings: unit vectors that are drawn from a digest of the text."""

import base64
import hashlib
import math
import struct
from collections.abc import Mapping
from typing import Any

DIMENSIONS = 64
Input = str | list[int] | list[str] | list[list[int]]
Text = str | list[int]


def inputs(body: Mapping[str, Any]) -> list[Text]:
    """Lists the texts, or lists of tokens, that a body wants vectors of; a conversation is one text."""
    given: Input | None = body.get("input")
    if given is None:
        return [" ".join(str(message.get("content", "")) for message in body.get("messages") or [])]
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        return [given]
    return [*given]


def embeddings(expert: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Returns vLLM's answer to ``body`` without its head. A token is a word, or a number given in its
    place."""
    texts = inputs(body)
    dimensions, packed = body.get("dimensions") or DIMENSIONS, body.get("encoding_format") == "base64"
    vectors = [_vector(expert, text, dimensions) for text in texts]
    tokens = sum(len(text.split()) if isinstance(text, str) else len(text) for text in texts)
    return {
        "object": "list",
        "data": [
            {"index": index, "object": "embedding", "embedding": _packed(vector) if packed else vector}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
    }


def rerank(expert: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Returns vLLM's answer to a request for documents in the order of their nearness to a query."""
    found = _texts(body.get("documents"))
    (scores,) = _products(expert, [body.get("query") or ""], found)
    order = sorted(range(len(found)), key=lambda index: -scores[index])
    return {
        "usage": _usage([body.get("query") or "", *found]),
        "results": [
            {"index": index, "document": {"text": found[index]}, "relevance_score": scores[index]}
            for index in order[: body.get("top_n") or None]
        ],
    }


def score(expert: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Returns vLLM's answer to a request for how alike queries and documents are."""
    queries, documents = _texts(body.get("queries")), _texts(body.get("documents"))
    if len(queries) == 1:
        (scores,) = _products(expert, queries, documents)
    else:
        pairs = zip(queries, documents, strict=False)
        scores = [_products(expert, [query], [document])[0][0] for query, document in pairs]
    data = [{"index": index, "object": "score", "score": each} for index, each in enumerate(scores)]
    return {"object": "list", "data": data, "usage": _usage([*queries, *documents])}


def _texts(given: str | list[str] | None) -> list[str]:
    return [given] if isinstance(given, str) else given or []


def _usage(texts: list[str]) -> dict[str, int]:
    tokens = sum(len(text.split()) for text in texts)
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def _products(expert: str, ours: list[str], theirs: list[str]) -> list[list[float]]:
    """Returns the cosine of each of ``ours`` with each of ``theirs``."""
    others = [_vector(expert, text, DIMENSIONS) for text in theirs]
    return [
        [sum(a * b for a, b in zip(vector, other, strict=True)) for other in others]
        for vector in (_vector(expert, text, DIMENSIONS) for text in ours)
    ]


def _vector(expert: str, text: Text, dimensions: int) -> list[float]:
    """Draws a vector from its arguments alone; one with fewer ``dimensions`` is the beginning of the whole
    one, at length 1 again."""
    digest = hashlib.blake2b(f"{expert}\0{text}".encode(), digest_size=DIMENSIONS).digest()
    values = [byte - 127.5 for byte in digest[:dimensions]]
    length = math.hypot(*values)
    return [value / length for value in values]


def _packed(vector: list[float]) -> str:
    """Encodes a vector as base64 of little-endian float32."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
