"""Reply to one request: its headers, answer or error, for wherever the answer goes."""

import logging

from memory_tiers.lease import Lease
from server.config.api_keys import UNLIMITED
from server.error_table import Failure, failure_of, rendering_of, retry_after
from server.exchange.account import Account
from server.exchange.answer.headers import of_lease, of_route
from server.exchange.destination import Destination, StreamedAnswer, Wording
from server.exchange.endpoint import Endpoint
from server.exchange.engine.errors import engine_failure
from server.log_fields import with_fields
from server.routing.routing import Route

log = logging.getLogger("coe.requests")


class Reply:
    """Reply that gathers headers until the answer begins, and words errors before and after that."""

    def __init__(self, endpoint: Endpoint, destination: Destination, account: Account) -> None:
        self._endpoint = endpoint
        self._destination = destination
        self._account = account
        self._headers = {**endpoint.headers(account.request_id)}
        self._streamed: StreamedAnswer | None = None
        self._told = False  # the client has the last event of its stream
        self._fields = with_fields(account.log_fields)

    def __repr__(self) -> str:
        return f"<Reply {self._account.request_id} [{self.status or 'not begun'}]>"

    @property
    def status(self) -> int:
        """Returns the HTTP status; zero until the reply has begun."""
        return self._destination.status

    async def note_limits(self) -> None:
        """Adds the headers of the key's remaining limits."""
        admission = self._account.admission
        if admission is not None and admission.key.limits is not UNLIMITED:
            self._headers |= self._endpoint.limit_headers(await admission.remaining())

    def note_route(self, route: Route) -> None:
        """Adds the headers of the chosen expert, before it is ready."""
        self._headers |= of_route(route)

    def note_lease(self, lease: Lease) -> None:
        """Adds the headers of the request's wait."""
        self._headers |= of_lease(lease)

    async def tell(self, answer: bytes | StreamedAnswer) -> None:
        """Sends an answer of status 200, from its beginning to its end."""
        if isinstance(answer, bytes):
            await self._destination.whole(200, answer, self._headers)
            return
        self._streamed = answer
        await self._destination.start_stream({**self._headers, **self._endpoint.stream_headers})
        async for chunk in answer.events():
            if chunk:
                await self._destination.part(chunk)
                self._told = answer.is_last(chunk)
        await self._destination.end()

    async def sign_of_life(self, said: bytes) -> None:
        """Sends what every reader skips to a client whose stream has not begun yet."""
        await self._destination.start_stream({**self._headers, **self._endpoint.stream_headers})
        await self._destination.part(said)

    async def fail(self, error: Exception) -> None:
        """Sends the error as the error table renders it. The log has the details that clients are not
        told."""
        row, failure = rendering_of(error), failure_of(error)
        # What clients are not told is in the log, and may be shown to who reads that.
        self._account.story.error = failure.message if row.message is None else str(error)
        if row.status == 500:
            log.error("request %s failed", self._account.request_id, exc_info=error, extra=self._fields)
        elif row.message is not None:
            log.warning("request %s: %s", self._account.request_id, error, extra=self._fields)
        if self._told:
            await self._destination.end()
            return
        if not self.status:
            self._headers |= retry_after(error)
            await self.note_limits()
        await self._refuse(failure)

    async def engine_refused(self, status: int, body: bytes) -> None:
        """Sends the error that an engine answered with."""
        if status >= 500:
            log.error(
                "request %s: the engine answered %d", self._account.request_id, status, extra=self._fields
            )
        failure = engine_failure(status, body)
        self._account.story.error = failure.message
        await self._refuse(failure)

    async def _refuse(self, failure: Failure) -> None:
        endpoint, id, streamed = self._endpoint, self._account.request_id, self._streamed
        wording = Wording(
            body=lambda failure: endpoint.error_body(failure, id),
            event=streamed.error_event if streamed else lambda failure: endpoint.error_event(failure, id),
            streamed=streamed,
        )
        await self._destination.fail(failure, wording, self._headers)
