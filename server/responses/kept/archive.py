"""Gives the event loop the kept responses, which one thread reads and writes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from server.config.responses import ResponsesConfig
from server.errors import (
    BadRequest,
    PreviousResponseNotFound,
    ResponsesUnavailable,
    TooLarge,
    UnknownResponse,
)
from server.responses.kept.store import ConversationTooLong, KeptResponse, ResponseStore
from server.responses.wire.items import Item
from server.storage.errors import DatabaseError

T = TypeVar("T")

log = logging.getLogger("coe.responses")


class KeptResponses:
    """Keeps responses by their owners: another's response is as unknown as one that never was. Everything
    raises ResponsesUnavailable where the file cannot be used."""

    def __init__(self, store: ResponseStore, thread: ThreadPoolExecutor) -> None:
        """``thread``: one thread, in which ``store`` is used from now on."""
        self._store = store
        self._thread = thread

    async def keep(self, kept: KeptResponse) -> None:
        await self._do(lambda: self._store.keep(kept))

    async def find(self, owner: str, id: str) -> KeptResponse:
        """Returns a response. Raises UnknownResponse."""
        found = await self._do(lambda: self._store.find(owner, id))
        if found is None:
            raise UnknownResponse(f"Response with id {id[:100]!r} not found.")
        return found

    async def conversation(self, owner: str, id: str, most_bytes: int) -> Sequence[Item]:
        """Returns all items up to the end of response ``id``. Raises PreviousResponseNotFound, TooLarge, and
        BadRequest where it has not ended."""
        try:
            chain = await self._do(lambda: self._store.conversation(owner, id, most_bytes))
        except ConversationTooLong as error:
            raise TooLarge(
                f"The conversation up to {id!r} has more than the {most_bytes} bytes that are taken.",
                "previous_response_id",
            ) from error
        if not chain:
            raise PreviousResponseNotFound(
                f"Previous response with id {id[:100]!r} not found, or one that it goes on from is not kept "
                "any more.",
                "previous_response_id",
            )
        if chain[-1].running:
            raise BadRequest(f"Response {id!r} has not ended yet; wait for it.", "previous_response_id")
        return [item for kept in chain for item in kept.items]

    async def delete(self, owner: str, id: str) -> None:
        """Deletes a response. Raises UnknownResponse."""
        if not await self._do(lambda: self._store.delete(owner, id)):
            raise UnknownResponse(f"Response with id {id[:100]!r} not found.")

    async def _do(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except DatabaseError as error:
            log.error("responses cannot be kept or found: %s", error)
            raise ResponsesUnavailable(
                "Responses cannot be kept or found now; the gateway's log says why. Without "
                "'previous_response_id' they are still made."
            ) from error


@asynccontextmanager
async def keeping_responses(config: ResponsesConfig) -> AsyncIterator[KeptResponses]:
    """Opens the store; leaving closes it. Raises DatabaseError at the start alone."""
    with ThreadPoolExecutor(1, "responses") as thread:
        store = await asyncio.get_running_loop().run_in_executor(thread, ResponseStore.open, config)
        try:
            yield KeptResponses(store, thread)
        finally:
            thread.submit(store.close)
