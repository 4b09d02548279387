"""Names the owner of what was made over HTTP."""

import hashlib
from collections.abc import Mapping

from server.access.auth import authorization_of, sent_key
from server.config.api_keys import ANONYMOUS, Key

_NAMED = "key "


def owner_of(key: Key, headers: Mapping[str, str]) -> str:
    """Returns the key's owner, which stays the same when its secret is rotated. Where no key is needed, it
    stands for all clients that send the same key, hashed; all that send none are one owner."""
    if key.name != ANONYMOUS:
        return owner_named(key.name)
    return f"sent {hashlib.sha256(sent_key(authorization_of(headers))).hexdigest()}"


def owner_named(key_name: str) -> str:
    """Returns the owner of the key of this name, which may be gone."""
    return f"{_NAMED}{key_name}"


def is_named(owner: str) -> bool:
    """Says whether the owner is a key's. Others stand for all clients that send the same key where none is
    needed."""
    return owner.startswith(_NAMED)
