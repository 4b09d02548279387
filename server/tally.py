"""How many tokens an answer took, read from its bytes as they pass."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson

from server.usage import Spent

_USAGE = b'"usage":{'
"""Cannot occur inside a text: there the quotes are escaped."""
_EVENT_END = b"\n\n"
_DATA = b"data: "
_JSON = json.JSONDecoder()


class Tally:
    """``prompt_tokens``, ``completion_tokens`` and ``cached_tokens``, as the engine counted them. If the
    answer was cut off before it did, ``completion_tokens`` are the events that came; ``exact`` is False."""

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.cached_tokens = 0
        self.exact = False

    def __repr__(self) -> str:
        return f"<Tally {self.prompt_tokens} + {self.completion_tokens}{'' if self.exact else ', cut off'}>"

    @property
    def spent(self) -> Spent:
        return Spent(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
        )

    def whole(self, body: bytes) -> bytes:
        """Counts, and gives back ``body``. It is not read as a whole: vectors are long, and the usage comes
        after them."""
        at = body.rfind(_USAGE)
        if at >= 0:
            usage, _ = _JSON.raw_decode(body[at + len(_USAGE) - 1 :].decode())
            self._take({"usage": usage})
        return body

    async def stream(self, events: AsyncIterator[bytes], *, keep: bool) -> AsyncIterator[bytes]:
        """Counts what passes. Without ``keep`` the event that only says the usage is left out."""
        async for chunk in events:
            if _USAGE in chunk:
                yield b"".join([event for event in _events(chunk) if self._passes(event, keep)])
            else:
                if not self.exact:
                    self.completion_tokens += chunk.count(_EVENT_END)
                yield chunk

    def _passes(self, event: bytes, keep: bool) -> bool:
        if _USAGE not in event or not event.startswith(_DATA):
            return True
        tree = orjson.loads(event[len(_DATA) :])
        self._take(tree)
        return keep or bool(tree.get("choices"))

    def _take(self, tree: Mapping[str, Any]) -> None:
        usage = tree.get("usage")
        if not isinstance(usage, dict):
            return
        self.prompt_tokens = int(usage.get("prompt_tokens") or 0)
        self.completion_tokens = int(usage.get("completion_tokens") or 0)
        self.cached_tokens = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
        self.exact = True


def _events(chunk: bytes) -> list[bytes]:
    """Whole events."""
    return [event + _EVENT_END for event in chunk.split(_EVENT_END) if event]
