"""API keys as requests meet them: name, permitted models, limits; and their secrets, as hashes."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

from pydantic import AfterValidator, Discriminator, Field, PositiveInt, SecretStr, Tag, field_validator

from experts.spec import Strict
from memory_tiers.events import Priority

ANONYMOUS = "anonymous"
"""Name that counts the usage of clients without a key."""
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
"""Priorities from the first served to the last."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one API key; None: unlimited. ``tokens_per_day``: of a day of UTC."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None
    tokens_per_day: int | None = None


UNLIMITED = Limits()


@dataclass(frozen=True, slots=True)
class Key:
    """API key. ``models``: the compositions, experts and aliases it may ask for; None: any. ``priority``: its
    requests' priority, and the highest they may ask for; None: as they ask."""

    name: str
    limits: Limits = UNLIMITED
    models: frozenset[str] | None = None
    priority: Priority | None = None

    def may_use(self, names: Collection[str]) -> bool:
        """Says whether the key may ask for a model that is known by these names."""
        return self.models is None or not self.models.isdisjoint(names)

    def priority_of(self, asked: Priority | None) -> Priority:
        """Returns the priority of a request. ``asked`` None: the request does not ask for any."""
        if self.priority is None:
            return asked or "normal"
        return max(asked or self.priority, self.priority, key=PRIORITIES.index)


@dataclass(frozen=True, slots=True)
class Hashed:
    """Secret of ``key``, as its SHA-256."""

    digest: bytes
    key: Key


class KeyRing:
    """Keys by their secrets. ``ever``: whether there are or were any."""

    def __init__(self, keys: Iterable[Hashed] = (), *, ever: bool = False) -> None:
        self._by_digest: Mapping[bytes, Hashed] = {hashed.digest: hashed for hashed in keys}
        self._by_name = {hashed.key.name: hashed.key for hashed in self._by_digest.values()}
        self.ever = ever or bool(self._by_digest)

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self._by_digest)}>"

    def named(self, name: str) -> Key | None:
        return self._by_name.get(name)

    def find(self, digest: bytes) -> Key | None:
        """Finds the key of a secret's hash. The time that takes may reveal something of the hashes, from
        which no secret follows; it never depends on a secret."""
        hashed = self._by_digest.get(digest)
        return hashed.key if hashed is not None and hmac.compare_digest(hashed.digest, digest) else None


def digest_of(secret: bytes) -> bytes:
    """Returns a plain SHA-256: a secret of 256 random bits cannot be guessed however fast its guesses are
    hashed, so a slow or salted hash would cost each request its time for nothing."""
    return hashlib.sha256(secret).digest()


def new_secret() -> str:
    """Returns ``sk-coe-``, a part that may be shown, and 256 random bits."""
    return f"sk-coe-{secrets.token_hex(4)}-{secrets.token_urlsafe(32)}"


def shown(secret: str) -> str:
    """Returns the part of a new secret by which people tell it from others."""
    return secret[: len("sk-coe-") + 8]


HASH = "sha256:"
"""Prefix of a secret's hash, in hexadecimal, where a secret might stand."""
_SECRET, _MAPPING = "<secret>", "<mapping>"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def _sendable(secret: SecretStr) -> SecretStr:
    """Raises ValueError for an empty key, which every client sends, and for one that no client can send."""
    text = secret.get_secret_value()
    if not text or text != text.strip():
        raise ValueError(
            "a key must not be empty, nor begin or end with white space; write a secret, or leave it out"
        )
    return secret


def _no_half_hash(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if text.startswith(HASH) and not re.fullmatch(r"[0-9a-f]{64}", text.removeprefix(HASH)):
        raise ValueError(f"after {HASH} come the 64 hexadecimal digits of a hash; see docs/guides/keys.md")
    return secret


Secret = Annotated[SecretStr, AfterValidator(_sendable)]
ApiSecret = Annotated[Secret, AfterValidator(_no_half_hash)]


class KeyConfig(Strict):
    """An API key with a name of its own, or limits (docs/guides/keys.md)."""

    key: ApiSecret
    """The secret that clients send, or sha256: and its hash in hexadecimal, as coe keys create --yaml prints
    it. Hash random secrets alone: a short one is guessed from its hash."""
    name: str | None = None
    """Name under which its usage is counted. Absent means config- and the beginning of its hash."""
    models: tuple[str, ...] | None = None
    """Compositions, experts and aliases it may ask for, and sees in /v1/models; absent means all. A key that
    may use a composition gets the answers of every expert that it chooses."""
    requests_per_minute: PositiveInt | None = None
    """Most requests in any 60 seconds; absent means no limit."""
    tokens_per_minute: PositiveInt | None = None
    """Most tokens, of prompts and answers together, of the requests that came in any 60 seconds; absent means
    no limit."""
    concurrent_requests: PositiveInt | None = None
    """Most requests at once; absent means no limit."""
    tokens_per_day: PositiveInt | None = None
    """Most tokens, of prompts and answers together, from midnight to midnight UTC; absent means no limit."""
    priority: Priority | None = None
    """high, normal or low: its requests' priority, and the highest they may ask for with x-coe-priority.
    Absent means that they are normal, and may ask for any."""

    @field_validator("name")
    @classmethod
    def _name_is_one(cls, name: str | None) -> str | None:
        return name if name is None else checked_name(name)

    @property
    def hashed(self) -> Hashed:
        digest = digest_in(self.key)
        limits = Limits(
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            concurrent_requests=self.concurrent_requests,
            tokens_per_day=self.tokens_per_day,
        )
        models = None if self.models is None else frozenset(self.models)
        return Hashed(digest, Key(self.name or _name_of(digest), limits, models, self.priority))


class AccountsConfig(Strict):
    """The keys that coe keys made, and what each key used (docs/guides/keys.md)."""

    file: Path = Path("accounts.sqlite")
    """SQLite file of the keys that coe keys made and of what each key used; a relative path counts from
    ``state``."""
    keep_days: int = Field(default=400, ge=1)
    """Days after which usage is deleted. There is one row for each day, key and expert."""


def _kind(given: object) -> str:
    return _MAPPING if isinstance(given, dict | KeyConfig) else _SECRET


ApiKey = Annotated[
    Annotated[ApiSecret, Tag(_SECRET)] | Annotated[KeyConfig, Tag(_MAPPING)], Discriminator(_kind)
]
"""Key forms of a configuration. Their tags are in the paths of pydantic's errors, where
``server/config/settings.py`` leaves them out."""


TAGS = (_SECRET, _MAPPING)


def hashed_of(given: SecretStr | KeyConfig) -> Hashed:
    """Returns the hash of a key as a configuration has it."""
    if isinstance(given, KeyConfig):
        return given.hashed
    digest = digest_in(given)
    return Hashed(digest, Key(_name_of(digest)))


def _name_of(digest: bytes) -> str:
    return f"config-{digest.hex()[:8]}"


def digest_in(secret: SecretStr) -> bytes:
    """Returns the hash of a secret as it is written in a configuration."""
    text = secret.get_secret_value()
    if text.startswith(HASH):
        return bytes.fromhex(text.removeprefix(HASH))
    return digest_of(text.encode())


def checked_name(name: str) -> str:
    """Returns a key's name. Raises ValueError."""
    if not _NAME.fullmatch(name) or name == ANONYMOUS:
        raise ValueError(
            f"{name[:100]!r} cannot name a key: take up to 64 letters, digits and . _ @ -, not {ANONYMOUS!r}"
        )
    return name
