"""The seam to a language model that answers a prompt: the request, its reply, and the client."""

import hashlib
import json
from dataclasses import astuple, dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Ask:
    """One turn: what the person writes, and what the system says before it, if anything."""

    model: str
    prompt: str
    max_tokens: int
    system: str = ""

    def key(self) -> bytes:
        """Returns a hash of the content, whichever endpoint is asked."""
        return hashlib.sha256(json.dumps(astuple(self)).encode()).digest()


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    cut: bool
    """Whether the reply was cut off at ``max_tokens``."""
    tokens_in: int
    tokens_out: int
    """Tokens of the reply as the endpoint counted them; 0 where it did not."""


class Chat(Protocol):
    async def reply(self, ask: Ask) -> Reply:
        """Raises PromptRefused when this prompt cannot be answered and others may be, EndpointError when
        there is no point in asking on."""
        ...
