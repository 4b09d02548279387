"""Nodes of this version of the protocol beside the one before and the next; one further away is refused."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from server.config.settings import Settings
from server.peers.wire import PROTOCOL
from tests.server.conftest import EXPERTS, chat
from tests.server.peers.nodes import PATIENCE_S, Node, nodes
from tests.server.peers.test_placing import followed, placed

pytestmark = pytest.mark.system

KEY = {"key": "sk-of-both", "name": "both", "requests_per_minute": 100}
SERVER = {"api_keys": [KEY], "admin_key": "sk-admin-of-the-test"}
RULES = {"copies": 2, "lost_grace_s": 0, "order_s": 5, "avoid_s": 1}
LEFT = "x-ratelimit-remaining-requests"
AS_OPERATOR = {"authorization": "Bearer sk-admin-of-the-test"}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    sent = {"authorization": f"Bearer {KEY['key']}"}
    async with httpx.AsyncClient(timeout=PATIENCE_S, headers=sent) as client:
        yield client


async def asked(http: httpx.AsyncClient, node: Node, number: int) -> httpx.Response:
    body = chat(model=EXPERTS[number % len(EXPERTS)], max_tokens=3)
    answer = await http.post(f"{node.url}/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.parametrize("by", ["-1", "1"])
async def test_nodes_whose_versions_differ_by_one_serve_count_place_and_move_together(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient, by: str
) -> None:
    other = {1: ("tests.server.peers.other_version", by)}
    async with nodes(
        tmp_path, 2, programs=other, tls=True, placement=RULES, host="6kB", server=SERVER
    ) as made:
        async with httpx.AsyncClient(timeout=PATIENCE_S, headers=AS_OPERATOR) as operator:
            seen = [await followed(operator, node, placed(2)) for node in made]
            assert len({(found.placer, found.term) for found in seen}) == 1
        left = [int((await asked(http, made[each % 2], each)).headers[LEFT]) for each in range(20)]
        assert left == [*range(99, 79, -1)], "one of the two counts for both"
        stored = {"model": "law", "input": "hello", "store": True, "max_output_tokens": 16}
        for here, there in (made, made[::-1]):
            kept = (await http.post(f"{there.url}/v1/responses", json=stored)).json()
            assert (await http.get(f"{here.url}/v1/responses/{kept['id']}")).json() == kept


async def test_a_node_whose_version_is_further_away_is_refused_in_one_line(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    far = {1: ("tests.server.peers.other_version", "2")}
    unwaited: dict[int, list[str]] = {2: []}  # the two have the usual list, and nobody waits until they agree
    async with nodes(tmp_path, 2, unwaited, programs=far, server=SERVER) as (here, there):
        for node, other, theirs, own in (
            (here, there, PROTOCOL + 2, PROTOCOL),
            (there, here, PROTOCOL, PROTOCOL + 2),
        ):
            await node.says(
                f"node {other.address} does not answer: it speaks version {theirs} of the nodes' protocol "
                f"and this node {own}: they may differ by one"
            )
        for each in range(10):
            await asked(http, (here, there)[each % 2], each // 2)
        for node in (here, there):
            assert node.said.count(b"of the nodes' protocol") == 1, node.said.decode()
