"""Estimates how many tokens a request may take, before it takes them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from server.model_request import ModelRequest
from server.routing.eligibility import LONG, least_tokens, needs_of
from server.routing.thread_pools import Workers

UNSAID_ANSWER = 256
"""Tokens reserved for an answer whose length the request does not limit."""
_INSTEAD = ("prompt", "input")
_LONGEST = 1_000_000
"""Tokens of a prompt beyond which counting stops."""


@dataclass(frozen=True)
class TokenEstimate:
    """``prompt_tokens``: the fewest that there can be, counted when they are first asked for.
    ``answer_tokens``: the most that there can be. ``request``: None where no expert computes for it."""

    request: ModelRequest | None

    @classmethod
    async def of(cls, request: ModelRequest, workers: Workers) -> "TokenEstimate":
        """Makes the estimate; a long text is counted beside the event loop."""
        need = cls(request)
        if _characters(request) > LONG:
            await workers.decide(lambda: need.prompt_tokens)
        return need

    @cached_property
    def prompt_tokens(self) -> int:
        return 0 if self.request is None else _prompt(self.request)

    def answer_tokens(self) -> int:
        return 0 if self.request is None else _answers(self.request) * _answer(self.request)


NO_TOKENS = TokenEstimate(None)
"""The estimate for a request for which no expert computes."""


def _characters(request: ModelRequest) -> int:
    """Counts the characters of its texts."""
    characters = 0
    for message in request.messages:
        content = message.get("content")
        if type(content) is not str:
            characters = needs_of(request, _LONGEST).characters
            break
        characters += len(content)
    return characters + sum(map(len, _given(request)))


def _prompt(request: ModelRequest) -> int:
    """Counts the tokens of its messages, or of all texts that it has in their place."""
    tokens = sum(_tokens(request.body.get(field)) for field in _INSTEAD)
    return max(needs_of(request, _LONGEST).prompt, least_tokens(_given(request), _LONGEST) + tokens)


def _given(request: ModelRequest) -> Iterator[str]:
    """Yields the texts in the place of messages."""
    for field in _INSTEAD:
        given = request.body.get(field)
        if isinstance(given, str):
            yield given
        elif isinstance(given, list):
            yield from (text for text in given if isinstance(text, str))


def _tokens(given: object) -> int:
    """Counts the tokens of prompts that come as numbers: one, or a list of them."""
    if not isinstance(given, list):
        return 0
    return sum(len(each) if isinstance(each, list) else type(each) is int for each in given)


def _answer(request: ModelRequest) -> int:
    """Returns the most tokens of one answer. A request that fits any context window asks for no text."""
    if request.any_length:
        return 0
    for field in ("max_completion_tokens", "max_tokens"):
        given = request.body.get(field)
        if type(given) is int and given > 0:
            return given
    return UNSAID_ANSWER


def _answers(request: ModelRequest) -> int:
    """Returns how many answers are asked for: ``n`` for each prompt."""
    count, prompts = request.body.get("n"), request.body.get("prompt")
    several = len(prompts) if isinstance(prompts, list) and prompts and type(prompts[0]) is not int else 1
    return several * (count if type(count) is int and count > 0 else 1)
