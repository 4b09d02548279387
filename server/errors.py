"""Errors of the gateway itself. ``server.error_table`` says what clients are told.

GatewayError                raised by the gateway itself
├── BadRequest              the body is not what the endpoint takes
├── NotCapable              no expert that may answer takes what the request needs
├── ContextTooLong          the request fits the context window of no expert that may answer
├── UnknownModel            neither a composition nor an expert has this name
├── Unauthorized            the key is missing or wrong
├── Forbidden               the gateway takes no orders from this client
├── TooLarge                the body is over the limit
├── UrlTooLong              the path with its query is over the limit
├── HeadersTooLarge         the headers are over the limit, or too many
├── NotJson                 the header content-type is missing, or is not the one that the endpoint takes
├── WrongHost               the request is addressed to a name that this gateway does not answer as
├── TooSlow                 the request did not arrive in time
├── NotSpoken               this part or version of HTTP is not served
├── Overloaded              the gateway is at its limit of requests or bytes
├── ShuttingDown            the gateway shuts down and begins nothing new
├── ClusterOff              the gateway serves alone, without other nodes
├── FeedbackOff             no feedback is kept here
├── UnknownRequest          nothing is kept of the named request, or it is another client's
├── FeedbackUnavailable     feedback cannot be kept now
├── RequestTimeout          the answer was not complete within its deadline
├── RequestCancelled        an operator ended the request
├── BreakerOpen             the expert, or its engine, failed several times in a row and is not asked now
├── BatchesOff              no files and batches are kept here
├── BatchesUnavailable      files and batches cannot be read or kept now
├── UnknownFile             there is no such file, or it is another client's
├── UnknownBatch            there is no such batch, or it is another client's
├── Conflict                the state of a file, batch or request does not allow this
├── SpoolFull               the folder of files has no room left
├── TooManyBatches          50 batches are unfinished
├── ReloadRefused           the new configuration cannot be served, or needs a restart
├── UsageUnavailable        usage cannot be read now
├── UnknownResponse         no response of this client with this id is kept
├── PreviousResponseNotFound  the conversation to go on from is not kept
├── EventsGone              the events of the response were not kept, or are gone
├── BackgroundFull          too many responses are being made in the background
├── ResponsesUnavailable    responses cannot be kept or found now
└── OverLimit               the key's limits do not let the request in now
    ├── TooManyRequests     in a minute, or at once
    ├── TooManyTokens       the tokens of a minute are used up
    └── OverBudget          the day's tokens are used up
"""

from typing import Literal


class GatewayError(Exception):
    """Root of the gateway's own errors. ``param`` names the field of the request at fault, if one is."""

    retry_after_s: float | None = None

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class BadRequest(GatewayError):
    pass


class NotCapable(GatewayError):
    pass


class ContextTooLong(GatewayError):
    pass


class UnknownModel(GatewayError):
    pass


class Unauthorized(GatewayError):
    pass


class Forbidden(GatewayError):
    pass


class TooLarge(GatewayError):
    pass


class UrlTooLong(GatewayError):
    pass


class HeadersTooLarge(GatewayError):
    pass


class NotJson(GatewayError):
    pass


class WrongHost(GatewayError):
    pass


class TooSlow(GatewayError):
    pass


class NotSpoken(GatewayError):
    pass


class Overloaded(GatewayError):
    retry_after_s = 1.0


class ShuttingDown(GatewayError):
    retry_after_s = 5.0


class ClusterOff(GatewayError):
    """This gateway serves alone."""


class FeedbackOff(GatewayError):
    pass


class UnknownRequest(GatewayError):
    pass


class FeedbackUnavailable(GatewayError):
    pass


class BatchesOff(GatewayError):
    pass


class BatchesUnavailable(GatewayError):
    pass


class UnknownFile(GatewayError):
    pass


class UnknownBatch(GatewayError):
    pass


class Conflict(GatewayError):
    pass


class SpoolFull(GatewayError):
    pass


class TooManyBatches(GatewayError):
    pass


class UnknownResponse(GatewayError):
    pass


class PreviousResponseNotFound(GatewayError):
    pass


class EventsGone(GatewayError):
    pass


class BackgroundFull(GatewayError):
    pass


class ResponsesUnavailable(GatewayError):
    pass


class ReloadRefused(GatewayError):
    pass


class RequestTimeout(GatewayError):
    pass


class RequestCancelled(GatewayError):
    pass


class BreakerOpen(GatewayError):
    """Request refused by an open breaker. ``part``: the expert's or the engine's."""

    def __init__(self, message: str, part: Literal["expert", "engine"], retry_after_s: float) -> None:
        super().__init__(message)
        self.part: Literal["expert", "engine"] = part
        self.retry_after_s = retry_after_s


class UsageUnavailable(GatewayError):
    pass


class OverLimit(GatewayError):
    """Request refused by its key's limits. ``retry_after_s``: when it may be admitted; None: never as it
    is."""

    def __init__(self, message: str, *, retry_after_s: float | None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooManyRequests(OverLimit):
    pass


class TooManyTokens(OverLimit):
    pass


class OverBudget(OverLimit):
    pass
