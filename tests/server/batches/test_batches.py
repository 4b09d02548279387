"""Batches by OpenAI's own client, over a real socket and the simulated engine."""

from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import Batch
from openai.types.chat import ChatCompletion
from pydantic import SecretStr

from server.config.settings import Settings
from tests.server.batches.batch_client import (
    PROMPTS,
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


async def test_a_batch_is_answered_like_the_same_requests_online(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    requests = [asking(name, prompt) for name, prompt in PROMPTS.items()]
    async with serving(with_batches(settings, tmp_path)) as gateway, client_of(gateway.url) as client:
        batch = await submitted(client, requests)
        assert (batch.status, batch.metadata) == ("validating", {"of": "a test"})
        batch = await ended(client, batch.id)
        online = {name: await gateway.post(**requests[i]["body"]) for i, name in enumerate(PROMPTS)}
        answered = lines_of(await text_of(client, batch.output_file_id))
    Batch.model_validate(batch.model_dump(), strict=True)
    assert (batch.status, batch.model, batch.error_file_id) == ("completed", "coe", None)
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 4, "completed": 4, "failed": 0}
    assert batch.usage is not None
    assert batch.usage.output_tokens == 12
    assert answered.keys() == PROMPTS.keys()
    for name, line in answered.items():
        assert line["error"] is None
        assert line["response"]["status_code"] == 200
        ours, theirs = (
            ChatCompletion.model_validate(body, strict=True)
            for body in (line["response"]["body"], online[name].json())
        )
        assert ours.choices == theirs.choices
        assert ours.model == online[name].headers["x-coe-expert"]


async def test_plain_prompts_are_completed_too(settings: Settings, serving: Serving, tmp_path: Path) -> None:
    url = "/v1/completions"
    requests = [request("one", url=url, messages=None, prompt="hello")]
    async with serving(with_batches(settings, tmp_path)) as gateway, client_of(gateway.url) as client:
        batch = await ended(client, (await submitted(client, requests, url)).id)
        answered = lines_of(await text_of(client, batch.output_file_id))
    assert answered["one"]["response"]["body"]["object"] == "text_completion"


async def test_responses_are_made_too_and_kept_for_whoever_sent_the_batch(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    url = "/v1/responses"
    body = {"model": "law", "input": "hi", "max_output_tokens": 3}
    requests = [
        {"custom_id": name, "method": "POST", "url": url, "body": body | more}
        for name, more in {"one": {}, "behind": {"background": True}}.items()
    ]
    async with serving(with_batches(settings, tmp_path)) as gateway, client_of(gateway.url) as client:
        batch = await ended(client, (await submitted(client, requests, url)).id)
        answered = lines_of(await text_of(client, batch.output_file_id))
        refused = lines_of(await text_of(client, batch.error_file_id))
        response = answered["one"]["response"]["body"]
        assert (await client.responses.retrieve(response["id"])).output_text.startswith("Simulated")
    assert batch.usage is not None
    assert batch.usage.output_tokens == 3
    assert refused["behind"]["response"]["body"]["error"]["param"] == "background"


async def test_texts_are_embedded_too_and_need_no_expert(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    url = "/v1/embeddings"
    requests = [{"custom_id": "one", "method": "POST", "url": url, "body": {"model": "coe", "input": "hi"}}]
    requests += [request("not by an expert", url=url)]
    async with serving(with_batches(settings, tmp_path)) as gateway, client_of(gateway.url) as client:
        batch = await ended(client, (await submitted(client, requests, url)).id)
        answered = lines_of(await text_of(client, batch.output_file_id))
        refused = lines_of(await text_of(client, batch.error_file_id))
    assert answered["one"]["response"]["body"]["data"][0]["object"] == "embedding"
    assert refused["not by an expert"]["response"]["status_code"] == 400
    assert batch.usage is not None
    assert batch.usage.input_tokens > 0


async def test_each_expert_is_loaded_once_where_file_order_would_load_for_every_request(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    experts = ["math", "coding", "medicine", "law"]
    requests = [request(f"{turn}-{expert}", expert) for turn in range(8) for expert in experts]
    slow = settings.model_copy(
        update={"tiers": settings.tiers.model_copy(update={"device": 1200, "min_residency_s": 0})}
    )
    async with serving(with_batches(slow, tmp_path)) as gateway, client_of(gateway.url) as client:
        before = loads(await gateway.http.get("/metrics"))
        batch = await ended(client, (await submitted(client, requests)).id)
        grouped = loads(await gateway.http.get("/metrics")) - before
        for each in requests:
            assert (await gateway.post(**each["body"])).status_code == 200
        in_file_order = loads(await gateway.http.get("/metrics")) - before - grouped
    assert batch.request_counts is not None
    assert batch.request_counts.completed == 32
    assert grouped == 4
    assert in_file_order == 32


def loads(metrics: httpx.Response) -> float:
    """To the device so far."""
    return sum(
        float(line.rpartition(" ")[2])
        for line in metrics.text.splitlines()
        if line.startswith("coe_move_seconds_count{") and 'to_tier="device"' in line
    )


async def test_what_fails_is_told_line_by_line_and_the_rest_goes_on(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    requests = [
        request("good"),
        request("no such model", "nobody"),
        request("stream", stream=True),
        request("no messages", messages=[]),
    ]
    async with serving(with_batches(settings, tmp_path)) as gateway, client_of(gateway.url) as client:
        batch = await ended(client, (await submitted(client, requests)).id)
        good = lines_of(await text_of(client, batch.output_file_id))
        bad = lines_of(await text_of(client, batch.error_file_id))
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 4, "completed": 1, "failed": 3}
    assert [*good] == ["good"]
    told = {name: line["response"]["body"]["error"] for name, line in bad.items()}
    assert bad["no such model"]["response"]["status_code"] == 404
    assert told["no such model"]["code"] == "model_not_found"
    assert told["stream"]["param"] == "stream"
    assert told["no messages"]["param"] == "messages"


async def test_an_expert_that_cannot_be_loaded_fails_alone(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    requests = [request(f"{turn}-{expert}", expert) for turn in range(3) for expert in ("law", "math")]
    async with serving(with_batches(settings, tmp_path)) as gateway, client_of(gateway.url) as client:
        (settings.store / "math" / "config.json").unlink()
        batch = await ended(client, (await submitted(client, requests)).id)
        good = lines_of(await text_of(client, batch.output_file_id))
        bad = lines_of(await text_of(client, batch.error_file_id))
    assert batch.status == "completed"
    assert good.keys() == {"0-law", "1-law", "2-law"}
    assert {line["response"]["body"]["error"]["code"] for line in bad.values()} == {"load_failed"}


BAD_FILES: list[tuple[list[Any], list[tuple[str, int | None]]]] = [
    ([""], [("empty_file", None)]),
    (["no object", request("a")], [("invalid_json_line", 1)]),
    ([request("a"), request("a")], [("duplicate_custom_id", 2)]),
    ([request("a", url="/v1/completions")], [("url_mismatch", 1)]),
    ([request("a") | {"method": "GET"}], [("invalid_method", 1)]),
    ([request("a") | {"body": "hello"}], [("invalid_value", 1)]),
    (
        [request("a"), {"custom_id": "b"}, request("")],
        [("missing_required_parameter", 2), ("invalid_value", 3)],
    ),
    ([request(str(number)) for number in range(6)], [("too_many_tasks", None)]),
    ([request("a", user="x" * 3000)], [("line_too_long", 1)]),
]


@pytest.mark.parametrize(("requests", "errors"), BAD_FILES, ids=lambda each: str(each)[:40])
async def test_a_file_that_is_wrong_fails_as_a_whole(
    settings: Settings,
    serving: Serving,
    tmp_path: Path,
    requests: list[Any],
    errors: list[tuple[str, int | None]],
) -> None:
    small = changed(with_batches(settings, tmp_path, max_requests=5), max_body=2500)
    async with serving(small) as gateway, client_of(gateway.url) as client:
        batch = await ended(client, (await submitted(client, requests)).id)
        engine = gateway.engine
        assert engine.running == 0
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("failed", None, None)
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [(error.code, error.line) for error in batch.errors.data] == errors


async def test_a_cancelled_batch_keeps_what_was_answered(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    slow = with_batches(simulated(settings, tokens_per_s=1), tmp_path, concurrency=2)
    requests = [request("first", max_tokens=1), *(request(str(n), max_tokens=64) for n in range(5))]
    async with serving(slow) as gateway, client_of(gateway.url) as client:
        batch = await submitted(client, requests)
        while (await counted(client, batch.id)) == 0:
            pass
        assert (await client.batches.cancel(batch.id)).status == "cancelling"
        batch = await ended(client, batch.id)
        await until(lambda: gateway.engine.running == 0)
        with pytest.raises(openai.ConflictError):
            await client.batches.cancel(batch.id)
        answered = lines_of(await text_of(client, batch.output_file_id))
        left = lines_of(await text_of(client, batch.error_file_id))
        assert gateway.services.tiers.counts().leases == 0
    assert batch.status == "cancelled"
    assert [*answered] == ["first"]
    assert {line["error"]["code"] for line in left.values()} == {"batch_cancelled"}
    assert len(left) == 5


async def test_a_batch_may_be_cancelled_at_once(settings: Settings, serving: Serving, tmp_path: Path) -> None:
    requests = [asking(str(number), PROMPTS["law"]) for number in range(300)]
    async with serving(with_batches(settings, tmp_path)) as gateway, client_of(gateway.url) as client:
        batch = await submitted(client, requests)
        while (await client.batches.retrieve(batch.id)).status == "validating":
            pass
        await client.batches.cancel(batch.id)
        batch = await ended(client, batch.id)
        assert batch.request_counts is not None
        counts = batch.request_counts
        texts = [await text_of(client, id) for id in (batch.output_file_id, batch.error_file_id) if id]
    assert batch.status == "cancelled"
    assert counts.completed + counts.failed == counts.total == len(lines_of("".join(texts))) == 300


async def counted(client: openai.AsyncOpenAI, id: str) -> int:
    counts = (await client.batches.retrieve(id)).request_counts
    assert counts is not None
    return counts.completed


async def test_a_batch_lets_go_of_the_device_when_somebody_online_waits(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    """A load takes half a second. Who is in use may keep the place for ten times that: some 200 answers."""
    tiers = settings.tiers.model_copy(update={"device": 1200, "max_wait_s": 600})
    slow = with_batches(simulated(settings, tokens_per_s=200, load_bytes_per_s=2200), tmp_path, concurrency=4)
    slow = slow.model_copy(update={"tiers": tiers})
    requests = [request(str(number), "math", max_tokens=17 + number % 7) for number in range(1000)]
    async with serving(slow) as gateway, client_of(gateway.url) as client:
        batch = await submitted(client, requests)
        while (await counted(client, batch.id)) == 0:
            pass
        assert (await gateway.post(model="law", max_tokens=1)).headers["x-coe-expert"] == "law"
        assert await counted(client, batch.id) < 80
        await client.batches.cancel(batch.id)
        await ended(client, batch.id)


async def test_another_key_sees_nothing_of_it(settings: Settings, serving: Serving, tmp_path: Path) -> None:
    two_keys = changed(with_batches(settings, tmp_path), api_keys=(SecretStr("mine"), SecretStr("yours")))
    async with (
        serving(two_keys) as gateway,
        client_of(gateway.url, "mine") as mine,
        client_of(gateway.url, "yours") as yours,
    ):
        batch = await ended(mine, (await submitted(mine, [request("a")])).id)
        assert [each.id async for each in mine.batches.list()] == [batch.id]
        assert [each.id async for each in yours.batches.list()] == []
        assert [each.id async for each in yours.files.list()] == []
        assert batch.output_file_id is not None
        for attempt in (
            yours.batches.retrieve(batch.id),
            yours.batches.cancel(batch.id),
            yours.files.retrieve(batch.input_file_id),
            yours.files.content(batch.output_file_id),
            yours.files.delete(batch.output_file_id),
        ):
            with pytest.raises(openai.NotFoundError):
                await attempt
        with pytest.raises(openai.NotFoundError):
            await yours.batches.create(
                input_file_id=batch.input_file_id, endpoint="/v1/chat/completions", completion_window="24h"
            )
        assert (await gateway.http.get("/v1/batches")).status_code == 401


async def test_lists_have_pages(settings: Settings, serving: Serving, tmp_path: Path) -> None:
    async with serving(with_batches(settings, tmp_path)) as gateway, client_of(gateway.url) as client:
        made = [(await submitted(client, [request("a")])).id for _ in range(5)]
        assert [batch.id async for batch in client.batches.list(limit=2)] == made[::-1]
        page = await client.batches.list(limit=3, after=made[4])
        assert [batch.id for batch in page.data] == [made[3], made[2], made[1]]
        assert page.has_more
        for wrong in ({"limit": 0}, {"limit": 101}, {"after": "nothing"}):
            with pytest.raises(openai.BadRequestError):
                await client.batches.list(**wrong)


async def test_what_cannot_be_a_batch_is_refused(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    async with serving(with_batches(settings, tmp_path)) as gateway, client_of(gateway.url) as client:
        batch = await ended(client, (await submitted(client, [request("a")])).id)
        good = {
            "input_file_id": batch.input_file_id,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }
        same = {"authorization": "Bearer none"}  # as the client, for nobody needs a key
        for wrong, param in (
            ({"completion_window": "1h"}, "completion_window"),
            ({"endpoint": "/v1/moderations"}, "endpoint"),
            ({"input_file_id": batch.output_file_id}, "input_file_id"),
            ({"metadata": {"a": 1}}, "metadata.a"),
            (
                {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
                "output_expires_after.seconds",
            ),
        ):
            answer = await gateway.http.post("/v1/batches", json=good | wrong, headers=same)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        answer = await gateway.http.post("/v1/batches", json=good | {"input_file_id": "file-nothing"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_not_found")


async def test_where_batches_are_off_it_says_so(settings: Settings, serving: Serving) -> None:
    async with serving(settings) as gateway:
        for path in ("/v1/files", "/v1/batches"):
            answer = await gateway.http.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "batches_off")


async def test_a_batch_whose_answers_do_not_fit_fails_and_keeps_those_that_did(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    requests = [request(str(number), user="x" * 9000) for number in range(113)]
    small = with_batches(settings, tmp_path, max_bytes=2**20, concurrency=1)
    async with serving(small) as gateway, client_of(gateway.url) as client:
        batch = await ended(client, (await submitted(client, requests)).id)
        answered = lines_of(await text_of(client, batch.output_file_id))
        assert gateway.services.tiers.counts().leases == 0
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert batch.errors.data[0].code == "storage_full"
    assert batch.request_counts is not None
    assert 0 < len(answered) == batch.request_counts.completed < 113
