"""How long a client waits, as it and the configuration say."""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import NamedTuple

from server.config.settings import ServerConfig
from server.errors import BadRequest, RequestTimeout


class Timeouts(NamedTuple):
    """In seconds. ``timeout_s``: for the end of the answer; None: as long as it takes. ``keep_alive_s``: for
    a sign of life before the answer begins; 0: it needs none."""

    timeout_s: float | None
    keep_alive_s: float

    @classmethod
    def of(cls, headers: Mapping[str, str], config: ServerConfig) -> "Timeouts":
        """Raises BadRequest."""
        given, given_keep_alive = headers.get("x-coe-timeout-s"), headers.get("x-coe-keep-alive-s")
        if given is None and given_keep_alive is None:
            return cls(config.request_timeout_s, config.keep_alive_s)
        own = _number("x-coe-timeout-s", given)
        if own is not None and own <= 0:
            raise BadRequest("x-coe-timeout-s must be more than 0.")
        keep_alive = _number("x-coe-keep-alive-s", given_keep_alive)
        if keep_alive is not None and keep_alive != 0 and keep_alive < 1:
            raise BadRequest("x-coe-keep-alive-s must be 1 or more, or 0 for no signs of life.")
        limits = [limit for limit in (own, config.request_timeout_s) if limit is not None]
        return cls(
            timeout_s=min(limits, default=None),
            keep_alive_s=config.keep_alive_s if keep_alive is None else keep_alive,
        )


def deadline(timeout_s: float | None, spent_s: float) -> AbstractAsyncContextManager[None]:
    """Cancels what is inside when ``timeout_s`` are over, of which ``spent_s`` are. Raises RequestTimeout."""
    return _NONE if timeout_s is None else _deadline(timeout_s, spent_s)


_NONE = nullcontext()


@asynccontextmanager
async def _deadline(timeout_s: float, spent_s: float) -> AsyncIterator[None]:
    limit = asyncio.timeout(max(0.0, timeout_s - spent_s))
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise RequestTimeout(
            f"The answer was not complete after {timeout_s:g} s; a load that it waited for goes on. "
            "Ask again, or allow more time."
        ) from error


def _number(name: str, given: str | None) -> float | None:
    if given is None:
        return None
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise BadRequest(f"{name} is {given[:100]!r}; it must be a number of seconds.")
    return number
