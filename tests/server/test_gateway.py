"""The gateway over a real socket and simulated engines, through unchanged OpenAI clients."""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from pydantic import ByteSize, SecretStr

from memory_tiers.driver.host_store import PREFIX, HostStore
from memory_tiers.errors import BudgetTooSmall
from server.compose import running
from server.config.settings import Settings
from tests.server.conftest import AS_JSON, EXPERTS, Gateway, Serving, changed, chat, simulated, until


def client_of(gateway: Gateway) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0)


def held(gateway: Gateway) -> tuple[int, int]:
    counts = gateway.services.tiers.counts()
    return counts.waiting, counts.leases


async def nothing_is_held(gateway: Gateway) -> None:
    await until(lambda: held(gateway) == (0, 0))
    await until(lambda: gateway.engine.running == 0)


async def test_an_expert_answers_by_its_name(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        answer = await gateway.post(model="law")
        assert answer.status_code == 200
        assert answer.json()["model"] == "law"
        assert answer.headers["x-coe-expert"] == "law"
        assert "x-coe-category" not in answer.headers


async def test_a_composition_routes_and_says_what_it_decided(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        messages = [{"role": "user", "content": "What is the integral of x^2?"}]
        answer = await gateway.post(model="coe", messages=messages)
        assert answer.headers["x-coe-expert"] == "math"
        assert answer.headers["x-coe-category"] == "math"
        assert float(answer.headers["x-coe-confidence"]) > 0.3
        assert answer.headers["x-coe-tier"] in ("device", "host", "disk")
        assert float(answer.headers["x-coe-queue-ms"]) >= float(answer.headers["x-coe-swap-ms"]) >= 0


async def test_the_openai_client_streams_from_all_experts_at_once(
    serving: Serving, settings: Settings
) -> None:
    async def text(client: openai.AsyncOpenAI, expert: str) -> str:
        stream = await client.chat.completions.create(
            model=expert, messages=[{"role": "user", "content": "hi"}], stream=True, max_tokens=30
        )
        parts = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        return "".join(parts)

    async with serving(settings) as gateway, client_of(gateway) as client:
        alone = {name: await text(client, name) for name in EXPERTS}
        together = await asyncio.gather(*(text(client, name) for name in EXPERTS * 4))
        assert together == list(alone.values()) * 4
        assert len(set(together)) == len(EXPERTS)
        await nothing_is_held(gateway)


async def test_a_request_id_is_honoured_or_made(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        given = await gateway.post(headers={"x-request-id": "mine"})
        assert given.headers["x-request-id"] == "mine"
        assert len((await gateway.post()).headers["x-request-id"]) == 32


async def test_models_lists_compositions_and_experts_with_their_tiers(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway, client_of(gateway) as client:
        listed = {model.id: model.model_extra or {} async for model in client.models.list()}
        assert set(listed) == {"coe", *EXPERTS}
        assert listed["general"]["coe"]["tier"] == "device"
        assert listed["law"]["coe"]["tier"] == "disk"
        one = await client.models.retrieve("law")
        assert one.id == "law"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nobody")


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (json.dumps(chat(messages=[])).encode(), 400, "messages"),
        (json.dumps(chat(chat_template="{{ x }}")).encode(), 400, "chat_template"),
        (json.dumps(chat(model="lwa")).encode(), 404, "model"),
        (json.dumps(chat(tools=[{"type": "custom"}])).encode(), 400, "tools[0].type"),
    ],
)
async def test_bad_input_gets_openais_error_body(
    serving: Serving, settings: Settings, body: bytes, status: int, param: str | None
) -> None:
    async with serving(settings) as gateway:
        answer = await gateway.http.post("/v1/chat/completions", content=body, headers=AS_JSON)
        assert answer.status_code == status
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["type"] == "invalid_request_error"
        assert error["param"] == param
        assert answer.headers["x-request-id"]
        counted = f'coe_requests_total{{expert="",outcome="{status}"}} 1.0'
        assert counted in (await gateway.http.get("/metrics")).text


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_stream_says_the_fingerprint_as_the_whole_answer_does(
    serving: Serving, settings: Settings, path: str
) -> None:
    body = chat(prompt="hello", max_tokens=3)
    async with serving(settings) as gateway:
        whole = (await gateway.http.post(path, json=body)).json()
        for counting in (False, True):
            streamed = body | {"stream": True, "stream_options": {"include_usage": counting}}
            text = (await gateway.http.post(path, json=streamed)).text
            events = [json.loads(block[len("data: ") :]) for block in text.split("\n\n")[:-2]]
            assert "usage" in events[-1] if counting else events[-1]["choices"][0]["finish_reason"]
            assert events[-1]["system_fingerprint"] == whole["system_fingerprint"]
            assert not [event for event in events[:-1] if "system_fingerprint" in event]


async def test_a_body_over_the_limit_is_refused(serving: Serving, settings: Settings) -> None:
    async with serving(changed(settings, max_body=1000)) as gateway:
        answer = await gateway.post(messages=[{"role": "user", "content": "x" * 2000}])
        assert answer.status_code == 413

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"x" * 100

        unannounced = await gateway.http.post("/v1/chat/completions", content=pieces(), headers=AS_JSON)
        assert unannounced.status_code == 413


async def test_a_path_that_is_not_served_gets_openais_error_body(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway:
        assert (await gateway.http.get("/v1/nothing")).json()["error"]["type"] == "invalid_request_error"
        wrong_method = await gateway.http.get("/v1/chat/completions")
        assert wrong_method.status_code == 405
        assert "error" in wrong_method.json()


async def test_with_keys_configured_others_may_not_call(serving: Serving, settings: Settings) -> None:
    async with serving(changed(settings, api_keys=(SecretStr("secret-a"), SecretStr("secret-b")))) as gateway:
        for path in ("/v1/models", "/v1/models/law"):
            assert (await gateway.http.get(path)).status_code == 401
        assert (await gateway.post()).status_code == 401
        wrong = await gateway.post(headers={"authorization": "Bearer secret"})
        assert wrong.json()["error"]["code"] == "invalid_api_key"
        assert (await gateway.post(headers={"authorization": "Bearer secret-b"})).status_code == 200
        assert (await gateway.http.get("/health")).status_code == 200


async def test_a_client_that_leaves_while_streaming_gives_everything_back(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway:
        async with gateway.http.stream(
            "POST", "/v1/chat/completions", json=chat(stream=True, max_tokens=100_000)
        ) as answer:
            await anext(answer.aiter_bytes())
            assert held(gateway) == (0, 1)
        await nothing_is_held(gateway)
        assert 'outcome="client_left"' in (await gateway.http.get("/metrics")).text


async def test_clients_that_leave_while_waiting_give_their_tickets_back(
    serving: Serving, settings: Settings
) -> None:
    async with serving(simulated(settings, load_bytes_per_s=2000)) as gateway:
        leaving = [asyncio.create_task(gateway.post(model=name)) for name in EXPERTS[1:]]
        await until(lambda: held(gateway)[0] == len(leaving))
        for task in leaving:
            task.cancel()
        await asyncio.wait(leaving)
        await nothing_is_held(gateway)


async def test_an_engine_that_dies_ends_streams_with_an_error_and_answers_what_was_not_begun(
    serving: Serving, settings: Settings
) -> None:
    async with serving(simulated(settings, start_s=0.5)) as gateway:
        body = chat(model="general", stream=True, max_tokens=100_000)
        async with gateway.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            gateway.engine.crash()
            assert (await gateway.http.get("/ready")).status_code == 503
            not_begun = asyncio.create_task(gateway.post(model="math"))
            last = [line async for line in lines if line][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "engine_lost"
        assert (await not_begun).status_code == 200
        assert (await gateway.http.get("/ready")).status_code == 200
        await nothing_is_held(gateway)


async def test_a_request_may_fail_fast_instead_of_waiting_for_a_load(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway:
        answer = await gateway.post(model="law", headers={"x-coe-fail-fast": "1"})
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "not_resident"


async def test_metrics_have_request_route_lease_tier_move_and_switch_series(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway:
        for name in EXPERTS:
            await gateway.post(model=name)
        await gateway.post(model="coe")
        text = (await gateway.http.get("/metrics")).text
        for series in (
            'coe_requests_total{expert="law",outcome="200"} 1.0',
            "coe_route_decisions_total{",
            'coe_leases{expert="law"} 0.0',
            'coe_lease_wait_seconds_count{tier="disk"} ',
            'coe_tier_capacity_bytes{tier="device"} 2500.0',
            'coe_move_seconds_count{from_tier="host",outcome="done",',
            'coe_engine_state{family="small",state="ready"} 1.0',
            'coe_engine_switches_total{family="small"}',
            'coe_engine_busy_seconds_total{family="small"}',
        ):
            assert series in text


async def test_a_shutdown_lets_a_stream_end(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        answer = asyncio.create_task(gateway.post(model="general", max_tokens=1000))
        await until(lambda: held(gateway) == (0, 1))
    assert (await answer).status_code == 200


async def test_health_answers_before_engines_are_ready(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        assert (await gateway.http.get("/health")).json() == {"status": "ok"}
        assert (await gateway.http.get("/ready")).json() == {"status": "ready"}


async def test_an_answer_streams_while_it_is_computed(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        body = chat(stream=True, max_tokens=50_000)
        async with gateway.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            first = await anext(answer.aiter_bytes())
            assert first.startswith(b"data: ")
            assert gateway.engine.running == 1


async def test_budgets_that_are_auto_are_numbers_once_it_runs_and_the_log_says_whence(
    serving: Serving, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "coe.services")
    open_budgets = settings.tiers.model_copy(update={"device": "auto", "host": "auto"})
    async with serving(settings.model_copy(update={"tiers": open_budgets})) as gateway:
        answer = await gateway.post(model="law")
        assert answer.status_code == 200
        usage = {tier.tier: tier.capacity_bytes for tier in gateway.services.tiers.usage()}
    (line,) = [record.getMessage() for record in caplog.records if "tiers.device is" in record.getMessage()]
    assert line.startswith(f"tiers.device is {usage['device']:,} bytes, tiers.host {usage['host']:,}: ")
    assert "/proc/meminfo" in line or "the limit of" in line
    assert usage["device"] is not None
    assert usage["device"] > 10**8


async def test_a_host_budget_over_shared_memory_is_lowered_with_a_warning_and_every_request_served(
    serving: Serving, settings: Settings, small_memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiers = settings.tiers.model_copy(update={"host": ByteSize(60 * 10**9)})
    settings = settings.model_copy(update={"tiers": tiers})
    async with serving(settings, host_store=lambda: HostStore(small_memory)) as gateway:
        for model in EXPERTS:
            assert (await gateway.post(model=model)).status_code == 200
        _, host, _ = gateway.services.tiers.usage()
    assert host.capacity_bytes is not None
    assert host.capacity_bytes < 16 * 2**20
    (line,) = [record for record in caplog.records if "tiers.host is" in record.getMessage()]
    assert line.levelname == "WARNING"
    assert f"tiers.host is 60,000,000,000 bytes, but {small_memory} can hold 15," in line.getMessage()


async def test_budgets_too_small_are_refused_and_leave_no_shared_memory(settings: Settings) -> None:
    tiers = settings.tiers.model_copy(update={"device": ByteSize(10), "host": "auto"})
    with pytest.raises(BudgetTooSmall, match=r"over tiers\.device of 10 bytes"):
        async with running(settings.model_copy(update={"tiers": tiers})):
            pass
    assert [name for name in os.listdir("/dev/shm") if name.startswith(f"{PREFIX}{os.getpid()}-")] == []
