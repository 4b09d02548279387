"""Whose turn it is, without a gateway."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from server.batches.schedule import Rounds, in_order
from tests.server.conftest import until


async def calm(expert: str) -> None:
    pass


def test_who_is_on_the_device_comes_first_and_then_who_has_most_work() -> None:
    waiting = {"law": 5, "math": 9, "coding": 1, "general": 5}
    assert in_order(waiting, {"coding": "device", "math": "host"}) == ["coding", "math", "general", "law"]


async def run_until(rounds: Rounds, done: Callable[[], bool]) -> None:
    running = asyncio.create_task(rounds.run())
    await until(done)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_one_expert_after_another_and_few_requests_at_a_time() -> None:
    rounds = Rounds(2, lambda: {"math": "device"}, calm)
    log: list[str] = []
    under_way: list[str] = []
    most = 0

    def work(expert: str) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            nonlocal most
            under_way.append(expert)
            most = max(most, len(under_way))
            assert set(under_way) == {expert}
            await asyncio.sleep(0)
            under_way.remove(expert)
            log.append(expert)

        return run

    rounds.add({name: [work(name) for _ in range(count)] for name, count in {"law": 5, "math": 3}.items()})
    await run_until(rounds, lambda: len(log) == 8)
    assert log == ["math"] * 3 + ["law"] * 5
    assert most == 2


async def test_what_comes_late_does_not_keep_the_others_waiting() -> None:
    """An expert that gets new work in its own turn has its next turn in the next round."""
    rounds = Rounds(1, dict, calm)
    log: list[str] = []

    async def law() -> None:
        log.append("law")

    async def math() -> None:
        log.append("math")
        if log.count("math") < 4:
            rounds.add({"math": [math]})

    rounds.add({"math": [math, math], "law": [law]})
    await run_until(rounds, lambda: log.count("math") >= 4)
    assert log[:3] == ["math", "math", "law"]
