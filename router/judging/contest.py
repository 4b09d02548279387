"""Contestants answer questions in turns, and a judge is asked about what they said.

The replies are the only state, as in ``router.judging.judge``: a run that stopped goes on where it stopped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from router.clients.chat_client import Ask, Chat, Reply
from router.judging.calls import Calls, each
from router.judging.questions import TEMPERATURES, Question
from router.progress import Progress


@dataclass(frozen=True, slots=True)
class Said:
    """A contestant's answer to each turn of a question; fewer where its endpoint refused one."""

    replies: tuple[Reply, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(reply.text for reply in self.replies)


Answers = Mapping[tuple[str, str], Said]
"""Keys are contestant and question's id."""


async def answers_of(
    contestants: Sequence[str],
    questions: Sequence[Question],
    chat: Chat,
    calls: Calls,
    *,
    max_tokens: int,
    concurrency: int,
    progress: Progress,
) -> Answers:
    """Asks contestant by contestant, so that a gateway loads each expert seldom. Raises EndpointError,
    JudgingError."""
    found: dict[tuple[str, str], Said] = {}

    async def answer(work: tuple[str, Question]) -> None:
        contestant, question = work
        replies: list[Reply] = []
        for number, turn in enumerate(question.turns):
            before = [text for at in range(number) for text in (question.turns[at], replies[at].text)]
            temperature = TEMPERATURES.get(question.category, 0.0)
            ask = Ask(contestant, turn, max_tokens, before=tuple(before), temperature=temperature)
            reply = await calls.reply(chat, ask)
            if reply is None:
                break
            replies.append(reply)
        found[contestant, question.id] = Said(tuple(replies))

    for contestant in contestants:
        asked = [(contestant, question) for question in questions]
        await each(asked, answer, concurrency, progress, f"answers of {contestant}")
    return found


def active_parameters(answers: Answers, contestant: str, sizes: Mapping[str, float]) -> float | None:
    """Mean over answers of the billions of parameters of the expert that gave them; None where the size of
    one is not known. The router's own are not among them."""
    replies = [reply for (name, _), said in answers.items() if name == contestant for reply in said.replies]
    found = [sizes.get(reply.expert or contestant) for reply in replies]
    known = [size for size in found if size is not None]
    return sum(known) / len(known) if known and len(known) == len(found) else None
