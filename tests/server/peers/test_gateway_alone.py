"""Gateways without engines in front of nodes: any of them answers for all experts, and keeps nothing."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import yaml

from server.cli.main import main
from server.config.settings import Settings
from tests.server.conftest import EXPERTS, chat
from tests.server.peers.nodes import PATIENCE_S, SECRET, Node, ask, free_ports, nodes
from tests.server.peers.test_limits_over_nodes import CLUSTER, KEY, LIMIT, told, used_of, used_up
from tests.server.peers.test_placing import RULES, followed, placed

pytestmark = pytest.mark.system


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        yield client


@contextlib.asynccontextmanager
async def gateways(folder: Path, made: list[Node], count: int) -> AsyncIterator[list[Node]]:
    """As many gateways without engines, which no node has in its list. Their stores are empty."""
    tree = yaml.safe_load(made[0].config.read_text())
    tree["cluster"] = {"secret": SECRET, "tls": tree["cluster"]["tls"]}
    ports, found = free_ports(2 * count), []
    for number in range(count):
        state = folder / f"gateway{number}"
        file = folder / f"gateway{number}.yaml"
        file.write_text(yaml.safe_dump(tree | {"state": str(state), "store": str(state / "store")}))
        gateway = Node(file, ports[number], ports[count + number])
        gateway.options = (
            "--gateway", "--port", str(gateway.port), "--node", gateway.address,
            "--reached-at", gateway.address, "--peers", ",".join(node.address for node in made),
        )  # fmt: skip
        found.append(gateway)
    try:
        await asyncio.gather(*(gateway.start() for gateway in found))
        for gateway in found:
            await gateway.knows(*made)
            for node in made:
                await node.knows(gateway)
        yield found
    finally:
        for gateway in found:
            await gateway.end(signal.SIGKILL)


async def test_any_gateway_answers_for_all_experts_and_holds_none(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    async with (
        nodes(tmp_path, 2, tls=True, placement=RULES, host="6kB", batches=True) as made,
        gateways(tmp_path, made, 2) as (here, there),
    ):
        for expert in EXPERTS:
            for gateway in (here, there):
                answer = await ask(http, gateway, expert, seed=1)
                assert answer.status_code == 200, answer.text
                assert answer.json()["model"] == expert
        table = (await followed(http, here, placed(1))).table
        holders = {copy.node for copies in table.values() for copy in copies}
        assert holders == {node.address for node in made}, "nothing is placed on a gateway"
        assert (
            await asyncio.to_thread(
                main, ["cluster", "status", "--config", str(here.config), "--url", made[0].url]
            )
            == 0
        )
        assert capsys.readouterr().out.count("a gateway") == 2
        out = tmp_path / "endpoints.yaml"
        assert (
            await asyncio.to_thread(main, ["cluster", "endpoints", "--url", here.url, "--out", str(out)]) == 0
        )
        ports = {each["port"] for each in yaml.safe_load(out.read_text())["endpoints"]}
        assert ports == {str(node.port) for node in made}

        stored = {"model": "law", "input": "hello", "store": True, "max_output_tokens": 16}
        kept = (await http.post(f"{here.url}/v1/responses", json=stored)).json()
        assert (await http.get(f"{there.url}/v1/responses/{kept['id']}")).json() == kept
        more = stored | {"previous_response_id": kept["id"], "stream": True}
        events = (await http.post(f"{there.url}/v1/responses", json=more)).text
        assert "response.incomplete" in events, "it has as many tokens as it may"
        line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": chat(max_tokens=3)}
        sent = {"file": ("in.jsonl", json.dumps(line).encode())}
        file = (await http.post(f"{here.url}/v1/files", files=sent, data={"purpose": "batch"})).json()
        wanted = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "input_file_id": file["id"]}
        batch = await http.post(f"{there.url}/v1/batches", json=wanted)
        assert batch.status_code == 200, batch.text
        assert (await http.get(f"{here.url}/v1/batches/{batch.json()['id']}")).status_code == 200
        assert (await http.get(f"{here.url}/v1/responses/resp_0123")).status_code == 404
        assert (await here.end(signal.SIGTERM)) == 0, here.said.decode()
        assert b"Traceback" not in here.said, here.said.decode()


async def test_a_rolling_restart_of_all_nodes_behind_a_gateway_drops_nothing(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    async with nodes(tmp_path, 2) as made, gateways(tmp_path, made, 1) as (gateway,):
        answers, stop = list[httpx.Response](), asyncio.Event()

        async def client(expert: str) -> None:
            while not stop.is_set():
                answers.append(await ask(http, gateway, expert))

        clients = [asyncio.create_task(client(expert)) for expert in EXPERTS]
        for node in made:
            gateway.forget()
            assert await node.end(signal.SIGTERM) == 0, node.said.decode()
            await node.start()
            await gateway.knows(node)
        stop.set()
        await asyncio.gather(*clients)
        assert [answer.text for answer in answers if answer.status_code != 200] == [], gateway.said.decode()
        assert len(answers) > len(EXPERTS)
        for node in made:
            gateway.forget()
            await node.end(signal.SIGKILL)
            await gateway.says(f"node {node.address} does not answer")
        assert (await http.get(f"{gateway.url}/ready")).status_code == 503
        assert (await ask(http, gateway, "law")).status_code in (502, 503)


async def test_what_gateways_that_are_gone_let_in_counts_on(settings: Settings, tmp_path: Path) -> None:
    sent = {"authorization": f"Bearer {KEY['key']}"}
    async with (
        nodes(tmp_path, 2, server=CLUSTER, tokens_per_s=2000) as made,
        gateways(tmp_path, made, 2) as found,
        httpx.AsyncClient(timeout=PATIENCE_S, headers=sent) as http,
    ):
        used = 0
        for gateway in found:
            its_own = 0
            for _ in range(10):
                tokens = await used_of(http, gateway)
                assert tokens is not None
                its_own += tokens
            await told(gateway, its_own)
            used += its_own
        for gateway in found:
            await gateway.end(signal.SIGKILL)
            for node in made:
                await node.says(f"node {gateway.address} does not answer")
        assert 0.99 * LIMIT <= used + await used_up(http, *made) <= LIMIT
