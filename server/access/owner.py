"""Whose something is that was made over HTTP."""

import hashlib
from collections.abc import Mapping

from server.access.auth import authorization_of, sent_key
from server.config.api_keys import ANONYMOUS, Key

_NAMED = "key "


def owner_of(key: Key, headers: Mapping[str, str]) -> str:
    """The key's, also once its secret was rotated. Where none is needed, whoever sends the same one, which it
    does not tell; all who send none are one."""
    if key.name != ANONYMOUS:
        return owner_named(key.name)
    return f"sent {hashlib.sha256(sent_key(authorization_of(headers))).hexdigest()}"


def owner_named(key_name: str) -> str:
    """All who send the key of this name, which may be gone."""
    return f"{_NAMED}{key_name}"


def is_named(owner: str) -> bool:
    """Whether the owner is a key's, and not whoever sends the same where none is needed."""
    return owner.startswith(_NAMED)
