"""A chat completion's answer as Anthropic's message, whole or as the events of a stream."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from experts.errors import EngineError
from server.exchange.answer.tool_arguments import arguments_of, object_in
from server.transport import sse

Json = dict[str, Any]
StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]
_SIGNATURE = "unsigned"
"""Signature of thoughts. Clients send it back with them, and some drop thoughts without one."""


def message(identity: str, completion: Mapping[str, Any]) -> Json:
    """Makes the message that a whole chat completion is. ``identity``: its id. Raises EngineError when it
    uses a tool with an input that is not JSON."""
    choice = completion["choices"][0]
    said = choice["message"]
    calls = said.get("tool_calls") or []
    blocks: list[Json] = []
    if said.get("reasoning"):
        blocks.append({"type": "thinking", "thinking": said["reasoning"], "signature": _SIGNATURE})
    if said.get("content"):
        blocks.append(_text(said["content"]))
    stop = _stop(choice, [call["function"]["arguments"] or "" for call in calls])
    for call in calls:
        function = call["function"]
        given = arguments_of(function["name"], function["arguments"], cut=stop["stop_reason"] != "tool_use")
        blocks.append(_tool_use(call["id"], function["name"], given))
    return {
        **_head(identity, completion["model"]),
        "content": blocks or [_text("")],
        **stop,
        "usage": _usage(completion.get("usage")),
    }


def _head(identity: str, model: str) -> Json:
    return {"id": identity, "type": "message", "role": "assistant", "model": model}


def _text(text: str) -> Json:
    return {"type": "text", "text": text}


def _tool_use(identity: str, name: str, given: Json) -> Json:
    return {"type": "tool_use", "id": identity, "name": name, "input": given}


def _stop(choice: Mapping[str, Any], inputs: Sequence[str]) -> Json:
    """Says why the answer ended. ``inputs``: of the tools it uses; a stop sequence may have cut the last one
    off, which then must not be run."""
    finish, matched = choice.get("finish_reason"), choice.get("stop_reason")
    if finish == "length":
        return _stopped("max_tokens")
    if finish == "content_filter":
        return _stopped("refusal")
    if isinstance(matched, str) and not (inputs and object_in(inputs[-1]) is not None):
        return _stopped("stop_sequence", matched)
    return _stopped("tool_use" if inputs else "end_turn")


def _stopped(reason: StopReason, sequence: str | None = None) -> Json:
    return {"stop_reason": reason, "stop_sequence": sequence}


def _usage(usage: Mapping[str, Any] | None) -> Json:
    """Converts OpenAI's usage: its prompt tokens include those read from and written to the prefix cache,
    Anthropic's input tokens do not."""
    counted = usage or {}
    details = counted.get("prompt_tokens_details") or {}
    cached, created = details.get("cached_tokens") or 0, details.get("created_cache_tokens") or 0
    return {
        "input_tokens": (counted.get("prompt_tokens") or 0) - cached - created,
        "cache_creation_input_tokens": created,
        "cache_read_input_tokens": cached,
        "output_tokens": counted.get("completion_tokens") or 0,
    }


@dataclass(slots=True)
class MessageStream:
    """Events of one message, made of a chat completion's chunks. A block ends where the next begins, so text
    after a tool call is held back and is the last block."""

    identity: str
    begun: bool = False
    block: str = ""
    """Kind of the open one; empty: none is."""
    blocks: int = 0
    """Number of blocks begun so far."""
    inputs: dict[int, str] = field(default_factory=dict)
    """Inputs of the tools used, by the number of the call."""
    held_back: str = ""
    choice: Mapping[str, Any] = field(default_factory=dict)
    """The choice that said why the answer ended."""
    usage: Mapping[str, Any] | None = None

    def take(self, chunk: Mapping[str, Any]) -> Iterator[bytes]:
        """Makes the events of a chunk. Raises EngineError when a call goes on after the next one has
        begun."""
        self.usage = chunk.get("usage") or self.usage
        if not self.begun:
            self.begun = True
            begun = {**_head(self.identity, chunk["model"]), "content": [], "stop_reason": None}
            begun |= {"stop_sequence": None, "usage": _usage(self.usage)}
            yield event("message_start", {"message": begun})
            yield event("ping", {})
        for choice in chunk.get("choices") or ():
            if choice.get("finish_reason") is not None:
                self.choice = choice
            yield from self._delta(choice.get("delta") or {})

    def end(self) -> Iterator[bytes]:
        """Makes the events that end the message."""
        yield from self.said_late()
        if not self.blocks:
            yield from self._say("")
        yield from self._close()
        delta = _stop(self.choice, list(self.inputs.values()))
        yield event("message_delta", {"delta": delta, "usage": _usage(self.usage)})
        yield event("message_stop", {})

    def said_late(self) -> Iterator[bytes]:
        """Makes the events of what is held back."""
        late, self.held_back = self.held_back, ""
        if late.strip():
            yield from self._say(late)

    def _delta(self, delta: Mapping[str, Any]) -> Iterator[bytes]:
        if delta.get("reasoning"):
            yield from self._open("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            yield self._grow({"type": "thinking_delta", "thinking": delta["reasoning"]})
        if delta.get("content"):
            if self.inputs:
                self.held_back += delta["content"]
            else:
                yield from self._say(delta["content"])
        for call in delta.get("tool_calls") or ():
            yield from self._call(call)

    def _say(self, text: str) -> Iterator[bytes]:
        yield from self._open("text", _text(""))
        if text:
            yield self._grow({"type": "text_delta", "text": text})

    def _call(self, call: Mapping[str, Any]) -> Iterator[bytes]:
        number, function = call["index"], call.get("function") or {}
        kind = f"tool_use {number}"
        if number not in self.inputs:
            self.inputs[number] = ""
            yield from self._open(kind, _tool_use(call["id"], function["name"], {}))
        elif self.block != kind:
            raise EngineError("The engine went back to a tool call that had ended.")
        if function.get("arguments"):
            self.inputs[number] += function["arguments"]
            yield self._grow({"type": "input_json_delta", "partial_json": function["arguments"]})

    def _open(self, kind: str, block: Json) -> Iterator[bytes]:
        if self.block == kind:
            return
        yield from self._close()
        self.block = kind
        self.blocks += 1
        yield event("content_block_start", {"index": self.blocks - 1, "content_block": block})

    def _close(self) -> Iterator[bytes]:
        if self.block == "thinking":
            yield self._grow({"type": "signature_delta", "signature": _SIGNATURE})
        if self.block:
            yield event("content_block_stop", {"index": self.blocks - 1})
        self.block = ""

    def _grow(self, delta: Json) -> bytes:
        return event("content_block_delta", {"index": self.blocks - 1, "delta": delta})


def event(name: str, data: Mapping[str, Any]) -> bytes:
    """Returns a server-sent event, whose type its data has too."""
    return sse.framed(orjson.dumps({"type": name, **data}), name)
