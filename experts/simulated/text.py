"""The simulated engine's texts: deterministic words, and a word's number is its length."""

import hashlib
import itertools
from dataclasses import dataclass
from typing import Any

import orjson

from experts.engines.engine import Body

LONGEST = 64
"""Tokens of a text whose request sets no limit."""


@dataclass(frozen=True, slots=True)
class Text:
    """The text of an answer, token by token."""

    tokens: tuple[str, ...]
    finish_reason: str
    prompt_tokens: int


def text_of(expert: str, body: Body) -> Text:
    """Writes the answer to ``body``. It depends on the expert and the prompt alone; it has at most
    ``max_tokens``, or, with ``ignore_eos``, as many."""
    given = body.get("messages") or body.get("prompt") or []
    prompt = orjson.dumps(given, option=orjson.OPT_SORT_KEYS)
    words = ["Simulated", " answer", " of", f" {expert}:"]
    digest = hashlib.blake2b(expert.encode() + prompt, digest_size=60).hexdigest()
    words += [f" {digest[at : at + 2]}" for at in range(0, 2 * (LONGEST - len(words)), 2)]
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or LONGEST
    if body.get("ignore_eos"):
        words = list(itertools.islice(itertools.cycle(words), limit))
    finish_reason = "length" if limit < len(words) else "stop"
    return Text(tuple(words[:limit]), finish_reason, len(words_of(body)))


def tokenize(body: Body) -> dict[str, Any]:
    words = words_of(body)
    return {"count": len(words), "max_model_len": 0, "tokens": [len(word) for word in words]}


def detokenize(body: Body) -> dict[str, Any]:
    return {"prompt": " ".join("x" * length for length in body.get("tokens") or [])}


def words_of(body: Body) -> list[str]:
    """Lists the words of a body's messages or prompt."""
    messages = body.get("messages") or []
    texts = [str(message.get("content", "")) for message in messages] or [str(body.get("prompt") or "")]
    return [word for text in texts for word in text.split()]
