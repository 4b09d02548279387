"""Whose files and batches a client may see: those of its own key."""

from dataclasses import dataclass

from starlette.requests import Request

from server.batches import Batches
from server.errors import BatchesOff
from server.services import Services


@dataclass(frozen=True, slots=True)
class Owner:
    """``id``: the key's name, which stays when its secret is rotated; one for all who need no key."""

    id: str
    batches: Batches

    @classmethod
    def of(cls, request: Request) -> "Owner":
        """Raises Unauthorized, BatchesOff."""
        services: Services = request.app.state.services
        key = services.keys.check(request.headers.get("authorization"))
        if services.batches is None:
            raise BatchesOff(
                "No files and batches are taken here: the configuration has no section 'batches'."
            )
        return cls(key.name, services.batches)
