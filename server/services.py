"""The composition root: everything a gateway is made of, started in order and ended in reverse."""

import asyncio
import contextlib
import importlib.metadata
import logging
import os
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from experts.engines.engine import Engine
from experts.errors import EngineError
from experts.memory.machine_memory import memory
from experts.memory.shared_memory import shared_memory
from experts.spec import Expert
from experts.vllm.command import installed_vllm
from memory_tiers.driver.host_store import HostStore
from memory_tiers.driver.manager import TierManager
from memory_tiers.gpu_memory import gpu_memory
from memory_tiers.sizing import FamilyNeeds, Machine, devices_of, sized
from memory_tiers.tiers import TiersConfig, TiersSettings
from server.access.accounts import Accounts, accounting
from server.access.admission import Admissions
from server.access.auth import Keys
from server.config.settings import Settings
from server.engine_factory import engine_of
from server.feedback.recorder import Feedback, recording
from server.metrics.gateway import Metrics
from server.model_request import ModelRequest
from server.resilience.circuit_breakers import Breakers
from server.responses.archive import KeptResponses, keeping_responses
from server.responses.background import Background
from server.responses.event_journal import Journals
from server.routing.catalog import Catalog
from server.routing.compositions import Named
from server.routing.explanation import Explanation
from server.routing.routing import Routed
from server.routing.thread_pools import Workers

if TYPE_CHECKING:
    from server.batches.service import Batches

log = logging.getLogger("coe.services")


@dataclass(slots=True)
class Services:
    """What a request needs. Made by ``running``. A reload replaces ``catalog``, and nothing else is ever
    replaced. ``feedback`` and ``batches``: None if they are off; the latter is there within ``batching``.
    ``draining``: a shutdown has begun."""

    catalog: Catalog
    tiers: TierManager
    metrics: Metrics
    workers: Workers
    breakers: Breakers
    feedback: Feedback | None
    accounts: Accounts
    admissions: Admissions
    responses: KeptResponses
    background: Background
    journals: Journals
    started: int
    version: str
    batches: "Batches | None" = None
    draining: bool = False

    @property
    def settings(self) -> Settings:
        """In force now, as are ``experts``, ``keys`` and ``engines``."""
        return self.catalog.settings

    @property
    def experts(self) -> Mapping[str, Expert]:
        return self.catalog.experts

    @property
    def keys(self) -> Keys:
        return Keys(self.catalog.keys, self.accounts.keys, self.settings.server.require_key)

    @property
    def engines(self) -> Mapping[str, Engine]:
        return self.tiers.engines

    async def route(self, request: ModelRequest, category: str | None = None) -> Routed:
        """A decision that a reload overtook is made again: what it chose may not be served any more. Raises
        what ``Routing.route`` does."""
        while True:
            catalog = self.catalog
            route = await catalog.routing.route(request, category)
            if catalog is self.catalog:
                return Routed(route, catalog.experts[route.expert])

    def instead(self, routed: Routed, broken: Collection[str]) -> Routed | None:
        """Who answers where ``broken`` cannot, its own expert among them; None: nobody does."""
        route = routed.route.without(broken)
        if route is None or route.decision is None or route.expert not in self.experts:
            return None
        self.metrics.decided(route.composition, route.decision, route.by)
        return Routed(route, self.experts[route.expert])

    async def named(self, model: str) -> Named | None:
        """The composition that ``model`` names; None for an expert. Raises UnknownModel, BadRequest."""
        return await self.catalog.routing.named(model)

    async def explain(self, request: ModelRequest, category: str | None = None) -> Explanation:
        """The route that ``request`` would take now. Raises what ``Routing.route`` does."""
        return await self.catalog.routing.explain(request, category)

    async def problems(self) -> dict[str, str]:
        """Engines a request would not reach now, with what is wrong; empty when all is well. One that rests
        is started by the next request."""
        resting = {engine.family for engine in self.tiers.readiness.engines if engine.rests}
        return {
            family: engine.state if engine.state != "ready" else "does not answer"
            for family, engine in self.engines.items()
            if family not in resting and (engine.state != "ready" or not await engine.alive())
        } | self.breakers.refusing(self.engines)

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
        breakers = {name: self.breakers.is_open(expert) for name, expert in self.experts.items()}
        return self.metrics.text(self.tiers, statistics, breakers)


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Services]:
    """Starts everything; engines become ready in the background, and requests wait for them.

    Leaving drains for at most ``server.drain_s`` and leaves no process, socket or shared memory.
    Raises CheckpointError, RouterError, TiersError, DatabaseError before anything is started.
    """
    metrics = Metrics(CollectorRegistry())
    async with (
        accounting(settings.accounts.file, settings.accounts.keep_days) as accounts,
        recording(settings.feedback, metrics.feedback) as feedback,
        keeping_responses(settings.responses) as responses,
        _started(settings, metrics, feedback, accounts, responses) as services,
    ):
        yield services


@contextlib.asynccontextmanager
async def _started(
    settings: Settings,
    metrics: Metrics,
    feedback: Feedback | None,
    accounts: Accounts,
    responses: KeptResponses,
) -> AsyncIterator[Services]:
    with contextlib.closing(Workers()) as workers:
        catalog = Catalog.read(settings, metrics.decided, workers)
        tiers = await _tiers(settings, catalog.experts, metrics)
        background = Background(settings.responses.max_background)
        journals = Journals(settings.responses.max_stream_bytes)
        await tiers.start()
        try:
            yield Services(
                catalog=catalog,
                tiers=tiers,
                metrics=metrics,
                workers=workers,
                breakers=Breakers(settings.server.breaker_failures, settings.server.breaker_cool_down_s),
                feedback=feedback,
                accounts=accounts,
                admissions=Admissions(accounts),
                responses=responses,
                background=background,
                journals=journals,
                started=int(time.time()),
                version=importlib.metadata.version("composition-of-experts"),
            )
        finally:
            await tiers.close(settings.server.drain_s)
            await background.close()
            journals.close()


async def _tiers(settings: Settings, experts: Mapping[str, Expert], metrics: Metrics) -> TierManager:
    """Not started. Raises TiersError."""
    engines = {
        family: engine_of(family, settings, experts.values())
        for family in settings.families
        if any(expert.family == family for expert in experts.values())
    }
    host = HostStore()
    try:
        budgets = await asyncio.to_thread(_budgets, settings, experts, engines, host)
        return TierManager(budgets, list(experts.values()), engines, host, metrics.observe)
    except BaseException:
        host.close()
        raise


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
