"""Ollama's API of a running gateway, as its clients meet it: over a real socket, on simulated engines."""

import json
from typing import Any

import httpx
import ollama
import pytest
from pydantic import SecretStr

from server.config.api_keys import KeyConfig
from server.config.settings import Settings
from tests.server.access.test_keys import MINE, bearer, keyed, rows
from tests.server.conftest import Gateway, Serving, changed, simulated, until
from tests.server.resilience.test_timeouts import never_loads
from tests.server.test_gateway import nothing_is_held

HELLO = [{"role": "user", "content": "hello"}]


def client_of(gateway: Gateway, secret: str = "none") -> ollama.AsyncClient:
    return ollama.AsyncClient(host=gateway.url, headers=bearer(secret))


def tier(gateway: Gateway, expert: str) -> str:
    return next(each.tier for each in gateway.services.tiers.status() if each.expert == expert)


async def post(gateway: Gateway, path: str, **body: Any) -> httpx.Response:
    return await gateway.http.post(f"/api/{path}", json=body)


async def test_a_session_of_ollama_s_client(serving: Serving, settings: Settings) -> None:
    aliased = settings.model_copy(update={"aliases": {"llama*": "coe"}})
    async with serving(aliased) as gateway, client_of(gateway) as client:
        whole = await client.chat("law:latest", HELLO, options={"num_predict": 4})
        assert (whole.model, whole.done_reason, whole.eval_count) == ("law:latest", "length", 4)
        assert whole.message.content is not None
        assert whole.total_duration is not None
        pieces = [piece async for piece in await client.chat("llama3", HELLO, stream=True, think=True)]
        assert "".join(piece.message.content or "" for piece in pieces).startswith("Simulated answer of ")
        assert {piece.model for piece in pieces} == {"llama3"}
        assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        for raw in (False, True):
            said = await client.generate("law", "hello", raw=raw, options={"num_predict": 3})
            assert said.response is not None
            assert said.eval_count == 3
        vectors = await client.embed("coe", ["a text", "another"])
        assert len(vectors.embeddings) == 2
        older = await client.embeddings("coe", "a text")
        assert [*older.embedding] == [*vectors.embeddings[0]]
        await nothing_is_held(gateway)


async def test_models_are_listed_shown_and_seen_on_the_device(serving: Serving, settings: Settings) -> None:
    aliased = settings.model_copy(update={"aliases": {"llama3": "law", "gpt-*": "coe"}})
    async with serving(aliased) as gateway, client_of(gateway) as client:
        listed = {model.model: model for model in (await client.list()).models}
        assert {"coe:latest", "law:latest", "llama3:latest"} < listed.keys()
        assert listed["llama3:latest"].details is not None
        assert listed["llama3:latest"].details.parent_model == "law"
        assert listed["law:latest"].digest != listed["math:latest"].digest
        shown = await client.show("gpt-4o")
        assert shown.modelinfo is not None
        assert shown.modelinfo["llama.context_length"] == 200_000
        assert shown.capabilities == ["completion", "tools"]
        assert shown.template == "{{ messages }}"
        await client.chat("law", HELLO, keep_alive="1h")
        running = {model.model: model for model in (await client.ps()).models}
        law = running["law:latest"]
        assert law.size_vram == settings_bytes(gateway, "law")
        assert law.expires_at is not None
        assert law.context_length == 200_000
        version = (await gateway.http.get("/api/version")).json()
        assert version["coe"] == gateway.services.version
        with pytest.raises(ollama.ResponseError, match="'nobody' does not exist") as unknown:
            await client.show("nobody")
        assert unknown.value.status_code == 404


def settings_bytes(gateway: Gateway, expert: str) -> int:
    return gateway.services.experts[expert].weights_bytes


async def test_keep_alive_is_how_long_the_expert_stays_and_no_text_loads_or_unloads_it(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway, client_of(gateway) as client:
        await client.chat("law", HELLO, keep_alive=0)
        await until(lambda: tier(gateway, "law") != "device")
        loaded = await client.generate("law")
        assert (loaded.done_reason, tier(gateway, "law")) == ("load", "device")
        assert "law" not in gateway.services.tiers.stays()
        await client.chat("law", HELLO, keep_alive="1h")
        await nothing_is_held(gateway)
        assert 3500 < gateway.services.tiers.stays()["law"] <= 3600
        unloaded = await client.chat("law", keep_alive=0)
        assert unloaded.done_reason == "unload"
        await until(lambda: tier(gateway, "law") != "device")
        assert (await client.chat("coe")).done_reason == "load"
        with pytest.raises(ollama.ResponseError, match="does not exist"):
            await client.generate("nobody")
        await nothing_is_held(gateway)


async def test_a_client_that_leaves_a_stream_leaves_no_lease(serving: Serving, settings: Settings) -> None:
    async with serving(simulated(settings, tokens_per_s=20)) as gateway, client_of(gateway) as client:
        stream = await client.chat("law", HELLO, stream=True)
        await anext(stream)
        assert gateway.services.tiers.counts().leases == 1
        await stream.aclose()
        await nothing_is_held(gateway)


async def test_errors_are_ollama_s_wherever_they_come_from(serving: Serving, settings: Settings) -> None:
    async with serving(changed(keyed(settings), max_body=2000)) as gateway:

        async def refused(path: str, status: int, headers: dict[str, str] = MINE, **body: Any) -> str:
            answer = await gateway.http.post(f"/api/{path}", json=body, headers=headers)
            assert answer.status_code == status, answer.text
            error = answer.json()
            assert [*error] == ["error"]
            return str(error["error"])

        asked: dict[str, Any] = {"model": "law", "messages": HELLO}
        assert "No API key" in await refused("chat", 401, {}, **asked)
        assert "No API key" in await refused("show", 401, {}, model="law")
        assert "'nobody' does not exist" in await refused("chat", 404, **asked | {"model": "nobody"})
        assert "num_predict" in await refused("chat", 400, **asked, options={"num_predict": "x"})
        assert "at most 2000" in await refused("generate", 413, model="law", prompt="a" * 3000)
        assert "generates text" in await refused("embed", 400, model="law", input="a")
        assert "is not served here" in await refused("nothing", 404)
        for path in ("pull", "push", "create", "copy", "blobs/sha256:00"):
            assert "GET /api/tags lists them" in await refused(path, 501, model="law")
        deleted = await gateway.http.request("DELETE", "/api/delete", json={"model": "law"}, headers=MINE)
        assert (deleted.status_code, [*deleted.json()]) == (501, ["error"])


async def test_a_stream_that_waits_has_pieces_without_text_and_ends_with_an_error(
    serving: Serving, settings: Settings
) -> None:
    slow = never_loads(settings, keep_alive_s=0.05, request_timeout_s=0.5)
    async with serving(slow) as gateway:
        body = {"model": "math", "messages": HELLO}
        answer = await gateway.http.post("/api/chat", json=body)
        assert answer.headers["content-type"] == "application/x-ndjson"
        *waiting, last = [json.loads(line) for line in answer.text.splitlines()]
        assert len(waiting) > 1
        assert {(piece["message"]["content"], piece["done"]) for piece in waiting} == {("", False)}
        assert [*last] == ["error"]


async def test_what_is_documented_for_curl_works_but_not_for_a_page_of_another_origin(
    serving: Serving, settings: Settings
) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    raw = json.dumps({"model": "law", "prompt": "hi", "stream": False})
    async with serving(settings) as gateway:
        for headers in ({}, form):
            answer = await gateway.http.post("/api/generate", content=raw, headers=headers)
            assert answer.status_code == 200
        page = form | {"origin": "https://elsewhere.example"}
        assert (await gateway.http.post("/api/generate", content=raw, headers=page)).status_code == 415
        assert (await gateway.http.post("/v1/completions", content=raw, headers=form)).status_code == 415


async def test_it_says_that_ollama_runs_and_leads_a_browser_to_the_page(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway:
        for accept in ("*/*", "application/json"):
            assert (await gateway.http.get("/", headers={"accept": accept})).text == "Ollama is running"
        assert (await gateway.http.head("/")).status_code == 200
        led = await gateway.http.get("/", headers={"accept": "text/html,*/*;q=0.8"})
        assert (led.status_code, led.headers["location"]) == (307, "/ui")


async def test_a_key_sees_its_models_and_is_charged_what_it_used(
    serving: Serving, settings: Settings
) -> None:
    key = KeyConfig(key=SecretStr("mine"), name="me", models=("coe",))
    async with serving(changed(settings, api_keys=(key,))) as gateway, client_of(gateway, "mine") as client:
        assert [model.model for model in (await client.list()).models] == ["coe:latest"]
        assert (await client.ps()).models == []
        said = await client.chat("coe:latest", HELLO, options={"num_predict": 4})
        embedded = await client.embed("coe", "a text")
        used = await rows(gateway, MINE)
        assert sum(row["completion_tokens"] for row in used) == said.eval_count == 4
        prompts = sum(row["prompt_tokens"] for row in used)
        assert prompts == (said.prompt_eval_count or 0) + (embedded.prompt_eval_count or 0)
