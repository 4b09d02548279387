"""The seam to a language model that answers a prompt: the request, its reply, and the client."""

import hashlib
import json
from dataclasses import astuple, dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Ask:
    """One turn: what the person writes, what the system says before it, if anything, and the earlier turns.
    ``before``: the person's text and the answer, by turns."""

    model: str
    prompt: str
    max_tokens: int
    system: str = ""
    before: tuple[str, ...] = ()
    temperature: float = 0.0

    def key(self) -> bytes:
        """Returns a hash of the content, whichever endpoint is asked. That of a greedy single turn is as it
        was before there were others."""
        content = astuple(self) if self.before or self.temperature else astuple(self)[:4]
        return hashlib.sha256(json.dumps(content).encode()).digest()


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    cut: bool
    """Whether the reply was cut off at ``max_tokens``."""
    tokens_in: int
    tokens_out: int
    """Tokens of the reply as the endpoint counted them; 0 where it did not."""
    expert: str = ""
    """The expert that a gateway says has answered; empty where the endpoint does not say."""


class Chat(Protocol):
    async def reply(self, ask: Ask) -> Reply:
        """Raises PromptRefused when this prompt cannot be answered and others may be, EndpointError when
        there is no point in asking on."""
        ...
