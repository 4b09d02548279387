"""What the simulated engine answers: deterministic text in vLLM's wire format, token by token."""

import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from experts.engines.engine import Body
from experts.errors import EngineLost, EngineUnavailable
from experts.simulated.vectors import DIMENSIONS, Input, embeddings, inputs
from experts.spec import Task

_LONGEST_ANSWER = 64
"""Tokens of an answer whose request sets no limit."""
_GENERATING = {"/v1/chat/completions": "chat.completion", "/v1/completions": "text_completion"}
"""Path to the object of a whole answer."""
_FINGERPRINT = "simulated"
"""Of the system; vLLM says it in a whole answer and in a stream's last event."""
_EMBEDDING = "/v1/embeddings"
Step = Callable[["SimulatedAnswer", str], Awaitable[None]]
"""Computes one token with an expert. Raises EngineLost."""


class _Asked(BaseModel):
    """What is read of a body. An engine refuses what is something else."""

    model_config = ConfigDict(strict=True)

    messages: list[dict[str, Any]] | None = None
    prompt: str | list[Any] | None = None
    input: Input | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1, le=DIMENSIONS)
    tokens: list[Annotated[int, Field(ge=0, le=1000)]] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stream_options: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Text:
    tokens: tuple[str, ...]
    finish_reason: str
    prompt_tokens: int


class SimulatedAnswer:
    """Implements ``experts.engines.engine.Answer`` for completions or, by its task, embeddings, and for
    tokenize and detokenize; any other path is a 404. Its tokens are words, and a word's number is its
    length."""

    def __init__(
        self,
        step: Step,
        forget: Callable[["SimulatedAnswer"], None],
        number: int,
        expert: str,
        path: str,
        body: Body,
        task: Task = "generate",
    ) -> None:
        self._step = step
        self._forget = forget
        self._object = _GENERATING.get(path) if task == "generate" else None
        prefix = "cmpl" if self._object == "text_completion" else "chatcmpl"
        self._head = {"id": f"{prefix}-simulated-{number}", "created": int(time.time()), "model": expert}
        self._expert = expert
        self._body = body
        self._refusal = _refusal(body)
        if self._refusal is not None:
            self._object, body = None, {}
        self._streamed = self._object is not None and bool(body.get("stream"))
        self._text = _text(expert, body)
        self._other = None if self._object else _ANSWERS.get(path)
        self._embeds = task == "embed" and path == _EMBEDDING and self._refusal is None
        if self._embeds:
            self._head = {"id": f"embd-simulated-{number}", "created": int(time.time()), "model": expert}
            self._other = self._embeddings
        self.status = 400 if self._refusal else 200 if self._object or self._other else 404
        self.content_type = "text/event-stream" if self._streamed else "application/json"

    async def begin(self) -> None:
        """Until the first bytes: one token of a stream, all of them otherwise; and all vectors."""
        try:
            for _ in range(self._steps):
                await self._step(self, self._expert)
        except EngineLost as error:
            raise EngineUnavailable(str(error)) from error

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            if not self._streamed:
                yield orjson.dumps(self._whole())
                return
            for index, event in enumerate(self._events()):
                if 0 < index < len(self._text.tokens):
                    await self._step(self, self._expert)
                yield b"data: " + orjson.dumps(event) + b"\n\n"
            yield b"data: [DONE]\n\n"
        finally:
            self._forget(self)

    async def close(self) -> None:
        self._forget(self)

    def _whole(self) -> Mapping[str, Any]:
        if self._refusal is not None:
            return self._refusal
        if self._other is not None:
            return self._other(self._body)
        if self._object is None:
            return _NOT_FOUND
        text = "".join(self._text.tokens)
        said = {"message": {"role": "assistant", "content": text}} if self._chats else {"text": text}
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": self._text.finish_reason}
        usage = self._usage(len(self._text.tokens))
        more = {"usage": usage, "system_fingerprint": _FINGERPRINT}
        return {**self._head, "object": self._object, "choices": [choice], **more}

    @property
    def _steps(self) -> int:
        if self._embeds:
            return len(inputs(self._body))
        return 0 if self._object is None else 1 if self._streamed else len(self._text.tokens)

    def _embeddings(self, body: Body) -> dict[str, Any]:
        return {**self._head, **embeddings(self._expert, body)}

    @property
    def _chats(self) -> bool:
        return self._object == "chat.completion"

    def _events(self) -> Iterator[dict[str, Any]]:
        for index, token in enumerate(self._text.tokens):
            delta = {"content": token} if index else {"role": "assistant", "content": token}
            yield self._event({"delta": delta} if self._chats else {"text": token}, None, index + 1)
        tokens = len(self._text.tokens)
        yield self._event({"delta": {}} if self._chats else {"text": ""}, self._text.finish_reason, tokens)
        if self._counts:
            said = {"choices": [], "usage": self._usage(tokens), "system_fingerprint": _FINGERPRINT}
            yield {**self._head, "object": self._event_object, **said}

    @property
    def _options(self) -> Mapping[str, Any]:
        options: Mapping[str, Any] = self._body.get("stream_options") or {}
        return options

    @property
    def _counts(self) -> bool:
        """In an event of its own, which then is the last one."""
        return bool(self._options.get("include_usage"))

    @property
    def _event_object(self) -> str:
        return "chat.completion.chunk" if self._chats else "text_completion"

    def _event(self, said: Mapping[str, Any], finish_reason: str | None, tokens: int) -> dict[str, Any]:
        """``tokens``: of the answer so far."""
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": finish_reason}
        counted = {"usage": self._usage(tokens)} if self._options.get("continuous_usage_stats") else {}
        last = {"system_fingerprint": _FINGERPRINT} if finish_reason and not self._counts else {}
        return {**self._head, "object": self._event_object, "choices": [choice], **last, **counted}

    def _usage(self, completion: int) -> dict[str, int]:
        prompt = self._text.prompt_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    def __repr__(self) -> str:
        return f"<SimulatedAnswer of {self._expert} [streamed: {self._streamed}, status: {self.status}]>"


def _refusal(body: Body) -> Mapping[str, Any] | None:
    try:
        _Asked.model_validate(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        said = {
            "message": f"{field}: {problem['msg']}",
            "type": "BadRequestError",
            "param": field,
            "code": 400,
        }
        return {"error": said}
    return None


_NOT_FOUND = {
    "error": {
        "message": "the simulated engine does not know this path",
        "type": "NotFoundError",
        "param": None,
        "code": 404,
    }
}


def _tokenize(body: Body) -> dict[str, Any]:
    words = _words(body)
    return {"count": len(words), "max_model_len": 0, "tokens": [len(word) for word in words]}


def _detokenize(body: Body) -> dict[str, Any]:
    return {"prompt": " ".join("x" * length for length in body.get("tokens") or [])}


_ANSWERS: Mapping[str, Callable[[Body], dict[str, Any]]] = {
    "/tokenize": _tokenize,
    "/detokenize": _detokenize,
}


def _words(body: Body) -> list[str]:
    messages = body.get("messages") or []
    texts = [str(message.get("content", "")) for message in messages] or [str(body.get("prompt") or "")]
    return [word for text in texts for word in text.split()]


def _text(expert: str, body: Body) -> _Text:
    """Depends on expert and what is asked only; no longer than ``max_tokens``, or as long."""
    asked = body.get("messages") or body.get("prompt") or []
    prompt = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
    words = ["Simulated", " answer", " of", f" {expert}:"]
    digest = hashlib.blake2b(expert.encode() + prompt, digest_size=60).hexdigest()
    words += [f" {digest[at : at + 2]}" for at in range(0, 2 * (_LONGEST_ANSWER - len(words)), 2)]
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or _LONGEST_ANSWER
    if body.get("ignore_eos"):
        words = list(itertools.islice(itertools.cycle(words), limit))
    finish_reason = "length" if limit < len(words) else "stop"
    return _Text(tuple(words[:limit]), finish_reason, len(_words(body)))
