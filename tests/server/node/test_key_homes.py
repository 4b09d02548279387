"""The home of a key in one process: what is let in is given back, whatever happens to who asked."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import TypeAdapter

from experts.errors import EngineUnavailable
from server.access.accounts import Accounts
from server.access.counts import Admitted, LocalCounts
from server.access.rate_limits import Refusal
from server.access.usage import Spent
from server.config.api_keys import Key, Limits
from server.node.key_homes import KeyHomes, home_of
from server.peers.peers import Peers
from server.peers.wire import ADMIT, FIGURES, AdmitRequest, FiguresRequest, Settlement

NAMES = "one", "two", "three"
MINE = next(f"key{number}" for number in range(99) if home_of(f"key{number}", NAMES) == "one")
KEY = Key(MINE, Limits(concurrent_requests=1))
"""Its home is node one."""
SETTLEMENTS = TypeAdapter(list[Settlement])


class Node:
    """A node among others in this process. ``passes``: awaited before and after each message to it."""

    def __init__(self, name: str) -> None:
        self.snapshot: Any = SimpleNamespace(id=name, draining=False, gateway=False)
        self.address = name
        self.passes: Callable[[str, str], Any] = _at_once
        accounts = SimpleNamespace(used={}, started=None, note=lambda *_: None)
        self.peers = SimpleNamespace(id=name, here=self.snapshot, all=[], forgotten=[], up=[])
        self.homes = KeyHomes(LocalCounts(cast(Accounts, accounts)), cast(Peers, self.peers))

    def gone(self, key: str) -> list[Any]:
        return []

    async def tell(self, path: str, body: bytes) -> tuple[int, bytes]:
        await self.passes(path, "there")
        if path == ADMIT:
            asked = AdmitRequest.model_validate_json(body)
            limits = Limits(concurrent_requests=asked.concurrent_requests)
            answer: Any = await self.homes.admit_for(
                asked.node, asked.key, limits, asked.tokens, offline=asked.offline
            )
        elif path == FIGURES:
            wanted = FiguresRequest.model_validate_json(body)
            answer = self.homes.figures_for(wanted.home, wanted.key)
        else:
            for each in SETTLEMENTS.validate_json(body):
                self.homes.settle_for(each)
            return 200, b"{}"
        said = answer.model_dump_json().encode()
        await self.passes(path, "back")
        return 200, said


async def _at_once(path: str, way: str) -> None:
    pass


@pytest.fixture
def three() -> list[Node]:
    made = [Node(name) for name in NAMES]
    for node in made:
        node.peers.all = node.peers.up = [other for other in made if other is not node]
    return made


async def let_in(node: Node) -> Admitted:
    decided = await node.homes.admit(KEY, 0, offline=False)
    assert isinstance(decided, Admitted), decided
    return decided


async def test_a_client_that_leaves_while_the_home_is_asked_holds_nothing(three: list[Node]) -> None:
    home, here, _ = three
    asked, answered = asyncio.Event(), asyncio.Event()

    async def slow(path: str, way: str) -> None:
        if (path, way) == (ADMIT, "back"):
            asked.set()
            await answered.wait()

    home.passes = slow
    leaves = asyncio.create_task(here.homes.admit(KEY, 0, offline=False))
    await asked.wait()
    leaves.cancel()
    answered.set()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    await here.homes.close()
    home.passes = _at_once
    await let_in(here)


async def test_what_ends_while_figures_are_asked_for_does_not_count_as_under_way(three: list[Node]) -> None:
    home, here, slow = three
    home.peers.up = [here]
    held = await let_in(here)
    home.peers.up = [here, slow]  # it has just come
    asked, answered = asyncio.Event(), asyncio.Event()

    async def waits(path: str, way: str) -> None:
        asked.set()
        await answered.wait()

    slow.passes = waits
    refused = asyncio.create_task(home.homes.admit(KEY, 0, offline=False))
    await asked.wait()
    here.homes.settle(KEY, held.receipt, "", Spent())
    await here.homes.close()
    answered.set()
    assert isinstance(await refused, Admitted), "the one before has ended"
    assert isinstance(await home.homes.admit(KEY, 0, offline=False), Refusal), "and this one has not"


async def test_a_home_that_does_not_answer_for_a_moment_is_told_what_ended(
    three: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.node.key_homes.HEARTBEAT_S", 0.001)
    home, here, _ = three
    held = await let_in(here)
    tried = asyncio.Event()

    async def lost(path: str, way: str) -> None:
        tried.set()
        raise EngineUnavailable("the connection is gone")

    home.passes = lost
    here.homes.settle(KEY, held.receipt, "", Spent())
    await tried.wait()
    home.passes = _at_once
    await asyncio.gather(*here.homes._tasks)
    await let_in(here)
