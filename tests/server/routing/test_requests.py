"""What a request says about its route, and what its answer says about it, over a real socket."""

import asyncio
import json
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from router.arrays import Vectors
from router.artifacts.artifact import Artifact
from router.composition import Composition
from router.embedders.registry import embedder_named
from router.router import Router
from server.cli.main import main
from server.config.settings import Settings
from server.routing.routing import Routing
from tests.server.conftest import EXPERTS, ROOT, Gateway, Serving, changed, until
from tests.server.routing.test_eligibility import PICTURE, able

EMBEDDED = ROOT / "router" / "embedded"
MATHS = "What is the integral of x^2?"
DOUBTFUL = "Best strategy to beat the final boss in Elden Ring"


def talk(*turns: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": turn} for turn in turns]


async def headers(gateway: Gateway, *turns: str, model: str = "coe", **sent: str) -> dict[str, str]:
    names = {name.replace("_", "-"): value for name, value in sent.items()}
    answer = await gateway.post(names, model=model, messages=talk(*turns))
    assert answer.status_code == 200, answer.text
    return {name: value for name, value in answer.headers.items() if name.startswith("x-coe-")}


async def test_an_answer_says_what_chose_its_expert(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        routed = await headers(gateway, MATHS)
        assert (routed["x-coe-routed-by"], routed["x-coe-expert"]) == ("map", "math")
        assert "x-coe-uncertain" not in routed
        assert "x-coe-cluster" not in routed
        named = await headers(gateway, MATHS, model="law")
        assert (named["x-coe-routed-by"], named["x-coe-expert"]) == ("expert", "law")
        assert "x-coe-category" not in named


async def test_a_doubtful_prompt_is_said_to_be_so(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        routed = await headers(gateway, DOUBTFUL)
        assert (routed["x-coe-category"], routed["x-coe-uncertain"]) == ("general", "true")


async def test_a_conversation_stays_with_its_expert(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        routed = await headers(gateway, MATHS, DOUBTFUL)
        assert (routed["x-coe-routed-by"], routed["x-coe-expert"]) == ("sticky", "math")
        text = (await gateway.http.get("/metrics")).text
        assert 'category="math",composition="coe",expert="math",uncertain="true"} 1.0' in text
        assert 'coe_route_decisions_total{by="sticky",' in text


async def test_a_resident_expert_answers_where_the_configuration_lets_it(
    serving: Serving, settings: Settings
) -> None:
    near = settings.compositions["coe"].model_copy(update={"residency_margin": 100.0})
    async with serving(settings.model_copy(update={"compositions": {"coe": near}})) as gateway:
        for expert in ("law", "medicine"):  # the device holds two
            await headers(gateway, MATHS, model=expert)
        routed = await headers(gateway, MATHS)
        assert (routed["x-coe-routed-by"], routed["x-coe-tier"]) == ("residency", "device")
        assert routed["x-coe-expert"] in ("law", "medicine")
        assert routed["x-coe-category"] == "math"
        said = await explained(gateway, MATHS)
        assert said["routed_by"] == "residency"
        best = max(said["decided"]["row"], key=lambda each: each["score"])
        assert best["expert"] == "math"


async def test_a_composition_may_be_without_stickiness(serving: Serving, settings: Settings) -> None:
    loose = settings.compositions["coe"].model_copy(update={"stickiness": 0.0})
    async with serving(settings.model_copy(update={"compositions": {"coe": loose}})) as gateway:
        routed = await headers(gateway, MATHS, DOUBTFUL)
        assert (routed["x-coe-routed-by"], routed["x-coe-expert"]) == ("map", "general")


async def test_a_client_may_name_the_category(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        routed = await headers(gateway, MATHS, x_coe_category="law")
        assert (routed["x-coe-routed-by"], routed["x-coe-expert"]) == ("category-header", "law")
        assert routed["x-coe-category"] == "law"
        wrong = await gateway.post({"x-coe-category": "maths"}, model="coe", messages=talk(MATHS))
        error = wrong.json()["error"]
        assert (wrong.status_code, error["type"]) == (400, "invalid_request_error")
        assert error["message"].startswith("x-coe-category: the router has no category 'maths'; did you mean")
        assert "biology, business, chemistry" in error["message"]


class Slow:
    """An embedder that waits to be told."""

    def __init__(self) -> None:
        self._real = embedder_named("minilm-l6-int8")
        self.name, self.sha256, self.dimension = self._real.name, self._real.sha256, self._real.dimension
        self.inside = 0
        self.go_on = threading.Event()

    def embed(self, texts: Any) -> Vectors:
        self.inside += 1
        assert self.go_on.wait(30)
        return np.asarray(self._real.embed(texts))


async def test_the_event_loop_goes_on_while_many_decisions_are_pending(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway:
        services, slow = gateway.services, Slow()
        composition = Composition(Router(replace(Artifact.read(EMBEDDED), quick=None), slow))
        workers = services.workers
        routing = Routing(
            {"coe": composition}, services.experts, {"small": 200_000}, services.metrics.decided, workers
        )
        services.catalog = replace(services.catalog, routing=routing)
        prompts = [f"{MATHS} {number}" for number in range(40)]
        pending = [asyncio.create_task(headers(gateway, prompt)) for prompt in prompts]
        await until(lambda: slow.inside == workers.threads)
        for path in ("/health", "/v1/models", "/metrics"):
            assert (await gateway.http.get(path)).status_code == 200
        assert slow.inside == workers.threads
        assert not any(task.done() for task in pending)
        left = pending.pop()
        left.cancel()
        await asyncio.wait({left})
        slow.go_on.set()
        assert {answer["x-coe-expert"] for answer in await asyncio.gather(*pending)} == {"math"}


async def explained(gateway: Gateway, *turns: str, **fields: Any) -> dict[str, Any]:
    body = {"model": "coe", "messages": talk(*turns)} | fields
    answer = await gateway.http.post("/v1/coe/route", json=body)
    assert answer.status_code == 200, answer.text
    explanation: dict[str, Any] = answer.json()
    return explanation


async def test_a_route_is_explained_and_nothing_is_run(serving: Serving, settings: Settings) -> None:
    async with serving(able(settings, math=[], law=["images"])) as gateway:
        before = (await gateway.http.get("/metrics")).text
        said = await explained(gateway, MATHS, DOUBTFUL)
        assert (said["model"], said["expert"], said["routed_by"]) == ("coe", "math", "sticky")
        decided = said["decided"]
        assert (decided["category"], decided["cluster"], decided["alone"]) == ("math", "math", "general")
        assert (decided["sticky"], decided["uncertain"]) == (True, True)
        assert sum(decided["probabilities"].values()) == pytest.approx(1)
        assert decided["seconds"] > 0
        assert (sorted(said["eligible"]), said["ruled_out"]) == (sorted(EXPERTS), [])

        picture = {"role": "user", "content": [{"type": "text", "text": MATHS}, PICTURE]}
        said = await explained(gateway, messages=[picture])
        assert (said["expert"], said["routed_by"]) == ("general", "eligibility")
        cannot = {"expert": "math", "reason": "images", "message": "math does not take images"}
        assert said["ruled_out"] == [cannot]
        assert "math" not in said["eligible"]

        named = await explained(gateway, MATHS, model="law")
        assert (named["routed_by"], named["decided"], named["eligible"]) == ("expert", None, ["law"])

        series = [line for line in before.splitlines() if line.startswith("coe_route_decisions_total{")]
        assert series == []
        assert "coe_route_decisions_total{" not in (await gateway.http.get("/metrics")).text


async def test_an_explanation_is_refused_as_the_request_would_be(
    serving: Serving, settings: Settings
) -> None:
    async with serving(changed(able(settings, law=[]), api_keys=(SecretStr("secret"),))) as gateway:
        body = {"model": "law", "messages": talk(MATHS)}
        assert (await gateway.http.post("/v1/coe/route", json=body)).status_code == 401
        key = {"authorization": "Bearer secret"}
        assert (await gateway.http.post("/v1/coe/route", json=body, headers=key)).status_code == 200
        for wrong, status in (({"model": "lwa"}, 404), ({"messages": []}, 400), ({"tools": [{}]}, 400)):
            answer = await gateway.http.post("/v1/coe/route", json=body | wrong, headers=key)
            assert answer.status_code == status
        category = await gateway.http.post(
            "/v1/coe/route", json=body | {"model": "coe"}, headers=key | {"x-coe-category": "law"}
        )
        assert category.json()["routed_by"] == "category-header"


def test_the_command_explains_a_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["route", "--artifact", str(EMBEDDED), "--explain"]
    assert main([*command, MATHS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["expert      math", "routed by   map", "category    math"]
    assert "eligible    coding, general, law, math, medicine" in lines
    assert main([*command, "--json", DOUBTFUL]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["model"], said["expert"], said["decided"]["uncertain"]) == (str(EMBEDDED), "general", True)
    assert main(["route", "--explain", MATHS]) == 0
    assert capsys.readouterr().out.startswith("expert      math\n")
