"""Names that a gateway is asked by: what keeps a page whose name leads here (DNS rebinding) from its answers.

A browser lets a page read the answers of its own host. Its owner may let that name lead to an address in the
reader's network, or to the reader's own machine, and the page is then a client there. It still says its own
name in ``Host``, and that is none that cannot be had in public: no address, no name without a dot.
"""

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from server.config.settings import ServerConfig
from server.error_table import error_response
from server.errors import WrongHost

_NOT_PUBLIC = (".localhost", ".local", ".internal", ".test", ".home.arpa")
"""Ends of names that cannot be registered in public (RFC 6761, 6762, 8375; ICANN's .internal)."""


class AllowedHosts:
    """An ASGI application around another, which is asked by names that are allowed and by no others."""

    def __init__(self, app: ASGIApp, config: ServerConfig, host: str, key_needed: Callable[[], bool]) -> None:
        """``host``: what the listener listens on. ``key_needed``: whether callers need a key now."""
        self._app = app
        self._allowed = config.allowed_hosts
        self._key_needed = key_needed
        self._private = is_loopback(host)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Returns the answer of the application, or a refusal."""
        host = b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
                break
        if self._may(host):
            return self._app(scope, receive, send)
        shown = host.decode("latin-1")[:100]
        error = WrongHost(f"This gateway does not answer as {shown!r}: add the name to server.allowed_hosts.")
        return error_response(error, scope["path"], {"connection": "close"})(scope, receive, send)

    def _may(self, host: bytes) -> bool:
        if is_allowed(host, self._allowed or ()):
            return True
        return self._allowed is None and (not self._private or self._key_needed())

    def __repr__(self) -> str:
        return f"<AllowedHosts {self._allowed}>"


@lru_cache(maxsize=256)
def is_allowed(host: bytes, allowed: tuple[str, ...]) -> bool:
    """Whether a request with this ``Host`` (empty: HTTP/1.0 needs none) was meant for this machine, or for
    one of the names that are ``allowed``: whole, or as ``*.example.com``, or ``*``."""
    name = _name(host.decode("latin-1")).lower().removesuffix(".")
    if "." not in name or name.endswith(_NOT_PUBLIC) or _is_address(name) or name == _own_name():
        return True
    return any(
        name == each or each == "*" or (each.startswith("*.") and name.endswith(each[1:])) for each in allowed
    )


def is_loopback(host: str) -> bool:
    """Whether this machine alone reaches a listener on ``host``."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _name(host: str) -> str:
    """Returns the host without the port and the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _own_name() -> str:
    return socket.gethostname().lower()
