"""Limits of a key over all nodes, and over the loss of the one that counts for it."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from server.config.settings import Settings
from server.node.key_homes import home_of
from server.peers.identity import Identity
from server.peers.wire import HEARTBEAT, NodeSnapshot
from tests.server.conftest import chat
from tests.server.peers.nodes import PATIENCE_S, SECRET, Node, nodes, stream

pytestmark = pytest.mark.system

LIMIT = 6_000
KEY: dict[str, object] = {"key": "sk-of-all-nodes", "name": "mobile", "tokens_per_day": LIMIT}
THREE: dict[str, object] = {"key": "sk-of-three-at-once", "name": "desk", "concurrent_requests": 3}
OTHERS = {"key": "sk-of-the-test", "name": "test"}
CLUSTER = {"api_keys": [KEY, THREE, OTHERS], "admin_key": "sk-admin-of-the-test"}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    sent = {"authorization": f"Bearer {KEY['key']}"}
    async with httpx.AsyncClient(timeout=PATIENCE_S, headers=sent) as client:
        yield client


async def beats(node: Node) -> AsyncIterator[NodeSnapshot]:
    """Tells others about a node."""
    sent = {"authorization": f"Bearer {Identity.of(SECRET).token}"}
    async with (
        httpx.AsyncClient(timeout=PATIENCE_S, headers=sent) as client,
        client.stream("GET", f"http://{node.address}{HEARTBEAT}") as answer,
    ):
        async for line in answer.aiter_lines():
            yield NodeSnapshot.model_validate_json(line)


async def said(node: Node) -> NodeSnapshot:
    async for snapshot in beats(node):
        return snapshot
    raise AssertionError("it says nothing")


async def home_among(made: list[Node], key: dict[str, object] = KEY) -> Node:
    ids = {(await said(node)).id: node for node in made}
    return ids[home_of(str(key["name"]), ids)]


async def used_of(http: httpx.AsyncClient, node: Node) -> int | None:
    """Asks once; returns the tokens that were used, None where the key has no more."""
    body = chat(max_tokens=20)
    answer = await http.post(f"{node.url}/v1/chat/completions", json=body)
    if answer.status_code == 429:
        assert "quota" in answer.json()["error"]["message"], answer.text
        return None
    assert answer.status_code == 200, answer.text
    return int(answer.json()["usage"]["total_tokens"])


async def told(node: Node, tokens: int) -> None:
    """Waits until others have been told that a node has used so many tokens."""
    after = 0
    async with asyncio.timeout(PATIENCE_S):
        async for snapshot in beats(node):
            figures = snapshot.used.get(str(KEY["name"]))
            after += figures is not None and figures.day_tokens == tokens
            if after == 3:  # of which each other node has had one by now
                return


async def used_up(http: httpx.AsyncClient, *asked: Node) -> int:
    """Asks them at the same time until each refuses twice, as what was reserved too much comes back soon;
    returns the tokens that were used."""
    used = refused = 0
    while refused < 2:
        answers = await asyncio.gather(*(used_of(http, node) for node in asked for _ in range(3)))
        refused = 0 if any(answers) else refused + 1
        used += sum(filter(None, answers))
    return used


async def test_a_day_is_one_for_all_nodes_within_a_hundredth_also_when_the_one_that_counts_is_killed(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    async with nodes(tmp_path, 3, server=CLUSTER, tokens_per_s=2000) as made:
        home = await home_among(made)
        used = {node.port: 0 for node in made}
        for number in range(24):
            node = made[number % 3]
            tokens = await used_of(http, node)
            assert tokens is not None
            used[node.port] += tokens
        assert sum(used.values()) < LIMIT / 2
        await told(home, used[home.port])
        await home.end(signal.SIGKILL)
        left = [node for node in made if node is not home]
        for node in left:
            await node.says(f"node {home.address} does not answer")
        assert 0.99 * LIMIT <= sum(used.values()) + await used_up(http, *left) <= LIMIT


async def test_what_a_lost_node_had_under_way_is_not_counted_any_more(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    http.headers["authorization"] = f"Bearer {THREE['key']}"
    async with nodes(tmp_path, 3, server=CLUSTER) as made:
        home = await home_among(made, THREE)
        here, there = (node for node in made if node is not home)
        streams = [stream(http, node, "law", 300) for node in (there, there, here)]
        for events in streams:
            await anext(events)
        answer = await http.post(f"{here.url}/v1/chat/completions", json=chat(max_tokens=3))
        assert answer.status_code == 429, answer.text
        assert "concurrent requests" in answer.json()["error"]["message"]
        await there.end(signal.SIGKILL)
        for node in (here, home):
            await node.says(f"node {there.address} does not answer")
        answer = await http.post(f"{here.url}/v1/chat/completions", json=chat(max_tokens=3))
        assert answer.status_code == 200, answer.text
