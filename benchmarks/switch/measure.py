"""``coe bench switch``: what it costs to compute with another expert, by where its weights are.

In one run, on one real engine: a process start, disk to host with and without the page cache, host to device,
and a switch between two experts on the device. Beside each stands what the machine can do at best.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.engine.rival import computing_type, open_engine
from benchmarks.switch.machine import Copies, NotMeasured, direct_read
from benchmarks.switch.report import (
    CACHED,
    COLD,
    CONVERTED,
    DIRECT_READ,
    FRESH_COPY,
    IMAGE,
    ORDER,
    PINNED_COPY,
    SHARED_COPY,
    START,
    SWITCH,
    SWITCH_SEEN,
    WARM_COPY,
    Report,
    Row,
)
from experts.engines.engine import Engine
from experts.spec import Expert
from experts.vllm_version import installed_vllm
from memory_tiers.driver.host_store import HostStore
from memory_tiers.driver.page_cache import forget
from server.config.settings import Settings, SettingsError
from server.routing.catalog import open_experts

SWITCHES_PER_RUN = 20
LARGEST_COPY_BYTES = 2 * 2**30
"""More would show nothing new and need three times as much memory."""
Progress = Callable[[str, int, int], None]


async def measure(settings: Settings, runs: int, progress: Progress) -> Report:
    """All figures of one run. Raises SettingsError without a family that interleaves, and ExpertsError."""
    load_average = os.getloadavg()[0]
    first, second = _pair(settings)
    config = settings.families[first.family]
    engine, host = open_engine(first.family, config, settings.logs), HostStore()
    vllm = installed_vllm()
    on_gpu = config.mode != "simulated" and vllm is not None and vllm.platform == "cuda"
    measurement = Measurement(engine, host, first, second, on_gpu=on_gpu)
    stages = (
        ("process start", measurement.start),
        ("disk to host", measurement.to_host),
        ("host to device", measurement.to_device),
        ("switch", measurement.switches),
    )
    try:
        for number, (stage, step) in enumerate(stages):
            for run in range(runs):
                progress(stage, number * runs + run, len(stages) * runs)
                await step()
    finally:
        await engine.stop()
        await asyncio.to_thread(host.close)
    progress(stages[-1][0], len(stages) * runs, len(stages) * runs)
    return Report(
        family=first.family,
        mode=config.mode,
        dtype=computing_type(engine),
        runs=runs,
        cores=os.cpu_count() or 1,
        load_average=load_average,
        still_cached=measurement.still_cached,
        rows=measurement.rows(),
        not_measured=measurement.not_measured,
    )


class Measurement:
    """Each step measures its figures once more; a limit in the same step as what it limits, so that what else
    the machine does weighs on both."""

    def __init__(
        self, engine: Engine, host: HostStore, first: Expert, second: Expert, *, on_gpu: bool = False
    ) -> None:
        self._on_gpu = on_gpu
        self.not_measured: dict[str, str] = {}
        self.still_cached = 0
        self._image_bytes = 0
        self._engine, self._host = engine, host
        self._first, self._second = first, second
        self._files = sorted(second.folder.glob("*.safetensors"))
        self._copies = Copies(min(second.weights_bytes, LARGEST_COPY_BYTES))
        self._seconds: dict[str, list[float]] = {}

    def rows(self) -> tuple[Row, ...]:
        size = self._second.weights_bytes
        moved = dict.fromkeys((SWITCH, SWITCH_SEEN, START), 0) | dict.fromkeys(
            (WARM_COPY, FRESH_COPY, SHARED_COPY, PINNED_COPY), self._copies.size
        )
        moved[IMAGE] = self._image_bytes
        names = [name for name in ORDER if name in self._seconds]
        return tuple(Row(name, tuple(self._seconds[name]), moved.get(name, size)) for name in names)

    async def start(self) -> None:
        await self._engine.stop()
        await self._timed(START, lambda: self._engine.start(self._first, self._first.folder))

    async def to_host(self) -> None:
        """Loads from the disk, then from the page cache."""
        self._host.open()
        await self._limit(SHARED_COPY, lambda: self._copies.shared(self._host.folder))
        await self._limit(DIRECT_READ, lambda: direct_read(self._files))
        await self._load(COLD, forget)
        await self._load(CACHED, _remember)

    async def to_device(self) -> None:
        """Loads from the host copy that ``to_host`` left, then from the image that was made of it."""
        await self._limit(WARM_COPY, self._copies.warm)
        await self._limit(FRESH_COPY, self._copies.fresh)
        if self._on_gpu:
            await self._limit(PINNED_COPY, self._copies.pinned)
        expert, weights = self._second, self._host.path(self._second.name)
        await self._engine.unload(expert.name)
        await self._timed(CONVERTED, lambda: self._engine.load(expert, weights))
        images = await asyncio.to_thread(self._host.images, expert.name)
        made = await self._engine.load(expert, weights, images)
        self._image_bytes = made.image_bytes
        if made.image_bytes == 0:
            self.not_measured[IMAGE] = "this engine keeps no images"
            return
        await self._engine.unload(expert.name)
        await self._timed(IMAGE, lambda: self._engine.load(expert, weights, images))

    async def switches(self) -> None:
        """Two views: the worker's own clock, and what one-token requests that alternate between two experts
        take longer than requests that stay with one."""
        await self._one_token(self._first)
        before = await self._engine.statistics()
        stay = [await _seconds(lambda: self._one_token(self._first)) for _ in range(SWITCHES_PER_RUN)]
        alternate = [
            await _seconds(lambda expert=expert: self._one_token(expert))  # type: ignore[misc]
            for _ in range(SWITCHES_PER_RUN // 2)
            for expert in (self._second, self._first)
        ]
        after = await self._engine.statistics()
        self._note(
            SWITCH, (after.switch_seconds - before.switch_seconds) / (after.switches - before.switches)
        )
        self._note(SWITCH_SEEN, statistics.median(alternate) - statistics.median(stay))

    async def _load(self, name: str, before: Callable[[Path], int]) -> None:
        await asyncio.to_thread(self._host.drop, self._second.name)
        kept = sum([await asyncio.to_thread(before, file) for file in self._files])
        self.still_cached = max(self.still_cached, kept)
        await self._timed(name, lambda: asyncio.to_thread(self._host.load, self._second))

    async def _limit(self, name: str, work: Callable[[], float]) -> None:
        try:
            self._note(name, await asyncio.to_thread(work))
        except NotMeasured as error:
            self.not_measured[name] = str(error)

    async def _one_token(self, expert: Expert) -> None:
        body = {
            "messages": [{"role": "user", "content": "Hello"}],
            "chat_template": expert.chat_template,
            "max_tokens": 1,
            "temperature": 0,
        }
        answer = await self._engine.request(expert.name, "/v1/chat/completions", body)
        async for _ in answer.chunks():
            pass
        await answer.close()

    async def _timed(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        self._note(name, await _seconds(work))

    def _note(self, name: str, seconds: float) -> None:
        self._seconds.setdefault(name, []).append(seconds)


def _pair(settings: Settings) -> tuple[Expert, Expert]:
    """Two experts of one family; where it has one, the second is the same files under another name."""
    experts = list(open_experts(settings).values())
    for family, config in settings.families.items():
        members = [expert for expert in experts if expert.family == family]
        if config.mode != "plain" and config.task == "generate" and members:
            return members[0], (members[1:] or [replace(members[0], name=f"{members[0].name}-1")])[0]
    raise SettingsError("coe bench switch needs a family with mode interleaved and a prepared expert")


def _remember(path: Path) -> int:
    """Brings the file into the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(2**24):
            pass
    return 0


async def _seconds(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began
