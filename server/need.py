"""How many tokens a request may take, said before it takes them."""

from collections.abc import Iterator
from dataclasses import dataclass

from server.eligibility import least_tokens, needs_of
from server.openai import ModelRequest

UNSAID_ANSWER = 256
"""Tokens that are reserved for an answer of which the request does not say how long it may be."""
_LONGEST = 1_000_000
"""Tokens of a prompt, beyond which nobody counts."""


@dataclass(frozen=True, slots=True)
class Need:
    """``prompt_tokens`` counts those that there are at least, which takes time where they are many.
    ``answer_tokens``: as many as there may be. ``request``: None where no expert computes for it."""

    request: ModelRequest | None

    def prompt_tokens(self) -> int:
        return 0 if self.request is None else _prompt(self.request)

    def answer_tokens(self) -> int:
        return 0 if self.request is None else _answers(self.request) * _answer(self.request)


NOTHING = Need(None)
"""Of a request for which no expert computes."""


def _prompt(request: ModelRequest) -> int:
    """Of its messages, or of all the texts that it has in their place."""
    given = [request.body.get(field) for field in ("prompt", "input")]
    texts = (text for each in given for text in _texts(each))
    return max(needs_of(request, _LONGEST).prompt, least_tokens(texts, _LONGEST) + sum(map(_tokens, given)))


def _texts(given: object) -> Iterator[str]:
    if isinstance(given, str):
        yield given
    elif isinstance(given, list):
        yield from (text for text in given if isinstance(text, str))


def _tokens(given: object) -> int:
    """Of prompts that come as numbers: one, or a list of them."""
    if not isinstance(given, list):
        return 0
    return sum(len(each) if isinstance(each, list) else type(each) is int for each in given)


def _answer(request: ModelRequest) -> int:
    """Of each. A request that fits any context window asks for no text."""
    if request.any_length:
        return 0
    for field in ("max_completion_tokens", "max_tokens"):
        given = request.body.get(field)
        if type(given) is int and given > 0:
            return given
    return UNSAID_ANSWER


def _answers(request: ModelRequest) -> int:
    """How many are asked for: ``n`` for each prompt."""
    count, prompts = request.body.get("n"), request.body.get("prompt")
    several = len(prompts) if isinstance(prompts, list) and prompts and type(prompts[0]) is not int else 1
    return several * (count if type(count) is int and count > 0 else 1)
