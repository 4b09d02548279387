"""A chat completion as a response: its items and, where it is streamed, the events that build them.

Whole answers walk the same way as streams, as one piece, so both end alike.
"""

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from server.error_table import Failure
from server.responses.wire.output import Call, CustomCall, Message, Output, Thought

Event = dict[str, Any]
Object = Mapping[str, Any]
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why a chat completion ended, and why a response did that is not complete."""


class Answering:
    """``response`` is how it stands. Every event has the next number."""

    def __init__(self, response: Object, told: int = 0) -> None:
        """``response``: as it is created, without any output. ``told``: events that came before, of one
        that was queued."""
        self.response = dict(response)
        self._hex = response["id"].removeprefix("resp_")
        self._told = self._numbers = told
        self._outputs: list[Output] = []
        self._open: list[Output] = []
        self._calls: dict[int, Call | CustomCall] = {}
        tools = response.get("tools") or ()
        self._custom = {tool["name"] for tool in tools if tool["type"] == "custom"}
        self._finish: str | None = None
        self._usage: Object | None = None

    @property
    def begun(self) -> bool:
        return self._numbers > self._told

    def queue(self) -> Iterator[Event]:
        """The events of a response that is made later."""
        return self._states("created", "queued")

    def begin(self) -> Iterator[Event]:
        """The first events, or those that follow when a queued one is made."""
        return self._states("in_progress") if self._told else self._states("created", "in_progress")

    def _states(self, *states: str) -> Iterator[Event]:
        for state in states:
            yield self._event({"type": f"response.{state}", "response": dict(self.response)})

    def take(self, chunk: Object) -> Iterator[Event]:
        """A piece of a chat completion, of which all pieces before were taken."""
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            said = choice.get("delta") or choice.get("message") or {}
            self._finish = choice.get("finish_reason") or self._finish
            logprobs = (choice.get("logprobs") or {}).get("content") or []
            for event in self._said(said, logprobs):
                yield self._event(event)

    def end(self, now: int) -> Iterator[Event]:
        """``now``: seconds since 1970. Afterwards ``response`` is as it is kept and answered."""
        reason = _INCOMPLETE.get(self._finish or "")
        if not self._outputs:
            for event in self._opened(Message(self._next_index(), self._hex)):
                yield self._event(event)
        for event in self._closed("incomplete" if reason else "completed"):
            yield self._event(event)
        self.response |= {
            "status": "incomplete" if reason else "completed",
            "incomplete_details": {"reason": reason} if reason else None,
            "output": [output.item for output in self._outputs],
            "usage": _usage(self._usage),
            "completed_at": None if reason else now,
        }

    def last(self) -> Event:
        """The event that says how it ended."""
        return self._event({"type": f"response.{self.response['status']}", "response": self.response})

    def fail(self, failure: Failure) -> Iterator[Event]:
        """The events that end it in the middle."""
        for event in self._closed("incomplete"):
            yield self._event(event)
        output = [item.item for item in self._outputs]
        self.response |= {"status": "failed", "error": error_of(failure), "output": output}
        yield self.last()

    def _said(self, said: Object, logprobs: list[Object]) -> Iterator[Event]:
        thought = said.get("reasoning") or said.get("reasoning_content")
        if thought:
            yield from self._add(Thought, thought, [])
        # Tokens that make no text yet have log-probabilities too.
        content = said.get("content") or ""
        if content or (logprobs and self._open and isinstance(self._open[-1], Message)):
            yield from self._add(Message, content, logprobs)
        for position, call in enumerate(said.get("tool_calls") or ()):
            yield from self._call(call, call.get("index", position))

    def _add(self, kind: type[Thought] | type[Message], text: str, logprobs: list[Object]) -> Iterator[Event]:
        if not self._open or not isinstance(self._open[-1], kind):
            yield from self._closed("completed")
            yield from self._opened(kind(self._next_index(), self._hex))
        yield from self._open[-1].add(text, logprobs)

    def _call(self, call: Object, index: int) -> Iterator[Event]:
        """Several calls may be under way at once."""
        function = call.get("function") or {}
        if index not in self._calls:
            if not self._calls:
                yield from self._closed("completed")
            call_id, name = call.get("id") or f"call_{uuid.uuid4().hex}", function.get("name") or ""
            kind = CustomCall if name in self._custom else Call
            self._calls[index] = kind(self._next_index(), self._hex, call_id, name)
            yield from self._opened(self._calls[index])
        if function.get("arguments"):
            yield from self._calls[index].add(function["arguments"], [])

    def _next_index(self) -> int:
        return len(self._outputs)

    def _opened(self, output: Output) -> Iterator[Event]:
        self._outputs.append(output)
        self._open.append(output)
        yield from output.opened()

    def _closed(self, status: str) -> Iterator[Event]:
        """All that are open."""
        for output in self._open:
            yield from output.closed(status)
        self._open.clear()
        self._calls.clear()

    def _event(self, fields: Event) -> Event:
        event = {"type": fields["type"], "sequence_number": self._numbers, **fields}
        self._numbers += 1
        return event


def error_of(failure: Failure) -> dict[str, Any]:
    """In a response that failed."""
    if failure.status == 429:
        code = "rate_limit_exceeded"
    else:
        code = "invalid_prompt" if failure.status < 500 else "server_error"
    return {"code": code, "message": failure.message}


def _usage(usage: Object | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    given, answer = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    details = usage.get("prompt_tokens_details") or {}
    cached, created = details.get("cached_tokens") or 0, details.get("created_cache_tokens") or 0
    thought = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": created},
        "output_tokens": answer,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": given + answer,
    }
