"""Mixed traffic and faults, round after round: at rest nothing is left, and nothing grows.

``COE_SOAK_MINUTES``: for how long; without it for a few rounds. What is checked does not depend on it.
"""

import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import httpx
import psutil
import pytest

from experts.vllm.engine import VllmEngine
from memory_tiers.driver.host_store import HostStore
from memory_tiers.errors import TiersError
from server.config.settings import Settings
from tests.faults.test_engine_wire import Wire, engine_in
from tests.server.conftest import EXPERTS, Gateway, Serving, changed, chat, simulated, until
from tests.simulation.faulty import FaultyDisk

pytestmark = [pytest.mark.asyncio, pytest.mark.soak]
ROUNDS = 12
REQUESTS, AT_ONCE = 40, 12
SEED = 13
FAULTS = (
    "none", "engine is killed", "reset", "half-close", "silence", "slices", "reload",
    "an expert is sent to disk", "the disk fails",
)  # fmt: skip
STATUSES = (200, 502, 503, 504)
GROWTH = 24 * 2**20
"""Bytes by which the gateway's process, its clients in it, may grow from the middle third of the rounds to
the last one; the allocator keeps some of what a round needed."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Tells what is there at rest."""

    memory: int
    descriptors: int
    tasks: int

    @classmethod
    def now(cls) -> "Sample":
        gc.collect()
        process = psutil.Process()
        return cls(process.memory_info().rss, process.num_fds(), len(asyncio.all_tasks()))


async def one(http: httpx.AsyncClient, chance: random.Random) -> int:
    """Asks once, and maybe leaves. The status; 0 for whoever left."""
    kind = chance.choice(
        ("chat", "stream", "stream", "completion", "message", "response", "leaves", "nonsense")
    )
    expert, tokens = chance.choice((*EXPERTS, "coe")), chance.choice((1, 8, 24))
    headers, body = {"x-coe-timeout-s": "5"}, chat(model=expert, max_tokens=tokens)
    if kind in ("stream", "leaves"):
        body["stream"] = True
        async with http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
            lines = answer.aiter_lines()
            if kind == "leaves":
                await anext(lines, None)
                return 0
            events = [line.removeprefix("data: ") async for line in lines if line.startswith("data: ")]
        if answer.status_code == 200:
            ends = [event for event in events if event == "[DONE]" or "error" in json.loads(event)]
            assert ends == events[-1:], events[-3:]
        return answer.status_code
    path, sent = {
        "chat": ("/v1/chat/completions", body),
        "completion": ("/v1/completions", {"model": expert, "prompt": "hello", "max_tokens": tokens}),
        "message": ("/v1/messages", body),
        "response": ("/v1/responses", {"model": expert, "input": "hello", "max_output_tokens": 16}),
        "nonsense": ("/v1/chat/completions", {"model": 1}),
    }[kind]
    answer = await http.post(path, json=sent, headers=headers)
    if kind == "nonsense":
        assert answer.status_code == 400, answer.text
        return 200
    if answer.status_code == 200:
        answer.json()
    return answer.status_code


async def strike(gateway: Gateway, fault: str, wire: Wire, disk: FaultyDisk, chance: random.Random) -> None:
    (engine,) = gateway.services.engines.values()
    assert isinstance(engine, VllmEngine)
    with contextlib.suppress(TiersError):  # a refusal is an answer, too
        match fault:
            case "engine is killed":
                if engine.state == "ready":
                    psutil.Process(engine.server.process.pid).kill()
            case "reset" | "half-close" | "silence":
                wire.spoil(fault, after=chance.randrange(2000))
            case "slices":
                wire.spoil(fault)
            case "reload":
                await gateway.reload.now()
            case "an expert is sent to disk":
                gateway.services.tiers.orders.move(chance.choice(EXPERTS), "disk")
            case "the disk fails":
                disk.failing = 2


async def round_of(gateway: Gateway, fault: str, wire: Wire, disk: FaultyDisk, chance: random.Random) -> int:
    """One round. How many answers were whole."""
    limit = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as http:

        async def asked() -> int:
            async with limit:
                return await one(http, chance)

        asking = [asyncio.create_task(asked()) for _ in range(REQUESTS)]
        await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        await strike(gateway, fault, wire, disk, chance)
        statuses = await asyncio.gather(*asking)
    assert set(statuses) <= {0, *STATUSES}, f"{fault}: {statuses}"
    wire.mend()
    disk.failing = 0
    return statuses.count(200)


async def at_rest(gateway: Gateway, folder: Path) -> None:
    """Nothing is held, and the tiers are charged what is there."""
    services = gateway.services
    tiers = services.tiers
    (engine,) = services.engines.values()
    await until(lambda: (tiers.counts().leases, tiers.counts().waiting, tiers.counts().moves) == (0, 0, 0))
    await until(lambda: engine.state == "ready" and tiers.counts().moves == 0)
    async with asyncio.timeout(30):
        while (statistics := await engine.statistics()).running:  # noqa: ASYNC110  another process tells
            await asyncio.sleep(0.05)
    used = {tier.tier: tier.used_bytes for tier in tiers.usage()}
    status = tiers.status()
    resident = {expert.expert for expert in status if expert.tier == "device"}
    assert set(statistics.resident) == resident
    assert used["device"] == sum(expert.weights_bytes for expert in status if expert.expert in resident)
    assert used["host"] == held_in(folder)


def held_in(folder: Path) -> int:
    """Bytes of the copies on the host."""
    return sum(file.stat().st_size for file in folder.glob("coe-host-*/expert-*/*.safetensors"))


async def test_round_after_round_nothing_is_left_and_nothing_grows(
    serving: Serving,
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # pytest keeps each line of the log with the exception in it, and so all that its frames hold.
    monkeypatch.setattr(logging.getLogger("coe"), "propagate", False)
    minutes = os.environ.get("COE_SOAK_MINUTES")
    ends = time.monotonic() + 60 * float(minutes) if minutes else None
    chance, disk, wire, host = (
        random.Random(SEED),
        FaultyDisk(),
        Wire(tmp_path / "faults.json"),
        tmp_path / "host",
    )
    host.mkdir()
    engine = engine_in(tmp_path)
    calm = changed(settings, stall_timeout_s=2.0, breaker_failures=0)
    calm = simulated(calm, process=True, tokens_per_s=500)

    def engine_of(family: str, settings: Settings, experts: object) -> Any:
        return engine(family, settings.families[family], settings.logs)

    samples, whole, struck = list[Sample](), 0, dict.fromkeys(FAULTS, 0)
    async with serving(calm, engine_of=engine_of, host_store=lambda: HostStore(host, disk)) as gateway:
        while len(samples) < ROUNDS or (ends is not None and time.monotonic() < ends):
            fault = FAULTS[len(samples) % len(FAULTS)]
            whole += await round_of(gateway, fault, wire, disk, chance)
            struck[fault] += 1
            await at_rest(gateway, host)
            samples.append(Sample.now())
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]
    with capsys.disabled():
        print(f"\n{len(samples)} rounds of {REQUESTS} requests, {whole} whole answers, {struck}")
        for at, sample in (
            (0, samples[0]),
            (third, middle[0]),
            (2 * third, last[0]),
            (len(samples), last[-1]),
        ):
            print(
                f"round {at}: {sample.memory / 1e6:.1f} MB, {sample.descriptors} descriptors, "
                f"{sample.tasks} tasks"
            )
    assert max(each.tasks for each in last) <= max(each.tasks for each in middle)
    # Up to AT_ONCE connections to the engine are kept.
    descriptors = [fmean(each.descriptors for each in some) for some in (middle, last)]
    assert descriptors[1] - descriptors[0] <= AT_ONCE, descriptors
    memory = [fmean(each.memory for each in some) for some in (middle, last)]
    assert memory[1] - memory[0] <= GROWTH, memory
