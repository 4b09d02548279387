"""Several nodes as their clients see them: any answers for all experts, and nothing is lost when one dies."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import pytest
import yaml

from server.cli.main import main
from server.config.settings import Settings
from server.peers.identity import Identity
from tests.server.conftest import EXPERTS, chat
from tests.server.peers.link import Link
from tests.server.peers.nodes import PATIENCE_S, SECRET, Node, ask, free_ports, nodes, stream

pytestmark = pytest.mark.system


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        yield client


async def first(events: AsyncIterator[str]) -> str:
    return await anext(events)


async def knows_where(http: httpx.AsyncClient, node: Node, other: Node) -> dict[str, str]:
    """Returns what ``node`` thinks that ``other`` holds, once it thinks what is so."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            told = (await http.get(f"{node.url}/v1/coe/cluster")).json()["nodes"]
            itself = (await http.get(f"{other.url}/v1/coe/cluster")).json()["nodes"][0]["experts"]
            thought: dict[str, str] = next(
                each["experts"] for each in told if each["address"] == other.address
            )
            if thought == itself:
                return thought


async def test_experts_spread_over_the_nodes_and_each_node_answers_for_all_of_them(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    experts = [expert for expert in EXPERTS if expert != "medicine"]
    async with nodes(tmp_path, 3, tls=True, load_bytes_per_s="3000B") as made:
        for expert in experts:
            for other in made[1:]:
                await knows_where(http, made[0], other)
            assert (await ask(http, made[0], expert)).status_code == 200
        for other in (made[0], made[2]):
            await knows_where(http, made[1], other)
        found = {}
        for expert in experts:
            answer = await ask(http, made[1], expert, seed=1)
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-coe-expert"] == answer.json()["model"] == expert
            found[expert] = answer.headers["x-coe-tier"]
        assert found == dict.fromkeys(experts, "device"), "there are places for all: none is loaded again"
        texts = {
            (await ask(http, node, "law", seed=1)).json()["choices"][0]["message"]["content"] for node in made
        }
        assert len(texts) == 1


async def only_there(http: httpx.AsyncClient, here: Node, there: Node) -> str:
    """An expert that the device of ``there`` has and that of ``here`` does not, which both know."""
    for expert in ("law", "math", "coding"):
        await http.post(f"{there.url}/v1/coe/experts/{expert}/load")
        async with asyncio.timeout(PATIENCE_S):
            while (await knows_where(http, here, there)).get(expert) != "device":
                pass
        own = (await http.get(f"{here.url}/v1/coe/cluster")).json()["nodes"][0]["experts"]
        if own.get(expert) != "device":
            return expert
    raise AssertionError("the other node has no expert of its own")


async def test_a_node_killed_under_load_loses_no_request_before_its_first_byte_and_ends_each_stream_once(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    async with nodes(tmp_path, 2) as (here, there):
        held = await only_there(http, here, there)
        under_way = [stream(http, here, held, 2000) for _ in range(3)]
        began = await asyncio.gather(*map(first, under_way))
        assert len(began) == 3
        whole = [asyncio.create_task(ask(http, here, held, 60)) for _ in range(20)]
        here.forget()
        assert there.process is not None
        there.process.kill()
        for answer in await asyncio.gather(*whole):
            assert answer.status_code == 200, answer.text
        for events in under_way:
            rest = [json.loads(event) async for event in events if event != "[DONE]"]
            errors = [event for event in rest if "error" in event]
            assert len(errors) == 1
            assert errors[0]["error"]["code"] == "engine_lost"
            assert rest[-1] is errors[0]
        await here.says(f"node {there.address} does not answer")
        await there.end(signal.SIGKILL)
        here.forget()
        await there.start()
        await here.knows(there)


def engine_of(node: Node) -> int:
    """The process of its only engine."""
    assert node.process is not None
    children = Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children").read_text().split()
    named = [int(pid) for pid in children if b"simulated.server" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(named) == 1
    return named[0]


async def test_an_engine_that_dies_elsewhere_ends_its_streams_with_one_event_and_one_line_there(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    async with nodes(tmp_path, 2, process=True) as (here, there):
        held = await only_there(http, here, there)
        events = stream(http, here, held, 2000)
        await first(events)
        there.forget()
        os.kill(engine_of(there), signal.SIGKILL)
        rest = [json.loads(event) async for event in events if event != "[DONE]"]
        assert [event["error"]["code"] for event in rest if "error" in event] == ["engine_lost"]
        await there.says("an answer for another node ends in its middle")
        assert (await ask(http, here, held)).status_code == 200
        assert b"Traceback" not in there.said, there.said.decode()


async def running(http: httpx.AsyncClient, node: Node, count: int) -> None:
    """Waits until the node computes as many requests."""
    async with asyncio.timeout(PATIENCE_S):
        while (await http.get(f"{node.url}/v1/coe/cluster")).json()["nodes"][0]["running"] != count:
            pass


async def test_requests_of_one_id_are_each_answered_and_a_client_that_leaves_ends_the_work_elsewhere(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    async with nodes(tmp_path, 2, tokens_per_s=20) as (here, there):
        held = await only_there(http, here, there)
        mine = {"x-request-id": "chosen-by-the-client"}
        url, body = f"{here.url}/v1/chat/completions", chat(model=held, max_tokens=20)
        twice = [asyncio.create_task(http.post(url, json=body, headers=mine)) for _ in range(2)]
        await running(http, there, 2)
        assert [answer.status_code for answer in await asyncio.gather(*twice)] == [200, 200]
        async with http.stream("POST", url, json=chat(model=held, stream=True)) as answer:
            await anext(answer.aiter_lines())
            await running(http, there, 1)
        await running(http, there, 0)


async def test_all_nodes_restarted_one_after_the_other_under_load_drop_nothing(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    async with nodes(tmp_path, 3) as made:
        gateway, statuses, stop = made[0], list[int](), asyncio.Event()

        async def client(expert: str) -> None:
            while not stop.is_set():
                statuses.append((await ask(http, gateway, expert)).status_code)

        clients = [asyncio.create_task(client(expert)) for expert in EXPERTS]
        for node in made[1:]:
            gateway.forget()
            assert await node.end(signal.SIGTERM) == 0, node.said.decode()
            await node.start()
            await gateway.knows(node)
        seen = len(statuses)
        async with asyncio.timeout(PATIENCE_S):
            while len(statuses) < seen + 20:  # noqa: ASYNC110  other tasks ask meanwhile
                await asyncio.sleep(0)
        stop.set()
        await asyncio.gather(*clients)
        assert set(statuses) == {200}


async def test_a_stranger_is_refused_and_a_node_with_another_secret_is_none(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    async with nodes(tmp_path, 1) as (node,):
        url = f"http://{node.address}"
        for headers in ({}, {"authorization": "Bearer guess"}):
            assert (await http.get(f"{url}/node/heartbeat", headers=headers)).status_code == 401
            assert (await http.post(f"{url}/node/answer", headers=headers, json={})).status_code == 401
        ours = {"authorization": f"Bearer {Identity.of(SECRET).token}"}
        order = {"id": "1", "expert": "law", "path": "/collective_rpc", "body": {}, "whole": True}
        order |= {"fail_fast": False, "priority": "normal", "at_least": "disk"}
        answer = await http.post(f"{url}/node/answer", headers=ours, json=order)
        assert answer.status_code == 400
        assert "no path at which an engine computes" in answer.json()["message"]
        moved = await http.post(
            f"{url}/node/answer", headers=ours, json=order | {"path": "/tokenize", "expert": "x"}
        )
        assert moved.status_code == 409
        other = Node(tmp_path / "other.yaml", 0, 0)
        other.config.write_text(
            node.config.read_text()
            .replace("that all nodes", "that no nodes")
            .replace("node0", "node9")
            .replace(f"port: {node.node_port}", "port: 0")
            .replace(f"port: {node.port}", "port: 0")
        )
        try:
            await other.start()
            await other.says(f"node {node.address} does not answer: it answered 401")
        finally:
            await other.end(signal.SIGKILL)


async def test_a_drained_node_gives_away_what_only_it_holds_and_ends(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "drained"
    async with nodes(tmp_path, 2, options={1: ("--drained", str(mark))}) as (here, there):
        held = await only_there(http, here, there)
        assert await asyncio.to_thread(main, ["cluster", "drain", "nowhere:1", "--url", here.url]) == 1
        assert "there is no node 'nowhere:1'; there are" in capsys.readouterr().err
        drained = ["cluster", "drain", there.address, "--config", str(here.config)]
        assert await asyncio.to_thread(main, drained) == 0
        assert "ends once others hold all" in capsys.readouterr().out
        assert there.process is not None
        assert await asyncio.wait_for(there.process.wait(), PATIENCE_S) == 0, there.said.decode()
        assert mark.exists(), "whoever starts nodes knows by it"
        tiers = (await http.get(f"{here.url}/v1/coe/cluster")).json()["nodes"][0]["experts"]
        assert held in tiers
        assert await asyncio.to_thread(main, ["cluster", "status", "--config", str(here.config)]) == 0
        assert "this node" in capsys.readouterr().out


async def test_what_was_asked_beyond_a_link_that_is_cut_is_answered_here_once_and_the_link_heals(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    (link_port,), link = free_ports(1), Link()
    peers = {0: [f"127.0.0.1:{link_port}"], 1: []}
    async with nodes(tmp_path, 2, peers, tokens_per_s=25) as (here, there):
        serve = await asyncio.start_server(partial(link.pass_on, there.node_port), "127.0.0.1", link_port)
        there.node_port, its_own = link_port, there.node_port
        async with serve:
            await here.knows(there)
            held = await only_there(http, here, there)
            here.forget()
            asked = [asyncio.create_task(ask(http, here, held, 100)) for _ in range(4)]
            await running(http, there, 4)
            link.whole.clear()
            await here.says(f"node {there.address} does not answer: nothing was heard of it")
            for answer in await asyncio.gather(*asked):
                assert answer.status_code == 200, answer.text
                assert answer.json()["choices"][0]["message"]["content"]
            metrics = (await http.get(f"{here.url}/metrics")).text
            assert f'coe_requests_total{{expert="{held}",outcome="200"}} 4.0' in metrics
            here.forget()
            link.close()
            await here.knows(there)
            assert (await ask(http, here, held)).status_code == 200
            link.close()
        there.node_port = its_own


async def test_a_node_that_is_in_nobodys_list_is_followed_by_those_that_it_follows(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    (port, node_port), secret = free_ports(2), tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    async with nodes(tmp_path, 1) as (first,):
        late = Node(tmp_path / "late.yaml", port, node_port)
        tree = yaml.safe_load(first.config.read_text())
        del tree["cluster"]
        late.config.write_text(yaml.safe_dump(tree | {"state": str(tmp_path / "late")}))
        late.options = (
            "--port", str(port), "--node", late.address, "--reached-at", late.address,
            "--peers", first.address, "--secret-file", str(secret),
        )  # fmt: skip
        try:
            await late.start()
            await first.knows(late)
            await late.knows(first)
        finally:
            await late.end(signal.SIGKILL)
