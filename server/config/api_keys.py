"""An API key as a request meets it: its name, what it may use, its limits. And its secret, as a hash."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

from memory_tiers.events import Priority

ANONYMOUS = "anonymous"
"""The name under which those are counted who need no key."""
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
"""From the first served to the last."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may use at most; None: as much as there is. ``tokens_per_day``: of a day of UTC."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None
    tokens_per_day: int | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """``models``: the names of compositions and experts it may ask for; None: any. ``priority``: its
    requests', and the highest they may ask for; None: as they ask."""

    name: str
    limits: Limits = Limits()
    models: frozenset[str] | None = None
    priority: Priority | None = None

    def may_use(self, model: str) -> bool:
        return self.models is None or model in self.models

    def priority_of(self, asked: Priority | None) -> Priority:
        """None: the request does not ask for any."""
        if self.priority is None:
            return asked or "normal"
        return max(asked or self.priority, self.priority, key=PRIORITIES.index)


@dataclass(frozen=True, slots=True)
class Hashed:
    """A secret of ``key``: its SHA-256."""

    digest: bytes
    key: Key


class KeyRing:
    """Keys by their secrets. ``ever``: whether there are any, or were."""

    def __init__(self, keys: Iterable[Hashed] = (), *, ever: bool = False) -> None:
        self._by_digest: Mapping[bytes, Hashed] = {hashed.digest: hashed for hashed in keys}
        self._by_name = {hashed.key.name: hashed.key for hashed in self._by_digest.values()}
        self.ever = ever or bool(self._by_digest)

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self._by_digest)}>"

    def named(self, name: str) -> Key | None:
        return self._by_name.get(name)

    def find(self, digest: bytes) -> Key | None:
        """How long the look-up takes may tell something of the hashes, of which no secret follows; it never
        depends on a secret."""
        hashed = self._by_digest.get(digest)
        return hashed.key if hashed is not None and hmac.compare_digest(hashed.digest, digest) else None


def digest_of(secret: bytes) -> bytes:
    """A plain SHA-256: a secret of 256 random bits cannot be guessed however fast its guesses are hashed, so
    a slow or salted hash would cost each request its time for nothing."""
    return hashlib.sha256(secret).digest()


def new_secret() -> str:
    """``sk-coe-``, a part that may be shown, and 256 random bits."""
    return f"sk-coe-{secrets.token_hex(4)}-{secrets.token_urlsafe(32)}"


def shown(secret: str) -> str:
    """The part of a new secret by which people tell it from others."""
    return secret[: len("sk-coe-") + 8]
