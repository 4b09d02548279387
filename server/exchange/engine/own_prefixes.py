"""Keeps what an engine has cached of one API key's prompts out of the reach of every other."""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any


def own_salt(key: str, body: Mapping[str, Any]) -> str:
    """Returns a ``cache_salt`` made of the key's name and of the salt that its client sent in ``body``, if
    any. An answer's ``cached_tokens`` and its time to the first token would tell what others have asked."""
    return _salt(key, body.get("cache_salt") or "")


@lru_cache(maxsize=1024)
def _salt(key: str, own: str) -> str:
    """Another for each pair, and none that a client could send to meet another's."""
    return hashlib.blake2b(f"{key}\0{own}".encode(), digest_size=16).hexdigest()
