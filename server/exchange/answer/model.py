"""The model that an answer says it is of: where the client asked by an alias, that alias.

Tools that need an alias know only such names, and look prices and context windows up by the answer's
``model``. Who answered is in ``x-coe-expert``.
"""

import json
from collections.abc import AsyncIterator

import orjson

from experts.spec import Expert
from server.model_request import ModelRequest


def named_as_asked(
    events: AsyncIterator[bytes], request: ModelRequest, expert: Expert
) -> AsyncIterator[bytes]:
    """Renames in every piece of a stream, each of which is whole events. Raises what ``events`` does."""
    return _renamed(events, request, expert) if request.alias else events


def with_asked_name(body: bytes, request: ModelRequest, expert: Expert) -> bytes:
    """Puts the alias that the client asked by, if it did, in the place of the expert's name."""
    if not request.alias:
        return body
    asked = _field(orjson.dumps(request.alias))
    escaped = _field(json.dumps(expert.name).encode())  # as vLLM writes what is not ASCII
    return body.replace(_field(orjson.dumps(expert.name)), asked).replace(escaped, asked)


async def _renamed(
    events: AsyncIterator[bytes], request: ModelRequest, expert: Expert
) -> AsyncIterator[bytes]:
    async for piece in events:
        yield with_asked_name(piece, request, expert)


def _field(name: bytes) -> bytes:
    """Returns the JSON field that names a model; a text cannot have it, as its quotes are escaped."""
    return b'"model":' + name
