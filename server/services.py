"""The composition root: everything a gateway is made of, started in order and ended in reverse."""

import asyncio
import importlib.metadata
import logging
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from experts.checkpoint import base_name, check_families, open_expert
from experts.engine import Engine
from experts.errors import EngineError
from experts.machine_memory import memory
from experts.shared_memory import shared_memory
from experts.simulated import SimulatedEngine
from experts.spec import Expert, FamilyConfig
from experts.vllm import VllmEngine
from experts.vllm_command import installed_vllm
from experts.vllm_lora import LoraEngine
from memory_tiers.gpu_memory import gpu_memory
from memory_tiers.host import HostStore
from memory_tiers.manager import TierManager
from memory_tiers.sizing import FamilyNeeds, Machine, devices_of, sized
from memory_tiers.tiers import TiersConfig, TiersSettings
from router.pipeline import Router
from server.auth import Keys
from server.metrics import Metrics
from server.routing import Routing
from server.settings import Settings, SettingsError

log = logging.getLogger("coe.services")


@dataclass(frozen=True, slots=True)
class Services:
    """What a request needs. Made by ``running``."""

    settings: Settings
    experts: Mapping[str, Expert]
    engines: Mapping[str, Engine]
    tiers: TierManager
    routing: Routing
    metrics: Metrics
    keys: Keys
    started: int
    version: str

    async def problems(self) -> dict[str, str]:
        """Engines a request would not reach now, with what is wrong; empty when all is well. One that rests
        is started by the next request."""
        resting = {engine.family for engine in self.tiers.readiness.engines if engine.rests}
        return {
            family: engine.state if engine.state != "ready" else "does not answer"
            for family, engine in self.engines.items()
            if family not in resting and (engine.state != "ready" or not await engine.alive())
        }

    async def scrape(self) -> bytes:
        """Prometheus text with the engines' own counters as they are now."""
        statistics = {}
        for family, engine in self.engines.items():
            if engine.state != "ready":
                continue
            try:
                statistics[family] = await engine.statistics()
            except EngineError as error:
                log.warning("no statistics of engine %s: %s", family, error)
        return self.metrics.text(self.tiers, statistics)


def open_experts(settings: Settings) -> dict[str, Expert]:
    """The prepared experts. Raises CheckpointError when one is not there or a family does not match."""
    experts = {
        name: open_expert(name, config, settings.store, settings.base_of(name))
        for name, config in settings.experts.items()
    }
    check_families(list(experts.values()))
    return experts


def load_routers(settings: Settings) -> dict[str, Router]:
    """The router of each composition, with the configuration's mapping if it has one.

    Raises RouterError, and SettingsError when a router's map names an expert that is not configured.
    """
    routers = {}
    for name, composition in settings.compositions.items():
        router = Router.load(composition.artifact)
        routers[name] = router.with_mapping(composition.mapping) if composition.mapping else router
        missing = sorted(set(routers[name].experts) - settings.experts.keys())
        if missing:
            raise SettingsError(
                f"compositions.{name}: its router chooses {', '.join(missing)}; "
                f"define them under experts or give compositions.{name}.mapping"
            )
    return routers


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Services]:
    """Starts everything; engines become ready in the background, and requests wait for them.

    Leaving drains for at most ``server.drain_s`` and leaves no process, socket or shared memory.
    Raises CheckpointError, RouterError, TiersError before anything is started.
    """
    experts = open_experts(settings)
    routers = load_routers(settings)
    metrics = Metrics(CollectorRegistry())
    engines = {
        family: _engine(family, config, settings, experts)
        for family, config in settings.families.items()
        if any(expert.family == family for expert in experts.values())
    }
    host = HostStore()
    try:
        budgets = await asyncio.to_thread(_budgets, settings, experts, engines, host)
        tiers = TierManager(budgets, list(experts.values()), engines, host, metrics.observe)
    except BaseException:
        host.close()
        raise
    await tiers.start()
    try:
        yield Services(
            settings=settings,
            experts=experts,
            engines=engines,
            tiers=tiers,
            routing=Routing(routers, experts, metrics.decided),
            metrics=metrics,
            keys=Keys(settings.server.api_keys),
            started=int(time.time()),
            version=importlib.metadata.version("composition-of-experts"),
        )
    finally:
        await tiers.close(settings.server.drain_s)


def _budgets(
    settings: Settings, experts: Mapping[str, Expert], engines: Mapping[str, Engine], host: HostStore
) -> TiersConfig:
    """The tiers' settings in numbers: the only place where auto is resolved. Raises MemoryUnknown,
    HostUnavailable."""
    if "auto" not in (settings.tiers.device, settings.tiers.host):
        return TiersConfig.model_validate(dict(settings.tiers))
    host.open()  # what killed processes left there is not free yet
    families = [
        FamilyNeeds(
            settings.families[name],
            [expert for expert in experts.values() if expert.family == name],
            engine.resident_limit,
            engine.held_bytes,
        )
        for name, engine in engines.items()
    ]
    found = sized(settings.tiers, families, _machine(settings.tiers, families))
    budgets = f"tiers.device is {found.config.device:,} bytes, tiers.host {found.config.host:,}"
    log.info("%s: %s", budgets, found.why)
    return found.config


def _machine(settings: TiersSettings, families: Sequence[FamilyNeeds]) -> Machine:
    """Raises MemoryUnknown."""
    vllm = installed_vllm()
    devices = devices_of(families, os.environ.get("CUDA_VISIBLE_DEVICES"))
    if vllm is None or vllm.platform == "cpu" or not devices:
        return Machine("cpu", memory(), shared_memory())
    gpus = gpu_memory(devices) if settings.device == "auto" else None
    return Machine("cuda", memory(), shared_memory(), gpus)


def _engine(family: str, config: FamilyConfig, settings: Settings, experts: Mapping[str, Expert]) -> Engine:
    if config.mode == "simulated":
        return SimulatedEngine(family, config.simulation)
    if config.mode == "lora":
        members = [expert for expert in experts.values() if expert.family == family]
        return LoraEngine(family, config, settings.logs, settings.store / base_name(family), members)
    return VllmEngine(family, config, settings.logs)
