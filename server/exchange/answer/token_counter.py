"""Token counts of an answer and the engine's times, read from its bytes as they pass."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson

from server.access.usage import Spent
from server.transport import sse

_USAGE = b'"usage":{'
"""Start of the usage. It cannot occur inside a text: there the quotes are escaped."""
_FINISH = b'"finish_reason":"'
"""Start of a choice's end. It cannot occur inside a text either."""
_TIMES = b',"metrics":{'
"""Start of the engine's times (``--enable-per-request-metrics``), which come after the usage."""
_NO_TIMES = b',"metrics":null'
"""Stands in a whole answer without them."""
_JSON = json.JSONDecoder()


class TokenCounter:
    """Counter of tokens as the engine reports them; ``cached_tokens`` are among ``prompt_tokens``,
    ``reasoning_tokens`` among ``completion_tokens``. If the answer was cut off before the report,
    ``completion_tokens`` counts the events that came, and ``exact`` is False.

    ``queue_seconds``: how long the engine had the request waiting; ``prefill_seconds``: from there to its
    first token. None where the engine does not tell. Clients do not get these times."""

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.cached_tokens = 0
        self.reasoning_tokens = 0
        self.exact = False
        self.queue_seconds: float | None = None
        self.prefill_seconds: float | None = None

    def __repr__(self) -> str:
        cut = "" if self.exact else ", cut off"
        return f"<TokenCounter {self.prompt_tokens} + {self.completion_tokens}{cut}>"

    @property
    def spent(self) -> Spent:
        return Spent(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
        )

    def whole(self, body: bytes) -> bytes:
        """Counts the tokens of ``body``, and returns it without the engine's times."""
        self._take({"usage": usage_in(body)})
        body, times = _without_times(body, _NO_TIMES)
        self._time(times)
        return body

    async def stream(self, events: AsyncIterator[bytes], *, keep: bool) -> AsyncIterator[bytes]:
        """Counts what passes. Without ``keep`` the event that only has the usage is left out.

        vLLM puts its fingerprint into that event if there is one, else where a choice ends. So without
        ``keep`` a piece in which one ends waits for the next, which comes at once, and takes the fingerprint
        over. Raises what ``events`` does, after all that came before.
        """
        waiting = b""
        try:
            async for chunk in events:
                if not self.exact:
                    self.completion_tokens += chunk.count(sse.END)
                if keep or _FINISH not in chunk or _USAGE in chunk:
                    passing, waiting = waiting + chunk, b""
                    yield self._counted(passing, keep) if _USAGE in passing else passing
                else:
                    if waiting:
                        yield waiting
                    waiting = chunk
        except (Exception, asyncio.CancelledError):  # the latter at a deadline
            if waiting:
                yield waiting
            raise
        if waiting:
            yield waiting

    def _counted(self, chunk: bytes, keep: bool) -> bytes:
        """Counts the tokens in ``chunk``, and returns the part of it that passes."""
        passing: list[bytes] = []
        for event in sse.split(chunk):
            data = sse.data_of(event) if _USAGE in event else None
            if data is None:
                passing.append(event)
                continue
            tree = orjson.loads(data)
            self._take(tree)
            self._time(tree.get("metrics"))
            if keep or tree.get("choices"):
                passing.append(_without_times(event, b"")[0])
            elif passing and tree.get("system_fingerprint"):
                passing[-1] = _with_fingerprint(passing[-1], tree["system_fingerprint"])
        return b"".join(passing)

    def _take(self, tree: Mapping[str, Any]) -> None:
        usage = tree.get("usage")
        if not isinstance(usage, dict):
            return
        asked, said = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
        self.prompt_tokens = int(usage.get("prompt_tokens") or 0)
        self.completion_tokens = int(usage.get("completion_tokens") or 0)
        self.cached_tokens = int((asked or {}).get("cached_tokens") or 0)
        self.reasoning_tokens = int((said or {}).get("reasoning_tokens") or 0)
        self.exact = True

    def _time(self, times: Mapping[str, Any] | None) -> None:
        """Takes over ``times`` in milliseconds, as vLLM tells them."""
        if times:
            self.queue_seconds = _seconds(times.get("queue_time_ms"))
            self.prefill_seconds = _seconds(times.get("time_to_first_token_ms"))


def usage_in(body: bytes, *, first: bool = False) -> dict[str, Any] | None:
    """Returns the last or ``first`` usage in ``body``, a JSON object; None: it has none. The body is not
    parsed as a whole: vectors are long, and the usage comes after them."""
    at = body.find(_USAGE) if first else body.rfind(_USAGE)
    if at < 0:
        return None
    usage: dict[str, Any]
    usage, _ = _JSON.raw_decode(body[at + len(_USAGE) - 1 :].decode())
    return usage


def _without_times(body: bytes, instead: bytes) -> tuple[bytes, Mapping[str, Any] | None]:
    """Returns ``body`` with ``instead`` in the place of the engine's times, and those; None: it has none."""
    at = body.find(_TIMES, max(0, body.rfind(_USAGE)))
    if at < 0:
        return body, None
    begin = at + len(_TIMES) - 1
    text = body[begin:].decode()
    times: dict[str, Any]
    times, length = _JSON.raw_decode(text)
    return body[:at] + instead + body[begin + len(text[:length].encode()) :], times


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1e3


def _with_fingerprint(event: bytes, fingerprint: str) -> bytes:
    """Returns ``event``, if a choice ends in it, with the field that vLLM would have put there."""
    if _FINISH not in event or not event.endswith(b"}" + sse.END):
        return event
    return event[: -len(sse.END) - 1] + b',"system_fingerprint":' + orjson.dumps(fingerprint) + b"}" + sse.END
