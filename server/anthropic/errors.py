"""Errors in the words of Anthropic's Messages API."""

from collections.abc import Mapping
from typing import Any

import orjson

from server.anthropic.from_chat import event
from server.error_table import Failure

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Anthropic's error type by status. Other refusals are invalid requests, other failures the API's."""


def error_of(failure: Failure, request_id: str) -> Mapping[str, Any]:
    """Words a failure: the body without its own ``type``, which is error."""
    kind = _TYPES.get(failure.status, "invalid_request_error" if failure.status < 500 else "api_error")
    return {"error": {"type": kind, "message": failure.message}, "request_id": request_id}


def error_body(failure: Failure, request_id: str) -> bytes:
    return orjson.dumps({"type": "error", **error_of(failure, request_id)})


def error_event(failure: Failure, request_id: str) -> bytes:
    """Returns the event that ends a stream which cannot go on."""
    return event("error", error_of(failure, request_id))
