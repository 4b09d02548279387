"""Batches and the keys that made them: what a key may ask for, what is counted, and a key that is gone."""

from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from pydantic import SecretStr

from server.config.api_keys import KeyConfig
from server.config.settings import Settings
from tests.server.batches.batch_client import (
    asking,
    client_of,
    ended,
    lines_of,
    request,
    submitted,
    text_of,
    with_batches,
)
from tests.server.conftest import Serving, changed, simulated, until


def keyed(settings: Settings, folder: Path, secret: str = "mine", **limits: Any) -> Settings:
    """With one key, named ``me``."""
    key = KeyConfig(key=SecretStr(secret), name="me", **limits)
    return changed(with_batches(settings, folder), api_keys=(key,))


async def used(http: httpx.AsyncClient, secret: str) -> dict[str, tuple[int, int, int]]:
    """By expert: requests, errors, tokens of answers."""
    answer = await http.get("/v1/coe/usage", headers={"authorization": f"Bearer {secret}"})
    return {
        row["expert"]: (row["requests"], row["errors"], row["completion_tokens"])
        for row in answer.json()["rows"]
    }


async def test_a_batch_counts_for_the_day_and_for_no_other_limit(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    tight = keyed(
        settings,
        tmp_path,
        requests_per_minute=1,
        tokens_per_minute=20,
        concurrent_requests=1,
        tokens_per_day=300,
    )
    requests = [request(str(number)) for number in range(8)] + [request("long", max_tokens=1000)]
    async with serving(tight) as gateway, client_of(gateway.url, "mine") as client:
        batch = await ended(client, (await submitted(client, requests)).id)
        answered = lines_of(await text_of(client, batch.output_file_id))
        refused = lines_of(await text_of(client, batch.error_file_id))
        assert await used(gateway.http, "mine") == {"law": (9, 1, 24)}
        answer = await gateway.post(headers={"authorization": "Bearer mine"}, **request("online")["body"])
        assert answer.status_code == 200
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert len(answered) == 8
    assert refused["long"]["response"]["status_code"] == 429
    assert refused["long"]["response"]["body"]["error"]["code"] == "insufficient_quota"


async def test_a_batch_asks_only_for_what_its_key_may_use(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    requests = [request("expert"), asking("composition", "hello"), request("not mine", "math")]
    limited = keyed(settings, tmp_path, models=("law", "coe"))
    async with serving(limited) as gateway, client_of(gateway.url, "mine") as client:
        batch = await ended(client, (await submitted(client, requests)).id)
        answered = lines_of(await text_of(client, batch.output_file_id))
        refused = lines_of(await text_of(client, batch.error_file_id))
    assert answered.keys() == {"expert", "composition"}
    assert refused["not mine"]["response"]["status_code"] == 404


async def test_a_key_keeps_its_files_when_its_secret_changes_and_nothing_runs_for_one_that_is_gone(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    slow = simulated(settings, tokens_per_s=0.1)
    async with serving(keyed(slow, tmp_path)) as gateway, client_of(gateway.url, "mine") as client:
        id = (await submitted(client, [request("a"), request("b")])).id
        await until(lambda: gateway.engine.running == 2)
    gone = changed(with_batches(settings, tmp_path), api_keys=(SecretStr("another"),))
    async with serving(gone) as gateway, client_of(gateway.url, "another") as client:
        with pytest.raises(openai.NotFoundError):
            await client.batches.retrieve(id)
        batches = gateway.batches
        assert batches is not None
        while await batches.archive.do(batches.archive.store.unfinished):
            pass
    async with (
        serving(keyed(settings, tmp_path, "rotated")) as gateway,
        client_of(gateway.url, "rotated") as client,
    ):
        batch = await ended(client, id)
        refused = lines_of(await text_of(client, batch.error_file_id))
    assert {line["response"]["status_code"] for line in refused.values()} == {401}
