"""The id of a request, which every answer to it has as ``x-request-id``: its client's, or one of ours."""

import re
import uuid
from collections.abc import Iterable

HEADER = b"x-request-id"
REQUEST_ID = "coe.request_id"
"""Where a request's scope has it."""
_FIT = re.compile(rb"[!-~]{1,128}")


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client's, if it can stand in a log and in a header; else a new one."""
    for name, value in headers:
        if name == HEADER and _FIT.fullmatch(value):
            return value.decode("ascii")
    return uuid.uuid4().hex
