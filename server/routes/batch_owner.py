"""Whose files and batches a client may see: those of its own key."""

from dataclasses import dataclass

from starlette.requests import Request

from server.access.auth import authorization_of
from server.access.owner import owner_of
from server.batches.service import Batches
from server.errors import BatchesOff
from server.services import Services


@dataclass(frozen=True, slots=True)
class Owner:
    """``id``: see ``owner_of``. ``key``: the name of its key, by which it is counted."""

    id: str
    key: str
    batches: Batches

    @classmethod
    def of(cls, request: Request) -> "Owner":
        """Raises Unauthorized, BatchesOff."""
        services: Services = request.app.state.services
        key = services.keys.check(authorization_of(request.headers))
        if services.batches is None:
            raise BatchesOff(
                "No files and batches are taken here: the configuration has no section 'batches'."
            )
        return cls(owner_of(key, request.headers), key.name, services.batches)
