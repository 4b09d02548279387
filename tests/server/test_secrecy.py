"""What clients and the log are not told: keys, prompts, and where things lie on this machine."""

import logging
import shutil
from typing import Any

import pytest
from pydantic import SecretStr

from server.config.settings import Settings
from tests.server.conftest import AS_JSON, Gateway, Serving, changed, chat, settled, simulated
from tests.server.wire import post, wire

KEY, ADMIN_KEY, WRONG_KEY = "sk-key-nobody-may-see", "admin-key-nobody-may-see", "sk-wrong-key"
PROMPT = "my-own-words-of-a-prompt"


def guarded(settings: Settings) -> Settings:
    return changed(settings, api_keys=(SecretStr(KEY),), admin_key=SecretStr(ADMIN_KEY))


async def session(gateway: Gateway, settings: Settings) -> list[str]:
    """All that is answered to a client with whom everything goes wrong that can, and to an operator's orders
    that are refused."""
    told: list[str] = []

    async def ask(key: str = KEY, path: str = "/v1/chat/completions", **request: Any) -> int:
        request.setdefault("json", chat(messages=[{"role": "user", "content": PROMPT}]))
        headers = {"authorization": f"Bearer {key}"} | request.pop("headers", {})
        answer = await gateway.http.request("POST", path, headers=headers, **request)
        told.extend([answer.text, repr(answer.headers)])
        return answer.status_code

    def body(**fields: Any) -> dict[str, Any]:
        return chat(messages=[{"role": "user", "content": PROMPT}]) | fields

    assert await ask() == 200
    assert await ask(json=body(model="coe", stream=True)) == 200
    assert await ask(WRONG_KEY) == 401
    assert await ask(content=f'{{"messages": "{PROMPT}"'.encode()) == 415
    assert await ask(content=f'{{"messages": "{PROMPT}"'.encode(), headers=AS_JSON) == 400
    assert await ask(content=b"\xff" + PROMPT.encode(), headers=AS_JSON) == 400
    assert await ask(json=body(messages=[PROMPT])) == 400
    assert await ask(json=body(messages=[{"content": PROMPT}])) == 400
    assert await ask(json=body(max_tokens=PROMPT)) == 400
    assert await ask(json=body(model="lwa")) == 404
    assert await ask(path=f"/{PROMPT[:2]}") == 404
    assert await ask(path="/v1/coe/feedback", json={"id": PROMPT}) == 404
    assert await ask(path="/v1/coe/reload") == 401
    picture = {"type": "image_url", "image_url": {"url": f"file://{settings.store}/{PROMPT}"}}
    assert await ask(json=body(messages=[{"role": "user", "content": [picture]}])) == 400
    async with wire(gateway.url) as connection:
        secret = f"Authorization: Bearer {KEY}\r\n{PROMPT}\r\n".encode()
        await connection.send(post(b"{}", more=secret))
        told.append((await connection.closed()).decode())
        assert "400 Bad Request" in told[-1]

    await settled(gateway)
    shutil.rmtree(settings.store / "medicine")
    assert await ask(json=body(model="medicine")) == 503
    gateway.engine.crash(f"{settings.logs}: its last words")
    assert await ask(json=body(model="law")) == 200
    endless = body(model="law", stream=True, max_tokens=150_000, ignore_eos=True)
    key = {"authorization": f"Bearer {KEY}"}
    async with gateway.http.stream("POST", "/v1/chat/completions", json=endless, headers=key) as answer:
        lines = answer.aiter_lines()
        await anext(lines)  # nothing is lost, and all done again, before the first byte
        gateway.engine.crash(f"{settings.logs}: its last words")
        told += [line async for line in lines]
    assert "engine_lost" in told[-2]
    return told


async def test_no_answer_has_a_key_a_prompt_or_a_path_and_no_log_line_a_key_or_a_prompt(
    serving: Serving, settings: Settings, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    async with serving(simulated(guarded(settings), tokens_per_s=500)) as gateway:
        told = await session(gateway, settings)
        metrics = (await gateway.http.get("/metrics")).text
    output = "".join(capfd.readouterr())
    assert len(told) > 30
    for secret in (KEY, ADMIN_KEY, WRONG_KEY, PROMPT):
        assert [text for text in (*told, metrics, output, caplog.text) if secret in text] == []
    for path in (str(settings.store), str(settings.logs), str(settings.store.parent), "/dev/shm", ".py"):
        assert [text for text in (*told, metrics) if path in text] == []
    told_to_operators = (f"{settings.logs}: its last words", str(settings.store / "medicine"))
    assert [path for path in told_to_operators if path not in caplog.text] == []


def test_a_configuration_can_be_printed(settings: Settings) -> None:
    shown = guarded(settings)
    for text in (repr(shown), str(shown), shown.model_dump_json(), repr(shown.server)):
        assert KEY not in text
        assert ADMIN_KEY not in text


@pytest.mark.parametrize(
    "given",
    [b"\x1b[31mred", b"a b", "ключ".encode(), b"x" * 129, b"", b'"quoted" and more'],
)
async def test_a_request_id_that_cannot_stand_in_a_log_is_replaced(
    serving: Serving, settings: Settings, given: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serving(settings) as gateway, wire(gateway.url) as connection:
        await connection.send(post(b"{}", more=b"X-Request-Id: %b\r\n" % given))
        reply = await connection.reply()
        assert reply is not None
        assert reply.status == 400
        if given and b"\x1b" not in given:
            assert given.decode("latin-1") not in (reply.headers["x-request-id"], caplog.text)
        if "connection" not in reply.headers:
            await connection.send(post(b"{}", more=b"X-Request-Id: a.b:c-1\r\n"))
            reply = await connection.reply()
            assert reply is not None
            assert reply.headers["x-request-id"] == "a.b:c-1"


@pytest.mark.parametrize(
    "path",
    [
        "/pause",
        "/resume",
        "/collective_rpc",
        "/v1/load_lora_adapter",
        "/reset_prefix_cache",
        "/server_info",
        "/v1/chat/completions/../../pause",
        "/v1/models/../../pause",
        "/v1/%2e%2e/pause",
        "//pause",
    ],
)
async def test_no_path_of_an_engine_can_be_asked_for(serving: Serving, settings: Settings, path: str) -> None:
    async with serving(settings) as gateway, wire(gateway.url) as connection:
        for method in ("GET", "POST"):
            await connection.send(
                f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{{}}".encode()
            )
            reply = await connection.reply()
            assert reply is not None
            assert reply.status == 404
            assert (
                "is not served here" in reply.error["message"] or "does not exist" in reply.error["message"]
            )
