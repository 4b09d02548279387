"""Reads bodies of answers, whole and streamed, of each endpoint."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.simulation.scenario import Endpoint

ENDS = {
    "/v1/messages": ("message_stop", "error"),
    "/v1/responses": ("response.completed", "response.incomplete", "response.failed", "error"),
}
"""The types of the events of which one has to end a stream, and nothing comes behind it."""


class Wrong(AssertionError):
    """An answer that no client should ever get."""


@dataclass(slots=True)
class Answer:
    """One answer as its client read it. ``status`` 0: none. ``error``: its code, wherever it came."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    error: str | None = None
    usage: dict[str, Any] | None = None
    events: int = 0


def _named(error: dict[str, Any]) -> str:
    return str(error.get("code") or error["type"])


def take_whole(answer: Answer, body: bytes, endpoint: Endpoint) -> None:
    """Reads an answer that is no stream."""
    said = orjson.loads(body)
    if answer.status != 200:
        answer.error = _named(said["error"])
        return
    match endpoint:
        case "/v1/chat/completions":
            answer.text = said["choices"][0]["message"]["content"]
        case "/v1/completions":
            answer.text = said["choices"][0]["text"]
        case "/v1/messages":
            answer.text = "".join(block["text"] for block in said["content"])
        case "/v1/responses":
            answer.error = said["error"]["code"] if said["error"] else None
            answer.text = "".join(part["text"] for item in said["output"] for part in item.get("content", ()))
    usage = said["usage"] or {}
    answer.events = usage.get("completion_tokens", usage.get("output_tokens", 0))


def take_stream(answer: Answer, body: bytes, endpoint: Endpoint) -> None:
    """Reads a stream. Raises Wrong for one that has no end, or goes on after it."""
    ended = False
    for event in _events(body):
        if ended:
            raise Wrong(f"something came after the end of the stream: {event[:200]!r}")
        if endpoint in ENDS:
            ended = _take_typed(answer, orjson.loads(event), ENDS[endpoint])
        elif event == b"[DONE]":
            ended = True
        else:
            ended = _take_choice(answer, orjson.loads(event))
    if not ended:
        raise Wrong(f"a stream without an end: {body[-300:]!r}")


def _events(body: bytes) -> Iterator[bytes]:
    """The data of each event. Raises Wrong."""
    if not body.endswith(b"\n\n"):
        raise Wrong(f"the last event has no end: {body[-200:]!r}")
    for event in body.split(b"\n\n")[:-1]:
        lines = [line for line in event.split(b"\n") if not line.startswith((b":", b"event: "))]
        if len(lines) > 1 or (lines and not lines[0].startswith(b"data: ")):
            raise Wrong(f"not an event: {event[:200]!r}")
        if lines:
            yield lines[0].removeprefix(b"data: ")


def _take_choice(answer: Answer, said: dict[str, Any]) -> bool:
    """An event of chat or of completions; whether it ends the stream."""
    if "error" in said:
        answer.error = _named(said["error"])
        return True
    for choice in said["choices"]:
        content = choice["delta"].get("content") if "delta" in choice else choice["text"]
        if content:
            answer.text += content
            answer.events += 1
    return False


def _take_typed(answer: Answer, said: dict[str, Any], ends: tuple[str, ...]) -> bool:
    """An event of messages or of responses; whether it ends the stream."""
    kind = said["type"]
    if kind in ("content_block_delta", "response.output_text.delta"):
        delta = said["delta"]
        answer.text += delta if isinstance(delta, str) else delta["text"]
        answer.events += 1
    if kind in ("error", "response.failed"):
        answer.error = kind
    return kind in ends
