"""Another configuration while serving, over a real socket and simulated engines."""

import asyncio
import contextlib
import gc
import json
import os
import re
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import yaml
from pydantic import SecretStr

from experts.checkpoints.prepare import prepare
from router.composition import Choice, Composition
from router.decision import Decision
from server.cli.main import main
from server.config.settings import Settings, load
from server.errors import ReloadRefused
from server.routing.routing import Routing
from tests.server.conftest import EXPERTS, ROOT, Gateway, Serving, chat

MATHS = [{"role": "user", "content": "What is the integral of x^2?"}]
WITHOUT_MATH = {"general": "general", "math": "coding", "code": "coding"}


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration's file."""

    path: Path

    def read(self) -> Settings:
        return load(self.path)

    @contextlib.contextmanager
    def edited(self) -> Iterator[dict[str, Any]]:
        tree = yaml.safe_load(self.path.read_text())
        yield tree
        self.path.write_text(yaml.safe_dump(tree, sort_keys=False))

    def add(self, name: str, family: str = "small", *, prepared: bool = True) -> None:
        """An expert with the weights of the others."""
        with self.edited() as tree:
            tree["experts"][name] = {**deepcopy(tree["experts"]["general"]), "family": family}
        if prepared:
            settings = self.read()
            prepare(name, settings.experts[name], settings.store)

    def remove(self, name: str) -> None:
        with self.edited() as tree:
            del tree["experts"][name]


@pytest.fixture
def config(settings: Settings, tmp_path: Path) -> Config:
    """Of five experts, without a composition."""
    config = Config(tmp_path / "config.yaml")
    with config.edited() as tree:
        del tree["compositions"]
    return config


@pytest.fixture
def slow(config: Config) -> Config:
    """An answer takes some seconds."""
    with config.edited() as tree:
        tree["families"]["small"]["simulation"]["tokens_per_s"] = 30
    return config


@contextlib.asynccontextmanager
async def streaming(gateway: Gateway, expert: str) -> AsyncIterator[AsyncIterator[str]]:
    """The lines of an answer that has begun."""
    body = chat(model=expert, stream=True)
    async with gateway.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        yield lines


def under_way(gateway: Gateway) -> int:
    return gateway.services.tiers.counts().leases


async def models(gateway: Gateway) -> dict[str, Any]:
    listed = (await gateway.http.get("/v1/models")).json()["data"]
    return {model["id"]: model["coe"] for model in listed}


async def once_it_has_left(gateway: Gateway) -> None:
    """Reloads when what the tiers are still giving back has gone."""
    async with asyncio.timeout(30):
        while True:
            try:
                await gateway.reload.now()
            except ReloadRefused as error:
                assert re.search("try again when it has (left|stopped)", str(error))  # noqa: PT017
                await asyncio.sleep(0.01)
            else:
                return


async def test_a_reload_changes_aliases(serving: Serving, config: Config) -> None:
    with config.edited() as tree:
        tree["aliases"] = {"gpt-4o": "law"}
    async with serving(config.read(), read=config.read) as gateway:
        assert (await gateway.post(model="gpt-4o")).headers["x-coe-expert"] == "law"
        with config.edited() as tree:
            tree["aliases"] = {"gpt-4o": "math"}
        await gateway.reload.now()
        assert (await gateway.post(model="gpt-4o")).headers["x-coe-expert"] == "math"


async def test_an_expert_is_added_while_another_streams(serving: Serving, slow: Config) -> None:
    async with serving(slow.read(), slow.read) as gateway:
        async with streaming(gateway, "law") as lines:
            slow.add("physics")
            done = await gateway.reload.now()
            assert (done.added, done.removed, done.changed) == (("physics",), (), ())
            assert str(done).startswith("added physics; compositions none; tiers.device 2,500 bytes")
            assert under_way(gateway) == 1
            assert [*await models(gateway)] == [*EXPERTS, "physics"]
            assert [line async for line in lines][-2] == "data: [DONE]"
        answer = await gateway.post(model="physics")
        assert answer.headers["x-coe-expert"] == "physics"


async def test_a_removed_expert_ends_its_stream_and_leaves(serving: Serving, slow: Config) -> None:
    async with serving(slow.read(), slow.read) as gateway:
        async with streaming(gateway, "law") as lines:
            slow.remove("law")
            assert (await gateway.reload.now()).removed == ("law",)
            refused = await gateway.post(model="law")
            assert refused.status_code == 404
            assert "law" not in await models(gateway)
            slow.add("law", prepared=False)
            with pytest.raises(ReloadRefused, match="law is still leaving: try again when it has left"):
                await gateway.reload.now()
            assert under_way(gateway) == 1
            assert [line async for line in lines][-2] == "data: [DONE]"
        await once_it_has_left(gateway)
        assert (await gateway.post(model="law")).status_code == 200


async def test_who_waits_for_a_removed_expert_is_served(serving: Serving, slow: Config) -> None:
    with slow.edited() as tree:
        tree["tiers"]["device"] = "1100B"
    async with serving(slow.read(), slow.read) as gateway, streaming(gateway, "general") as lines:
        waiting = asyncio.create_task(gateway.post(model="law", max_tokens=1))
        while gateway.services.tiers.counts().waiting == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        slow.remove("law")
        await gateway.reload.now()
        assert [line async for line in lines][-2] == "data: [DONE]"
        assert (await waiting).status_code == 200


def broken_yaml(config: Config) -> None:
    config.path.write_text("experts: [")


def unknown_field(config: Config) -> None:
    with config.edited() as tree:
        tree["tiers"]["hots"] = 1


def unprepared(config: Config) -> None:
    config.add("physics", prepared=False)


def budget_too_small(config: Config) -> None:
    config.add("physics")
    with config.edited() as tree:
        tree["tiers"]["device"] = "1000B"


def another_port(config: Config) -> None:
    with config.edited() as tree:
        tree["server"]["port"] = 9
        tree["families"]["small"]["simulation"]["tokens_per_s"] = 7


def another_feedback(config: Config) -> None:
    with config.edited() as tree:
        tree["feedback"] = {"consent": True}


def no_router(config: Config) -> None:
    with config.edited() as tree:
        tree["compositions"] = {"coe": {"artifact": "nowhere"}}


def routes_to_nobody(config: Config) -> None:
    config.remove("law")
    with config.edited() as tree:
        tree["compositions"] = {"coe": {"artifact": str(ROOT / "router" / "embedded")}}


def another_fingerprint(config: Config) -> None:
    config.add("physics", prepared=False)
    settings = config.read()
    source = settings.experts["physics"].checkpoint.folder
    assert source is not None
    other = config.path.parent / "other"
    other.mkdir()
    for file in source.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    (other / "tokenizer.json").write_text('{"other": 1}')
    with config.edited() as tree:
        tree["experts"]["physics"]["checkpoint"]["folder"] = str(other)
    settings = config.read()
    prepare("physics", settings.experts["physics"], settings.store)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (broken_yaml, r"config\.yaml: not YAML"),
        (unknown_field, r"config\.yaml: tiers\.hots: unknown field; did you mean 'host'"),
        (unprepared, "expert physics is not prepared in .*; run: coe experts prepare"),
        (budget_too_small, r"over tiers\.device of 1,000 bytes"),
        (another_port, r"server\.port, families\.small\.simulation cannot change while serving"),
        (another_feedback, "feedback cannot change while serving: restart the server"),
        (no_router, "nowhere holds no router"),
        (routes_to_nobody, r"compositions\.coe: its router chooses law"),
        (another_fingerprint, "expert physics cannot be in family 'small'"),
    ],
)
async def test_what_cannot_be_had_changes_nothing_and_says_why(
    serving: Serving, config: Config, spoil: Callable[[Config], None], says: str
) -> None:
    async with serving(config.read(), config.read) as gateway:
        catalog, status = gateway.services.catalog, gateway.services.tiers.status()
        spoil(config)
        with pytest.raises(ReloadRefused, match=f"^Nothing was changed: .*{says}"):
            await gateway.reload.now()
        assert gateway.services.catalog is catalog
        assert gateway.services.tiers.status() == status
        assert (await gateway.post(model="law")).status_code == 200


async def test_what_is_said_of_an_expert_changes_and_its_weights_stay(
    serving: Serving, config: Config
) -> None:
    async with serving(config.read(), config.read) as gateway:
        await gateway.post(model="law")
        with config.edited() as tree:
            tree["experts"]["law"] |= {"description": "new", "generation": {"max_tokens": 3}, "pinned": True}
            tree["tiers"]["device"] = "3000B"
        done = await gateway.reload.now()
        assert (done.changed, done.device_bytes) == (("law",), 3000)
        assert (await models(gateway))["law"]["description"] == "new"
        assert {status.expert for status in gateway.services.tiers.status() if status.pinned} == {"law"}
        answer = await gateway.post(model="law")
        assert answer.headers["x-coe-tier"] == "device"
        assert answer.json()["usage"]["completion_tokens"] == 3


async def test_a_pin_by_hand_outlives_a_reload_of_something_else(serving: Serving, config: Config) -> None:
    async with serving(config.read(), config.read) as gateway:
        gateway.services.tiers.orders.pin("law", True)
        with config.edited() as tree:
            tree["experts"]["law"]["description"] = "new"
        assert (await gateway.reload.now()).changed == ("law",)
        assert {status.expert for status in gateway.services.tiers.status() if status.pinned} == {"law"}


async def test_a_family_comes_with_its_engine_and_goes(serving: Serving, config: Config) -> None:
    async with serving(config.read(), config.read) as gateway:
        with config.edited() as tree:
            tree["families"]["other"] = {"mode": "simulated"}
        config.add("physics", "other")
        await gateway.reload.now()
        assert (await gateway.post(model="physics")).status_code == 200
        engine = gateway.services.engines["other"]
        assert engine.state == "ready"
        with config.edited() as tree:
            del tree["families"]["other"], tree["experts"]["physics"]
        assert (await gateway.reload.now()).removed == ("physics",)
        assert (await gateway.http.get("/ready")).status_code == 200
        with config.edited() as tree:
            tree["families"]["other"] = {"mode": "simulated", "max_model_len": 64}
        config.add("physics", "other", prepared=False)
        await once_it_has_left(gateway)
        assert gateway.services.engines["other"] is not engine
        assert not await engine.alive()
        assert (await gateway.post(model="physics")).status_code == 200
        assert (await models(gateway))["physics"]["context_length"] == 64


async def test_keys_are_rotated(serving: Serving, config: Config) -> None:
    def with_key(key: str) -> None:
        with config.edited() as tree:
            tree["server"]["api_keys"] = [key]

    with_key("old")
    async with serving(config.read(), config.read) as gateway:
        with_key("new")
        await gateway.reload.now()
        assert gateway.services.settings.server.api_keys == (SecretStr("new"),)
        assert (await gateway.post(headers={"authorization": "Bearer old"})).status_code == 401
        assert (await gateway.post(headers={"authorization": "Bearer new"})).status_code == 200


async def test_an_operator_reloads_over_http(serving: Serving, config: Config) -> None:
    with config.edited() as tree:
        tree["server"]["admin_key"] = "admin"
    async with serving(config.read(), config.read) as gateway:
        config.add("physics")
        assert (await gateway.http.post("/v1/coe/reload")).status_code == 401
        assert "physics" not in await models(gateway)
        with config.edited() as tree:
            tree["server"]["admin_key"] = "other"
        old, new = ({"authorization": f"Bearer {key}"} for key in ("admin", "other"))
        done = await gateway.http.post("/v1/coe/reload", headers=old)
        assert (done.status_code, done.json()["added"]) == (200, ["physics"])
        assert "physics" in await models(gateway)
        broken_yaml(config)
        assert (await gateway.http.post("/v1/coe/reload", headers=old)).status_code == 401
        refused = await gateway.http.post("/v1/coe/reload", headers=new)
        assert refused.status_code == 409
        assert refused.json()["error"]["code"] == "reload_refused"
        assert refused.json()["error"]["message"].startswith("Nothing was changed: ")


async def test_the_command_says_what_changed_or_why_nothing_did(
    serving: Serving, config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(config.read(), config.read) as gateway:
        elsewhere = tmp_path / "client.yaml"
        elsewhere.write_text(config.path.read_text())
        arguments = ["reload", "--url", gateway.url, "--config", str(elsewhere)]
        config.add("physics")
        assert await asyncio.to_thread(main, arguments) == 0
        assert capsys.readouterr().out.startswith(
            "added physics; compositions none; tiers.device 2,500 bytes"
        )
        broken_yaml(config)
        assert await asyncio.to_thread(main, arguments) == 1
        assert capsys.readouterr().err.startswith("coe: Nothing was changed: ")


async def test_reloads_wait_for_each_other(serving: Serving, config: Config) -> None:
    async with serving(config.read(), config.read) as gateway:
        config.add("physics")
        first, second = await asyncio.gather(gateway.reload.now(), gateway.reload.now())
        assert first.added == ("physics",)
        assert str(second).startswith("the same experts; ")


class Blocked:
    """A composition that has decided for math before a reload, and says so after it."""

    def __init__(self) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()

    experts = stand_ins = EXPERTS
    residency_margin = 0.0

    def choose(self, messages: object, **options: object) -> Choice:
        self.asked.set()
        assert self.go_on.wait(30)
        decision = Decision("math", "math", 1.0, {"math": 1.0}, False, "math", {}, 0.0)
        return Choice(decision, "map", decision, "hello")


async def test_a_composition_never_routes_to_a_removed_expert(serving: Serving, config: Config) -> None:
    with config.edited() as tree:
        tree["compositions"] = {"coe": {"artifact": str(ROOT / "router" / "embedded")}}
    async with serving(config.read(), config.read) as gateway:
        services, blocked = gateway.services, Blocked()
        compositions, windows = {"coe": cast(Composition, blocked)}, {"small": 2048}
        observe, workers = services.metrics.decided, services.workers
        routing = Routing(compositions, services.experts, windows, observe, workers)
        services.catalog = replace(services.catalog, routing=routing)
        overtaken = asyncio.create_task(gateway.post(model="coe", messages=MATHS))
        assert await asyncio.to_thread(blocked.asked.wait, 30)
        config.remove("math")
        with config.edited() as tree:
            tree["compositions"]["coe"]["mapping"] = WITHOUT_MATH
        assert (await gateway.reload.now()).compositions == ("coe",)
        blocked.go_on.set()
        for answer in (await overtaken, await gateway.post(model="coe", messages=MATHS)):
            assert answer.status_code == 200
            assert answer.headers["x-coe-category"] == "math"
            assert answer.headers["x-coe-expert"] == "coding"


async def test_a_shutdown_refuses_a_reload(serving: Serving, config: Config) -> None:
    async with serving(config.read(), config.read) as gateway:
        config.add("physics")
    with pytest.raises(ReloadRefused, match="shutting down"):
        await gateway.reload.now()


def handles_hangups(process: int) -> bool:
    """Whether a hangup would not end it."""
    masks = re.findall(r"^Sig(?:Ign|Cgt):\t(\w+)", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return any(int(mask, 16) >> (signal.SIGHUP - 1) & 1 for mask in masks)


async def line_with(stream: asyncio.StreamReader | None, text: str) -> str:
    assert stream is not None
    while line := (await stream.readline()).decode():
        if text in line:
            return line
    raise AssertionError(f"it ended without: {text}")


async def test_a_hangup_makes_the_process_reload(config: Config) -> None:
    with config.edited() as tree:
        tree["server"]["port"] = 8000
    command = ["-m", "server.cli", "serve", "--config", str(config.path), "--port", "0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            while not handles_hangups(process.pid):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGHUP)  # long before it serves
            url = (await line_with(process.stdout, "Ready on ")).split()[-1]
            config.add("physics")
            process.send_signal(signal.SIGHUP)
            await line_with(process.stderr, "reloaded: added physics; ")
            config.path.write_text("experts: [")
            process.send_signal(signal.SIGHUP)
            assert "ERROR" in await line_with(process.stderr, "Nothing was changed: ")
            async with httpx.AsyncClient() as http:
                answer = await http.post(f"{url}/chat/completions", json=chat(model="physics"))
            assert json.loads(answer.content)["model"] == "physics"
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_reloads_between_routed_requests_keep_no_composition_of_before(
    serving: Serving, settings: Settings
) -> None:
    """Stories of requests outlive the configuration that they were routed by."""
    async with serving(settings) as gateway:

        async def reloaded() -> int:
            assert (await gateway.post(model="coe", messages=MATHS)).status_code == 200
            await gateway.reload.now()
            gc.collect()
            return sum(isinstance(each, Composition) for each in gc.get_objects())

        first = await reloaded()
        assert [await reloaded() for _ in range(3)] == [first] * 3
