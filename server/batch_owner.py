"""Whose files and batches a client may see: those of its own key."""

import hashlib
from dataclasses import dataclass

from starlette.requests import Request

from server.auth import sent_key
from server.batches import Batches
from server.errors import BatchesOff
from server.services import Services


@dataclass(frozen=True, slots=True)
class Owner:
    """``id``: of the key; one for everybody where there are no keys."""

    id: str
    batches: Batches

    @classmethod
    def of(cls, request: Request) -> "Owner":
        """Raises Unauthorized, BatchesOff."""
        services: Services = request.app.state.services
        authorization = request.headers.get("authorization")
        services.keys.check(authorization)
        if services.batches is None:
            raise BatchesOff(
                "No files and batches are taken here: the configuration has no section 'batches'."
            )
        keys = services.settings.server.api_keys
        return cls(hashlib.sha256(sent_key(authorization)).hexdigest() if keys else "", services.batches)
