"""The services that every request needs, whatever it asks for."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from experts.engines.engine import Answering, Engine
from experts.errors import EngineError
from experts.spec import Expert
from memory_tiers.driver.manager import TierManager
from memory_tiers.replicas import family_of
from memory_tiers.residency import Residency
from server.access.accounts import Accounts
from server.access.admission import Admissions
from server.access.auth import Keys, MadeKeys
from server.config.settings import Settings
from server.engine_factory import EngineFactory
from server.feedback.recorder import Decisions, Feedback
from server.metrics.disk_space import free_shares
from server.metrics.gateway import Metrics, RequestMetrics
from server.model_request import ModelRequest
from server.observation.observer import Observer
from server.peers.changes import ResidencyChanges
from server.peers.peers import Peers
from server.resilience.circuit_breakers import Attempts, Breakers
from server.routing.catalog import Catalog
from server.routing.compositions import Named
from server.routing.explanation import Explanation
from server.routing.routing import Routed
from server.routing.thread_pools import Workers
from server.tracing.traces import Traces

log = logging.getLogger("coe.services")


@dataclass(slots=True, kw_only=True)
class Services:
    """Services of every request. Made by ``server.compose.running``, and in a process beside the node's by
    ``server.processes.gateway``. A reload replaces ``catalog``, and nothing else is ever replaced. ``peers``:
    the other nodes, None where there are none. ``feedback`` and ``traces``: None if they are off.
    ``draining``: a shutdown has begun."""

    catalog: Catalog
    tiers: Residency
    metrics: RequestMetrics
    workers: Workers
    breakers: Attempts
    feedback: Decisions | None
    observer: Observer
    traces: Traces | None
    accounts: MadeKeys
    admissions: Admissions
    residency: ResidencyChanges
    started: int
    version: str
    draining: bool = False
    peers: Peers | None = None

    @property
    def settings(self) -> Settings:
        """Returns the settings in force now, as ``experts``, ``keys`` and ``engines`` do."""
        return self.catalog.settings

    @property
    def experts(self) -> Mapping[str, Expert]:
        return self.catalog.experts

    @property
    def keys(self) -> Keys:
        return Keys(self.catalog.keys, self.accounts.keys, self.settings.server.require_key)

    @property
    def engines(self) -> Mapping[str, Answering]:
        return self.tiers.engines

    async def route(self, request: ModelRequest, category: str | None = None) -> Routed:
        """Routes a request, again if a reload overtook the decision: the chosen expert may be gone. Raises
        what ``Routing.route`` does."""
        while True:
            catalog = self.catalog
            route = await catalog.routing.route(request, category, self._resident)
            if catalog is self.catalog:
                return Routed(route, catalog.experts[route.expert])

    def _resident(self) -> list[str]:
        return [each.expert for each in self.tiers.status() if each.device == "present"]

    def instead(self, routed: Routed, broken: Collection[str]) -> Routed | None:
        """Returns the route around ``broken`` experts; None: no other answers."""
        route = routed.route.without(broken)
        if route is None or route.decision is None or route.expert not in self.experts:
            return None
        self.metrics.decided(route.composition, route.decision, route.by)
        return Routed(route, self.experts[route.expert])

    async def named(self, model: str, asker: str) -> Named | None:
        """The composition that ``model`` names; None for an expert. ``asker``: the key of the request. Raises
        UnknownModel, BadRequest, TooManyRequests."""
        return await self.catalog.routing.named(model, asker)

    async def explain(self, request: ModelRequest, category: str | None = None) -> Explanation:
        """Explains the route that ``request`` would take now. Raises what ``Routing.route`` does."""
        return await self.catalog.routing.explain(request, category, self._resident)


@dataclass(slots=True, kw_only=True)
class NodeServices(Services):
    """Services of the process that is the node: it has the tiers, the databases and the counters."""

    tiers: TierManager
    metrics: Metrics
    breakers: Breakers
    feedback: Feedback | None
    accounts: Accounts
    engine_of: EngineFactory

    @property
    def engines(self) -> Mapping[str, Engine]:
        return self.tiers.engines

    async def problems(self) -> dict[str, str]:
        """Returns the engines that a request would not reach now, with what is wrong; empty when all is well.
        One that rests is started by the next request, one that sleeps is woken by it, and is as well while it
        wakes; one of several is none that others stand in for. A gateway without engines reaches what its
        nodes do, if one answers."""
        if not self.settings.computes:
            nodes = [] if self.peers is None else [peer.snapshot for peer in self.peers.up]
            answer = any(said is not None and said.experts and not said.draining for said in nodes)
            return {} if answer else {"nodes": "none answers"}
        resting = {engine.family for engine in self.tiers.readiness.engines if engine.rests}
        resting |= {name for name, engine in self.engines.items() if engine.state == "asleep"}
        wrong = {
            name: engine.state if engine.state != "ready" else "does not answer"
            for name, engine in self.engines.items()
            if name not in resting and (engine.state != "ready" or not await engine.alive())
        }
        served = {family_of(name, self.engines) for name in self.engines if name not in wrong}
        unserved = {name: what for name, what in wrong.items() if family_of(name, self.engines) not in served}
        return unserved | self.breakers.refusing(self.engines)

    async def scrape(self) -> bytes:
        """Returns Prometheus text with the engines' own counters as they are now."""
        statistics = {}
        for family, engine in self.engines.items():
            if engine.state != "ready":
                continue
            try:
                statistics[family] = await engine.statistics()
            except EngineError as error:
                log.warning("no statistics of engine %s: %s", family, error)
        breakers = {name: self.breakers.is_open(expert) for name, expert in self.experts.items()}
        folders = {"state": self.settings.state or self.settings.store, "store": self.settings.store}
        disks = await asyncio.to_thread(free_shares, folders)
        return await self.metrics.text(self.tiers, statistics, breakers, disks)
