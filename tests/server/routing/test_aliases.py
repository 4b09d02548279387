"""Aliases of a running gateway: clients that know only another provider's names."""

import asyncio
import json
from typing import Any

from pydantic import SecretStr

from server.config.api_keys import KeyConfig
from server.config.settings import Settings
from tests.server.access.test_keys import bearer
from tests.server.conftest import Gateway, Serving, changed, chat

MATHS = [{"role": "user", "content": "What is the integral of x^2?"}]
ALIASES = {"gpt-4o": "coe", "gpt-*": "law", "text-embedding-3-small": "coe", "claude-sonnet": "law"}


def aliased(settings: Settings, **aliases: str) -> Settings:
    return settings.model_copy(update={"aliases": ALIASES | aliases})


async def ids(gateway: Gateway, secret: str = "none") -> list[str]:
    listed = await gateway.http.get("/v1/models", headers=bearer(secret))
    return [model["id"] for model in listed.json()["data"]]


async def test_an_alias_is_routed_as_its_model_and_is_what_the_answer_says(
    serving: Serving, settings: Settings
) -> None:
    async with serving(aliased(settings)) as gateway:
        whole = await gateway.post(model="gpt-4o", messages=MATHS, max_tokens=4)
        assert (whole.json()["model"], whole.headers["x-coe-expert"]) == ("gpt-4o", "math")
        streamed = await gateway.post(model="gpt-4.1", stream=True, max_tokens=4)
        events = [line[6:] for line in streamed.text.splitlines() if line.startswith("data: {")]
        assert {json.loads(event)["model"] for event in events} == {"gpt-4.1"}
        assert streamed.headers["x-coe-expert"] == "law"
        explained = await gateway.http.post("/v1/coe/route", json=chat(model="gpt-4o", messages=MATHS))
        assert explained.json()["expert"] == "math"

        async def model_in(path: str, **body: Any) -> str:
            answer = await gateway.http.post(path, json=body)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["model"])

        message = {"messages": MATHS, "max_tokens": 4}
        assert await model_in("/v1/messages", model="claude-sonnet", **message) == "claude-sonnet"
        assert await model_in("/v1/responses", model="gpt-4o", input="hi") == "gpt-4o"
        assert await model_in("/v1/responses", model="gpt-4o", input="hi", background=True) == "gpt-4o"
        vectors = {"model": "text-embedding-3-small", "input": "a text"}
        assert await model_in("/v1/embeddings", **vectors) == "text-embedding-3-small"


async def test_aliases_are_listed_and_what_fits_a_pattern_is_found(
    serving: Serving, settings: Settings
) -> None:
    async with serving(aliased(settings, mini="coe:1B")) as gateway:
        assert {"gpt-4o", "text-embedding-3-small", "mini"} < {*await ids(gateway)}
        assert "gpt-*" not in await ids(gateway)
        found = (await gateway.http.get("/v1/models/gpt-4.1")).json()
        law = (await gateway.http.get("/v1/models/law")).json()
        assert found == law | {"id": "gpt-4.1", "coe": law["coe"] | {"alias_of": "law"}}
        unknown = await gateway.post(model="claude-sonet")
        assert unknown.json()["error"]["message"].endswith("Did you mean 'claude-sonnet'?")


async def test_a_key_may_be_permitted_an_alias_or_its_model_and_is_charged_its_expert(
    serving: Serving, settings: Settings
) -> None:
    keys = tuple(
        KeyConfig(key=SecretStr(name), name=name, models=models)
        for name, models in {"by-alias": ("gpt-4o",), "by-model": ("coe",), "by-pattern": ("gpt-*",)}.items()
    )
    async with serving(changed(aliased(settings), api_keys=keys)) as gateway:

        async def statuses(secret: str) -> list[int]:
            asked = [gateway.post(bearer(secret), model=name) for name in ("gpt-4o", "coe", "gpt-4.1", "law")]
            return [answer.status_code for answer in await asyncio.gather(*asked)]

        assert await statuses("by-alias") == [200, 404, 404, 404]
        assert await statuses("by-model") == [200, 200, 404, 404]
        assert await statuses("by-pattern") == [404, 404, 200, 404]
        assert await ids(gateway, "by-alias") == ["gpt-4o"]
        assert await ids(gateway, "by-model") == ["coe", "gpt-4o", "text-embedding-3-small"]
        usage = await gateway.http.get("/v1/coe/usage", headers=bearer("by-pattern"))
        served = [row["expert"] for row in usage.json()["rows"] if row["requests"] > row["errors"]]
        assert served == ["law"]
