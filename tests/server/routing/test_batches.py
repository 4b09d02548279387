import asyncio
import contextlib
import threading
from collections.abc import Mapping, Sequence
from functools import partial

import pytest

from server.routing.batches import LONG, MANY, MOST, Batches
from server.routing.thread_pools import Workers
from tests.server.conftest import until


class Reader:
    """Reads in batches, the first of which waits to be told."""

    def __init__(self, *, quickly: bool = True, broken: bool = False) -> None:
        self.batches: list[list[str]] = []
        self.go_on = threading.Event()
        self._quickly = quickly
        self._broken = broken

    def read_ahead(self, conversations: Sequence[Sequence[Mapping[str, object]]]) -> list[bool]:
        self.batches.append([str(messages[-1]["content"]) for messages in conversations])
        assert self.go_on.wait(30)
        if self._broken:
            raise RuntimeError("the table is gone")
        return [self._quickly for _ in conversations]


def says(text: str) -> list[Mapping[str, object]]:
    return [{"role": "user", "content": text}]


async def test_requests_that_come_while_a_batch_is_read_are_read_together() -> None:
    with contextlib.closing(Workers()) as workers:
        reader, batches = Reader(), Batches(workers)
        first = asyncio.create_task(batches.decide(reader, says("first"), lambda: "first"))
        await until(lambda: bool(reader.batches))
        texts = [str(number) for number in range(MOST + 3)]
        others = [
            asyncio.create_task(batches.decide(reader, says(text), partial(str, text))) for text in texts
        ]
        left = asyncio.create_task(batches.decide(reader, says("left"), lambda: "left"))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait({left})
        reader.go_on.set()
        assert await asyncio.gather(first, *others) == ["first", *texts]
        assert reader.batches == [["first"], texts[:MOST], texts[MOST:]]
        assert await batches.decide(reader, says("again"), lambda: "again") == "again"


async def test_each_composition_reads_its_own() -> None:
    with contextlib.closing(Workers()) as workers:
        one, other, batches = Reader(), Reader(), Batches(workers)
        for reader in (one, other):
            reader.go_on.set()
        asked = [(one, "a"), (other, "b"), (one, "c")]
        await asyncio.gather(*(batches.decide(reader, says(text), str) for reader, text in asked))
        assert (one.batches, other.batches) == ([["a", "c"]], [["b"]])


@pytest.mark.parametrize("reader", [Reader(quickly=False), Reader(broken=True)])
async def test_what_is_not_read_quickly_is_decided_in_another_thread(reader: Reader) -> None:
    with contextlib.closing(Workers()) as workers:
        reader.go_on.set()
        thread = await Batches(workers).decide(reader, says("hard"), lambda: threading.current_thread().name)
        assert thread.startswith("coe-decide")
        assert reader.batches == [["hard"]]


@pytest.mark.parametrize(
    "messages",
    [
        says("x" * LONG),
        says("x") * MANY,
        [{"role": "user", "content": [{"type": "text", "text": "parts"}]}],
    ],
)
async def test_what_is_long_or_has_parts_waits_for_no_batch(messages: list[Mapping[str, object]]) -> None:
    with contextlib.closing(Workers()) as workers:
        reader = Reader()
        assert await Batches(workers).decide(reader, messages, lambda: "decided") == "decided"
        assert not reader.batches


async def test_what_deciding_raises_is_the_requests_own() -> None:
    def refused() -> str:
        raise ValueError("no expert can take this")

    with contextlib.closing(Workers()) as workers:
        reader, batches = Reader(), Batches(workers)
        reader.go_on.set()
        one = batches.decide(reader, says("one"), refused)
        other = batches.decide(reader, says("other"), lambda: "other")
        found = await asyncio.gather(one, other, return_exceptions=True)
        assert [type(each) for each in found] == [ValueError, str]
