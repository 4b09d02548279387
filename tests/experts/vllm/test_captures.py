"""Graphs are captured one at a time, by all workers or by none."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import pytest_asyncio

from experts.errors import CanaryFailed, LoadFailed
from experts.vllm.captures import Captures
from experts.vllm.server import VllmServer


class Workers:
    """Two workers that lack three graphs of each expert, and have room for ``room`` of them."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.captured = [0, 0]
        self.trusted = False
        self.room = [9, 9]
        self.fails_at = 9
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.asked = asyncio.Event()

    async def workers(self, method: str, expert: str) -> list[dict[str, Any]]:
        self.calls.append(method.removeprefix("coe_"))
        self.asked.set()
        await self.go_on.wait()
        if method == "coe_capture":
            if self.captured[0] == self.fails_at:
                raise LoadFailed("CUDA out of memory")
            self.captured = [count + 1 for count in self.captured]
        elif method == "coe_forget_graphs":
            self.captured = [0, 0]
        elif method == "coe_trust_graphs":
            self.trusted = True
        pairs = zip(self.captured, self.room, strict=True)
        tried = {"tried_as": f"{expert}, tried"}
        return [{"missing": 3 - count, "room": room > count, **tried} for count, room in pairs]


@pytest_asyncio.fixture
async def workers() -> AsyncIterator[Workers]:
    yield Workers()


async def right(asked_as: str) -> None:
    """The canary gives what is known of it."""
    assert asked_as == "math, tried"


def begin(workers: Workers, captures: Captures, prove: Any = right) -> None:
    captures.begin(cast(VllmServer, workers), "math", prove)


async def test_all_graphs_are_captured_one_a_call(workers: Workers) -> None:
    captures = Captures("f")
    begin(workers, captures)
    await captures.settled()
    assert workers.captured == [3, 3]
    assert workers.calls == ["graphs", "capture"] * 3 + ["graphs", "try_graphs", "trust_graphs"]


async def test_none_is_captured_where_one_worker_has_no_room(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    workers.room = [9, 1]
    captures = Captures("f")
    begin(workers, captures)
    await captures.settled()
    assert workers.calls == ["graphs", "capture", "graphs", "forget_graphs"]
    assert workers.captured == [0, 0], "a graph on one and none on another would not go together"
    assert "math computes without graphs: the GPU has no room for 2 graphs" in caplog.text


async def test_a_capture_that_fails_leaves_none(workers: Workers) -> None:
    workers.fails_at = 2
    captures = Captures("f")
    begin(workers, captures)
    await captures.settled()
    assert workers.captured == [0, 0]


async def test_graphs_that_do_not_prove_right_are_destroyed(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    async def wrong(asked_as: str) -> None:
        assert not workers.trusted, "no request has been computed by them"
        raise CanaryFailed("token 3 is 7")

    captures = Captures("f")
    begin(workers, captures, wrong)
    await captures.settled()
    assert workers.captured == [0, 0]
    assert not workers.trusted
    assert "math computes without graphs: token 3 is 7" in caplog.text


async def test_nothing_is_captured_while_an_expert_is_loaded_or_after_it_has_left(workers: Workers) -> None:
    captures = Captures("f")
    async with captures.no_load:
        begin(workers, captures)
        for _ in range(5):
            await asyncio.sleep(0)
        assert workers.calls == []
    workers.go_on.clear()
    await workers.asked.wait()
    captures.end("math")
    workers.go_on.set()
    await captures.settled()
    for _ in range(5):
        await asyncio.sleep(0)
    assert workers.calls == ["graphs"]
