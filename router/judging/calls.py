"""Calls to models, many at once: what came of them is counted, and a run that would come to nothing ends."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from router.clients.chat_client import Ask, Chat, Reply
from router.errors import EndpointError, PromptRefused
from router.progress import Progress

HOPELESS = 10
"""Prompts that one model refused, or replies of the judge without a verdict, while none succeeded: nothing
more is asked then."""

Item = TypeVar("Item")
Verdict = TypeVar("Verdict")


@dataclass(slots=True)
class Calls:
    """Counts what came of calls, and ends a run that would come to nothing."""

    answered: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)
    readings: Counter[bool] = field(default_factory=Counter)
    """Whether a reply of the judge held a verdict."""
    first_refusal: dict[str, str] = field(default_factory=dict)

    async def reply(self, chat: Chat, ask: Ask) -> Reply | None:
        """Returns the reply; None: the endpoint refused the prompt. Raises EndpointError."""
        try:
            reply = await chat.reply(ask)
        except PromptRefused as error:
            self.refused[ask.model] += 1
            first = self.first_refusal.setdefault(ask.model, str(error))
            if self.refused[ask.model] >= HOPELESS and not self.answered[ask.model]:
                raise EndpointError(f"{first}; so it was for each of {HOPELESS} prompts") from error
            return None
        self.answered[ask.model] += 1
        self.cut[ask.model] += reply.cut
        return reply

    def verdict(self, text: str, read: Callable[[str], Verdict | None]) -> Verdict | None:
        """Reads a reply of the judge; None: it holds no verdict. Raises EndpointError where none does."""
        found = read(text)
        self.readings[found is not None] += 1
        if self.readings[False] >= HOPELESS and not self.readings[True]:
            last = " ".join(text.split())[-100:]
            raise EndpointError(
                f"none of {HOPELESS} replies of the judge ends in a verdict: {last!r}; "
                "use another model, or let it write more with --verdict-tokens"
            )
        return found


async def each(
    items: Sequence[Item],
    work: Callable[[Item], Awaitable[None]],
    concurrency: int,
    progress: Progress,
    stage: str,
) -> None:
    """Does ``work`` for each, so many at once. The first error ends the others and is raised."""
    waiting, done = iter(items), itertools.count(1)
    progress(stage, 0, len(items))

    async def worker() -> None:
        for item in waiting:
            await work(item)
            progress(stage, next(done), len(items))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(items))):
                group.create_task(worker())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
