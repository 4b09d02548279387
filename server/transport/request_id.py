"""The id of a request, which every answer to it has as ``x-request-id``: its client's, or one of ours."""

import os
import re
from collections.abc import Iterable, Iterator

HEADER = b"x-request-id"
REQUEST_ID = "coe.request_id"
"""Scope key of a request's id."""
_FIT = re.compile(rb"[!-~]{1,128}")


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client's, if it can stand in a log and in a header; else a new one."""
    for name, value in headers:
        if name == HEADER and _FIT.fullmatch(value):
            return value.decode("ascii")
    return next(_FRESH)


def _fresh() -> Iterator[str]:
    """Random bytes for many at a time: asking the system for some lets go of the interpreter, for which the
    threads that decide wait as well."""
    while True:
        many = os.urandom(16 * 256)
        for start in range(0, len(many), 16):
            yield many[start : start + 16].hex()


_FRESH = _fresh()
