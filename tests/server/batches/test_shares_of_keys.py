"""One key's batches, files, bytes and responses in the background leave room for another's."""

from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

import server.batches.service
from server.config.api_keys import KeyConfig
from server.config.settings import Settings
from tests.server.batches.batch_client import CHAT, client_of, jsonl, request, with_batches
from tests.server.batches.test_files import PURPOSE, form, part, sent
from tests.server.conftest import Gateway, Serving, changed, simulated
from tests.server.responses.test_responses import limited

FILE = jsonl([request("a")])


def keyed(settings: Settings, folder: Path, **given: Any) -> Settings:
    """With keys ``a`` and ``b``; nothing is answered soon."""
    keys = tuple(KeyConfig(key=SecretStr(name), name=name) for name in "ab")
    return changed(with_batches(simulated(settings, tokens_per_s=0.1), folder, **given), api_keys=keys)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def uploads(gateway: Gateway, key: str, contents: bytes = FILE) -> httpx.Response:
    return await sent(gateway, form(PURPOSE, part("file", contents, "in.jsonl")), bearer(key))


async def until_refused(gateway: Gateway, key: str, contents: bytes = FILE) -> tuple[int, str, int]:
    """Status and code, and how many were taken before."""
    taken = 0
    while (answer := await uploads(gateway, key, contents)).status_code == 200:
        taken += 1
    return answer.status_code, answer.json()["error"]["code"], taken


async def test_unfinished_batches(settings: Settings, serving: Serving, tmp_path: Path) -> None:
    async def begun(key: str) -> httpx.Response:
        sending = {"input_file_id": files[key], "endpoint": CHAT, "completion_window": "24h"}
        return await gateway.http.post("/v1/batches", json=sending, headers=bearer(key))

    async with serving(keyed(settings, tmp_path)) as gateway:
        files = {key: (await uploads(gateway, key)).json()["id"] for key in "ab"}
        taken = 0
        while (refused := await begun("a")).status_code == 200:
            taken += 1
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_batches")
        assert taken == server.batches.service.MOST_UNFINISHED * 2 // 3
        assert (await begun("b")).status_code == 200


async def test_number_of_files(settings: Settings, serving: Serving, tmp_path: Path) -> None:
    async with serving(keyed(settings, tmp_path, max_files=10)) as gateway:
        assert await until_refused(gateway, "a") == (413, "storage_full", 6)
        assert (await uploads(gateway, "b")).status_code == 200


async def test_files_that_a_batch_is_to_write_count_from_its_beginning(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    async with (
        serving(keyed(settings, tmp_path, max_files=10)) as gateway,
        client_of(gateway.url, "a") as client,
    ):
        file = await client.files.create(file=("in.jsonl", FILE), purpose="batch")
        for _ in range(2):
            await client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
        assert await until_refused(gateway, "a") == (413, "storage_full", 1)


async def test_bytes(settings: Settings, serving: Serving, tmp_path: Path) -> None:
    async with serving(keyed(settings, tmp_path, max_bytes=2**20)) as gateway:
        assert await until_refused(gateway, "a", b"x" * 100_000) == (413, "storage_full", 6)
        assert (await uploads(gateway, "b", b"x" * 100_000)).status_code == 200
    async with serving(keyed(settings, tmp_path, max_bytes=2**20)) as gateway:  # they are counted again
        assert await until_refused(gateway, "a", b"x" * 100_000) == (413, "storage_full", 0)


async def test_responses_in_the_background(settings: Settings, serving: Serving, tmp_path: Path) -> None:
    async def made(key: str) -> httpx.Response:
        asked = {"model": "law", "input": "hello", "background": True}
        return await gateway.http.post("/v1/responses", json=asked, headers=bearer(key))

    shared = changed(limited(keyed(settings, tmp_path), max_background=6), drain_s=0)
    async with serving(shared) as gateway:
        statuses = [(await made("a")).status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 200, 429]
        assert (await made("b")).status_code == 200


async def test_an_empty_file_is_refused(settings: Settings, serving: Serving, tmp_path: Path) -> None:
    async with serving(with_batches(settings, tmp_path)) as gateway:
        answer = await sent(gateway, form(PURPOSE, part("file", b"", "in.jsonl")))
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")
        assert [*(tmp_path / "batches" / "contents").iterdir()] == []
