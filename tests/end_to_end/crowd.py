"""Clients that ask all at once, each again as soon as it is answered, and what they get to see."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from experts.engines.canary import Tolerance


@dataclass(frozen=True, slots=True)
class Question:
    expert: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Token:
    """``margin``: by how much its log-probability is above that of the second best."""

    text: str
    logprob: float
    margin: float


@dataclass(slots=True)
class Answer:
    """What came of one request. ``problem``: of the connection, or an error event; empty where none was."""

    question: Question
    status: int = 0
    problem: str = ""
    tokens: list[Token] = field(default_factory=list)
    counted: int = 0
    """Tokens, by the engine's own ``usage``."""
    done: bool = False
    """The stream ended with ``[DONE]``."""
    tier: str = ""
    """Empty where the headers came before the lease."""
    seconds: float = 0.0

    def is_whole(self, tokens: int) -> bool:
        return (self.status, self.problem, self.done, self.counted) == (200, "", True, tokens)

    def agrees(self, first: "Answer", tolerance: Tolerance) -> bool:
        """Whether one expert may have said both. Who else is in a batch moves log-probabilities a little, and
        may turn a token into another that was as likely; from there on the texts are different ones. The mean
        is of the tokens before: it may be the first that turns."""
        off = []
        for found, expected in zip(self.tokens, first.tokens, strict=True):
            if found.text != expected.text:
                if expected.margin > tolerance.each:
                    return False
                break
            off.append(abs(found.logprob - expected.logprob))
        return max(off, default=0.0) <= tolerance.each and sum(off) <= tolerance.mean * len(off)


async def ask_all(url: str, questions: Iterable[Question], clients: int, tokens: int) -> list[Answer]:
    """Streamed answers of so many ``tokens`` to all questions, in the order in which they ended."""
    pending, answers = iter(questions), list[Answer]()
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as http:

        async def client() -> None:
            for question in pending:
                answers.append(await _ask(http, question, tokens))

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client())
    return answers


async def _ask(http: httpx.AsyncClient, question: Question, tokens: int) -> Answer:
    answer, began = Answer(question), time.monotonic()
    body = {
        "model": question.expert,
        "messages": [{"role": "user", "content": question.prompt}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 2,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    try:
        async with http.stream("POST", "/v1/chat/completions", json=body) as response:
            answer.status = response.status_code
            answer.tier = response.headers.get("x-coe-tier", "")
            if response.status_code != 200:
                answer.problem = (await response.aread()).decode(errors="replace")
            async for line in response.aiter_lines():
                _take(answer, line)
    except httpx.HTTPError as error:
        answer.problem = repr(error)
    answer.seconds = time.monotonic() - began
    return answer


def _take(answer: Answer, line: str) -> None:
    """A line of the stream."""
    if not line.startswith("data: "):
        return
    if line == "data: [DONE]":
        answer.done = True
        return
    event = orjson.loads(line.removeprefix("data: "))
    answer.problem = str(event.get("error", answer.problem))
    for choice in event.get("choices", ()):
        answer.tokens += map(_token, (choice.get("logprobs") or {}).get("content") or ())
    if event.get("usage"):
        answer.counted = event["usage"]["completion_tokens"]


def _token(entry: dict[str, Any]) -> Token:
    best, second = sorted((each["logprob"] for each in entry["top_logprobs"]), reverse=True)[:2]
    return Token(entry["token"], entry["logprob"], best - second)
