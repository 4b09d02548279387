"""How the events of a response are written, and the failure that ends a stream which has no response."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from server.error_table import Failure
from server.transport import sse


def events_of(events: Iterable[Mapping[str, Any]]) -> bytes:
    """Server-sent events, each named as its own type says."""
    return b"".join(sse.framed(orjson.dumps(event), event["type"]) for event in events)


def error_event(failure: Failure, number: int) -> bytes:
    """``number``: of the event."""
    said = {"code": failure.code or failure.type, "message": failure.message, "param": failure.param}
    return events_of([{"type": "error", "sequence_number": number, **said}])
