"""Experts and engines that are broken: who answers instead, and who is not asked."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from server.config.settings import Settings, SettingsError, load
from server.resilience.circuit_breakers import Breakers
from tests.server.conftest import EXPERTS, Gateway, Serving, chat, settled, simulated, until
from tests.server.resilience.test_circuit_breakers import COOL_DOWN_S, Clock
from tests.server.routing.test_eligibility import PICTURE, able

MATHS = [{"role": "user", "content": "What is the integral of x^2?"}]
ENDPOINTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MATHS},
    "/v1/completions": {"prompt": "What is the integral of x^2?"},
    "/v1/messages": {"messages": MATHS, "max_tokens": 5},
    "/v1/responses": {"input": "What is the integral of x^2?"},
}


def breaks(settings: Settings, *names: str) -> None:
    """From now on these cannot be loaded."""
    for name in names:
        config = settings.store / name / "config.json"
        config.rename(config.with_name("config.away"))


def mends(settings: Settings, name: str) -> None:
    config = settings.store / name / "config.json"
    config.with_name("config.away").rename(config)


def falling_back(settings: Settings, fallback: bool | str) -> Settings:
    composition = settings.compositions["coe"].model_copy(update={"fallback": fallback})
    return settings.model_copy(update={"compositions": {"coe": composition}})


def with_clock(gateway: Gateway) -> Clock:
    clock = Clock()
    gateway.services.breakers = Breakers(3, COOL_DOWN_S, clock)
    return clock


def said(answer: httpx.Response) -> tuple[str, str, str | None]:
    assert answer.status_code == 200, answer.text
    headers = answer.headers
    return headers["x-coe-expert"], headers["x-coe-routed-by"], headers.get("x-coe-fallback-from")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ENDPOINTS)
async def test_a_composition_answers_with_the_next_when_the_chosen_expert_is_broken(
    serving: Serving, settings: Settings, path: str, stream: bool
) -> None:
    async with serving(settings) as gateway:
        breaks(settings, "math")
        answer = await gateway.http.post(path, json={"model": "coe", "stream": stream} | ENDPOINTS[path])
        assert said(answer) == ("general", "fallback", "math")
        assert answer.headers["x-coe-category"] == "math"
        assert '"model":"general"' in answer.text
        metrics = (await gateway.http.get("/metrics")).text
        assert 'coe_route_decisions_total{by="fallback",category="math",' in metrics
        assert 'coe_requests_total{expert="general",outcome="200"} 1.0' in metrics


async def test_who_names_a_broken_expert_gets_its_error(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        breaks(settings, "math")
        answer = await gateway.post(model="math", messages=MATHS)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "load_failed"
        assert answer.headers["x-coe-expert"] == "math"
        assert "x-coe-fallback-from" not in answer.headers


async def test_three_are_asked_at_most(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        await gateway.post(model="law")
        await gateway.post(model="coding")  # general has left the device
        await settled(gateway)
        assert {s.expert for s in gateway.services.tiers.status() if s.tier == "device"} == {"law", "coding"}
        breaks(settings, *EXPERTS)
        for name in ("law", "coding"):
            await gateway.http.post(f"/v1/coe/experts/{name}/demote", json={"tier": "disk"})
        await settled(gateway)
        answer = await gateway.post(model="coe", messages=MATHS)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "load_failed"
        tickets = (await gateway.http.get("/metrics")).text
        failed = [line for line in tickets.splitlines() if line.startswith("coe_tickets_total{")]
        assert len([line for line in failed if 'outcome="load_failed"} 1.0' in line]) == 3


async def test_a_composition_may_have_no_fallback(serving: Serving, settings: Settings) -> None:
    async with serving(falling_back(settings, False)) as gateway:
        breaks(settings, "math")
        answer = await gateway.post(model="coe", messages=MATHS)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "load_failed"


async def test_a_composition_may_say_who_stands_in(serving: Serving, settings: Settings) -> None:
    async with serving(falling_back(settings, "medicine")) as gateway:
        breaks(settings, "math")
        answer = await gateway.post(model="coe", messages=MATHS)
        assert said(answer) == ("medicine", "fallback", "math")


async def test_who_stands_in_must_be_able_to(serving: Serving, settings: Settings) -> None:
    text = falling_back(able(settings, medicine=[]), "medicine")
    async with serving(text) as gateway:
        breaks(settings, "math")
        picture = [{"role": "user", "content": [{"type": "text", "text": MATHS[0]["content"]}, PICTURE]}]
        answer = await gateway.post(model="coe", messages=picture)
        assert answer.json()["error"]["code"] == "load_failed"


def test_who_stands_in_must_be_an_expert(tmp_path: Path, settings: Settings) -> None:
    file = tmp_path / "config.yaml"
    text = file.read_text()
    file.write_text(text.replace("  coe:\n", "  coe:\n    fallback: medecine\n"))
    with pytest.raises(
        SettingsError, match=r"compositions\.coe\.fallback: 'medecine' .* did you mean 'medicine'"
    ):
        load(file)


async def test_who_must_not_wait_is_not_sent_to_another(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        answer = await gateway.post({"x-coe-fail-fast": "1"}, model="coe", messages=MATHS)
        assert answer.json()["error"]["code"] == "not_resident"
        assert 'by="fallback"' not in (await gateway.http.get("/metrics")).text


async def test_an_expert_that_is_broken_is_not_asked_until_a_probe_finds_it_mended(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway:
        clock = with_clock(gateway)
        breaks(settings, "math")
        for _ in range(3):
            assert (await gateway.post(model="math")).json()["error"]["code"] == "load_failed"
        refused = await gateway.post(model="math")
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "breaker_open"
        assert refused.headers["retry-after"] == "10"
        assert said(await gateway.post(model="coe", messages=MATHS)) == ("general", "fallback", "math")
        metrics = (await gateway.http.get("/metrics")).text
        assert 'coe_tickets_total{expert="math",outcome="load_failed"} 3.0' in metrics
        assert 'coe_breaker_open{expert="math"} 1.0' in metrics
        assert 'coe_breaker_open{expert="law"} 0.0' in metrics
        entry = (await gateway.http.get("/v1/models/math")).json()["coe"]
        assert entry["breaker_open"]
        assert (await gateway.http.get("/ready")).status_code == 200

        clock.now = COOL_DOWN_S
        assert (await gateway.post(model="math")).json()["error"]["code"] == "load_failed"  # the probe
        assert (await gateway.post(model="math")).json()["error"]["code"] == "breaker_open"
        mends(settings, "math")
        clock.now = 2 * COOL_DOWN_S
        assert said(await gateway.post(model="coe", messages=MATHS)) == ("math", "map", None)
        assert not (await gateway.http.get("/v1/models/math")).json()["coe"]["breaker_open"]


async def dies_under_a_stream(gateway: Gateway) -> None:
    body = chat(model="general", stream=True, max_tokens=100_000)
    async with gateway.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        gateway.engine.crash()
        assert "engine_lost" in [line async for line in lines if line][-1]


async def test_an_engine_that_dies_again_and_again_is_not_asked_for_a_while(
    serving: Serving, settings: Settings
) -> None:
    async with serving(simulated(settings, tokens_per_s=20)) as gateway:
        clock = with_clock(gateway)
        for _ in range(3):
            await dies_under_a_stream(gateway)
        for model in ("law", "coe"):  # nobody stands in: they share the engine
            refused = await gateway.post(model=model)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "breaker_open"
        await until(lambda: gateway.engine.state == "ready")
        ready = await gateway.http.get("/ready")
        assert (ready.status_code, ready.json()["engines"]) == (503, {"small": "failed 3 times in a row"})
        clock.now = COOL_DOWN_S
        assert (await gateway.http.get("/ready")).status_code == 200
        assert (await gateway.post(model="law", max_tokens=1)).status_code == 200
        assert (await gateway.post(model="general", max_tokens=1)).status_code == 200


async def test_clients_that_leave_or_err_open_nothing(serving: Serving, settings: Settings) -> None:
    async with serving(simulated(settings, tokens_per_s=20)) as gateway:
        for _ in range(5):
            body = chat(stream=True, max_tokens=100_000)
            async with gateway.http.stream("POST", "/v1/chat/completions", json=body) as answer:
                await anext(answer.aiter_bytes())
            await gateway.post({"x-coe-timeout-s": "0.001"}, max_tokens=1000)
            await gateway.post(messages=[])
        assert repr(gateway.services.breakers) == "<Breakers [open: none]>"
