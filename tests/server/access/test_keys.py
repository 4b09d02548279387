"""Keys, limits and usage over a real socket: what clients and operators meet."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml
from pydantic import SecretStr

from memory_tiers.events import Priority
from server.access.account_store import AccountStore
from server.access.limit_headers import duration
from server.access.usage import UsageQuery
from server.cli.main import main
from server.config.api_keys import Key, KeyConfig, Limits, digest_of, new_secret
from server.config.settings import Settings, SettingsError, load
from server.serve import operators_served
from server.transport.sockets import listen
from tests.server.access.test_accounts import rename
from tests.server.conftest import EXPERTS, ROOT, Gateway, Serving, changed, chat, simulated, until
from tests.server.reload.test_reload import line_with

Captured = pytest.CaptureFixture[str]
ADMIN = {"authorization": "Bearer of-admins"}


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def keyed(settings: Settings, **fields: Any) -> Settings:
    """With one key, ``mine``, named ``me``, and an admin key."""
    key = KeyConfig(key=SecretStr("mine"), name="me", **fields)
    return changed(settings, api_keys=(key,), admin_key=SecretStr("of-admins"))


MINE = bearer("mine")


async def rows(gateway: Gateway, headers: dict[str, str], **params: str) -> list[dict[str, Any]]:
    answer = await gateway.http.get("/v1/coe/usage", headers=headers, params=params)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["rows"])


def code(answer: httpx.Response) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status_code, error["type"], error["code"]


async def test_a_key_made_while_it_serves_opens_and_a_revoked_one_does_not(
    serving: Serving, settings: Settings, tmp_path: Path, capsys: Captured
) -> None:
    async def coe(*arguments: str) -> str:
        assert await asyncio.to_thread(main, [*arguments, "--config", str(tmp_path / "config.yaml")]) == 0
        return capsys.readouterr().out.strip()

    async def statuses(*secrets: str) -> list[int]:
        return [(await gateway.post(headers=bearer(secret))).status_code for secret in secrets]

    async with serving(settings) as gateway:
        assert await statuses("none") == [200]  # nobody needs one yet
        first = await coe("keys", "create", "app", "--requests-per-minute", "100")
        accounts = gateway.services.accounts
        await until(lambda: accounts.keys.find(digest_of(first.encode())) is not None)
        assert await statuses("none", "wrong", first) == [401, 401, 200]
        second = await coe("keys", "rotate", "app", "--grace", "1h")
        await until(lambda: accounts.keys.find(digest_of(second.encode())) is not None)
        assert await statuses(first, second) == [200, 200]
        listed = json.loads(await coe("keys", "list", "--json"))
        assert [len(row["secrets"]) for row in listed] == [2]
        assert first not in str(listed)
        await coe("keys", "revoke", "app")
        await until(lambda: accounts.keys.find(digest_of(second.encode())) is None)
        assert await statuses(first, second, "none") == [401, 401, 401]  # and it is not open again


async def test_a_hash_in_the_configuration_opens_with_its_secret(
    serving: Serving, settings: Settings
) -> None:
    secret = new_secret()
    hashed = SecretStr(f"sha256:{digest_of(secret.encode()).hex()}")
    async with serving(changed(settings, api_keys=(hashed,))) as gateway:
        assert (await gateway.post(headers=bearer(secret))).status_code == 200
        assert (await gateway.post(headers=bearer(hashed.get_secret_value()))).status_code == 401


async def test_a_key_can_be_required_before_there_is_one(serving: Serving, settings: Settings) -> None:
    async with serving(changed(settings, require_key=True)) as gateway:
        assert code(await gateway.post()) == (401, "invalid_request_error", "invalid_api_key")


async def test_answers_say_what_is_left_and_the_last_is_refused_as_openai_does(
    serving: Serving, settings: Settings
) -> None:
    async with serving(keyed(settings, requests_per_minute=2, tokens_per_minute=1000)) as gateway:
        listed = await gateway.http.get("/v1/models", headers=MINE)
        assert "x-ratelimit-limit-requests" not in listed.headers
        first = await gateway.post(headers=MINE, max_tokens=10)
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        assert first.headers["x-ratelimit-limit-tokens"] == "1000"
        assert first.headers["x-ratelimit-remaining-tokens"] == "989"  # the prompt has one at least
        assert first.headers["x-ratelimit-reset-tokens"].startswith(("59", "60", "1m0"))
        streamed = await gateway.post(headers=MINE, stream=True, max_tokens=10)
        used = first.json()["usage"]["total_tokens"]
        assert streamed.headers["x-ratelimit-remaining-tokens"] == str(1000 - used - 11)
        refused = await gateway.post(headers=MINE)
        assert code(refused) == (429, "requests", "rate_limit_exceeded")
        assert 0 < int(refused.headers["retry-after"]) <= 61
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="mine", max_retries=0) as client:
            with pytest.raises(openai.RateLimitError, match="Limit 2, Used 2, Requested 1") as caught:
                await client.chat.completions.create(**chat())
        assert caught.value.code == "rate_limit_exceeded"


async def test_a_request_that_is_no_request_is_counted_and_charged_nothing(
    serving: Serving, settings: Settings
) -> None:
    async with serving(keyed(settings, requests_per_minute=1)) as gateway:
        bad = await gateway.post(headers=MINE, messages=[])
        assert (bad.status_code, bad.headers["x-ratelimit-remaining-requests"]) == (400, "1")
        assert (await gateway.post(headers=MINE)).status_code == 200
        (none, law) = await rows(gateway, MINE)
        assert (none["expert"], none["requests"], none["errors"]) == ("-", 1, 1)
        assert (law["expert"], law["requests"], law["errors"]) == ("law", 1, 0)


async def test_tokens_are_reserved_as_many_as_may_come(serving: Serving, settings: Settings) -> None:
    async with serving(keyed(settings, tokens_per_minute=500)) as gateway:
        never = await gateway.post(headers=MINE, max_tokens=500)
        assert code(never) == (429, "tokens", "rate_limit_exceeded")
        assert "retry-after" not in never.headers
        assert "ask for less with max_tokens" in never.json()["error"]["message"]
        assert (await gateway.post(headers=MINE, max_tokens=250, n=2)).status_code == 429
        assert (await gateway.post(headers=MINE, max_tokens=499)).status_code == 200
        later = await gateway.post(headers=MINE, max_tokens=499)
        assert later.status_code == 429
        assert 0 < int(later.headers["retry-after"]) <= 61


async def test_the_days_budget_outlives_a_restart(serving: Serving, settings: Settings) -> None:
    settings = keyed(settings, tokens_per_day=300)
    async with serving(settings) as gateway:
        answer = await gateway.post(headers=MINE, max_tokens=20)
        used = answer.json()["usage"]["total_tokens"]
        assert answer.headers["x-ratelimit-limit-tokens"] == "300"
    async with serving(settings) as gateway:
        refused = await gateway.post(headers=MINE, max_tokens=300 - used)
        assert code(refused) == (429, "insufficient_quota", "insufficient_quota")
        assert f"{used} of 300 tokens" in refused.json()["error"]["message"]
        assert 0 < int(refused.headers["retry-after"]) <= 86_400
        assert (await gateway.post(headers=MINE, max_tokens=299 - used)).status_code == 200


@asynccontextmanager
async def streaming(gateway: Gateway, **fields: Any) -> AsyncIterator[AsyncIterator[str]]:
    """Its first event is here."""
    body = chat(stream=True, **fields)
    async with gateway.http.stream("POST", "/v1/chat/completions", json=body, headers=MINE) as answer:
        assert answer.status_code == 200
        events = answer.aiter_lines()
        await anext(events)
        yield events


async def test_at_once_are_as_many_as_a_key_may_and_who_leaves_makes_room(
    serving: Serving, settings: Settings
) -> None:
    slow = simulated(settings, tokens_per_s=20)
    async with serving(keyed(slow, concurrent_requests=1, tokens_per_minute=10_000)) as gateway:
        async with streaming(gateway) as events:
            await anext(events)
            refused = await gateway.post(headers=MINE)
            assert code(refused) == (429, "requests", "rate_limit_exceeded")
            assert refused.headers["retry-after"] == "1"
        await nothing_is_open(gateway)
        after = await gateway.post(headers=MINE, max_tokens=1)
        assert after.status_code == 200
        # What was reserved for the one that left is given back, but for what it had got.
        assert int(after.headers["x-ratelimit-remaining-tokens"]) > 10_000 - 100
        law = {row["expert"]: row for row in await rows(gateway, MINE)}["law"]
        assert law["requests"] == 2
        assert law["prompt_tokens"] == 2  # also of the answer that was cut off
        assert law["completion_tokens"] >= 2


async def nothing_is_open(gateway: Gateway) -> None:
    await until(lambda: "<RateLimits 0 open" in repr(gateway.services.admissions))


async def test_who_leaves_while_it_waits_for_a_load_gets_all_back_but_the_request(
    serving: Serving, settings: Settings
) -> None:
    limits: dict[str, Any] = {"concurrent_requests": 1, "tokens_per_minute": 300, "requests_per_minute": 9}
    async with serving(keyed(simulated(settings, load_bytes_per_s=2000), **limits)) as gateway:
        asking = asyncio.create_task(gateway.post(headers=MINE, model="law", max_tokens=200))
        await until(lambda: gateway.services.tiers.counts().waiting == 1)
        asking.cancel()
        await nothing_is_open(gateway)
        after = await gateway.post(headers=MINE, model="general", max_tokens=200)
        assert after.status_code == 200
        assert after.headers["x-ratelimit-remaining-tokens"] == "99"
        assert after.headers["x-ratelimit-remaining-requests"] == "7"
        general, law = await rows(gateway, MINE)
        assert (law["requests"], law["errors"], law["prompt_tokens"]) == (1, 0, 0)
        assert general["requests"] == 1


async def test_usage_that_cannot_be_read_is_an_error_without_a_path(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway:
        rename(settings.accounts.file, "usage", "gone")
        answer = await gateway.http.get("/v1/coe/usage")
        rename(settings.accounts.file, "gone", "usage")
        assert code(answer) == (503, "server_error", "usage_unavailable")
        assert str(settings.accounts.file) not in answer.text
        assert await rows(gateway, {}) == []


async def test_a_key_sees_and_gets_the_models_that_it_may_use(serving: Serving, settings: Settings) -> None:
    async with serving(keyed(settings, models=("coe", "law"))) as gateway:
        listed = await gateway.http.get("/v1/models", headers=MINE)
        assert [model["id"] for model in listed.json()["data"]] == ["coe", "law"]
        for name in ("math", "nobody"):
            assert (await gateway.http.get(f"/v1/models/{name}", headers=MINE)).status_code == 404
            refused = await gateway.post(headers=MINE, model=name)
            assert code(refused) == (404, "invalid_request_error", "model_not_found")
            assert refused.json()["error"]["message"] == (
                f"The model {name!r} does not exist, or this API key may not use it; GET /v1/models lists "
                "those that it may."
            )
            explained = await gateway.http.post("/v1/coe/route", json=chat(model=name), headers=MINE)
            assert explained.status_code == 404
        messages = [{"role": "user", "content": "What is the integral of x^2?"}]
        routed = await gateway.post(headers=MINE, model="coe", messages=messages)
        assert routed.headers["x-coe-expert"] == "math"  # which it could not ask for by name
        under_a_budget = await gateway.post(headers=MINE, model="coe:1B", messages=messages)
        assert under_a_budget.status_code != 404


@pytest.mark.parametrize(
    ("most", "asked", "given"),
    [
        (None, None, "normal"),
        (None, "high", "high"),
        ("normal", "high", "normal"),
        ("low", "normal", "low"),
        ("high", None, "high"),
        ("low", None, "low"),
        ("high", "low", "low"),
    ],
)
def test_a_keys_priority_is_the_default_and_the_highest(
    most: Priority | None, asked: Priority | None, given: Priority
) -> None:
    assert Key("a", priority=most).priority_of(asked) == given


async def test_usage_is_what_the_answers_said_and_a_key_sees_its_own(
    serving: Serving, settings: Settings, tmp_path: Path, capsys: Captured
) -> None:
    theirs = KeyConfig(key=SecretStr("theirs"), name="them")
    settings = keyed(settings)
    settings = changed(settings, api_keys=(*settings.server.api_keys, theirs))
    async with serving(settings) as gateway:
        answers = [await gateway.post(headers=MINE, model=name, max_tokens=5) for name in EXPERTS * 2]
        streamed = await gateway.post(
            headers=bearer("theirs"), stream=True, stream_options={"include_usage": True}
        )
        mine = await rows(gateway, MINE)
        assert {row["key"] for row in mine} == {"me"}
        assert [(row["expert"], row["requests"]) for row in mine] == [(name, 2) for name in sorted(EXPERTS)]
        usages = [answer.json()["usage"] for answer in answers]
        for field in ("prompt_tokens", "completion_tokens"):
            assert sum(row[field] for row in mine) == sum(usage[field] for usage in usages)
        assert await rows(gateway, MINE, key="them") == mine
        (them,) = await rows(gateway, bearer("theirs"))
        *_, last, _done = [line for line in streamed.text.splitlines() if line]
        assert (
            them["completion_tokens"] == json.loads(last.removeprefix("data: "))["usage"]["completion_tokens"]
        )
        everybody = await rows(gateway, ADMIN)
        assert len(everybody) == len(EXPERTS) + 1
        assert await rows(gateway, ADMIN, key="them") == [them]
        assert await rows(gateway, ADMIN, since="2999-01-01") == []
        assert (
            await gateway.http.get("/v1/coe/usage", params={"since": "soon"}, headers=ADMIN)
        ).status_code == 400
        assert (await gateway.http.get("/v1/coe/usage")).status_code == 401
    config = str(tmp_path / "config.yaml")
    assert main(["usage", "--json", "--config", config]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == everybody
    assert main(["usage", "--key", "them", "--config", config]) == 0
    assert "them" in capsys.readouterr().out


async def test_without_keys_usage_is_counted_under_anonymous(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        assert "x-ratelimit-limit-requests" not in (await gateway.post()).headers
        assert [(row["key"], row["requests"]) for row in await rows(gateway, {})] == [("anonymous", 1)]


async def test_operators_have_a_listener_of_their_own(serving: Serving, settings: Settings) -> None:
    async with serving(changed(keyed(settings), admin_port=0)) as gateway:
        with closing(listen("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with (
                operators_served(gateway.made, gateway.reload, listener),
                httpx.AsyncClient(base_url=url) as operators,
            ):
                await gateway.post(headers=MINE)
                for path in ("/metrics", "/ready", "/v1/coe/tiers"):
                    assert (await gateway.http.get(path, headers=ADMIN)).status_code == 404
                    assert (await operators.get(path, headers=ADMIN)).status_code == 200
                assert (await operators.get("/health")).status_code == 200
                assert (await operators.get("/v1/coe/tiers", headers=MINE)).status_code == 401
                for headers, status in ((MINE, 200), (ADMIN, 401), ({}, 401)):  # for the page's playground
                    chatted = await operators.post("/v1/chat/completions", json=chat(), headers=headers)
                    assert chatted.status_code == status
                assert (await operators.post("/v1/messages", json=chat(), headers=MINE)).status_code == 404
                usage = await operators.get("/v1/coe/usage", headers=ADMIN)
                assert [row["key"] for row in usage.json()["rows"]] == ["me"]
                assert (await operators.get("/v1/coe/usage", headers=MINE)).status_code == 401
                assert (await gateway.http.get("/v1/coe/usage", headers=ADMIN)).status_code == 401
                assert len(await rows(gateway, MINE)) == 1


async def test_metrics_can_have_a_key(serving: Serving, settings: Settings) -> None:
    async with serving(changed(keyed(settings), metrics_key=SecretStr("of-prometheus"))) as gateway:
        for headers, status in (({}, 401), (MINE, 401), (bearer("of-prometheus"), 200), (ADMIN, 200)):
            assert (await gateway.http.get("/metrics", headers=headers)).status_code == status
        assert (await gateway.http.get("/v1/coe/tiers", headers=bearer("of-prometheus"))).status_code == 401


def written(tmp_path: Path, **server: Any) -> Path:
    tree = yaml.safe_load((tmp_path / "config.yaml").read_text())
    file = tmp_path / "keys.yaml"
    file.write_text(yaml.safe_dump(tree | {"server": server}))
    return file


def test_an_entry_for_the_configuration_has_the_hash_and_opens_with_the_secret(
    settings: Settings, tmp_path: Path, capsys: Captured
) -> None:
    arguments = [
        "keys",
        "create",
        "app",
        "--yaml",
        "--models",
        "law",
        "coe",
        "--tokens-per-day",
        "1000",
        "--priority",
        "low",
    ]
    assert main([*arguments, "--config", str(tmp_path / "config.yaml")]) == 0
    printed = capsys.readouterr()
    secret = printed.err.split()[-1]
    assert secret not in printed.out
    made = load(written(tmp_path, api_keys=yaml.safe_load(printed.out))).server.api_keys[0]
    assert isinstance(made, KeyConfig)
    assert made.hashed.digest == digest_of(secret.encode())
    assert made.hashed.key == Key("app", Limits(tokens_per_day=1000), frozenset({"law", "coe"}), "low")
    assert not settings.accounts.file.exists()


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ([{"key": "a", "model": ["law"]}], "api_keys.0.model: unknown field; did you mean 'models'?"),
        ([{"key": "a", "models": ["lwa"]}], "api_keys.0.models: 'lwa' is not defined; did you mean 'law'?"),
        ([{"key": "a", "requests_per_minute": 0}], "api_keys.0.requests_per_minute: Input should be greater"),
        ([{"key": "a", "name": "anonymous"}], "api_keys.0.name: 'anonymous' cannot name a key"),
        ([{"name": "b"}], "api_keys.0.key: missing"),
        ([7], "api_keys.0: Input should be a valid string"),
        (["sha256:abc"], "api_keys.0: after sha256: come the 64 hexadecimal digits of a hash"),
        (["a", {"key": "a"}], "api_keys has the same key twice"),
        ([{"key": "a", "name": "x"}, {"key": "b", "name": "x"}], "api_keys has the same name twice"),
    ],
)
def test_what_is_wrong_with_a_key_is_said(
    settings: Settings, tmp_path: Path, keys: list[Any], says: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(written(tmp_path, api_keys=keys))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("create theirs", "server.api_keys has a key named 'theirs'"),
        ("create a b", None),
        ("create a/b", "NAME: 'a/b' cannot name a key"),
        ("create a --models lwa", "--models: 'lwa' is not defined; did you mean 'law'?"),
        ("create a --tokens-per-day 0", "--tokens-per-day: Input should be greater than 0"),
        ("create old", "has a key named 'old', perhaps a revoked one"),
        ("revoke theirs", "change server.api_keys there"),
        ("revoke nobody", "is not there; coe keys list shows all"),
        ("rotate old --grace soon", "--grace soon: not a time such as 30m, 24h or 7d"),
    ],
)
def test_what_cannot_be_done_with_a_key_is_one_line(
    settings: Settings, tmp_path: Path, capsys: Captured, arguments: str, says: str | None
) -> None:
    config = written(tmp_path, api_keys=[{"key": "a", "name": "theirs"}])
    store = AccountStore.open(settings.accounts.file, create=True)
    store.create(Key("old"), new_secret(), time.time())
    store.close()
    if says is None:
        with pytest.raises(SystemExit):
            main(["keys", *arguments.split(), "--config", str(config)])
        return
    assert main(["keys", *arguments.split(), "--config", str(config)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_the_table_of_keys_shows_what_still_opens(
    settings: Settings, tmp_path: Path, capsys: Captured
) -> None:
    config = str(written(tmp_path, api_keys=[{"key": "a", "name": "theirs", "models": ["law"]}]))
    for arguments in (
        "create one",
        "create two --requests-per-minute 7",
        "rotate one --grace 1d",
        "revoke two",
    ):
        assert main(["keys", *arguments.split(), "--config", config]) == 0
    capsys.readouterr()
    assert main(["keys", "list", "--config", config]) == 0
    table = capsys.readouterr().out
    assert all(word in table for word in ("theirs", "configuration", "one", "until", "two", "revoked", "7"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0203, "21ms"),
        (1, "1s"),
        (59.5, "59.5s"),
        (60, "1m0s"),
        (360, "6m0s"),
        (29_112, "8h5m12s"),
    ],
)
def test_times_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


async def test_the_command_serves_operators_on_their_port_and_writes_usage_as_it_ends(
    settings: Settings, tmp_path: Path
) -> None:
    config = written(tmp_path, admin_port=0, admin_key="of-admins")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server.cli", "serve", "--config", str(config), "--port", "0"),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60), httpx.AsyncClient() as http:
            operators = (await line_with(process.stdout, "Operators' listener on ")).split()[-1]
            url = (await line_with(process.stdout, "Ready on ")).split()[-1]
            assert (await http.post(f"{url}/chat/completions", json=chat())).status_code == 200
            assert (await http.get(f"{operators}/v1/coe/tiers", headers=ADMIN)).status_code == 200
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    store = AccountStore.open(settings.accounts.file, create=False)
    ((place, spent),) = store.usage(UsageQuery())
    store.close()
    assert (place.key, place.expert, spent.requests) == ("anonymous", "law", 1)
