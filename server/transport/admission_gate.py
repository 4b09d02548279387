"""Admission gate in front of all paths: it counts the requests under way, and begins nothing new while
draining."""

import asyncio
import contextlib

from starlette.types import ASGIApp, Receive, Scope, Send

from server.config.limits import LimitsConfig
from server.error_table import error_response
from server.errors import GatewayError, Overloaded, ShuttingDown

WATCHED = frozenset({"/health", "/ready", "/metrics"})
"""Paths that report the gateway's health: answered however many requests are under way."""

LATER = "The gateway is shutting down; try again in a moment."
ADMISSION_GATE = "coe.admission_gate"
"""Scope key of the gate that a request came through."""
_HELD = "coe.held"


class AdmissionGate:
    """ASGI application around another. ``draining``: new requests are told 503."""

    def __init__(self, app: ASGIApp, limits: LimitsConfig, watched: frozenset[str] = WATCHED) -> None:
        """``watched``: paths that are answered always and not counted."""
        self._app = app
        self._watched = watched
        self._limits = limits
        self.under_way = 0
        """Number of requests that have come and are not answered yet."""
        self._bodies = 0  # bytes
        self._empty = asyncio.Event()  # while draining
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":  # what GET would answer: the connection leaves the body out
            scope = {**scope, "method": "GET"}
        if scope["path"] in self._watched:
            await self._app(scope, receive, send)
        elif self.draining:
            await _refusal(ShuttingDown(LATER), scope)(scope, receive, send)
        elif self.under_way >= self._limits.requests:
            many = Overloaded("Too many requests are under way; try again in a moment.")
            await _refusal(many, scope)(scope, receive, send)
        else:
            self.under_way += 1
            scope[ADMISSION_GATE], scope[_HELD] = self, 0
            try:
                await self._app(scope, receive, send)
            finally:
                self.under_way -= 1
                self._bodies -= scope[_HELD]
                if self.draining and not self.under_way:
                    self._empty.set()

    def hold(self, scope: Scope, size: int) -> None:
        """Counts ``size`` bytes more of a request's body, until the request ends. Raises Overloaded."""
        scope[_HELD] += size
        self._bodies += size
        if self._bodies > self._limits.bodies:
            raise Overloaded("The requests under way are too large together; try again in a moment.")

    async def drain(self, seconds: float) -> None:
        """Begins nothing new. Returns once nothing is under way, after ``seconds``, or when ``hurried``."""
        self.draining = True
        if self.under_way:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), seconds)

    def hurried(self) -> None:
        """Waits no more for what is under way."""
        self._empty.set()

    def __repr__(self) -> str:
        state = f"under way: {self.under_way}, bodies: {self._bodies}, draining: {self.draining}"
        return f"<AdmissionGate [{state}]>"


def _refusal(error: GatewayError, scope: Scope) -> ASGIApp:
    return error_response(error, scope["path"], {"connection": "close"})
