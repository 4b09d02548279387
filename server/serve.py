"""The gateway as a process: it listens at once, says when it is ready, and drains on a signal."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping

import uvicorn
from fastapi import FastAPI

from experts.errors import EngineError
from server.app import create_admin_app, create_app
from server.batches import batching
from server.errors import ReloadRefused
from server.reload import Reload
from server.services import Services, running
from server.settings import ServerConfig, Settings, SettingsError

log = logging.getLogger("coe.serve")


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: ours drain the engines too."""

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
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(
            f"cannot listen on {host}:{port}: {reason}; choose another with --port"
        ) from error
    listener.setblocking(False)
    return listener


@contextlib.contextmanager
def operators_listener(config: ServerConfig) -> Iterator[socket.socket | None]:
    """None: they have none of their own. Raises SettingsError."""
    if config.admin_port is None:
        yield None
        return
    with contextlib.closing(listen(config.admin_host, config.admin_port)) as listener:
        yield listener


def server_over(services: Services, reload: Reload) -> uvicorn.Server:
    """The HTTP server; it ends once ``should_exit`` is set and answers under way have had their time."""
    return _server(create_app(services, reload), services)


@contextlib.asynccontextmanager
async def operators_served(
    services: Services, reload: Reload, listener: socket.socket | None
) -> AsyncIterator[None]:
    """The server of ``server.admin_port``, if there is one; it ends last, so that a drain can be seen."""
    if listener is None:
        yield
        return
    server = _server(create_admin_app(services, reload), services)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    host, port = listener.getsockname()[:2]
    print(f"Operators' listener on http://{host}:{port}", flush=True)
    try:
        yield
    finally:
        server.should_exit = True
        await serving


def _server(app: FastAPI, services: Services) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(services.settings.server.drain_s)),
    )
    return _Server(config)


async def serve(read: Callable[[], Settings]) -> None:
    """Serves until SIGINT or SIGTERM; a second signal ends without draining. SIGHUP makes it ``read`` its
    settings again; one that comes before it serves is answered then.

    Raises SettingsError when the port is taken, EngineError when an engine cannot start the first time,
    and what ``running`` and ``read`` raise.
    """
    hangup = asyncio.Event()
    with _on({signal.SIGHUP: hangup.set}):
        settings = read()
        listener = listen(settings.server.host, settings.server.port)
        with contextlib.closing(listener), operators_listener(settings.server) as operators:
            async with running(settings) as services, batching(services):
                reload = Reload(services, read)
                server = server_over(services, reload)
                async with operators_served(services, reload, operators):
                    with _signals(server):
                        await _serve(server, listener, services, _reload_at(hangup, reload))


async def _serve(
    server: uvicorn.Server,
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


async def _open(server: uvicorn.Server, listener: socket.socket, services: Services) -> None:
    host, port = listener.getsockname()[:2]
    address = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
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


def _signals(server: uvicorn.Server) -> contextlib.AbstractContextManager[None]:
    def stop() -> None:
        server.force_exit = server.should_exit  # the second signal does not wait for answers under way
        server.should_exit = True

    return _on({signal.SIGINT: stop, signal.SIGTERM: stop})


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
