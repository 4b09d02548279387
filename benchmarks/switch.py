"""``coe bench switch``: what it costs to compute with another expert, by where its weights are.

In one run, on one real engine: a process start, disk to device, host to device, and a switch between two
experts on the device, beside a plain copy of as many bytes in memory.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from experts.engine import Engine
from experts.spec import Expert
from experts.vllm import VllmEngine
from memory_tiers.host import HostStore
from server.services import open_experts
from server.settings import Settings, SettingsError

SWITCHES_PER_RUN = 20


@dataclass(frozen=True, slots=True)
class Row:
    """One way to bring an expert to compute: seconds of each run and the bytes that moved (0: none)."""

    name: str
    seconds: tuple[float, ...]
    bytes: int

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def gigabytes_per_second(self) -> float | None:
        return self.bytes / self.median / 1e9 if self.bytes else None


async def measure(settings: Settings, runs: int) -> dict[str, Any]:
    """All figures of one run. Raises SettingsError without a family of two experts on real vLLM."""
    family, first, second = _pair(settings)
    config = settings.families[family]
    engine = VllmEngine(family, config, settings.logs)
    host = HostStore()
    try:
        start = await _starts(engine, first, runs)
        rows = [
            start,
            await _from_disk(engine, host, second, runs),
            await _from_host(engine, host, second, runs),
        ]
        rows += await _switches(engine, first, second, runs)
        rows.append(_plain_copy(second.weights_bytes, runs))
    finally:
        await engine.stop()
        host.close()
    return {
        "family": family,
        "mode": config.mode,
        "runs": runs,
        "cores": os.cpu_count(),
        "rows": [
            asdict(row) | {"median_s": row.median, "gigabytes_per_s": row.gigabytes_per_second}
            for row in rows
        ],
    }


def show(report: Mapping[str, Any]) -> None:
    """Prints the figures as a table."""
    copy = report["rows"][-1]
    table = Table(
        title=f"{report['family']} ({report['mode']}), {report['cores']} cores, {report['runs']} runs"
    )
    for column in ("way", "median ms", "min ms", "max ms", "MB", "GB/s", "of a plain copy"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for row in report["rows"]:
        speed, seconds = row["gigabytes_per_s"], row["seconds"]
        table.add_row(
            row["name"],
            *(f"{1e3 * value:.1f}" for value in (row["median_s"], min(seconds), max(seconds))),
            f"{row['bytes'] / 1e6:.0f}" if row["bytes"] else "-",
            f"{speed:.2f}" if speed else "-",
            f"{speed / copy['gigabytes_per_s']:.0%}" if speed else "-",
        )
    Console().print(table)


def _pair(settings: Settings) -> tuple[str, Expert, Expert]:
    experts = list(open_experts(settings).values())
    for family, config in settings.families.items():
        members = [expert for expert in experts if expert.family == family]
        if config.mode == "interleaved" and len(members) >= 2:
            return family, members[0], members[1]
    raise SettingsError("coe bench switch needs a family with mode interleaved and at least two experts")


async def _starts(engine: Engine, expert: Expert, runs: int) -> Row:
    seconds = []
    for _ in range(runs):
        await engine.stop()
        seconds.append(await _timed(lambda: engine.start(expert, expert.folder)))
    return Row("process start", tuple(seconds), 0)


async def _from_disk(engine: Engine, host: HostStore, expert: Expert, runs: int) -> Row:
    async def bring() -> None:
        await asyncio.to_thread(host.load, expert)
        await engine.load(expert, host.path(expert.name))

    seconds = []
    for _ in range(runs):
        await engine.unload(expert.name)
        host.drop(expert.name)
        _forget_cached(expert.folder)
        seconds.append(await _timed(bring))
    return Row("from disk, page cache dropped", tuple(seconds), expert.weights_bytes)


async def _from_host(engine: Engine, host: HostStore, expert: Expert, runs: int) -> Row:
    seconds = []
    for _ in range(runs):
        await engine.unload(expert.name)
        seconds.append(await _timed(lambda: engine.load(expert, host.path(expert.name))))
    return Row("from host", tuple(seconds), expert.weights_bytes)


async def _switches(engine: Engine, first: Expert, second: Expert, runs: int) -> list[Row]:
    """Two views of a switch: the worker's own clock, and what one-token requests that alternate between two
    experts take longer than requests that stay with one."""
    await _one_token(engine, first)
    in_worker, end_to_end = [], []
    for _ in range(runs):
        before = await engine.statistics()
        stay = [await _timed(lambda: _one_token(engine, first)) for _ in range(SWITCHES_PER_RUN)]
        alternate = [
            await _timed(lambda expert=expert: _one_token(engine, expert))  # type: ignore[misc]
            for _ in range(SWITCHES_PER_RUN // 2)
            for expert in (second, first)
        ]
        after = await engine.statistics()
        switches = after.switches - before.switches
        in_worker.append((after.switch_seconds - before.switch_seconds) / switches)
        end_to_end.append(statistics.median(alternate) - statistics.median(stay))
    return [
        Row("switch, by the worker's clock", tuple(in_worker), 0),
        Row("switch, as a request sees it", tuple(end_to_end), 0),
    ]


async def _one_token(engine: Engine, expert: Expert) -> None:
    body = {
        "messages": [{"role": "user", "content": "Hello"}],
        "chat_template": expert.chat_template,
        "max_tokens": 1,
        "temperature": 0,
    }
    answer = await engine.request(expert.name, "/v1/chat/completions", body)
    async for _ in answer.chunks():
        pass
    await answer.close()


def _plain_copy(size: int, runs: int) -> Row:
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - began)
    return Row("plain copy", tuple(seconds), size)


def _forget_cached(folder: Path) -> None:
    """Asks the kernel to drop the page cache of the weights, so that a read comes from the disk."""
    for file in folder.glob("*.safetensors"):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began
