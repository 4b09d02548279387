"""Closed loop: a number of streams that each ask again as soon as they are answered, until the questions
end."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.engine.asking import Served
from benchmarks.engine.rival import Rival, Switching
from benchmarks.engine.workload import Question


@dataclass(frozen=True, slots=True)
class Run:
    """Result of one run: wall-clock seconds from the first question to the last answer."""

    seconds: float
    served: tuple[Served, ...]
    switching: Switching


async def run(
    rival: Rival, questions: Iterable[Question], streams: int, tokens: int, answered: Callable[[], None]
) -> Run:
    """Calls ``answered`` after each answer. Raises the first EngineError after ending all streams."""
    pending = iter(questions)
    served: list[Served] = []

    async def stream() -> None:
        for question in pending:
            served.append(await rival.serve(question, tokens))
            answered()

    before = await rival.switching()
    began = time.perf_counter()
    tasks = [asyncio.create_task(stream()) for _ in range(streams)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    seconds = time.perf_counter() - began
    after = await rival.switching()
    switching = Switching(after.switches - before.switches, after.seconds - before.seconds)
    return Run(seconds, tuple(served), switching)
