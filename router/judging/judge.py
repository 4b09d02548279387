"""Scores from a judge: every expert answers every prompt, and a language model compares the answers in pairs.

The replies are the only state: the same plan over the same kept replies gives the same result, so a run that
stopped anywhere goes on by being started again.
"""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from router.clients.chat_client import Ask, Chat
from router.data.dataset import Example
from router.judging.calls import Calls, each
from router.judging.verdicts import JudgedPair, Pair, Reading, question, verdict_of
from router.progress import Progress


@dataclass(frozen=True, slots=True)
class Plan:
    examples: tuple[Example, ...]
    experts: tuple[str, ...]
    judge: str
    reference: str | None = None
    """The expert that every other one is compared with; absent, all pairs are."""
    answer_tokens: int = 1024
    verdict_tokens: int = 512
    """At most, of each reply."""

    @property
    def pairs(self) -> tuple[Pair, ...]:
        if self.reference is not None:
            return tuple(Pair(name, self.reference) for name in self.experts if name != self.reference)
        return tuple(Pair(*pair) for pair in itertools.combinations(self.experts, 2))

    def answer(self, expert: str, example: Example) -> Ask:
        return Ask(expert, example.prompt, self.answer_tokens)

    def questions(self, example: Example, first: str, second: str) -> tuple[Ask, Ask]:
        """Makes the two requests to the judge about a pair of answers: as they are, and with places
        changed."""
        shown = ((first, second), (second, first))
        ask, swapped = (question(self.judge, example.prompt, a, b, self.verdict_tokens) for a, b in shown)
        return ask, swapped


@dataclass(frozen=True, slots=True)
class Judged:
    pairs: tuple[JudgedPair, ...]
    """Prompt by prompt, in the plan's order."""
    cut: Mapping[str, int]
    """Expert to how many of its answers ended at the most tokens they may have."""
    refusals: Mapping[str, int]
    """Expert to how many prompts its endpoint refused."""
    first_refusals: tuple[str, ...]
    """Error of the first prompt that an expert, or the judge, refused."""


def sample(examples: Sequence[Example], per_category: int | None) -> tuple[Example, ...]:
    """At most so many prompts of each category, in their order. A larger number adds to the same prompts."""
    if per_category is None:
        return tuple(examples)
    of: defaultdict[str | None, list[Example]] = defaultdict(list)
    for example in sorted(examples, key=lambda example: hashlib.sha256(example.id.encode()).digest()):
        of[example.category].append(example)
    chosen = {example.id for category in of.values() for example in category[:per_category]}
    return tuple(example for example in examples if example.id in chosen)


async def judge(
    plan: Plan, answering: Chat, judging: Chat, *, concurrency: int, progress: Progress = lambda *_: None
) -> Judged:
    """At most ``concurrency`` prompts of one expert, and then pairs, are in work at once.

    Expert by expert, so that a gateway which cannot hold them all loads each once. Raises EndpointError and
    JudgingError; what was replied until then is kept.
    """
    answering_calls, judging_calls = Calls(), Calls()
    answers: dict[tuple[str, str], str] = {}

    async def answer(work: tuple[str, Example]) -> None:
        expert, example = work
        reply = await answering_calls.reply(answering, plan.answer(expert, example))
        if reply is not None:
            answers[expert, example.id] = reply.text

    for expert in plan.experts:
        asked = [(expert, example) for example in plan.examples]
        await each(asked, answer, concurrency, progress, f"answers of {expert}")

    judged: dict[tuple[str, Pair], JudgedPair] = {}

    async def compare(work: tuple[Example, Pair]) -> None:
        example, pair = work
        first, second = answers.get((pair.first, example.id)), answers.get((pair.second, example.id))
        judged[example.id, pair] = await _compare(plan, judging_calls, judging, example, pair, first, second)

    every = list(itertools.product(plan.examples, plan.pairs))
    await each(every, compare, concurrency, progress, "verdicts")
    in_order = tuple(judged[example.id, pair] for example, pair in every)
    said = (*answering_calls.first_refusal.values(), *judging_calls.first_refusal.values())
    return Judged(in_order, answering_calls.cut, answering_calls.refused, said)


async def _compare(
    plan: Plan,
    calls: Calls,
    judging: Chat,
    example: Example,
    pair: Pair,
    first: str | None,
    second: str | None,
) -> JudgedPair:
    if first is None or second is None:
        return JudgedPair(example.id, pair, None)
    if first == second:
        return JudgedPair(example.id, pair, ("TIE", "TIE"), same=True)
    readings: list[Reading] = []
    for ask in plan.questions(example, first, second):
        reply = await calls.reply(judging, ask)
        readings.append("refused" if reply is None else calls.verdict(reply.text, verdict_of) or "unreadable")
    return JudgedPair(example.id, pair, (readings[0], readings[1]))
