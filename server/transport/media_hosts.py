"""Addresses in messages that an engine would fetch content from: refused unless their host is allowed."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from server.errors import BadRequest

_NESTED = (dict, list)
_WEB = re.compile(r"https?://([A-Za-z0-9.-]+)(:\d{1,5})?([/?#][!-\[\]-~]*)?")
"""Web addresses that any two readers take for the same host: no user name, backslash, space or non-ASCII
character."""


def check_media(body: Mapping[str, Any], hosts: Collection[str]) -> None:
    """Checks that all content of ``body`` is in it, or may be fetched from ``hosts``. An address is, in any
    API's words, a key that ends with ``url`` in a part of a message. Raises BadRequest naming the part."""
    for field in ("messages", "input"):
        given = body.get(field)
        for where, address in _addresses(given, field) if isinstance(given, _NESTED) else ():
            if address[:5].lower() == "data:":
                continue
            web = _WEB.fullmatch(address)
            if web is None or web[1].lower() not in hosts:
                raise BadRequest(
                    "Content is not fetched from this address: send it along as a data: URL, or have the "
                    "operator allow its host in server.media_hosts.",
                    where,
                )


def _is_text(message: Any) -> bool:
    """Whether a message is a role and a text and nothing else, as most are."""
    if len(message) != 2 or type(message) is not dict:
        return False
    return type(message.get("role")) is str and type(message.get("content")) is str


def _addresses(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Finds the addresses in a message, a part, or a list of them. What tools are called with is not looked
    at: it is not fetched."""
    if isinstance(value, list):
        for position, each in enumerate(value):
            if isinstance(each, _NESTED) and not _is_text(each):
                yield from _addresses(each, f"{where}[{position}]")
    elif isinstance(value, dict):
        for key, child in value.items():
            if isinstance(child, dict) and (key.endswith("_url") or key in ("source", "file")):
                for inner, address in child.items():
                    if inner.endswith("url") and isinstance(address, str):
                        yield f"{where}.{key}.{inner}", address
            elif key.endswith("_url") and isinstance(child, str):
                yield f"{where}.{key}", child
            if key in ("content", "output", "source") and isinstance(child, _NESTED):
                yield from _addresses(child, f"{where}.{key}")
