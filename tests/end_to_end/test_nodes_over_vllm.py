"""Two nodes of real vLLM, two gateway processes each, TLS on every way: all four answer as one, and of what
dies only its own streams end."""

import asyncio
import json
import os
import signal
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import trustme
import yaml

from server.cli.main import main
from tests.end_to_end.conftest import MAX_TOKENS, PROMPTS
from tests.server.peers.nodes import PATIENCE_S, SECRET, free_ports
from tests.server.processes.served import Gateway

pytestmark = [pytest.mark.engine, pytest.mark.soak, pytest.mark.asyncio(loop_scope="module")]
CHAT = "/v1/chat/completions"
ROUTED = {
    "coding": "Write a Python function that reverses a list.",
    "law": "Can my landlord evict me without notice?",
}
FAMILY = "smollm2-135m"


@dataclass
class Secure(Gateway):
    """A node whose clients speak TLS. ``authority``: the certificate that they trust."""

    authority: Path = Path()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def client(self, pid: int) -> httpx.AsyncClient:
        return await self.client_of(pid, verify=ssl.create_default_context(cafile=self.authority))


def described(configuration: Path, folder: Path) -> list[Secure]:
    authority = trustme.CA()
    issued, trusted = authority.issue_cert("127.0.0.1"), folder / "authority.pem"
    issued.cert_chain_pems[0].write_to_path(str(folder / "tls.pem"))
    issued.private_key_pem.write_to_path(str(folder / "tls.key"))
    authority.cert_pem.write_to_path(str(trusted))
    ports = free_ports(4)
    nodes = []
    for number in range(2):
        tree = yaml.safe_load(configuration.read_text(encoding="utf-8"))
        tree |= {each: str(folder / f"{each}{number}") for each in ("logs", "state")} | {"batches": {}}
        tree["families"][FAMILY] |= {"kv_cache": "128MiB", "max_num_seqs": 8}
        tls = {"tls_cert": str(folder / "tls.pem"), "tls_key": str(folder / "tls.key")}
        tree["server"] = {"port": ports[number], "processes": 2, "drain_s": 60} | tls
        peers = [f"127.0.0.1:{port}" for port in ports[2:]]
        tree["cluster"] = {"port": ports[2 + number], "secret": SECRET, "peers": peers, "tls": True}
        file = folder / f"node{number}.yaml"
        file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        nodes.append(Secure(file, ports[number], ports[2 + number], authority=trusted))
    return nodes


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(
    configuration: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Secure, Secure]]:
    """Room for two experts on each device."""
    folder = tmp_path_factory.mktemp("nodes")
    nodes = described(configuration, folder)
    here, there = nodes
    try:
        await here.start()
        await there.start()
        await there.knows(here)
        await here.knows(there)
        yield here, there
    finally:
        for node in nodes:
            if node.process is not None and node.process.returncode is None:
                await node.end(signal.SIGTERM)
            print(node.said.decode())


def body(model: str, prompt: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": model, "messages": messages, "temperature": 0, "max_tokens": MAX_TOKENS} | fields


async def of_all(nodes: tuple[Secure, Secure]) -> list[httpx.AsyncClient]:
    """A client of each gateway process: the first node's two, then the second's."""
    pids = [(node, pid) for node in nodes for pid in (node.node, *node.beside)]
    assert len(pids) == 4
    return [await node.client(pid) for node, pid in pids]


async def streamed(
    client: httpx.AsyncClient, model: str, prompt: str, began: asyncio.Event | None = None, **fields: Any
) -> tuple[str, list[str]]:
    """Returns the text of a stream, and the codes of its error events. Sets ``began`` at its first event."""
    text, errors, ended = "", list[str](), False
    async with client.stream("POST", CHAT, json=body(model, prompt, stream=True, **fields)) as answer:
        assert answer.status_code == 200, await answer.aread()
        async for line in answer.aiter_lines():
            if line == "data: [DONE]":
                ended = True
            elif line.startswith("data: "):
                if began is not None:
                    began.set()
                event = json.loads(line.removeprefix("data: "))
                errors += [event["error"]["code"]] if "error" in event else []
                text += "".join(each["delta"].get("content") or "" for each in event.get("choices", ()))
    assert ended != bool(errors)
    return text, errors


async def test_each_of_four_processes_routes_streams_and_says_the_same(pair: tuple[Secure, Secure]) -> None:
    clients = await of_all(pair)
    said: dict[str, set[str]] = {expert: set() for expert in ROUTED}
    for client in clients:
        for expert, prompt in ROUTED.items():
            answer = await client.post(CHAT, json=body("coe", prompt))
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-coe-expert"] == answer.json()["model"] == expert
            said[expert].add(answer.json()["choices"][0]["message"]["content"])
    asked = [(client, expert) for client in clients for expert in ROUTED]
    for (_, expert), (text, errors) in zip(
        asked,
        await asyncio.gather(*(streamed(client, "coe", ROUTED[expert]) for client, expert in asked)),
        strict=True,
    ):
        assert not errors
        said[expert].add(text)
    assert {expert: len(texts) for expert, texts in said.items()} == dict.fromkeys(ROUTED, 1), said
    for client in clients:
        await client.aclose()


async def test_responses_files_and_batches_are_found_by_all(pair: tuple[Secure, Secure]) -> None:
    clients = await of_all(pair)
    first = await clients[1].post(
        "/v1/responses", json={"model": "coe", "input": ROUTED["law"], "max_output_tokens": 16}
    )
    assert first.status_code == 200, first.text
    more = {"model": "law", "input": "And why?", "max_output_tokens": 16}
    for client in clients:
        assert (await client.get(f"/v1/responses/{first.json()['id']}")).json()["id"] == first.json()["id"]
        answer = await client.post("/v1/responses", json=more | {"previous_response_id": first.json()["id"]})
        assert answer.status_code == 200, answer.text

    lines = (
        {"custom_id": expert, "method": "POST", "url": CHAT, "body": body("coe", prompt)}
        for expert, prompt in ROUTED.items()
    )
    text = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    sent = await clients[3].post("/v1/files", files={"file": ("in", text)}, data={"purpose": "batch"})
    assert sent.status_code == 200, sent.text
    order = {"input_file_id": sent.json()["id"], "endpoint": CHAT, "completion_window": "24h"}
    batch = (await clients[1].post("/v1/batches", json=order)).json()
    async with asyncio.timeout(PATIENCE_S):
        while batch["status"] not in ("completed", "failed"):
            batch = (await clients[0].get(f"/v1/batches/{batch['id']}")).json()
    assert batch["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    out = await clients[1].get(f"/v1/files/{batch['output_file_id']}/content")
    models = {
        row["custom_id"]: row["response"]["body"]["model"] for row in map(json.loads, out.text.splitlines())
    }
    assert models == {expert: expert for expert in ROUTED}
    for client in clients:
        await client.aclose()


async def test_operators_see_and_change_all_processes(
    pair: tuple[Secure, Secure], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = pair
    monkeypatch.setenv("SSL_CERT_FILE", str(here.authority))
    here.config.write_text(here.config.read_text() + "aliases: {short: law}\n")
    for order in (["reload"], ["tiers", "status"], ["cluster", "status"]):
        assert await asyncio.to_thread(main, [*order, "--url", here.url]) == 0, capsys.readouterr()
    assert "law" in capsys.readouterr().out
    clients = await of_all(pair)
    for client in clients[:2]:
        answer = await client.post(CHAT, json=body("short", PROMPTS[0]))
        assert answer.headers["x-coe-expert"] == "law"
        assert 'coe_leases{expert="law"} 0.0' in (await client.get("/metrics")).text
    for client in clients:
        await client.aclose()


async def test_a_killed_gateway_process_takes_only_its_own_streams_along(pair: tuple[Secure, Secure]) -> None:
    here, _ = pair
    (old,) = here.beside
    ours, theirs = await here.client(here.node), await here.client(old)
    options: dict[str, Any] = {"max_tokens": 200, "ignore_eos": True}
    kept = asyncio.create_task(streamed(ours, "law", PROMPTS[0], **options))
    lost = theirs.stream("POST", CHAT, json=body("law", PROMPTS[0], stream=True, **options))
    async with lost as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        os.kill(old, signal.SIGKILL)
        with pytest.raises(httpx.HTTPError):
            [line async for line in lines]
    assert (await kept)[1] == []
    await here.says("another takes its place")
    async with asyncio.timeout(PATIENCE_S):
        while here.beside in ([], [old]):  # noqa: ASYNC110  another process does it
            await asyncio.sleep(0)
    again = await here.client(*here.beside)
    assert (await again.post(CHAT, json=body("law", PROMPTS[0]))).status_code == 200
    assert 'coe_leases{expert="law"} 0.0' in (await again.get("/metrics")).text
    for client in (ours, theirs, again):
        await client.aclose()


async def test_a_killed_node_loses_no_request_before_its_first_byte(pair: tuple[Secure, Secure]) -> None:
    here, there = pair
    assert there.process is not None
    expert = await only_there(here, there)
    clients = [await here.client(pid) for pid in (here.node, *here.beside)]
    options: dict[str, Any] = {"max_tokens": 400, "ignore_eos": True}
    begun = [asyncio.Event() for _ in clients]
    streams = [
        asyncio.create_task(streamed(client, expert, PROMPTS[0], began, **options))
        for client, began in zip(clients, begun, strict=True)
    ]
    more = [await here.client(pid) for pid in (here.node, *here.beside) for _ in range(3)]
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(each.wait() for each in begun))
    asked = [asyncio.create_task(client.post(CHAT, json=body(expert, PROMPTS[1]))) for client in more]
    there.process.kill()
    assert [errors for _, errors in await asyncio.gather(*streams)] == [["engine_lost"]] * 2
    assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
    await here.says(f"node {there.address} does not answer")
    for client in (*clients, *more):
        await client.aclose()
    assert await here.end(signal.SIGTERM) == 0
    assert b"Traceback" not in here.said, here.said.decode()


async def only_there(here: Secure, there: Secure) -> str:
    """An expert that the device of ``there`` has and that of ``here`` does not."""
    client = await there.client(there.node)
    for expert in ("medicine", "math", "general"):
        assert (await client.post(f"/v1/coe/experts/{expert}/load")).is_success
        async with asyncio.timeout(PATIENCE_S):
            while (await itself(there))["experts"].get(expert) != "device":
                pass
        if (await itself(here))["experts"].get(expert) != "device":
            await client.aclose()
            return expert
    raise AssertionError("both nodes have the same experts")


async def itself(node: Secure) -> dict[str, Any]:
    """Reads what a node says of itself."""
    client = await node.client(node.node)
    told: dict[str, Any] = (await client.get("/v1/coe/cluster")).json()["nodes"][0]
    await client.aclose()
    return told
