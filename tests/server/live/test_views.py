"""Operators see parts of a gateway: compositions, experts, logs and settings."""

import asyncio
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from experts.checkpoints.manifest import FILE
from experts.spec import CheckpointSource
from router.artifacts.artifact import Artifact
from router.settings import EMBEDDED
from server.access.account_store import opened
from server.config.api_keys import Key, KeyConfig, Limits
from server.config.settings import Settings
from server.live.compositions_view import in_use
from server.live.logs_view import ANOTHER_RUN, of_engine
from tests.server.conftest import Gateway, Serving, changed
from tests.server.routing.test_budgets import give_scores


async def told(gateway: Gateway, path: str, status: int = 200, **headers: str) -> dict[str, Any]:
    answer = await gateway.http.get(f"/v1/coe/{path}", headers=headers)
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_composition_is_told_with_what_was_seen_of_it(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        for question in ("What is the integral of x^2?", "Sum the first ten primes."):
            messages = [{"role": "user", "content": question}]
            assert (await gateway.post(model="coe", messages=messages)).headers["x-coe-category"] == "math"
        (coe,) = (await told(gateway, "compositions"))["compositions"]
        (math,) = (each for each in coe["categories"] if each["category"] == "math")
        assert (coe["name"], math["expert"], math["seen"]["requests"]) == ("coe", "math", 2)
        assert 0.5 < math["seen"]["confidence"] <= 1
        (only,) = (await told(gateway, "compositions/coe/frontier"))["maps"]  # experts of one size
        assert only["active_billion"] == pytest.approx(0.1345)
        await told(gateway, "compositions/cow/frontier", 404)


async def test_a_frontier_needs_scores(serving: Serving, settings: Settings, tmp_path: Path) -> None:
    replace(Artifact.read(EMBEDDED), scores=None).write(tmp_path / "unscored")
    coe = settings.compositions["coe"].model_copy(update={"artifact": tmp_path / "unscored"})
    async with serving(settings.model_copy(update={"compositions": {"coe": coe}})) as gateway:
        frontier = await told(gateway, "compositions/coe/frontier")
        assert frontier["maps"] is None
        assert "has no scores" in frontier["why"]


async def test_the_frontier_of_a_composition_goes_from_the_cheapest_map_to_the_best(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway:
        give_scores(gateway)
        maps = (await told(gateway, "compositions/coe/frontier"))["maps"]
        (coe,) = (await told(gateway, "compositions"))["compositions"]
        assert sum(each["share"] for each in coe["categories"]) == pytest.approx(1)
        messages = [{"role": "user", "content": "What is the integral of x^2?"}]
        answer = await gateway.post({"x-request-id": "mine"}, model="coe:3B", messages=messages)
        assert answer.headers["x-coe-routed-by"] == "budget"
        story = await told(gateway, "requests/mine")
        named = await gateway.services.named("coe:3B", "")
        assert named is not None
        table = named.composition.router.artifact.scores
        assert table is not None
        used = in_use(named.composition, table)
    costs, scores = [each["active_billion"] for each in maps], [each["score"] for each in maps]
    assert len(maps) > 1
    assert costs == sorted(costs)
    assert scores == sorted(scores)
    assert {*maps[0]["experts"].values()} == {"general"}
    assert coe["in_use"] is None  # the map given by hand has experts without scores
    assert used is not None
    assert used["score"] == pytest.approx(scores[costs.index(used["active_billion"])])
    assert story["budget"] == "3B"


async def test_an_expert_is_told_with_its_origin_hashes_and_licence(
    serving: Serving, settings: Settings, checkpoint: Path
) -> None:
    card = settings.store / "law" / "README.md"
    card.write_text("---\nlicense: apache-2.0\n---\n# Law\n")
    async with serving(settings) as gateway:
        experts = {each["expert"]: each for each in (await told(gateway, "experts"))["experts"]}
    assert experts.keys() == settings.experts.keys()
    assert experts["law"]["origin"] == str(checkpoint)
    assert {len(each) for each in experts["law"]["sha256"].values()} == {64}
    assert (experts["law"]["license"], experts["math"]["license"]) == ("apache-2.0", None)


async def test_an_embedded_expert_is_told_with_the_licence_of_its_base(
    serving: Serving, settings: Settings
) -> None:
    file = settings.store / "law" / FILE
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps(manifest | {"source": {"embedded": "law"}}))
    law = settings.experts["law"].model_copy(update={"checkpoint": CheckpointSource(embedded="law")})
    async with serving(settings.model_copy(update={"experts": {**settings.experts, "law": law}})) as gateway:
        experts = {each["expert"]: each for each in (await told(gateway, "experts"))["experts"]}
    assert (experts["law"]["license"], experts["math"]["license"]) == ("apache-2.0", None)


async def test_keys_are_told_with_their_limits_and_without_their_secrets(
    serving: Serving, settings: Settings
) -> None:
    with opened(settings.accounts.file, create=True) as store:
        store.create(Key("shop", Limits(tokens_per_day=500), frozenset({"coe"})), "sk-coe-12345678-hush", 0.0)
        store.create(Key("left"), "sk-coe-87654321-hush", 0.0)
        store.revoke("left", 86_400.0)
    keys = (KeyConfig(key=SecretStr("hush"), name="desk", requests_per_minute=9), SecretStr("hush-2"))
    guarded = changed(settings, admin_key=SecretStr("operator"), api_keys=keys)
    async with serving(guarded) as gateway:
        body = await told(gateway, "keys", authorization="Bearer operator")
        await told(gateway, "keys", 401, authorization="Bearer hush")
    desk, config, left, shop = body["keys"]
    assert "hush" not in str(body)
    assert (desk["name"], desk["in"], desk["requests_per_minute"]) == ("desk", "configuration", 9)
    assert config["name"].startswith("config-")
    assert (shop["name"], shop["models"], shop["tokens_per_day"]) == ("shop", ["coe"], 500)
    assert shop["secrets"] == [
        {"begins": "sk-coe-12345678", "created": "1970-01-01 00:00:00Z", "expires": None}
    ]
    assert (shop["revoked"], left["revoked"]) == (None, "1970-01-02 00:00:00Z")


async def test_settings_are_told_without_secrets_and_with_what_a_reload_would_change(
    serving: Serving, settings: Settings
) -> None:
    family = settings.families["small"].model_copy(
        update={"extra_args": ("--api-key", "hush", "--token=hush")}
    )
    now = changed(settings, admin_key=SecretStr("hush"), api_keys=(SecretStr("hush-2"),))
    now = now.model_copy(update={"families": {"small": family}})
    desk = KeyConfig(key=SecretStr("hush-4"), name="desk")
    now = changed(now, api_keys=(SecretStr("hush-2"), desk))
    wider = desk.model_copy(update={"requests_per_minute": 9})
    coming = changed(now, admin_key=SecretStr("hush-3"), drain_s=7, api_keys=(SecretStr("hush-2"), wider))
    async with serving(now, read=lambda: coming) as gateway:
        body = await told(gateway, "configuration", authorization="Bearer hush")
    assert "hush" not in str(body).replace("Bearer hush", "")
    assert "max_model_len: 200000" in body["in_force"]
    assert {each["setting"]: (each["in_force"], each["in_file"]) for each in body["changes"]} == {
        "server.admin_key": ("(hidden)", "(hidden)"),
        "server.api_keys[desk].requests_per_minute": (None, "9"),
        "server.drain_s": ("5.0", "7"),
    }


async def test_logs_are_followed_and_an_engines_outlives_it(
    serving: Serving, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.WARNING, "httpx")  # the client is in this process, too
    settings.logs.mkdir(exist_ok=True)
    log = settings.logs / "small.log"
    log.write_text("INFO ready\nERROR it broke\n  because of this\nhalf a li")
    async with serving(settings) as gateway:
        assert (await gateway.post({"x-request-id": "mine"})).status_code == 200
        first = await told(gateway, "logs")
        assert first["sources"] == ["gateway", "small"]
        assert any("mine" in line["text"] for line in first["lines"])
        assert (await told(gateway, f"logs?after={first['next']}"))["lines"] == []
        engine = await told(gateway, "logs?source=small&level=error")
        assert [line["text"] for line in engine["lines"]] == ["ERROR it broke", "  because of this"]
        with log.open("a") as file:
            file.write("ne\n")
        more = await told(gateway, f"logs?source=small&after={engine['next']}")
        assert [line["text"] for line in more["lines"]] == ["half a line"]
        log.write_text("begun anew\n")
        anew = await told(gateway, f"logs?source=small&after={more['next']}")
        assert [line["text"] for line in anew["lines"]] == ["begun anew"]
        assert anew["anew"]
        for wrong in ("source=../passwd", "level=loud", "after=-1"):
            await told(gateway, f"logs?{wrong}", 400)


async def test_who_follows_an_engines_log_reads_how_it_ended_and_then_the_next_run(
    tmp_path: Path,
) -> None:
    file = tmp_path / "small.log"
    file.write_text("INFO ready\n")
    first = await asyncio.to_thread(of_engine, file, 0, logging.INFO)
    with file.open("a") as log:
        log.write("ERROR it dies\n")
    file.replace(tmp_path / "small.log.1")  # as an engine's start does
    file.write_text("INFO up again\n")
    then = await asyncio.to_thread(of_engine, file, first.next, logging.INFO)
    assert [line["text"] for line in then.lines] == ["ERROR it dies", ANOTHER_RUN, "INFO up again"]
    assert not then.anew
    assert (await asyncio.to_thread(of_engine, file, then.next, logging.INFO)).lines == []
    opened = await asyncio.to_thread(of_engine, file, 0, logging.ERROR)
    assert [line["text"] for line in opened.lines] == ["ERROR it dies", ANOTHER_RUN]


async def test_of_a_long_log_the_end_is_told_in_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "small.log"
    file.write_text("".join(f"line {number}\n" for number in range(100_000)))
    part = await asyncio.to_thread(of_engine, file, 0, logging.INFO)
    assert [line["text"] for line in part.lines] == [f"line {number}" for number in range(99_000, 100_000)]
    assert (await asyncio.to_thread(of_engine, file, part.next, logging.INFO)).lines == []
