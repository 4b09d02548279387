"""The simulated engine's responses: deterministic text in vLLM's wire format, token by token."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

import orjson

from experts.engines.engine import Body
from experts.errors import EngineLost, EngineUnavailable
from experts.simulated.request_fields import refusal
from experts.simulated.text import detokenize, text_of, tokenize
from experts.simulated.vectors import embeddings, inputs, rerank, score
from experts.spec import Task

_GENERATING = {"/v1/chat/completions": "chat.completion", "/v1/completions": "text_completion"}
"""Path to the ``object`` of a whole answer."""
_FINGERPRINT = "simulated"
"""``system_fingerprint``; vLLM gives it in a whole answer and in a stream's last event."""
_POOLING: Mapping[str, Callable[[str, Body], dict[str, Any]]] = {
    "/v1/embeddings": embeddings,
    "/rerank": rerank,
    "/score": score,
}
Step = Callable[["SimulatedResponse", str], Awaitable[float]]
"""Computes one token with an expert, and returns the seconds that it took. Raises EngineLost."""
_ANSWERS: Mapping[str, Callable[[Body], dict[str, Any]]] = {
    "/tokenize": tokenize,
    "/detokenize": detokenize,
}
_NOT_FOUND = {
    "error": {
        "message": "the simulated engine does not know this path",
        "type": "NotFoundError",
        "param": None,
        "code": 404,
    }
}


class SimulatedResponse:
    """Implements ``experts.engines.engine.EngineResponse`` for completions or, by its task, embeddings, and
    for tokenize and detokenize; any other path is a 404."""

    def __init__(
        self,
        step: Step,
        forget: Callable[["SimulatedResponse"], None],
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
        self._step_seconds: list[float] = []
        self._refusal = refusal(body)
        if self._refusal is not None:
            self._object, body = None, {}
        self._streamed = self._object is not None and bool(body.get("stream"))
        self._text = text_of(expert, body)
        self._other = None if self._object else _ANSWERS.get(path)
        self._pools = _POOLING.get(path) if task == "embed" and self._refusal is None else None
        if self._pools is not None:
            self._head = {"id": f"embd-simulated-{number}", "created": int(time.time()), "model": expert}
            self._other = self._embeddings
        self.status = 400 if self._refusal else 200 if self._object or self._other else 404
        self.content_type = "text/event-stream" if self._streamed else "application/json"

    async def begin(self) -> None:
        """Computes what the first bytes need: one token of a stream, else all tokens or vectors."""
        try:
            for _ in range(self._steps):
                self._step_seconds.append(await self._step(self, self._expert))
        except EngineLost as error:
            raise EngineUnavailable(str(error)) from error

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            if not self._streamed:
                yield orjson.dumps(self._whole())
                return
            for index, event in enumerate(self._events()):
                if 0 < index < len(self._text.tokens):
                    self._step_seconds.append(await self._step(self, self._expert))
                yield b"data: " + orjson.dumps(event) + b"\n\n"
            yield b"data: [DONE]\n\n"
        finally:
            self._forget(self)

    async def whole(self) -> bytes:
        return b"".join([chunk async for chunk in self.chunks()])

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
        more = {"usage": usage, "system_fingerprint": _FINGERPRINT, "metrics": self._times()}
        return {**self._head, "object": self._object, "choices": [choice], **more}

    @property
    def tokens(self) -> int:
        """How many tokens the prompt and the whole answer are."""
        return self._text.prompt_tokens + len(self._text.tokens)

    @property
    def _steps(self) -> int:
        if self._pools is not None:
            return len(inputs(self._body))
        return 0 if self._object is None else 1 if self._streamed else len(self._text.tokens)

    def _embeddings(self, body: Body) -> dict[str, Any]:
        assert self._pools is not None
        return {**self._head, **self._pools(self._expert, body)}

    @property
    def _chats(self) -> bool:
        return self._object == "chat.completion"

    def _events(self) -> Iterator[dict[str, Any]]:
        for index, token in enumerate(self._text.tokens):
            delta = {"content": token} if index else {"role": "assistant", "content": token}
            yield self._event({"delta": delta} if self._chats else {"text": token}, None, index + 1)
        tokens = len(self._text.tokens)
        yield self._event({"delta": {}} if self._chats else {"text": ""}, self._text.finish_reason, tokens)
        if self._ends_with_usage:
            said = {
                "choices": [],
                "usage": self._usage(tokens),
                "system_fingerprint": _FINGERPRINT,
                "metrics": self._times(),
            }
            yield {**self._head, "object": self._event_object, **said}

    @property
    def _options(self) -> Mapping[str, Any]:
        options: Mapping[str, Any] = self._body.get("stream_options") or {}
        return options

    @property
    def _ends_with_usage(self) -> bool:
        """Whether usage comes in an event of its own, which is then the last."""
        return bool(self._options.get("include_usage"))

    @property
    def _event_object(self) -> str:
        return "chat.completion.chunk" if self._chats else "text_completion"

    def _event(self, said: Mapping[str, Any], finish_reason: str | None, tokens: int) -> dict[str, Any]:
        """Makes an event. ``tokens``: how many the answer has so far."""
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": finish_reason}
        counted = {"usage": self._usage(tokens)} if self._options.get("continuous_usage_stats") else {}
        last = {"system_fingerprint": _FINGERPRINT} if finish_reason and not self._ends_with_usage else {}
        return {**self._head, "object": self._event_object, "choices": [choice], **last, **counted}

    def _times(self) -> dict[str, float]:
        """Tells the response's times in milliseconds. It waits in no queue."""
        first, rest = sum(self._step_seconds[:1]), sum(self._step_seconds[1:])
        return {"time_to_first_token_ms": first * 1e3, "generation_time_ms": rest * 1e3, "queue_time_ms": 0.0}

    def _usage(self, completion: int) -> dict[str, int]:
        prompt = self._text.prompt_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    def __repr__(self) -> str:
        return f"<SimulatedResponse of {self._expert} [streamed: {self._streamed}, status: {self.status}]>"
