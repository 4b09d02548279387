"""``coe bench gateway``: requests/s and added latency of the gateway, beside other proxies and none.

In one run, on one machine, before engines that are all the same program: as many requests as there can be
(closed loop), then half of that many (open loop), beside the same load without a proxy.
"""

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway import upstream
from benchmarks.gateway.generator import Generator
from benchmarks.gateway.load import READ_ONCE, READ_TWICE, Kind, Load, Outcome
from benchmarks.gateway.our_gateway import ROUTED, OurGateway
from benchmarks.gateway.pinned import Cores
from benchmarks.gateway.proxy import Direct, Nginx, PassThrough, Proxy, Site, VllmRouter
from benchmarks.gateway.report import Added, Capacity, NotMeasured, Plan, Report, Setting
from benchmarks.gateway.upstream import EXPERT
from experts.errors import EngineError
from server.config.settings import SettingsError

Progress = Callable[[str, int, int], None]
LEAST_RATE = 1.0
"""Least rate of an open loop, in requests a second: also for a proxy that answered no request in time."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Subject of the measurement: a proxy, asked for ``model`` with ``prompt``."""

    name: str
    proxy: Proxy
    model: str = EXPERT
    prompt: str = READ_ONCE


async def measure(plan: Plan, progress: Progress, nginx: Path | None, router_python: Path | None) -> Report:
    """``nginx``, ``router_python``: as in ``Nginx`` and ``VllmRouter``.

    Raises SettingsError on a machine of one core, EngineError when the engine or the gateway fails. A rival
    that fails is reported as not measured.
    """
    cores = Cores.of_this_machine()
    if cores is None:
        raise SettingsError("coe bench gateway needs two cores: one for the proxy and one for who asks it")
    load_average = os.getloadavg()[0]
    measurement = Measurement(plan, cores, progress)
    with tempfile.TemporaryDirectory(prefix="coe-bench-") as folder:
        async with await Generator.launch(cores.generator) as generator:
            for kind in plan.kinds:
                place = Path(folder) / kind
                place.mkdir()
                rivals = (Direct(), Nginx(nginx), VllmRouter(router_python), PassThrough())
                await measurement.of(kind, rivals, generator, place)
    setting = Setting(os.cpu_count() or 1, load_average, cores)
    return measurement.report(setting)


class Measurement:
    """One kind of answer after another; what it finds is in its report."""

    def __init__(self, plan: Plan, cores: Cores, progress: Progress) -> None:
        self._plan = plan
        self._cores = cores
        self._progress = progress
        self._capacities: list[Capacity] = []
        self._added: list[Added] = []
        self._missing: dict[str, NotMeasured] = {}

    def report(self, setting: Setting) -> Report:
        missing = tuple(self._missing.values())
        return Report(setting, self._plan, tuple(self._capacities), tuple(self._added), missing)

    async def of(self, kind: Kind, rivals: Sequence[Proxy], generator: Generator, folder: Path) -> None:
        async with self._standing(kind, rivals, folder) as subjects:
            found = await self._closed(kind, subjects, generator)
            self._capacities += found
            best = {name: max(each.per_second for each in found if each.subject == name) for name in subjects}
            rates = {name: max(best[name] * self._plan.share, LEAST_RATE) for name in subjects}
            self._added += await self._open(kind, subjects, rates, generator)

    @asynccontextmanager
    async def _standing(
        self, kind: Kind, rivals: Sequence[Proxy], folder: Path
    ) -> AsyncIterator[dict[str, Subject]]:
        """Starts all subjects that can be measured."""
        gateway = OurGateway(upstream.speeds(kind))
        engine = await upstream.launch(kind, folder, self._cores.upstream)
        site = Site(engine, folder, self._cores)
        try:
            await gateway.start(site)
            standing = [Subject(rival.name, rival) for rival in rivals if await self._stands(rival, site)]
            standing.append(Subject("gateway", gateway))
            standing.append(Subject("gateway, routed", gateway, ROUTED))
            standing.append(Subject("gateway, routed, read twice", gateway, ROUTED, READ_TWICE))
            yield {subject.name: subject for subject in standing}
        finally:
            for proxy in (gateway, *rivals):
                await proxy.stop()
            await engine.stop()

    async def _stands(self, rival: Proxy, site: Site) -> bool:
        reason = rival.unfit()
        if reason is None:
            try:
                await rival.start(site)
            except EngineError as error:
                reason = str(error)
        if reason is not None:
            self._missing[rival.name] = NotMeasured(rival.name, reason)
        return reason is None

    async def _closed(self, kind: Kind, subjects: dict[str, Subject], generator: Generator) -> list[Capacity]:
        runs: dict[tuple[str, int], list[Outcome]] = {}
        total = self._plan.rounds * len(subjects) * len(self._plan.streams)
        for number in range(self._plan.rounds):
            for subject in subjects.values():
                for streams in self._plan.streams:
                    done = sum(map(len, runs.values()))
                    self._progress(f"{kind}, closed loop: {subject.name}, {streams} streams", done, total)
                    load = self._load(kind, subject, number, streams=streams)
                    runs.setdefault((subject.name, streams), []).append(await generator.make(load))
        return [Capacity(name, kind, streams, tuple(found)) for (name, streams), found in runs.items()]

    async def _open(
        self, kind: Kind, subjects: dict[str, Subject], rates: dict[str, float], generator: Generator
    ) -> list[Added]:
        direct, *others = subjects.values()
        runs: dict[str, list[tuple[Outcome, Outcome]]] = {}
        for number in range(self._plan.rounds):
            for subject in others:
                done = sum(map(len, runs.values()))
                rate = rates[subject.name]
                stage = f"{kind}, open loop: {subject.name}, {rate:.0f} a second"
                self._progress(stage, done, self._plan.rounds * len(others))
                without = await generator.make(self._load(kind, direct, number, rate=rate))
                through = await generator.make(self._load(kind, subject, number, rate=rate))
                runs.setdefault(subject.name, []).append((without, through))
        return [
            Added(name, kind, rates[name], tuple(without for without, _ in pairs), tuple(t for _, t in pairs))
            for name, pairs in runs.items()
        ]

    def _load(self, kind: Kind, subject: Subject, number: int, streams: int = 0, rate: float = 0.0) -> Load:
        proxy = subject.proxy
        return Load(
            port=proxy.port,
            model=subject.model,
            kind=kind,
            tokens=self._plan.tokens,
            seconds=self._plan.seconds,
            warming_s=self._plan.warming_s,
            streams=streams,
            rate=rate,
            seed=number,
            prompt=subject.prompt,
            watched={"proxy": proxy.pids, "engine": proxy.upstream},
        )
