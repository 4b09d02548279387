"""Responses, files and batches that one node keeps, asked of another."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from experts.engines.http_connection import ConnectionEnded
from server.config.settings import Settings
from server.node.kept_elsewhere import KeptElsewhere
from server.peers.peer import KeptAnswer
from server.peers.peers import Peers
from server.peers.wire import ClientAnswer
from server.transport.disconnect import DISCONNECT, Disconnect
from tests.server.conftest import chat
from tests.server.peers.nodes import PATIENCE_S, nodes

KEYS = {"api_keys": [{"key": "sk-one", "name": "one"}, {"key": "sk-other", "name": "other"}]}
HERE = SimpleNamespace(gateway=False)
OTHER = {"authorization": "Bearer sk-other"}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=PATIENCE_S, headers={"authorization": "Bearer sk-one"}) as client:
        yield client


async def completed(http: httpx.AsyncClient, url: str) -> dict[str, str]:
    """Waits for the end of a batch."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            told: dict[str, str] = (await http.get(url)).json()
            if told["status"] == "completed":
                return told


async def test_what_one_node_keeps_is_found_by_the_other(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    async with nodes(tmp_path, 2, server=KEYS, batches=True) as (here, there):
        asked = {"model": "law", "input": "hello", "store": True, "max_output_tokens": 16}
        made = (await http.post(f"{there.url}/v1/responses", json=asked)).json()
        at = f"{here.url}/v1/responses/{made['id']}"
        assert (await http.get(at)).json() == made
        assert (await http.get(f"{at}/input_items")).json()["data"][0]["role"] == "user"
        assert (await http.get(at, headers=OTHER)).status_code == 404, "it is another client's"
        more = asked | {"previous_response_id": made["id"]}
        second = await http.post(f"{here.url}/v1/responses", json=more)
        assert second.status_code == 200, second.text
        assert second.json()["previous_response_id"] == made["id"]
        unknown = asked | {"previous_response_id": "resp_0123"}
        refused = await http.post(f"{here.url}/v1/responses", json=unknown)
        assert refused.json()["error"]["code"] == "previous_response_not_found"

        line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": chat(max_tokens=3)}
        sent = {"file": ("in.jsonl", json.dumps(line).encode())}
        file = await http.post(f"{there.url}/v1/files", files=sent, data={"purpose": "batch"})
        wanted = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch = await http.post(f"{here.url}/v1/batches", json=wanted | {"input_file_id": file.json()["id"]})
        assert batch.status_code == 200, batch.text
        told = await completed(http, f"{here.url}/v1/batches/{batch.json()['id']}")
        answers = await http.get(f"{here.url}/v1/files/{told['output_file_id']}/content")
        assert json.loads(answers.text)["custom_id"] == "a"
        assert (await http.get(f"{here.url}/v1/batches/batch_0123")).status_code == 404

        assert (await http.delete(at)).json()["deleted"] is True
        assert (await http.get(f"{there.url}/v1/responses/{made['id']}")).status_code == 404
        await there.end(signal.SIGKILL)
        gone = await http.get(f"{here.url}/v1/responses/{second.json()['id']}")
        assert gone.status_code == 404, gone.text


async def test_an_answer_whose_node_goes_away_in_its_middle_is_cut_and_asked_of_nobody_else() -> None:
    asked, cut, sent = list[str](), list[bool](), list[Message]()

    class Goes:
        def close(self) -> None:
            pass

        async def read_any(self) -> bytes:
            raise ConnectionEnded("it is gone")

    class Other:
        def __init__(self, address: str) -> None:
            self.address = address

        async def ask_for_client(self, *_: Any) -> KeptAnswer:
            asked.append(self.address)
            return KeptAnswer(ClientAnswer(status=200, headers=()), cast(Any, Goes()), b"its beginning")

    async def not_here(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    peers = cast(Peers, SimpleNamespace(with_engines=[Other("one"), Other("two")], here=HERE))
    path = "/v1/files/file-1/content"
    disconnect = Disconnect(lambda: cut.append(True))
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    await KeptElsewhere(not_here, lambda: peers, 1000)(
        scope | {"headers": [], DISCONNECT: disconnect}, receive, send
    )
    assert (asked, cut) == (["one"], [True])
    assert [each.get("status", each.get("body")) for each in sent] == [200, b"its beginning"]
