"""Who may call, and who may give orders: ``Authorization: Bearer KEY`` against the configured keys."""

import hmac
import ipaddress
from collections.abc import Mapping, Sequence

from pydantic import SecretStr
from starlette.requests import Request

from server.errors import Forbidden, Unauthorized
from server.settings import ServerConfig


class Keys:
    """The configured keys; with none, anybody may call. ``kind``: what they are, for people."""

    def __init__(self, keys: Sequence[SecretStr], kind: str = "API key") -> None:
        self._kind = kind
        self._keys = [key.get_secret_value().encode() for key in keys]

    def check(self, authorization: str | None) -> None:
        """Raises Unauthorized. Compares with every key in constant time."""
        if not self._keys:
            return
        raw = sent_key(authorization)
        if not raw:
            raise Unauthorized(f"No {self._kind}. Send 'Authorization: Bearer KEY'.")
        matches = [hmac.compare_digest(raw, key) for key in self._keys]
        if not any(matches):
            raise Unauthorized(f"This {self._kind} is not known.")


def authorization_of(headers: Mapping[str, str]) -> str | None:
    """The Authorization header, or the one that says what Anthropic's clients say in x-api-key."""
    key = headers.get("x-api-key")
    return headers.get("authorization") or (f"Bearer {key}" if key else None)


def sent_key(authorization: str | None) -> bytes:
    """The key in the header, as the bytes that were sent, which need not be ASCII; empty if there is none."""
    scheme, _, given = (authorization or "").partition(" ")
    return given.strip().encode("latin-1") if scheme.lower() == "bearer" else b""


def check_operator(request: Request, config: ServerConfig) -> None:
    """Whether its client may give orders. Raises Unauthorized, Forbidden.

    Without an admin key only this machine may: not by way of a page in its browser, which sends an origin.
    """
    if config.admin_key is not None:
        Keys((config.admin_key,), "admin key").check(request.headers.get("authorization"))
    elif config.api_keys or "origin" in request.headers or not _on_this_machine(request):
        raise Forbidden(
            "Without server.admin_key the tiers are shown to, and take orders from, this machine alone, and "
            "nobody where there are server.api_keys: set server.admin_key and send it as 'Authorization: "
            "Bearer KEY'."
        )


def _on_this_machine(request: Request) -> bool:
    if request.client is None:
        return False
    try:
        address = ipaddress.ip_address(request.client.host)
    except ValueError:  # a proxy said it, and it is no address
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
