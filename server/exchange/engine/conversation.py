"""Tells requests that begin alike, whose common beginning an engine has cached."""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

_BEGINNING = 512
"""Characters of a prompt that tell it from others."""


def conversation_of(body: Mapping[str, Any]) -> str:
    """Returns a name that the requests of one conversation have in common, made of all that comes before its
    first answer; empty for a body that has no such beginning."""
    salt, messages, prompt = body.get("cache_salt"), body.get("messages"), body.get("prompt")
    if isinstance(messages, list) and messages:
        roles = [message.get("role") if isinstance(message, dict) else None for message in messages]
        first = roles.index("user") + 1 if "user" in roles else 1
        beginning: object = messages[:first]
    elif isinstance(prompt, str) and prompt:
        beginning = prompt[:_BEGINNING]
    else:
        return ""
    return hashlib.blake2b(orjson.dumps([salt, beginning]), digest_size=16).hexdigest()
