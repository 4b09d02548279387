"""A gateway on a real socket over simulated engines, with tiny checkpoints."""

import asyncio
import contextlib
import json
import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from fastapi import FastAPI
from safetensors.numpy import save_file

from experts.checkpoints.prepare import prepare
from experts.simulated.engine import SimulatedEngine
from experts.spec import CheckpointSource, ExpertConfig
from memory_tiers.driver.host_store import HostStore
from server.app import create_app
from server.batches.service import Batches
from server.compose import Running, running
from server.config.api_keys import ANONYMOUS, Key
from server.config.settings import Settings, load
from server.engine_factory import EngineFactory, engine_of
from server.exchange.arrival import Caller
from server.reload.reload import Reload
from server.responses.kept.stored_responses import StoredResponses
from server.serve import Server, server_over
from server.services import NodeServices
from server.transport.sockets import listen
from server.transport.tls import certificate_of

ROOT = Path(__file__).resolve().parents[2]
AS_JSON = {"content-type": "application/json"}
CALLER = Caller("r1", Key(ANONYMOUS), {})
"""Anybody, over HTTP, where no key is needed."""
EXPERTS = ("general", "math", "coding", "medicine", "law")
NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that speak plain HTTP: to read the authorities that they would trust takes long."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway and a client for it."""

    made: Running
    services: NodeServices
    responses: StoredResponses
    batches: Batches | None
    reload: Reload
    url: str
    http: httpx.AsyncClient
    server: Server

    @property
    def engine(self) -> SimulatedEngine:
        engine = self.services.engines["small"]
        assert isinstance(engine, SimulatedEngine)
        return engine

    async def post(self, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        return await self.http.post("/v1/chat/completions", json=chat(**fields), headers=headers)


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "law", "messages": [{"role": "user", "content": "hello"}]} | fields


Serving = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a few bytes that no real engine could run."""
    folder = tmp_path_factory.mktemp("checkpoint")
    save_file({"weight": np.zeros(250, np.float32)}, folder / "model.safetensors")
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    return folder


@pytest.fixture(scope="session")
def prepared(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of ``settings``, to be copied: preparing five experts takes longer."""
    store = tmp_path_factory.mktemp("prepared") / "store"
    for name in EXPERTS:
        expert = ExpertConfig(family="small", checkpoint=CheckpointSource(folder=checkpoint))
        prepare(name, expert, store)
    return store


@pytest.fixture
def settings(tmp_path: Path, checkpoint: Path, prepared: Path) -> Settings:
    """Five prepared experts of some 1.1 kB; the device holds two of them and host memory two."""
    shutil.copytree(prepared, tmp_path / "store", symlinks=True)
    tree = {
        "state": str(tmp_path),
        "store": str(tmp_path / "store"),
        "logs": str(tmp_path / "logs"),
        "tiers": {"device": "2500B", "host": "2500B"},
        "families": {
            "small": {"mode": "simulated", "max_model_len": 200_000, "simulation": {"tokens_per_s": 2000}}
        },
        "experts": {name: {"family": "small", "checkpoint": {"folder": str(checkpoint)}} for name in EXPERTS},
        "compositions": {"coe": {"artifact": str(ROOT / "router" / "embedded")}},
        "server": {"port": 0, "drain_s": 5},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    return load(file)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  what is awaited happens in the gateway and tells nobody
            await asyncio.sleep(0.01)


async def settled(gateway: Gateway) -> None:
    """Nothing moves, and no order is to be carried out."""
    tiers = gateway.services.tiers
    await until(
        lambda: tiers.counts().moves == 0 and all(expert.ordered is None for expert in tiers.status())
    )


def changed(settings: Settings, **server: Any) -> Settings:
    return settings.model_copy(update={"server": settings.server.model_copy(update=server)})


def simulated(settings: Settings, **speeds: Any) -> Settings:
    """The same with other speeds of the simulated engine."""
    family = settings.families["small"]
    speed = family.simulation.model_copy(update=speeds)
    return settings.model_copy(
        update={"families": {"small": family.model_copy(update={"simulation": speed})}}
    )


@pytest.fixture
def serving() -> Serving:
    """``async with serving(settings) as gateway``: on a free port, ready. ``read``: what a reload reads;
    ``extend``: adds to the application."""

    @contextlib.asynccontextmanager
    async def serve(
        settings: Settings,
        read: Callable[[], Settings] | None = None,
        engine_of: EngineFactory = engine_of,
        host_store: Callable[[], HostStore] = HostStore,
        extend: Callable[[FastAPI], object] = lambda app: None,
    ) -> AsyncIterator[Gateway]:
        with contextlib.closing(listen("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with (
                running(settings, engine_of=engine_of, host_store=host_store) as made,
                httpx.AsyncClient(base_url=url, timeout=30, verify=NO_AUTHORITIES) as http,
            ):
                services, certificate = made.services, certificate_of(settings.server)
                reload = Reload(services, read or (lambda: settings), certificate)
                app = create_app(made, reload)
                extend(app)
                server = server_over(app, services, certificate)
                serving_task = asyncio.create_task(server.serve(sockets=[listener]))
                await services.tiers.ready()
                try:
                    yield Gateway(made, services, made.responses, made.batches, reload, url, http, server)
                finally:
                    server.should_exit = True
                    await serving_task

    return serve
