"""A gateway process beside the node's: what it is made of, from its first message to its last."""

import asyncio
import contextlib
import gc
import importlib.metadata
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any

import server.logs
from cluster.election import Seniority
from server.access.admission import Admissions
from server.access.allowed_hosts import AllowedHosts
from server.app import FAST_ENDPOINTS, Application, with_cors
from server.config.settings import Settings
from server.observation.observer import Observer
from server.observation.story import Story
from server.peers.changes import ResidencyChanges
from server.peers.identity import Identity
from server.peers.peers import Peers, watching
from server.peers.wire import NodeSnapshot
from server.processes.link import Link, Message
from server.processes.messages import Begin, Tiers
from server.resilience.circuit_breakers import Breakers
from server.routing.catalog import Catalog
from server.routing.thread_pools import Workers
from server.serve import Server, http_server, take_file_descriptors
from server.services import Services
from server.tracing.traces import Traces, tracing
from server.transport.admission_gate import AdmissionGate
from server.transport.fast_path import FastPath
from server.transport.tls import Certificate, certificate_of
from server.worker.leased_tiers import LeasedTiers
from server.worker.passed_on import PassedOn
from server.worker.stand_ins import (
    LinesToNode,
    NodeAttempts,
    NodeCounts,
    NodeDecisions,
    NodeDemand,
    NodeKeys,
    NodeMetrics,
    told,
)

log = logging.getLogger("coe.processes")

ANSWERED_HERE = {path: answer for path, answer in FAST_ENDPOINTS.items() if path != "/v1/responses"}
"""Endpoints that a gateway process answers itself. Responses are kept, so the node answers them, as it does
all other paths."""
LIVE_S = 0.5
"""Seconds between what the node is told of requests under way."""


class Gateway:
    """One gateway process. Makes its services once the node has told it what to begin with."""

    def __init__(self, listener: socket.socket) -> None:
        self.link = Link(self._take, self._lost)
        self._listener = listener
        self._begun: asyncio.Future[Begin] = asyncio.get_running_loop().create_future()
        self._tiers = LeasedTiers(self.link)
        self._passed_on = PassedOn(self.link)
        self._node: asyncio.Future[NodeSnapshot] = asyncio.get_running_loop().create_future()
        self._told: NodeSnapshot | None = None
        self._peers: Peers | None = None
        self._keys: NodeKeys | None = None
        self._attempts: NodeAttempts | None = None
        self._services: asyncio.Future[Services] = asyncio.get_running_loop().create_future()
        self._server: Server | None = None
        self._certificate: Certificate | None = None
        self._observer: Observer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._finishing = False
        self._making_way = False

    def __repr__(self) -> str:
        return f"<Gateway [{self.link!r}]>"

    async def run(self) -> None:
        """Serves until the node, or SIGTERM, has it stop."""
        begin = await self._begun
        settings = begin.settings
        server.logs.configure(begin.verbose, settings.server.log_format)
        logging.getLogger().addHandler(LinesToNode(self.link))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._make_way)
        kept = settings.observation.model_copy(update={"requests": 0, "log_lines": 0})
        self._observer = Observer(kept, ended=self._ended)
        self._keys = NodeKeys(begin.keys)
        with contextlib.closing(Workers()) as workers:
            async with tracing(settings.observation) as traces:
                services = await self._made(begin, self._observer, traces, workers)
                async with self._among_nodes(settings):
                    await self._serve(services)
        await self._tiers.close()
        logging.shutdown()
        self._finishing = True
        await self.link.finish()

    async def _made(
        self, begin: Begin, observer: Observer, traces: Traces | None, workers: Workers
    ) -> Services:
        settings, metrics = begin.settings, NodeMetrics(self.link)
        config = settings.server
        assert self._keys is not None, "it has begun"
        self._attempts = NodeAttempts(
            self.link, Breakers(config.breaker_failures, config.breaker_cool_down_s)
        )
        services = Services(
            catalog=await asyncio.to_thread(Catalog.read, settings, metrics.decided, workers),
            tiers=self._tiers,
            metrics=metrics,
            workers=workers,
            breakers=self._attempts,
            feedback=None if settings.feedback is None else NodeDecisions(self.link),
            observer=observer,
            traces=traces,
            accounts=self._keys,
            admissions=Admissions(NodeCounts(self.link)),
            residency=ResidencyChanges(),
            started=begin.started,
            version=importlib.metadata.version("composition-of-experts"),
        )
        self._services.set_result(services)
        return services

    async def _serve(self, services: Services) -> None:
        config = services.settings.server
        app = Application(openapi_url=None)
        app.services = services
        gate = AdmissionGate(FastPath(app, ANSWERED_HERE, self._passed_on), config.limits)
        hosts = AllowedHosts(
            with_cors(gate, config.cors_origins), config, config.host, lambda: services.keys.needed
        )
        self._certificate = certificate_of(config)
        context = None if self._certificate is None else self._certificate.context
        self._server = http_server(hosts, gate, services, context)
        gc.collect()
        gc.freeze()
        telling = asyncio.create_task(self._tell_live(services))
        self.link.tell("ready")
        try:
            await self._server.serve(sockets=[self._listener])
        finally:
            telling.cancel()

    @contextlib.asynccontextmanager
    async def _among_nodes(self, settings: Settings) -> AsyncIterator[None]:
        """Has requests go to other nodes too, as the node does."""
        config = settings.cluster
        if config is None:
            yield
            return
        self._told = await self._node
        identity = await asyncio.to_thread(Identity.of, config.secret.get_secret_value())
        self._peers = Peers(config, identity, self._here, Seniority(self._told.run, self._told.id))
        self._peers.demand = NodeDemand(self.link)
        async with watching(self._peers):
            (await self._services).peers = self._peers
            yield

    def _here(self) -> NodeSnapshot:
        assert self._told is not None, "the node has told"
        return self._told

    async def _tell_live(self, services: Services) -> None:
        """Tells the node of requests that take long."""
        while True:
            await asyncio.sleep(LIVE_S)
            stories = [told(story) for story in services.observer.stories]
            if stories:
                self.link.tell("live", stories)

    def _ended(self, story: Story) -> None:
        self.link.tell("story", told(story))

    # What the node says

    def _take(self, message: Message) -> None:
        match message:
            case ("receive" | "send" | "cut" | "done" as what, number, *more) if what != "cancel":
                self._passed_on.take(number, what, *more)
            case ("tiers", told):
                self._follow(told)
            case ("keys", keys):
                if self._keys is not None:
                    self._keys.keys = keys
            case ("cancel", number):
                self._cancel(number)
            case ("begin", begin):
                self._begun.set_result(begin)
            case ("reload", settings):
                task = asyncio.create_task(self._reload(settings))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case ("stop",):
                self._stop()
            case ("hurry",):
                self._stop()
                if self._server is not None:
                    self._server.stop()

    def _follow(self, told: Tiers) -> None:
        self._tiers.follow(told)
        if self._attempts is not None:
            self._attempts.follow(told.open)
        if told.node is not None:
            self._told = told.node
            if not self._node.done():
                self._node.set_result(told.node)
        if self._peers is not None:
            for address in told.others:
                self._peers.met(address)

    def _cancel(self, number: int) -> None:
        """Ends a request that an operator cancels."""
        if self._observer is None:
            return
        for story in self._observer.stories:
            if story.number == number and story.cancel is not None:
                story.cancel()

    async def _reload(self, settings: Settings) -> None:
        """Takes over other settings, once it has taken over those that it began with."""
        services = await self._services
        try:
            catalog = await asyncio.to_thread(
                Catalog.read, settings, services.metrics.decided, services.workers
            )
            if self._certificate is not None:
                self._certificate.renew()
        except Exception as error:
            log.exception("the new configuration cannot be taken over")
            self.link.tell("reloaded", str(error) or type(error).__name__)
            return
        services.catalog = catalog
        self.link.tell("reloaded")

    def _make_way(self) -> None:
        """Ends where the others go on: they answer what is asked from now on."""
        if self._server is None or not self._server.started:
            os._exit(0)
        if not self._making_way:
            self._making_way = True
            task = asyncio.create_task(self._server.make_way())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _stop(self) -> None:
        """Lets what is under way end. A second signal changes nothing: the node says when time is up."""
        if self._server is None:
            os._exit(0)
        if not self._server.should_exit:
            self._server.stop()

    def _lost(self) -> None:
        """Ends at once: without the node there are no leases."""
        if not self._finishing:
            os._exit(1)


async def serve(link: socket.socket, listener: socket.socket) -> None:
    """Serves as the node says. ``link``: to the node; ``listener``: where clients are."""
    take_file_descriptors()
    for each in (link, listener):
        each.setblocking(False)
    gateway = Gateway(listener)
    await asyncio.get_running_loop().create_unix_connection(lambda: gateway.link, sock=link)
    await gateway.run()
    os._exit(0)


def main(*descriptors: Any) -> None:
    """Runs the process, whose sockets have these file descriptors."""
    import uvloop

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    link, listener = (socket.socket(fileno=int(each)) for each in descriptors)
    uvloop.run(serve(link, listener))
