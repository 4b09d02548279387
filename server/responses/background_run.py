"""Destination of a response made in the background: its answer is kept, and its events written."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace

from server.error_table import Failure
from server.exchange.destination import Wording
from server.responses.kept.event_journal import Journal
from server.responses.kept.store import KeptResponse
from server.responses.kept.stored_responses import StoredResponses
from server.responses.streamed_response import StreamedResponse
from server.responses.wire.events import events_of
from server.responses.wire.from_chat import Answering
from server.responses.wire.request import renamed


class BackgroundRun:
    """Implements ``server.exchange.destination.Destination``. A whole answer was kept before it comes here; a
    failure is kept here."""

    def __init__(
        self, kept: KeptResponse, journal: Journal | None, told: int, stored: StoredResponses
    ) -> None:
        """``kept``: the response as it is queued. ``journal``: of one that is streamed, with ``told`` events
        that were written before."""
        self._kept = kept
        self._journal = journal
        self._told = told
        self._stored = stored
        self.status = 0

    def __repr__(self) -> str:
        return f"<BackgroundRun {self._kept.id} [{self.status}]>"

    async def made_by(self, answer: Callable[[], Coroutine[None, None, None]]) -> None:
        """Has ``answer`` make the answer that comes here. Its events end with it. Raises
        ResponsesUnavailable."""
        try:
            await answer()
        finally:
            self._stored.journals.end(self._kept.id)

    async def whole(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.status = status

    async def start_stream(self, headers: Mapping[str, str]) -> None:
        self.status = 200

    async def part(self, chunk: bytes) -> None:
        assert self._journal is not None, "what is streamed has one"
        self._journal.write(chunk)

    async def end(self) -> None:
        pass

    async def fail(self, failure: Failure, wording: Wording, headers: Mapping[str, str]) -> None:
        """Keeps the response as far as it came."""
        self.status = failure.status
        streamed = wording.streamed
        if isinstance(streamed, StreamedResponse) and streamed.answering.begun:
            answering = streamed.answering
        else:
            answering = Answering(self._kept.response, self._told)
        events = events_of(answering.fail(renamed(failure)))
        try:
            await self._stored.kept.keep(replace(self._kept, response=answering.response))
        finally:
            if self._journal is not None:
                self._journal.write(events)
