"""Destinations of an answer: a client over HTTP, into a batch's file, or into a response's journal."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from server.error_table import Failure


class StreamedAnswer(Protocol):
    """One answer that is told as it comes, in whole server-sent events."""

    def events(self) -> AsyncIterator[bytes]:
        """Iterates over the whole answer, once. Raises what its source does."""
        ...

    def is_last(self, chunk: bytes) -> bool:
        """Whether ``chunk``, the latest of ``events``, says that the answer is whole: nothing follows it."""
        ...

    def error_event(self, failure: Failure) -> bytes:
        """Words the last event of an answer that cannot go on."""
        ...


@dataclass(frozen=True, slots=True)
class Wording:
    """How a failure is worded: ``body`` before an answer has begun, ``event`` after that. ``streamed`` is the
    answer that was being told, if one was."""

    body: Callable[[Failure], bytes]
    event: Callable[[Failure], bytes]
    streamed: StreamedAnswer | None


class Destination(Protocol):
    """Takes one answer: ``whole``, or ``start_stream``, ``part`` as often as there are parts, and ``end``; or
    ``fail`` at any time before its end."""

    status: int
    """HTTP status of the answer; zero until it has begun."""

    async def whole(self, status: int, body: bytes, headers: Mapping[str, str]) -> None: ...

    async def start_stream(self, headers: Mapping[str, str]) -> None: ...

    def part(self, chunk: bytes) -> Awaitable[None]:
        """Takes whole events, or a comment."""
        ...

    def end(self) -> Awaitable[None]: ...

    async def fail(self, failure: Failure, wording: Wording, headers: Mapping[str, str]) -> None: ...
