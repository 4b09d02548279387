"""Whose something is that was made over HTTP: the key it was made with."""

import hashlib
from collections.abc import Mapping

from server.auth import sent_key


def owner_of(headers: Mapping[str, str]) -> str:
    """The same for every request with this key, and says nothing of it; of all who send no key, one."""
    return hashlib.sha256(sent_key(headers.get("authorization"))).hexdigest()
