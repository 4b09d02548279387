"""Counts the calls that judging will make, and estimates their cost, before it starts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from router.clients.chat_client import Ask
from router.judging.judge import Plan
from router.judging.reply_cache import ReplyFile

BYTES_PER_TOKEN = 4
"""Bytes of UTF-8; true of most tokenizers and languages within a factor of 1.5."""


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls to one endpoint. Tokens are estimates: replies are taken to be as long as they may be."""

    all: int
    missing: int
    tokens_in: int
    tokens_out: int
    """Tokens of the missing calls' replies."""


@dataclass(frozen=True, slots=True)
class Price:
    """Price of a million tokens, in any currency."""

    tokens_in: float
    tokens_out: float

    def of(self, tokens_in: int, tokens_out: int) -> float:
        return (self.tokens_in * tokens_in + self.tokens_out * tokens_out) / 1e6


@dataclass(frozen=True, slots=True)
class Bill:
    answers: Calls
    verdicts: Calls


def bill(plan: Plan, replies: ReplyFile) -> Bill:
    """Counts what ``replies`` does not have yet."""
    answers = (plan.answer(expert, example) for expert in plan.experts for example in plan.examples)
    return Bill(_calls(answers, replies), _calls(_questions(plan, replies), replies))


def _questions(plan: Plan, replies: ReplyFile) -> Iterator[Ask]:
    """Yields the requests to the judge about every pair. An answer that is not there yet is as long as it may
    be."""
    unknown = " " * (BYTES_PER_TOKEN * plan.answer_tokens)
    for example in plan.examples:
        answers = {}
        for expert in plan.experts:
            reply = replies.get(plan.answer(expert, example))
            answers[expert] = unknown if reply is None else reply.text
        for pair in plan.pairs:
            first, second = answers[pair.first], answers[pair.second]
            if first is unknown or first != second:
                yield from plan.questions(example, first, second)


def _calls(asks: Iterable[Ask], replies: ReplyFile) -> Calls:
    every = missing = written = tokens_out = 0
    for ask in asks:
        every += 1
        if replies.get(ask) is None:
            missing += 1
            written += len(ask.system.encode()) + len(ask.prompt.encode())
            tokens_out += ask.max_tokens
    return Calls(every, missing, written // BYTES_PER_TOKEN, tokens_out)
