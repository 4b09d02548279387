"""The gateway as a process: it listens at once, says when it is ready, and drains on a signal."""

import asyncio
import contextlib
import functools
import logging
import resource
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping

import uvicorn

from experts.errors import EngineError
from server.app import create_app, with_cors
from server.connection import Connection
from server.errors import ReloadRefused
from server.gate import Gate
from server.reload import Reload
from server.services import Services, running
from server.settings import Settings, SettingsError
from server.tls import Certificate, certificate_of

log = logging.getLogger("coe.serve")


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: ours drain the engines too. It goes on listening while it drains,
    and says 503 to whoever comes."""

    def __init__(self, config: uvicorn.Config, gate: Gate, drain_s: float) -> None:
        super().__init__(config)
        self._gate = gate
        self._drain_s = drain_s

    def stop(self) -> None:
        """The second time it does not wait for answers under way."""
        if self.should_exit:
            self.force_exit = True
            self._gate.hurried()
        self.should_exit = self._gate.draining = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._gate.drain(self._drain_s)
        await super().shutdown(sockets)
        for task in self.server_state.tasks:  # left only by who was hurried
            task.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, taken before anything slow starts. Raises SettingsError when it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
        _watch_peers(listener)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(
            f"cannot listen on {host}:{port}: {reason}; choose another with --port"
        ) from error
    listener.setblocking(False)
    return listener


def _take_file_descriptors() -> None:
    """As many as may be had, up to what is of use: each request has a connection here and one to its engine,
    and a shell's limit of 1024 is soon reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(65536, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def _watch_peers(listener: socket.socket) -> None:
    """Connections have these from their listener: a machine that vanished is noticed while nothing is sent,
    and so is a client that does not take the last bytes of an answer."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 120_000)


def server_over(services: Services, reload: Reload, certificate: Certificate | None = None) -> Server:
    """The HTTP server; it ends once ``should_exit`` is set and answers under way have had their time."""
    server = services.settings.server
    gate = Gate(create_app(services, reload), server.limits)
    config = uvicorn.Config(
        with_cors(gate, server.cors_origins),
        http=functools.partial(Connection, server.limits),  # type: ignore[arg-type]  # is called, no more
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,  # for what is cancelled: the gate has waited
    )
    config.load()
    config.ssl = certificate.context if certificate else None
    return Server(config, gate, server.drain_s)


async def serve(read: Callable[[], Settings]) -> None:
    """Serves until SIGINT or SIGTERM; a second signal ends without draining. SIGHUP makes it ``read`` its
    settings again; one that comes before it serves is answered then.

    Raises SettingsError when the port is taken, EngineError when an engine cannot start the first time,
    and what ``running`` and ``read`` raise.
    """
    _take_file_descriptors()
    hangup = asyncio.Event()
    with _on({signal.SIGHUP: hangup.set}):
        settings = read()
        certificate = certificate_of(settings.server)
        listener = listen(settings.server.host, settings.server.port)
        with contextlib.closing(listener):
            async with running(settings) as services:
                reload = Reload(services, read, certificate)
                server = server_over(services, reload, certificate)
                with _signals(server):
                    await _serve(server, listener, services, _reload_at(hangup, reload))


async def _serve(
    server: Server,
    listener: socket.socket,
    services: Services,
    reloading: Coroutine[None, None, None],
) -> None:
    opening = asyncio.create_task(_open(server, listener, services))
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
    """At each; those that come during a reload are answered by one more."""
    while True:
        await hangup.wait()
        hangup.clear()
        try:
            log.info("reloaded: %s", await reload.now())
        except ReloadRefused as error:
            log.error("%s", error)
        except Exception:
            log.exception("the reload failed")


async def _open(server: Server, listener: socket.socket, services: Services) -> None:
    host, port = listener.getsockname()[:2]
    scheme = "http" if services.settings.server.tls_cert is None else "https"
    address = f"{scheme}://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
    print(f"Listening on {address}; starting {', '.join(services.engines)} ...", flush=True)
    try:
        await services.tiers.ready()
    except EngineError:
        server.should_exit = True
        raise
    print(_banner(address, services), flush=True)


def _banner(address: str, services: Services) -> str:
    width = max(len(name) for name in services.experts)
    experts = [f"  {name:<{width}}  {expert.description}" for name, expert in services.experts.items()]
    model = next(iter([*services.settings.compositions, *services.experts]))
    body = (
        f'{{"model": "{model}", "messages": [{{"role": "user", "content": "What is the integral of x^2?"}}]}}'
    )
    return "\n".join(
        [
            f"Ready on {address}/v1",
            f"Composition: {', '.join(services.settings.compositions) or 'none'}. Experts:",
            *experts,
            "Try:",
            f"  curl -i {address}/v1/chat/completions -H 'content-type: application/json' -d '{body}'",
        ]
    )


def _signals(server: Server) -> contextlib.AbstractContextManager[None]:
    return _on({signal.SIGINT: server.stop, signal.SIGTERM: server.stop})


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
