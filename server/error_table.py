"""The table of errors: what a client is told when something goes wrong, in OpenAI's error body."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import orjson
from starlette.responses import Response

from experts.errors import (
    EngineError,
    EngineLost,
    EngineStalled,
    EngineUnavailable,
    ExpertNotResident,
    ExpertsError,
)
from memory_tiers.errors import BudgetTooSmall, LeaseRejected, OrderRefused, TiersError
from router.errors import EmbedderError, NoEligibleError, RouterError
from server.errors import (
    BackgroundFull,
    BadRequest,
    BatchesOff,
    BatchesUnavailable,
    BreakerOpen,
    ClusterOff,
    Conflict,
    ContextTooLong,
    EventsGone,
    FeedbackOff,
    FeedbackUnavailable,
    Forbidden,
    GatewayError,
    HeadersTooLarge,
    NotCapable,
    NotJson,
    NotSpoken,
    OverBudget,
    OverLimit,
    Overloaded,
    PreviousResponseNotFound,
    ReloadRefused,
    RequestCancelled,
    RequestTimeout,
    ResponsesUnavailable,
    ShuttingDown,
    SpoolFull,
    TooLarge,
    TooManyBatches,
    TooManyTokens,
    TooSlow,
    Unauthorized,
    UnknownBatch,
    UnknownFile,
    UnknownModel,
    UnknownRequest,
    UnknownResponse,
    UrlTooLong,
    UsageUnavailable,
    WrongHost,
)


@dataclass(frozen=True, slots=True)
class Rendering:
    """The row of an error class."""

    status: int
    type: str
    code: str | None = None
    message: str | None = None
    """Text for clients where the error's own text is for the operator: it may name files, processes or
    what was sent. It goes to the log."""


BY_ITSELF = "Send the request again; if it goes on, the gateway's log says why."

TABLE: dict[type[Exception], Rendering] = {
    BadRequest: Rendering(400, "invalid_request_error"),
    NotCapable: Rendering(400, "invalid_request_error", "unsupported_capability"),
    ContextTooLong: Rendering(400, "invalid_request_error", "context_length_exceeded"),
    Unauthorized: Rendering(401, "invalid_request_error", "invalid_api_key"),
    Forbidden: Rendering(403, "invalid_request_error", "admin_key_needed"),
    UnknownModel: Rendering(404, "invalid_request_error", "model_not_found"),
    ClusterOff: Rendering(404, "invalid_request_error", "cluster_off"),
    FeedbackOff: Rendering(404, "invalid_request_error", "feedback_off"),
    UnknownRequest: Rendering(404, "invalid_request_error", "request_not_found"),
    FeedbackUnavailable: Rendering(503, "server_error", "feedback_unavailable"),
    TooSlow: Rendering(408, "invalid_request_error", "request_timeout"),
    BatchesOff: Rendering(404, "invalid_request_error", "batches_off"),
    BatchesUnavailable: Rendering(503, "server_error", "batches_unavailable"),
    UnknownFile: Rendering(404, "invalid_request_error", "file_not_found"),
    UnknownBatch: Rendering(404, "invalid_request_error", "batch_not_found"),
    Conflict: Rendering(409, "invalid_request_error", "conflict"),
    SpoolFull: Rendering(413, "invalid_request_error", "storage_full"),
    TooManyBatches: Rendering(429, "rate_limit_exceeded", "too_many_batches"),
    UnknownResponse: Rendering(404, "invalid_request_error"),
    PreviousResponseNotFound: Rendering(400, "invalid_request_error", "previous_response_not_found"),
    EventsGone: Rendering(400, "invalid_request_error", "events_gone"),
    BackgroundFull: Rendering(429, "rate_limit_exceeded", "too_many_in_background"),
    ResponsesUnavailable: Rendering(503, "server_error", "responses_unavailable"),
    TooLarge: Rendering(413, "invalid_request_error", "request_too_large"),
    UrlTooLong: Rendering(414, "invalid_request_error", "url_too_long"),
    NotJson: Rendering(415, "invalid_request_error", "unsupported_media_type"),
    WrongHost: Rendering(421, "invalid_request_error", "host_not_allowed"),
    HeadersTooLarge: Rendering(431, "invalid_request_error", "headers_too_large"),
    NotSpoken: Rendering(501, "invalid_request_error", "not_implemented"),
    Overloaded: Rendering(503, "server_error", "overloaded"),
    ShuttingDown: Rendering(503, "server_error", "shutting_down"),
    ReloadRefused: Rendering(409, "invalid_request_error", "reload_refused"),
    RequestTimeout: Rendering(504, "timeout", "request_timeout"),
    # nginx's status of a request that was closed; clients do not try it again by themselves
    RequestCancelled: Rendering(499, "invalid_request_error", "request_cancelled"),
    BreakerOpen: Rendering(503, "server_error", "breaker_open"),
    OverLimit: Rendering(429, "requests", "rate_limit_exceeded"),
    TooManyTokens: Rendering(429, "tokens", "rate_limit_exceeded"),
    OverBudget: Rendering(429, "insufficient_quota", "insufficient_quota"),
    UsageUnavailable: Rendering(503, "server_error", "usage_unavailable"),
    EngineUnavailable: Rendering(
        502, "server_error", "engine_unavailable", f"The expert's engine does not answer. {BY_ITSELF}"
    ),
    EngineLost: Rendering(
        502, "server_error", "engine_lost", f"The engine went away in the middle of the answer. {BY_ITSELF}"
    ),
    EngineStalled: Rendering(
        502, "server_error", "engine_stalled", f"The engine stopped in the middle of the answer. {BY_ITSELF}"
    ),
    ExpertNotResident: Rendering(
        503, "server_error", "expert_not_resident", f"The expert is not on the device. {BY_ITSELF}"
    ),
    EngineError: Rendering(502, "server_error", "engine_error", f"The expert's engine failed. {BY_ITSELF}"),
    ExpertsError: Rendering(500, "server_error", "expert_error", f"The expert cannot be used. {BY_ITSELF}"),
    NoEligibleError: Rendering(400, "invalid_request_error", "unsupported_capability"),
    EmbedderError: Rendering(
        503, "server_error", "embedder_error", f"The router's embedder failed. {BY_ITSELF}"
    ),
    RouterError: Rendering(500, "server_error", "router_error", f"The router failed. {BY_ITSELF}"),
    OrderRefused: Rendering(409, "invalid_request_error", "order_refused"),
    BudgetTooSmall: Rendering(409, "invalid_request_error", "budget_too_small"),
    TiersError: Rendering(503, "server_error", "tiers_error", f"The memory tiers failed. {BY_ITSELF}"),
}
"""Rendering of each error class. It is looked up along the class's ancestors, so the root of each tree
catches what has no row of its own."""

REJECTIONS: dict[str, Rendering] = {
    "queue_full": Rendering(429, "rate_limit_exceeded", "queue_full"),
    "load_failed": Rendering(
        503, "server_error", "load_failed", f"The expert could not be loaded. {BY_ITSELF}"
    ),
    "load_cancelled": Rendering(503, "server_error", "load_cancelled"),
    "engine_failed": Rendering(
        503, "server_error", "engine_failed", f"The expert's engine could not be started. {BY_ITSELF}"
    ),
    "shutting_down": Rendering(503, "server_error", "shutting_down"),
    "not_resident": Rendering(503, "server_error", "not_resident"),
    "unknown_expert": Rendering(404, "invalid_request_error", "model_not_found"),
}

INTERNAL = Rendering(500, "server_error", "internal_error", "The gateway failed; its log has the details.")


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure as a client is told, before an endpoint words it. ``type`` and ``code`` are OpenAI's."""

    status: int
    message: str
    type: str
    param: str | None = None
    code: str | None = None


def rendering_of(error: Exception) -> Rendering:
    """Returns the row for ``error``; an unmapped class is an internal error."""
    if isinstance(error, LeaseRejected):
        return REJECTIONS[error.reason]
    for ancestor in type(error).__mro__:
        if ancestor in TABLE:
            return TABLE[ancestor]
    return INTERNAL


def failure_of(error: Exception) -> Failure:
    """Returns the failure that a client is told. Details for the operator alone stay in the log."""
    row = rendering_of(error)
    param = error.param if isinstance(error, GatewayError) else None
    return Failure(row.status, row.message or str(error), row.type, param, row.code)


def error_body(failure: Failure) -> bytes:
    """Returns OpenAI's error body."""
    error = {
        "message": failure.message,
        "type": failure.type,
        "param": failure.param,
        "code": failure.code,
    }
    return orjson.dumps({"error": error})


OLLAMA = "/api/"
"""Beginning of the paths of Ollama's API."""


def ollama_error_body(failure: Failure) -> bytes:
    """Returns Ollama's error body."""
    return orjson.dumps({"error": failure.message})


def error_response(error: Exception, path: str, headers: Mapping[str, str] | None = None) -> Response:
    """Returns the HTTP answer for an error raised before the first token, in the words of the API of
    ``path``."""
    failure = failure_of(error)
    extra = {**(headers or {}), **retry_after(error)}
    body = ollama_error_body(failure) if path.startswith(OLLAMA) else error_body(failure)
    return Response(body, failure.status, extra, "application/json")


def retry_after(error: Exception) -> Mapping[str, str]:
    """Returns the header that says when to try again, where that is known: never too early."""
    seconds = error.retry_after_s if isinstance(error, LeaseRejected | GatewayError) else None
    return {} if seconds is None else {"retry-after": str(max(1, math.ceil(seconds)))}
