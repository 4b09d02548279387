"""An engine's answer as Ollama's: one object, or a line of JSON for each piece."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from server.exchange.answer.tool_arguments import arguments_of

Json = dict[str, Any]
Kind = Literal["chat", "generate"]


@dataclass(frozen=True, slots=True)
class Said:
    """Content of one object of an answer."""

    text: str = ""
    thinking: str = ""
    calls: Sequence[Json] = ()
    logprobs: Sequence[Json] = ()

    def __bool__(self) -> bool:
        return bool(self.text or self.thinking or self.calls)


@dataclass(frozen=True, slots=True)
class Wording:
    """The words of an answer of ``kind`` by ``model``, as the client called it."""

    kind: Kind
    model: str

    def piece(self, said: Said = Said()) -> Json:
        """Words a piece of an answer that is not at its end."""
        return {**self._head(said), "done": False}

    def whole(self, said: Said, end: Mapping[str, Any]) -> Json:
        """Words a whole answer, or the last of a stream."""
        return {**self._head(said), "done": True, **end}

    def _head(self, said: Said) -> Json:
        created = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        more: Json = {"logprobs": said.logprobs} if said.logprobs else {}
        thinking: Json = {"thinking": said.thinking} if said.thinking else {}
        if self.kind == "generate":
            return {"model": self.model, "created_at": created, "response": said.text, **thinking, **more}
        calls: Json = {"tool_calls": said.calls} if said.calls else {}
        message = {"role": "assistant", "content": said.text, **thinking, **calls}
        return {"model": self.model, "created_at": created, "message": message, **more}


@dataclass(frozen=True, slots=True)
class Timing:
    """How long an answer took, in nanoseconds. ``loaded``: the wait for the expert; ``first``: from the
    request's arrival to the first bytes, where they were told apart from the last."""

    began: int
    loaded: int
    first: int | None = None
    clock: Callable[[], int] = time.perf_counter_ns

    def figures(self, usage: Mapping[str, Any]) -> Json:
        """Returns Ollama's counts and durations; a whole answer's prompt is in its ``eval_duration``."""
        total = self.clock() - self.began
        first = self.loaded if self.first is None else self.first
        prompt = {} if self.first is None else {"prompt_eval_duration": max(0, first - self.loaded)}
        return {
            "total_duration": total,
            "load_duration": self.loaded,
            "prompt_eval_count": usage.get("prompt_tokens") or 0,
            **prompt,
            "eval_count": usage.get("completion_tokens") or 0,
            "eval_duration": max(0, total - first),
        }


def answer(wording: Wording, completion: Mapping[str, Any], timing: Timing) -> Json:
    """Words a whole completion. Raises EngineError when it calls a tool with what is no object."""
    choice = completion["choices"][0]
    message = choice.get("message") or {"content": choice.get("text")}
    called = [
        _call(number, call.get("id"), call["function"], cut=_is_cut(choice))
        for number, call in enumerate(message.get("tool_calls") or ())
    ]
    said = Said(message.get("content") or "", message.get("reasoning") or "", called, _logprobs(choice))
    return wording.whole(said, _end(choice, completion.get("usage"), timing))


def _end(choice: Mapping[str, Any], usage: Mapping[str, Any] | None, timing: Timing) -> Json:
    reason = "length" if choice.get("finish_reason") == "length" else "stop"
    return {"done_reason": reason, **timing.figures(usage or {})}


def _is_cut(choice: Mapping[str, Any]) -> bool:
    """Says whether the answer ended where it was told to and not by itself."""
    return choice.get("finish_reason") == "length" or isinstance(choice.get("stop_reason"), str)


def _call(number: int, id: str | None, function: Mapping[str, Any], *, cut: bool) -> Json:
    """Words the call of a tool. Raises EngineError."""
    name = function["name"]
    arguments = arguments_of(name, function.get("arguments") or "", cut=cut)
    return {"id": id or f"call_{number}", "function": {"index": number, "name": name, "arguments": arguments}}


def _logprobs(choice: Mapping[str, Any]) -> Sequence[Json]:
    return [
        _of_token(token) | {"top_logprobs": [_of_token(other) for other in token.get("top_logprobs") or ()]}
        for token in (choice.get("logprobs") or {}).get("content") or ()
    ]


def _of_token(token: Mapping[str, Any]) -> Json:
    return {"token": token["token"], "logprob": token["logprob"], "bytes": token.get("bytes")}


@dataclass(slots=True)
class Lines:
    """Lines of one streamed answer, made of a completion's chunks. A call of a tool is told when it is
    complete."""

    wording: Wording
    timing: Timing
    ended: bool = False
    """Whether the last line was made."""
    calls: dict[int, Json] = field(default_factory=dict)
    """Calls that are not told yet, by their numbers."""
    choice: Mapping[str, Any] = field(default_factory=dict)
    """The choice that said why the answer ended."""
    usage: Mapping[str, Any] | None = None

    def take(self, chunk: Mapping[str, Any]) -> Iterator[bytes]:
        """Makes the lines of a chunk. Raises EngineError when a tool is called with what is no object."""
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {"content": choice.get("text")}
            pieces = delta.get("tool_calls") or ()
            told = self._complete(before=pieces[0]["index"]) if pieces and self.calls else []
            for piece in pieces:
                self._grow(piece)
            if choice.get("finish_reason") is not None:
                self.choice = choice
                told += self._complete()
            said = Said(delta.get("content") or "", delta.get("reasoning") or "", told, _logprobs(choice))
            if said:
                yield line(self.wording.piece(said))

    def end(self) -> bytes:
        """Makes the last line."""
        end = _end(self.choice, self.usage, self.timing)
        last = line(self.wording.whole(Said(calls=self._complete()), end))
        self.ended = True
        return last

    def _grow(self, piece: Mapping[str, Any]) -> None:
        function = piece.get("function") or {}
        call = self.calls.setdefault(piece["index"], {"id": None, "name": "", "arguments": ""})
        call["id"] = piece.get("id") or call["id"]
        call["name"] += function.get("name") or ""
        call["arguments"] += function.get("arguments") or ""

    def _complete(self, before: int | None = None) -> list[Json]:
        """Takes the calls that are complete: those ``before`` another, or all. Raises EngineError."""
        numbers = [number for number in self.calls if before is None or number < before]
        cut = _is_cut(self.choice)
        return [
            _call(number, call["id"], call, cut=cut)
            for number, call in ((number, self.calls.pop(number)) for number in numbers)
        ]


_BREAKS = {"\u0085".encode(): b"\\u0085", "\u2028".encode(): b"\\u2028", "\u2029".encode(): b"\\u2029"}
"""Characters at which some readers end a line too, Ollama's client for Python among them."""


def line(tree: Mapping[str, Any]) -> bytes:
    """Returns a line of JSON, in which there is no other end of a line."""
    written = orjson.dumps(tree)
    if not written.isascii():
        for character, escaped in _BREAKS.items():
            written = written.replace(character, escaped)
    return written + b"\n"
