"""Listening sockets, taken before anything slow starts."""

import contextlib
import socket
from collections.abc import Iterator

from server.config.cluster import ClusterConfig
from server.config.settings import ServerConfig, SettingsError


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """A listening socket, taken before anything slow starts. ``option``: what chooses another port. Raises
    SettingsError when it cannot be had."""
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
            f"cannot listen on {host}:{port}: {reason}; choose another with {option}"
        ) from error
    listener.setblocking(False)
    return listener


@contextlib.contextmanager
def operators_listener(config: ServerConfig) -> Iterator[socket.socket | None]:
    """Opens the operators' own listener; None: it is not configured. Raises SettingsError."""
    if config.admin_port is None:
        yield None
        return
    with contextlib.closing(listen(config.admin_host, config.admin_port)) as listener:
        yield listener


@contextlib.contextmanager
def nodes_listener(config: ClusterConfig | None) -> Iterator[socket.socket | None]:
    """Opens the listener for other nodes; None: there are none. A node that vanished is noticed in seconds.
    Raises SettingsError."""
    if config is None:
        yield None
        return
    with contextlib.closing(listen(config.host, config.port, "--node")) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5_000)
        yield listener


def _watch_peers(listener: socket.socket) -> None:
    """Connections have these from their listener: a machine that vanished is noticed while nothing is sent,
    and so is a client that does not take the last bytes of an answer."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 120_000)
