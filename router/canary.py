"""A map that is tried on a share of the conversations before it serves all of them.

Only requests whose expert it would change are part of the trial: the others are answered as before, and a
trial is compared on its own rows (``server.feedback.trial``).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from router.artifacts.artifact import Artifact
from router.errors import MappingError
from router.mapping.expert_mapping import ExpertMapping

_WHOLE = 2**32


@dataclass(frozen=True, slots=True)
class Canary:
    """``mapping``: the map that is tried. ``share``: of the conversations, from 0 to 1; 0: nothing is
    answered by it, and what it would change is counted."""

    mapping: ExpertMapping
    share: float

    def has(self, messages: Sequence[Mapping[str, object]]) -> bool:
        """Says whether a conversation is in the share: by the hash of its first user turn, so that every turn
        of it, on every gateway, is answered by the same map."""
        first = next((message.get("content") for message in messages if message.get("role") == "user"), "")
        text = json.dumps(first, sort_keys=True, default=str).encode("utf-8", "surrogatepass")
        drawn = int.from_bytes(hashlib.blake2b(b"canary:" + text, digest_size=4).digest(), "big")
        return drawn < self.share * _WHOLE


def check_same_rows(serving: Artifact, tried: Artifact) -> None:
    """Raises MappingError where two artifacts do not read prompts at the same rows, so that a decision of one
    is none of the other."""
    if "one" in (serving.steps, tried.steps):
        raise MappingError("a canary is a map, and chooses in two steps; set steps: two, or leave it out")
    if serving.training != tried.training or serving.classifier.labels != tried.classifier.labels:
        raise MappingError(
            "the canary was trained otherwise than the artifact; make it from that one with "
            "coe router map, add-expert, replace-expert or remove-expert"
        )
