"""The responses of a gateway: those that are kept, those that are being made, and the events of both."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from server.config.responses import ResponsesConfig
from server.errors import BadRequest
from server.responses.kept.archive import KeptResponses, keeping_responses
from server.responses.kept.background import Background
from server.responses.kept.event_journal import Journals
from server.responses.kept.store import KeptResponse, ended


@dataclass(frozen=True, slots=True)
class StoredResponses:
    """Made by ``storing_responses``. Another owner's response is as unknown as one that never was."""

    kept: KeptResponses
    background: Background
    journals: Journals

    async def cancel(self, owner: str, id: str) -> KeptResponse:
        """Ends the making of a response; one that has ended stays as it is. Raises UnknownResponse,
        BadRequest where it is not made in the background, ResponsesUnavailable."""
        kept = await self.kept.find(owner, id)
        if not kept.response["background"]:
            raise BadRequest("Only a response made with 'background' true is cancelled.")
        if kept.running:
            await self.background.cancel(id)
            kept = await self.kept.find(owner, id)
        if kept.running:
            kept = replace(kept, response=ended(kept.response, "cancelled"))
            await self.kept.keep(kept)
        return kept

    async def delete(self, owner: str, id: str) -> None:
        """Ends the making of a response and forgets it with its events. Raises UnknownResponse,
        ResponsesUnavailable."""
        kept = await self.kept.find(owner, id)
        if kept.running:
            await self.background.cancel(id)
        self.journals.drop(id)
        await self.kept.delete(owner, id)


@asynccontextmanager
async def storing_responses(config: ResponsesConfig) -> AsyncIterator[StoredResponses]:
    """Leaving cancels what is being made. Raises DatabaseError at the start alone."""
    async with keeping_responses(config) as kept:
        stored = StoredResponses(kept, Background(config.max_background), Journals(config.max_stream_bytes))
        try:
            yield stored
        finally:
            await stored.background.close()
            stored.journals.close()
