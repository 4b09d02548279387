"""The gateway as a process: it listens at once, says when it is ready, and drains on a signal."""

import asyncio
import contextlib
import functools
import gc
import logging
import resource
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import cast

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from experts.errors import EngineError
from server.access.allowed_hosts import AllowedHosts
from server.app import FAST_ENDPOINTS, create_admin_app, create_app, with_cors
from server.compose import Running, running
from server.config.cluster import Address
from server.config.settings import Settings, SettingsError
from server.errors import ReloadRefused
from server.logs import is_verbose
from server.node.kept_elsewhere import KeptElsewhere
from server.node.membership import joined
from server.node.prepared_experts import with_experts_of_nodes
from server.peers.identity import Identity
from server.peers.wire import HEARTBEAT
from server.processes.processes import Processes, beside
from server.reload.reload import Reload
from server.services import NodeServices, Services
from server.transport.admission_gate import AdmissionGate
from server.transport.connection import Connection
from server.transport.fast_path import FastPath
from server.transport.sockets import listen, nodes_listener, operators_listener
from server.transport.tls import Certificate, certificate_of

log = logging.getLogger("coe.serve")

LOOK_S = 1.0
"""Seconds until a gateway without engines looks again for a node."""
LAST_ANSWER_S = 5.0
"""Seconds in which a connection of a process that makes way may bring one more request."""


class Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: the gateway's drain the engines too. It goes on listening
    while it drains, and answers 503 to new requests."""

    def __init__(self, config: uvicorn.Config, gate: AdmissionGate, services: Services) -> None:
        super().__init__(config)
        self.gate = gate
        self._services = services

    def stop(self) -> None:
        """The second time it does not wait for answers under way."""
        if self.should_exit:
            self.force_exit = True
            self.gate.hurried()
        self.should_exit = self.gate.draining = self._services.draining = True
        self._services.residency.note()  # other nodes are told at once

    async def make_way(self) -> None:
        """Ends without refusing a request, where other processes listen at the same socket: takes no more
        connections, gives each one that is there the answer that it waits for or asks for within
        ``LAST_ANSWER_S``, and stops."""
        for each in self.servers:
            each.close()
        for connection in [*self.server_state.connections]:
            cast(Connection, connection).close_after_answer()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_ANSWER_S):
                while self.server_state.connections:  # noqa: ASYNC110  uvicorn tells nobody of their ends
                    await asyncio.sleep(0.05)
        for connection in [*self.server_state.connections]:
            connection.shutdown()
        self.stop()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self.gate.drain(self._services.settings.server.drain_s)
        await super().shutdown(sockets)
        for task in self.server_state.tasks:  # left only by who was hurried
            task.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server_over(app: FastAPI, services: NodeServices, certificate: Certificate | None = None) -> Server:
    """Makes the HTTP server of ``app``, which ``create_app`` made. It ends once ``should_exit`` is set and
    answers under way have had their time."""
    config = services.settings.server
    everywhere = KeptElsewhere(FastPath(app, FAST_ENDPOINTS), lambda: services.peers, config.max_body)
    gate = AdmissionGate(everywhere, config.limits)
    hosts = AllowedHosts(
        with_cors(gate, config.cors_origins), config, config.host, lambda: services.keys.needed
    )
    return http_server(hosts, gate, services, certificate.context if certificate else None)


@contextlib.asynccontextmanager
async def operators_served(
    gateway: Running,
    reload: Reload,
    listener: socket.socket | None,
    certificate: Certificate | None = None,
) -> AsyncIterator[None]:
    """The server of ``server.admin_port``, if there is one; it ends last, so that a drain can be seen."""
    if listener is None:
        yield
        return
    services = gateway.services
    gate = AdmissionGate(create_admin_app(gateway, reload), services.settings.server.limits)
    config = services.settings.server
    app = AllowedHosts(gate, config, config.admin_host, lambda: config.admin_key is not None)
    server = http_server(app, gate, services, certificate.context if certificate else None)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    host, port = listener.getsockname()[:2]
    print(f"Operators' listener on {shown_address(_scheme(services), host, port)}", flush=True)
    try:
        yield
    finally:
        server.should_exit = True
        await serving


@contextlib.asynccontextmanager
async def node_served(
    services: NodeServices, listener: socket.socket | None, url: str, app: ASGIApp
) -> AsyncIterator[None]:
    """The server of ``cluster.port``, if there is one. It ends after the clients' server, when what it
    computes for other nodes is done. ``app``: answers clients."""
    config = services.settings.cluster
    if listener is None or config is None:
        yield
        return
    identity = await asyncio.to_thread(Identity.of, config.secret.get_secret_value())
    host, port = listener.getsockname()[:2]
    address = Address(host, port)
    async with joined(services, config, identity, url, app) as own:
        gate = AdmissionGate(own, services.settings.server.limits, watched=frozenset({HEARTBEAT}))
        context = identity.context("server") if config.encrypted(address) else None
        server = http_server(gate, gate, services, context)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        print(f"Nodes' listener on {address}{' over TLS' if context else ''}", flush=True)
        try:
            yield
        finally:
            server.stop()
            await serving


def http_server(
    app: ASGIApp, gate: AdmissionGate, services: Services, tls: ssl.SSLContext | None = None
) -> Server:
    """Makes the HTTP server of ``app``, which ``gate`` is part of."""
    limits = services.settings.server.limits
    config = uvicorn.Config(
        app,
        http=functools.partial(Connection, limits),  # type: ignore[arg-type]  # is called, no more
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,  # for what is cancelled: the gate has waited
    )
    config.load()
    config.ssl = tls
    return Server(config, gate, services)


def take_file_descriptors() -> None:
    """Raises the limit of open files as far as is of use: each request has a connection here and one to its
    engine, and a shell's limit of 1024 is soon reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(65536, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


async def serve(read: Callable[[], Settings]) -> None:
    """Serves until SIGINT or SIGTERM; a second signal ends without draining. SIGHUP makes it ``read`` its
    settings again; one that comes before it serves is answered then.

    Raises SettingsError when the port is taken, EngineError when an engine cannot start the first time,
    and what ``running`` and ``read`` raise.
    """
    take_file_descriptors()
    hangup, stopping = asyncio.Event(), Stopping()
    with _on({signal.SIGHUP: hangup.set, signal.SIGINT: stopping.ask, signal.SIGTERM: stopping.ask}):
        try:
            await _started(read, hangup, stopping)
        except asyncio.CancelledError:
            if not stopping.start_given_up:
                raise


class Stopping:
    """Answers SIGINT and SIGTERM from the first moment on: what was taken until there is a server is given
    back."""

    def __init__(self) -> None:
        """In the task that starts everything."""
        self._starting = asyncio.current_task()
        self._stop: Callable[[], None] | None = None
        self.start_given_up = False

    def ask(self) -> None:
        if self._stop is not None:
            self._stop()
        elif not self.start_given_up:
            assert self._starting is not None, "in a task"
            self.start_given_up = True
            self._starting.cancel()

    def started(self, stop: Callable[[], None]) -> None:
        """Has ``stop`` called at each signal from now on."""
        self._stop = stop


async def _started(read: Callable[[], Settings], hangup: asyncio.Event, stopping: Stopping) -> None:
    """Starts everything, and serves until ``stopping`` is asked for."""
    settings = await _read_first(read)
    if not settings.computes:
        read = functools.partial(_read_as_gateway, read)
    certificate = certificate_of(settings.server)
    listener = listen(settings.server.host, settings.server.port)
    with (
        contextlib.closing(listener),
        operators_listener(settings.server) as operators,
        nodes_listener(settings.cluster) as nodes,
    ):
        async with running(settings) as gateway:
            services = gateway.services
            reload = Reload(services, read, certificate)
            app = create_app(gateway, reload)
            server = server_over(app, services, certificate)
            async with (
                operators_served(gateway, reload, operators, certificate),
                node_served(services, nodes, _address_for_nodes(listener, services), app),
                beside(services, server.gate, listener, verbose=is_verbose()) as processes,
            ):
                reload.followed_by(processes.reload)

                def stop() -> None:
                    server.stop()
                    processes.stop()

                stopping.started(stop)
                await _serve(server, listener, services, processes, _reload_at(hangup, reload))


async def _read_first(read: Callable[[], Settings]) -> Settings:
    """Reads the settings; those of a gateway without engines once a node says what the experts are."""
    settings, why = read(), ""
    while not settings.computes:
        try:
            return await asyncio.to_thread(with_experts_of_nodes, settings)
        except SettingsError as error:
            if str(error) != why:
                why = str(error)
                log.info("waiting for a node: %s", why)
            await asyncio.sleep(LOOK_S)
    return settings


def _read_as_gateway(read: Callable[[], Settings]) -> Settings:
    """Reads the settings, and asks nodes what the experts are. Raises SettingsError."""
    return with_experts_of_nodes(read())


async def _serve(
    server: Server,
    listener: socket.socket,
    services: NodeServices,
    processes: Processes,
    reloading: Coroutine[None, None, None],
) -> None:
    opening = asyncio.create_task(_open(server, listener, services, processes))
    beside = {opening, asyncio.create_task(reloading)}
    try:
        await server.serve(sockets=[listener])
    finally:
        for task in beside:
            task.cancel()
        await asyncio.wait(beside)
    if not opening.cancelled():
        opening.result()


async def _reload_at(hangup: asyncio.Event, reload: Reload) -> None:
    """Reloads at each signal; those that come during a reload are answered by one more."""
    while True:
        await hangup.wait()
        hangup.clear()
        try:
            log.info("reloaded: %s", await reload.now())
        except ReloadRefused as error:
            log.error("%s", error)
        except Exception:
            log.exception("the reload failed")


async def _open(
    server: Server, listener: socket.socket, services: NodeServices, processes: Processes
) -> None:
    address = _address(listener, services)
    begun = f"starting {', '.join(services.engines)}" if services.settings.computes else "nodes compute"
    print(f"Listening on {address}; {begun} ...", flush=True)
    try:
        starting = asyncio.create_task(processes.start(services.settings.server.process_count - 1))
        try:
            await services.tiers.ready()
            await starting
        finally:
            starting.cancel()
    except (EngineError, SettingsError):
        server.should_exit = True
        raise
    # What is there now stays. Looking through it for garbage again and again takes tens of milliseconds each
    # time, in which nobody is served. What a request makes is gone with it: looked for more seldom, most is.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    print(_banner(address, services), flush=True)


def _address(listener: socket.socket, services: NodeServices) -> str:
    host, port = listener.getsockname()[:2]
    return shown_address(_scheme(services), host, port)


def _address_for_nodes(listener: socket.socket, services: NodeServices) -> str:
    """Writes where clients ask this node as other machines reach it, as far as that is configured: where it
    listens on all addresses, by the one at which other nodes reach it."""
    host, port = listener.getsockname()[:2]
    config = services.settings.cluster
    if host in ("0.0.0.0", "::") and config is not None:  # noqa: S104  # compared, not bound
        reached = config.host if config.address is None else Address.parse(config.address).host
        host = host if reached in ("0.0.0.0", "::") else reached  # noqa: S104
    return shown_address(_scheme(services), host, port)


def shown_address(scheme: str, host: str, port: int) -> str:
    """Writes an address as clients on this machine do."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"{scheme}://{f'[{here}]' if ':' in here else here}:{port}"


def _scheme(services: NodeServices) -> str:
    return "http" if services.settings.server.tls_cert is None else "https"


def _banner(address: str, services: NodeServices) -> str:
    width = max(len(name) for name in services.experts)
    experts = [f"  {name:<{width}}  {expert.description}" for name, expert in services.experts.items()]
    generating = [name for name, expert in services.experts.items() if expert.task == "generate"]
    chats = [*services.settings.compositions, *generating]
    path, model = ("chat/completions", chats[0]) if chats else ("embeddings", next(iter(services.experts)))
    asked = "What is the integral of x^2?"
    said = f'"messages": [{{"role": "user", "content": "{asked}"}}]' if chats else f'"input": "{asked}"'
    body = f'{{"model": "{model}", {said}}}'
    key = " -H 'authorization: Bearer KEY'" if services.keys.needed else ""
    return "\n".join(
        [
            f"Ready on {address}/v1",
            f"Composition: {', '.join(services.settings.compositions) or 'none'}. Experts:",
            *experts,
            "Try:",
            f"  curl -i {address}/v1/{path} -H 'content-type: application/json'{key} -d '{body}'",
        ]
    )


@contextlib.contextmanager
def _on(signals: Mapping[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number, answer in signals.items():
        loop.add_signal_handler(number, answer)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
