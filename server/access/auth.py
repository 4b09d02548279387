"""Checks who may call, give orders and see metrics: ``Authorization: Bearer KEY`` against keys or their
hashes."""

import hmac
import ipaddress
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from pydantic import SecretStr
from starlette.requests import Request

from server.access.allowed_hosts import is_allowed
from server.config.api_keys import ANONYMOUS, Key, KeyRing, digest_of
from server.config.settings import ServerConfig
from server.errors import Forbidden, Unauthorized

_ANYBODY = Key(ANONYMOUS)


class MadeKeys(Protocol):
    """The keys that operators made, as they are now."""

    @property
    def keys(self) -> KeyRing: ...


class Keys(NamedTuple):
    """The keys of the configuration and those that operators made. While there never was one, and none is
    required, every client may call."""

    configured: KeyRing
    made: KeyRing
    required: bool

    @property
    def needed(self) -> bool:
        """Whether clients need a key. It stays so when the last key is revoked."""
        return self.required or self.configured.ever or self.made.ever

    def check(self, authorization: str | None) -> Key:
        """Returns the key whose request it is. Raises Unauthorized."""
        if not self.needed:
            return _ANYBODY
        raw = sent_key(authorization)
        if not raw:
            raise Unauthorized("No API key. Send 'Authorization: Bearer KEY'.")
        digest = digest_of(raw)
        key = self.configured.find(digest) or self.made.find(digest)
        if key is None:
            raise Unauthorized("This API key is not known.")
        return key

    def named(self, name: str) -> Key | None:
        """Returns the key of work that goes on when its client has left. None: it was revoked, or clients
        need a key by now."""
        if name == ANONYMOUS:
            return None if self.needed else _ANYBODY
        return self.configured.named(name) or self.made.named(name)


def authorization_of(headers: Mapping[str, str]) -> str | None:
    """Returns the Authorization header, or the one that says what Anthropic's clients say in x-api-key."""
    given = headers.get("authorization")
    if given:
        return given
    key = headers.get("x-api-key")
    return f"Bearer {key}" if key else None


def sent_key(authorization: str | None) -> bytes:
    """Returns the key in the header as the bytes that were sent, which need not be ASCII; empty if there is
    none."""
    scheme, _, given = (authorization or "").partition(" ")
    return given.strip().encode("latin-1") if scheme.lower() == "bearer" else b""


def is_operator(request: Request, config: ServerConfig) -> bool:
    """Whether the client sent the admin key."""
    return config.admin_key is not None and _sent(request, config.admin_key)


def check_operator(request: Request, config: ServerConfig, keys: Keys) -> None:
    """Checks that the client may give orders. Raises Unauthorized, Forbidden.

    Without an admin key only this machine may, and not through a page of others in its browser, which sends
    its own origin.
    """
    if config.admin_key is not None:
        if not sent_key(request.headers.get("authorization")):
            raise Unauthorized("No admin key. Send 'Authorization: Bearer KEY'.")
        if not is_operator(request, config):
            raise Unauthorized("This admin key is not known.")
    elif keys.needed or _is_of_others(request) or not _on_this_machine(request, config):
        raise Forbidden(
            "Without server.admin_key the tiers are shown to, and take orders from, this machine alone, and "
            "nobody where API keys are needed: set server.admin_key and send it as 'Authorization: Bearer "
            "KEY'."
        )


def check_metrics(request: Request, config: ServerConfig) -> None:
    """Checks that the client may see the metrics. Raises Unauthorized."""
    if config.metrics_key is None or _sent(request, config.metrics_key) or is_operator(request, config):
        return
    raise Unauthorized("The metrics need server.metrics_key: send it as 'Authorization: Bearer KEY'.")


def _sent(request: Request, expected: SecretStr) -> bool:
    """Compares the key that was sent in constant time."""
    raw = sent_key(request.headers.get("authorization"))
    return hmac.compare_digest(raw, expected.get_secret_value().encode())


def _is_of_others(request: Request) -> bool:
    """Whether a page asks that is not the gateway's own."""
    origin = request.headers.get("origin")
    return origin is not None and origin != f"{request.url.scheme}://{request.headers.get('host', '')}"


def _on_this_machine(request: Request, config: ServerConfig) -> bool:
    """Whether the client is on this machine, by its address and by the name that it asks by."""
    host = request.headers.get("host", "").encode("latin-1")
    if request.client is None or not is_allowed(host, config.allowed_hosts or ()):
        return False
    try:
        address = ipaddress.ip_address(request.client.host)
    except ValueError:  # a proxy said it, and it is no address
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
